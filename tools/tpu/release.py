# SPDX-License-Identifier: MPL-2.0
"""Makes the files of a release that are for Sophgo boards: the demo model, compiled.

    release.py TOOLS OUT --version V --commit C [--demo FOLDER]

TOOLS is where the compiler is installed (`install.py`, done first). For each chip OUT gets
`vlmcaption-demo-<chip>.tar.gz`, a folder for `model=` with a README in it, and beside them
`MANIFEST.md` and `SHA256SUMS`. What OUT held under these names is written over.
`cargo xtask release` runs it.
"""

import argparse
import gzip
import hashlib
import pathlib
import shutil
import subprocess
import sys
import tarfile

import install
from install import Problem, say

HERE = pathlib.Path(__file__).parent
ROOT = HERE.parents[1]

CHIPS = {"bm1684x": "BM1684X: SC7 cards, SE7 and SM7 boxes",
         "bm1688": "BM1688: SE9 and SM9 boxes, both cores"}

# Whole weights and whole windows: the model is small, and every firmware runs static nets. Four
# pairs of the largest picture and the question have some 300 tokens.
FLAGS = "-q bf16 --max-pixels 128,128 --seq-length 512 --input-length 384 --static"

README = """\
# vlmcaption's demo model for {boards}

Made from `models/demo` of vlmcaption {version} ({commit}) with TPU-MLIR {compiler}:

    cargo xtask bmodel models/demo --chip {chip} {flags}

With the plugin and libsophon on the board, from the folder that this one lies in:

    gst-launch-1.0 -m videotestsrc pattern=ball num-buffers=300 ! video/x-raw,framerate=30/1 \\
        ! vlmcaption model={name} ! fakesink sync=true

It knows coloured shapes, how they move, and videotestsrc's patterns; for anything else compile a model
of your own: docs/sophgo.md. Licence: MPL-2.0, as vlmcaption (https://mozilla.org/MPL/2.0/).
"""

MANIFEST = """\
# Files for Sophgo boards, vlmcaption {version} ({commit})

The demo model, compiled with TPU-MLIR {compiler}
(`{flags}`).
`sha256sum --check --ignore-missing SHA256SUMS` checks the files; docs/sophgo.md says what a board needs.

| file | for | bytes | SHA-256 |
|---|---|---|---|
"""


def sha256(path):
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()


def pack(folder, archive):
    """A tar of the folder that depends on its files only: no owner, no time."""
    def plain(entry):
        entry.uid = entry.gid = entry.mtime = 0
        entry.uname = entry.gname = ""
        entry.mode = 0o755 if entry.isdir() else 0o644
        return entry

    with archive.open("wb") as raw, gzip.GzipFile("", "wb", fileobj=raw, mtime=0) as packed, \
            tarfile.open(fileobj=packed, mode="w") as tar:
        tar.add(folder, folder.name, recursive=False, filter=plain)
        for path in sorted(folder.rglob("*")):
            tar.add(path, f"{folder.name}/{path.relative_to(folder)}", recursive=False, filter=plain)


def make(chip, args, work):
    """Compiles for one chip and packs what came out; the archive."""
    name = f"vlmcaption-demo-{chip}"
    folder = work / name
    done = subprocess.run([sys.executable, HERE / "bmodel.py", args.tools, args.demo, "--chip", chip,
                           "--out", folder, *FLAGS.split()])
    if done.returncode:
        raise Problem(f"the bmodel for {chip} was not made; the reason is above")
    [bmodel] = folder.glob("*.bmodel")
    bmodel.rename(folder / f"{name}.bmodel")
    (folder / "README.md").write_text(README.format(
        boards=CHIPS[chip], chip=chip, name=name, version=args.version, commit=args.commit,
        compiler=install.VERSION, flags=FLAGS))
    archive = args.out / f"{name}.tar.gz"
    pack(folder, archive)
    return archive


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("tools", type=pathlib.Path)
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--version", required=True, help="of the plugin")
    parser.add_argument("--commit", required=True)
    parser.add_argument("--demo", type=pathlib.Path, default=ROOT / "models/demo")
    args = parser.parse_args()
    args.out = args.out.absolute()
    work = args.out / ".work"
    try:
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(parents=True)
        archives = [make(chip, args, work) for chip in CHIPS]
        manifest = MANIFEST.format(version=args.version, commit=args.commit,
                                   compiler=install.VERSION, flags=FLAGS)
        sums = ""
        for archive, boards in zip(archives, CHIPS.values()):
            digest = sha256(archive)
            manifest += f"| {archive.name} | {boards} | {archive.stat().st_size} | `{digest}` |\n"
            sums += f"{digest}  {archive.name}\n"
        (args.out / "MANIFEST.md").write_text(manifest)
        (args.out / "SHA256SUMS").write_text(sums)
        shutil.rmtree(work)
    except (Problem, OSError) as problem:
        sys.exit(f"release.py: {problem}")
    say(f"{args.out}: {', '.join(path.name for path in archives)}, MANIFEST.md, SHA256SUMS")


if __name__ == "__main__":
    main()
