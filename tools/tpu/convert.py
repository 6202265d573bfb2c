# SPDX-License-Identifier: MPL-2.0
"""Compiles the small checkpoints into the bmodels of `variants.py`.

    convert.py TOOLS CHECKPOINTS OUT [--only NAME,...] [--demo FOLDER] [--list]

TOOLS is what `install.py` made, CHECKPOINTS what `checkpoints.py` made. For each variant, `OUT/<name>`
gets the `.bmodel`, its `config` folder and `variant.json`, which says how it was made and with what
`reference` to compare it. Where the compiler rounds weights (w4, w8), the rounded weights are kept
as a checkpoint in `OUT/<name>/rounded`, for `reference.py`.

A variant that was compiled with the same compiler, flags and weights is left as it is. The exit
status is 1 if one could not be compiled; the others are compiled all the same.
"""

import argparse
import hashlib
import json
import os
import pathlib
import shutil
import subprocess
import sys
import time

from variants import VARIANTS


class Failure(Exception):
    """What the compiler said at the end."""


def fingerprint(folder):
    """Of all files of a checkpoint that a compiler may read."""
    digest = hashlib.sha256()
    for path in sorted(folder.glob("*")):
        if path.is_file() and not path.name.startswith("reference."):
            digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]


def run_tool(tools, version, program, arguments, work):
    """Runs a program of the compiler in `work` and leaves its words in `work/log`."""
    environment = tools / version
    path = f"{environment / 'bin'}:{os.environ['PATH']}"
    # Its cache of compiled kernels would be in the user's home.
    env = {**os.environ, "PATH": path, "HOME": str(tools / "home"),
           "VIRTUAL_ENV": str(environment)}
    env.pop("PYTHONPATH", None)
    log = work / "log"
    with log.open("a") as words:
        status = subprocess.run([environment / "bin/python", environment / "bin" / program,
                                 *arguments], cwd=work, env=env, stdin=subprocess.DEVNULL,
                                stdout=words, stderr=subprocess.STDOUT).returncode
    lines = log.read_text(errors="replace").splitlines()
    return status, "\n".join(line[:300] for line in lines[-12:])


def dequantised(packed, scale, zero, shape):
    """`(q - zero) * scale` per group; 4-bit weights are two to a byte, the low half first."""
    import numpy as np
    if packed.size * 2 == shape[0] * shape[1]:
        packed = np.stack([packed & 15, packed >> 4], axis=-1)
    groups = scale.reshape(shape[0], -1)
    values = packed.reshape(*groups.shape, -1).astype(np.float32)
    zero = zero.reshape(*groups.shape, 1).astype(np.float32)
    return ((values - zero) * groups[..., None]).reshape(shape)


def rounded(checkpoint, work, out):
    """Writes the checkpoint with the weights that the compiler's files hold."""
    import numpy as np
    import torch
    from safetensors.torch import load_file, save_file
    tensors = load_file(checkpoint / "model.safetensors")
    count = 0
    for path in sorted(work.glob("out/*/block_[0-9]*/block_*_tpu_weights.npz")):
        stored = np.load(path)
        for name in stored.files:
            if not name.endswith("_uint"):
                continue
            stem = name[:-len("_uint")]
            if f"{stem}_scale_f16" in stored:
                scale = stored[f"{stem}_scale_f16"].view(np.float16).astype(np.float32)
            else:
                scale = (stored[f"{stem}_scale_bf16"].astype(np.uint32) << 16).view(np.float32)
            weight = tensors[f"{stem}.weight"]
            value = torch.from_numpy(dequantised(stored[name], scale, stored[f"{stem}_zp"],
                                                 tuple(weight.shape)))
            likeness = torch.corrcoef(torch.stack([value.ravel(), weight.float().ravel()]))[0, 1]
            if likeness < 0.98:
                raise Failure(f"{stem}: the compiler's weights are not understood ({likeness:.3f})")
            tensors[f"{stem}.weight"] = value
            count += 1
    if count == 0:
        raise Failure("the compiler left no weights")
    out.mkdir()
    for path in checkpoint.glob("*.json"):
        if not path.name.startswith("reference."):
            shutil.copy(path, out)
    save_file(tensors, out / "model.safetensors", metadata={"format": "pt"})


