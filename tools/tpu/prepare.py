# SPDX-License-Identifier: MPL-2.0
"""Makes everything that `cargo test --test sophgo` needs below one folder.

    prepare.py FOLDER [--long] [--only NAME,...]

Installs the compilers (`install.py`), makes checkpoints, compiles the variants of `variants.py` and
asks transformers. Afterwards `FOLDER/lib/<chip>` is for VLMCAPTION_SOPHON_LIB and `FOLDER/models` for
VLMCAPTION_TPU_MODELS. What is there is not made again. Without --long only the variants that take
the emulator little time, and the compilers that those need. Runs with any Python 3.8 or newer.
"""

import argparse
import hashlib
import pathlib
import subprocess
import sys
import time

import install
from variants import VARIANTS

HERE = pathlib.Path(__file__).parent


def step(what, *command):
    """Runs one of the scripts beside this one and says how long it took."""
    start = time.monotonic()
    status = subprocess.run([str(word) for word in command]).returncode
    print(f"--- {what}: {time.monotonic() - start:.0f} s", flush=True)
    if status:
        sys.exit(f"prepare.py: {what} ended with {status}")


def fingerprint(*files):
    """Of what a step depends on."""
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--long", action="store_true", help="all variants and compilers")
    parser.add_argument("--only", help="names of variants, with commas")
    args = parser.parse_args()
    folder = args.folder.absolute()
    if args.only:
        names = args.only.split(",")
    else:
        names = [v.name for v in VARIANTS.values() if args.long or not v.long]
    wanted = [VARIANTS[name] for name in names]
    versions = sorted({install.VERSION, *(v.version for v in wanted)}, reverse=True)
    step("compilers", sys.executable, HERE / "install.py", folder, "--version", ",".join(versions))

    python = folder / install.VERSION / "bin/python"
    checkpoints, models = folder / "checkpoints", folder / "models"
    mark, stamp = fingerprint(HERE / "checkpoints.py"), checkpoints / "made"
    if not stamp.is_file() or stamp.read_text() != mark:
        step("checkpoints", python, HERE / "checkpoints.py", checkpoints)
        stamp.write_text(mark)
    step("bmodels", python, HERE / "convert.py", folder, checkpoints, models, "--only",
         ",".join(names))
    for name in sorted({v.reference for v in wanted if v.checkpoint != "demo"}):
        source = models / name / "rounded" if (models / name).is_dir() else checkpoints / name
        mark = fingerprint(HERE / "reference.py", HERE / "families.py",
                           source / "model.safetensors", source / "config.json")
        out = models / "reference" / name
        stamp = out / "made"
        if not stamp.is_file() or stamp.read_text() != mark:
            step(f"reference of {name}", python, HERE / "reference.py", source, "--out", out)
            stamp.write_text(mark)


if __name__ == "__main__":
    main()
