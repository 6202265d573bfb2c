# SPDX-License-Identifier: MPL-2.0
"""Installs the TPU-MLIR compiler and its emulators of BM1684X and BM1688 from PyPI.

    install.py FOLDER [--version V,...]

Makes below FOLDER, leaving the rest of the system alone:

    torch/       one PyTorch for all versions, without CUDA's libraries
    <version>/   a virtual environment with `llm_convert.py`
    lib/bm1684x, lib/bm1688
                 libbmrt, libbmlib and the emulator of that chip, for VLMCAPTION_SOPHON_LIB
    home/        what the compiler would keep in the user's home

Runs with any Python 3.8 or newer; the compiler needs Python 3.10 (PYTHON310 names it, else it is
looked for), a C++ compiler, make, and GNU parallel. A second run does nothing.
"""

import argparse
import glob
import importlib.util
import os
import pathlib
import platform
import shutil
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent

VERSION = "1.30.2"
"""The newest version: its emulators run the bmodels of all."""

TORCH = ["torch==2.11.0", "torchvision==0.26.0"]
TORCH_NEEDS = ["filelock", "fsspec", "jinja2", "networkx<3.5", "sympy", "typing-extensions"]
CUDART = "nvidia-cuda-runtime==13.0.96"

# What the wheels leave out: packages that llm_convert.py imports, and the cmake that it starts.
COMMON = ["psutil", "onnx==1.14.1", "onnxsim==0.4.17", "onnxruntime==1.16.3", "cmake<4",
          "setuptools<81"]
EXTRA = {"1.30.2": []}
# Older wheels ask for the transformers of their day, which do not know Qwen3-VL yet.
OLDER = ["transformers==4.57.1", "accelerate"]

SPACE_GB = 8


class Problem(Exception):
    """A sentence for the user."""


def run(*command, **options):
    """Runs a program; its output is shown only if it fails."""
    done = subprocess.run([str(word) for word in command], stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, errors="replace", **options)
    if done.returncode:
        tail = "\n".join(done.stdout.splitlines()[-25:])
        raise Problem(f"{tail}\n`{' '.join(str(w) for w in command[:6])} ...` ended with "
                      f"{done.returncode}")
    return done.stdout


def say(text):
    print(text, flush=True)


def python310():
    """A Python 3.10: the wheels hold extension modules of that version only."""
    named = os.environ.get("PYTHON310")
    candidates = [named] if named else [
        shutil.which("python3.10"),
        *sorted(glob.glob(os.path.expanduser("~/.pyenv/versions/3.10.*/bin/python3.10"))),
        *sorted(glob.glob(os.path.expanduser(
            "~/.local/share/uv/python/cpython-3.10*/bin/python3.10")))]
    for candidate in candidates:
        if candidate and subprocess.run([candidate, "-c", "import venv, ssl"],
                                        capture_output=True).returncode == 0:
            return candidate
    raise Problem(
        (f"PYTHON310={named} does not run" if named else "Python 3.10 is missing") +
        ": TPU-MLIR is made for no other version. Install it (Ubuntu 22.04: apt-get install "
        "python3.10-venv; elsewhere `uv python install 3.10` or `pyenv install 3.10`), or set "
        "PYTHON310 to where it is.")


def check(folder):
    """Says early what would fail late, and what no package mends."""
    if platform.system() != "Linux" or platform.machine() != "x86_64":
        raise Problem("TPU-MLIR runs on Linux on x86-64 only; convert there and copy the bmodel")
    free = shutil.disk_usage(existing(folder)).free / 1e9
    if free < SPACE_GB:
        raise Problem(f"{folder} has {free:.1f} GB free; about {SPACE_GB} GB are needed. Free some "
                      "or choose another place (CARGO_TARGET_DIR)")


def check_programs():
    """What the compiler starts; tools/xtask/src/setup.rs installs the packages that hold it."""
    names = ("gcc", "g++", "make", "parallel", "readelf", "nm")
    missing = [name for name in names if not shutil.which(name)]
    # moreutils has another program of that name.
    if "parallel" not in missing and "GNU" not in subprocess.run(
            ["parallel", "--version"], capture_output=True, text=True).stdout:
        missing.append("GNU parallel")
    if missing:
        raise Problem(f"{', '.join(missing)} missing: the compiler starts them. `cargo xtask setup "
                      "--for tpu` installs what holds them (Debian: g++ make binutils parallel)")


def existing(path):
    """The path, or the nearest folder above it that is there."""
    return next(place for place in (path, *path.parents) if place.is_dir())