def with_stages(variant, tools, checkpoint, bmodel, work):
    """Adds the shorter stages of some nets to a bmodel; the one with all of them.

    The compiler leaves a bmodel a net, and `model_tool` makes nets of one name the stages of one.
    """
    parts = [bmodel]
    for number, (flags, nets) in enumerate(variant.stages):
        out = work / f"stage{number}"
        status, tail = run_tool(tools, variant.version, "llm_convert.py", [
            "-m", checkpoint, "-q", variant.quantize, "-c", variant.chip, "-o", out,
            *flags.split()], work)
        for net in nets:
            found = sorted(out.glob(f"*/{net}/*.bmodel"))
            if not found:
                raise Failure(f"stage {number}: status {status}, no net {net}\n{tail}")
            parts += found
    whole = work / bmodel.name
    status, tail = run_tool(tools, variant.version, "model_tool",
                            ["--combine", *parts, "-o", whole], work)
    if status or not whole.is_file():
        raise Failure(f"model_tool ended with {status}\n{tail}")
    return whole


def compile_one(variant, tools, checkpoint, out):
    """Compiles into a fresh folder and puts it in place when it is whole."""
    target, work = out / variant.name, out / ".work" / variant.name
    recipe = {"checkpoint": variant.checkpoint, "reference": variant.reference,
              "version": variant.version, "chip": variant.chip, "quantize": variant.quantize,
              "flags": variant.flags, "fingerprint": fingerprint(checkpoint)}
    if variant.stages:
        recipe["stages"] = [[flags, list(nets)] for flags, nets in variant.stages]
    stamp = target / "variant.json"
    if stamp.is_file() and json.loads(stamp.read_text()) == recipe:
        return "is there"
    shutil.rmtree(target, ignore_errors=True)
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    start = time.monotonic()
    flags = variant.flags.split() + (["--debug"] if variant.rewritten else [])
    status, tail = run_tool(tools, variant.version, "llm_convert.py", [
        "-m", checkpoint, "-q", variant.quantize, "-c", variant.chip, "-o", work / "out", *flags],
        work)
    bmodels = sorted(work.glob("out/*.bmodel"))
    config = work / "out/config"
    # Some releases crash when they print what they made; the file is whole then.
    if len(bmodels) != 1 or not config.is_dir():
        raise Failure(f"status {status}\n{tail}\nAll of it is in {work / 'log'}")
    if variant.rewritten:
        rounded(checkpoint, work, work / "rounded")
    bmodel = bmodels[0]
    if variant.stages:
        bmodel = with_stages(variant, tools, checkpoint, bmodel, work)
    target.mkdir()
    for path in (bmodel, config, work / "rounded"):
        if path.exists():
            shutil.move(path, target)
    stamp.write_text(json.dumps(recipe, indent=1) + "\n")
    shutil.rmtree(work)
    size = (target / bmodel.name).stat().st_size / 1e6
    return f"{time.monotonic() - start:.0f} s, {size:.1f} MB" + (
        f" (the compiler ended with {status})" if status else "")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("tools", type=pathlib.Path)
    parser.add_argument("checkpoints", type=pathlib.Path)
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--only", help="names of variants, with commas")
    parser.add_argument("--demo", type=pathlib.Path, help="the demo model's checkpoint",
                        default=pathlib.Path(__file__).parents[2] / "models/demo")
    parser.add_argument("--list", action="store_true", help="list the variants and end")
    args = parser.parse_args()
    names = args.only.split(",") if args.only else list(VARIANTS)
    unknown = [name for name in names if name not in VARIANTS]
    if unknown:
        sys.exit(f"convert.py: no variant {', '.join(unknown)}; there are {', '.join(VARIANTS)}")
    failed = []
    for number, name in enumerate(names, start=1):
        variant = VARIANTS[name]
        if args.list:
            print(f"{name:18} {variant.version:7} {variant.chip} {variant.quantize} {variant.flags}")
            continue
        checkpoint = args.demo if variant.checkpoint == "demo" else args.checkpoints / variant.checkpoint
        if not checkpoint.is_dir():
            sys.exit(f"convert.py: {checkpoint} is missing")
        try:
            said = compile_one(variant, args.tools.absolute(), checkpoint.absolute(),
                               args.out.absolute())
        except Failure as failure:
            failed.append(name)
            said = f"FAILED: {failure}"
        print(f"[{number}/{len(names)}] {name}: {said}", flush=True)
    if failed:
        sys.exit(f"convert.py: {len(failed)} failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