def site(environment):
    return environment / "lib/python3.10/site-packages"


def done(path, recipe):
    """Whether a step was finished with the same recipe."""
    return path.is_file() and path.read_text() == recipe


def install_torch(folder, python):
    """PyTorch once for all versions, for the CPU.

    The wheels on PyPI are linked with some GB of CUDA libraries that nothing here ever calls. The
    loader wants files of those names, so it gets hollow ones; only the small CUDA runtime is real,
    since PyTorch asks it whether there is a GPU.
    """
    torch, stamp = folder / "torch", folder / "torch/installed"
    recipe = "\n".join(TORCH + TORCH_NEEDS + [CUDART])
    if done(stamp, recipe):
        return
    shutil.rmtree(torch, ignore_errors=True)
    say(f"Installing PyTorch in {torch} (a download of 550 MB)")
    pip = [python, "-m", "pip", "install", "-q", "--disable-pip-version-check", "--target", torch]
    run(*pip, "--no-deps", *TORCH, CUDART)
    run(*pip, *TORCH_NEEDS)
    beside = importlib.util.spec_from_file_location("hollow", HERE / "hollow.py")
    hollow = importlib.util.module_from_spec(beside)
    beside.loader.exec_module(hollow)
    hollow.fill_in(torch / "torch/lib", torch / "nvidia")
    seen = run(python, "-c", "import torch; print(float(torch.ones(2, 2).sum()))",
               env={**os.environ, "PYTHONPATH": str(torch)})
    if seen.split()[-1:] != ["4.0"]:
        raise Problem(f"PyTorch says: {seen}")
    stamp.write_text(recipe)


def install_compiler(folder, python, version):
    """One version of TPU-MLIR in an environment of its own."""
    environment = folder / version
    packages = [f"tpu_mlir=={version}", *COMMON, *EXTRA.get(version, OLDER)]
    recipe, stamp = "\n".join(packages), environment / "installed"
    if done(stamp, recipe):
        return
    shutil.rmtree(environment, ignore_errors=True)
    say(f"Installing TPU-MLIR {version} in {environment} (a download of about 500 MB)")
    run(python, "-m", "venv", environment)
    (site(environment) / "torch.pth").write_text(f"{folder / 'torch'}\n")
    pip = [environment / "bin/python", "-m", "pip", "install", "-q", "--disable-pip-version-check"]
    # The wheel's own requirements first: later lines may override them.
    run(*pip, packages[0])
    run(*pip, *packages[1:])
    # The wheel holds the C library of the container it was made in; a newer system must not load it.
    bundled = site(environment) / "tpu_mlir/lib/third_party"
    aside = bundled.with_name("third_party.unused")
    aside.mkdir(exist_ok=True)
    for name in ("libc.so.6", "libm.so.6", "libpthread.so.0", "libdl.so.2", "librt.so.1",
                 "libstdc++.so.6", "libgcc_s.so.1"):
        if (bundled / name).exists():
            (bundled / name).rename(aside / name)
    stamp.write_text(recipe)


def install_emulators(folder, version):
    """A folder per chip; libbmlib opens whatever is called libcmodel.so beside it."""
    wheel = site(folder / version) / "tpu_mlir/lib"
    for chip in ("bm1684x", "bm1688"):
        lib = folder / "lib" / chip
        lib.mkdir(parents=True, exist_ok=True)
        files = {path.name: path for pattern in ("libbmlib.so*", "libbmrt.so*")
                 for path in wheel.glob(pattern)}
        files["libcmodel.so"] = wheel / f"libcmodel_{chip}.so"
        for name, path in files.items():
            if not (lib / name).is_file() or (lib / name).stat().st_size != path.stat().st_size:
                shutil.copy(path, lib / name)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--version", default=VERSION, help="versions of TPU-MLIR, with commas")
    args = parser.parse_args()
    folder = args.folder.absolute()
    try:
        check(folder)
        check_programs()
        python = python310()
        folder.mkdir(parents=True, exist_ok=True)
        install_torch(folder, python)
        for version in args.version.split(","):
            install_compiler(folder, python, version)
        if (folder / VERSION / "installed").is_file():
            install_emulators(folder, VERSION)
        (folder / "home").mkdir(exist_ok=True)
    except (Problem, OSError, subprocess.SubprocessError) as problem:
        sys.exit(f"install.py: {problem}")
    say(f"TPU-MLIR {args.version} is in {folder}")


if __name__ == "__main__":
    main()
