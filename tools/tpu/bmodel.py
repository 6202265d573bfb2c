# SPDX-License-Identifier: MPL-2.0
"""Compiles a checkpoint for a Sophgo TPU with settings that suit captions of video.

    bmodel.py TOOLS CHECKPOINT --chip bm1684x|bm1688 [options; --help lists them]

TOOLS is where the compiler is installed (`install.py`, done first). Leaves a folder with the
`.bmodel` and the files that `backend=sophgo model=FOLDER` reads beside it. `cargo xtask bmodel` runs it.
"""

import argparse
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import time

import install
from install import Problem, say

# model_type -> side that a picture's sides are multiples of, pixels by default, name
FAMILIES = {
    "qwen3_vl": (32, (640, 384), "Qwen3-VL"),
    "qwen2_5_vl": (28, (616, 392), "Qwen2.5-VL"),
    "internvl_chat": (448, (448, 448), "InternVL3"),
}
CORES = {"bm1684x": 1, "bm1688": 2}
SEQ_LENGTH = 4096
NEEDED = ("config.json", "tokenizer.json", "preprocessor_config.json")


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("tools", type=pathlib.Path)
    parser.add_argument("checkpoint", type=pathlib.Path)
    parser.add_argument("--chip", choices=sorted(CORES), required=True)
    parser.add_argument("--seq-length", type=int, default=SEQ_LENGTH)
    parser.add_argument("--input-length", type=int)
    parser.add_argument("--max-pixels")
    parser.add_argument("--history", action="store_true")
    parser.add_argument("--static", action="store_true")
    parser.add_argument("--dynamic", action="store_true", help="the default")
    parser.add_argument("--sample", action="store_true")
    parser.add_argument("--cores", type=int)
    parser.add_argument("-q", "--quantize")
    parser.add_argument("-g", "--group-size", type=int, default=64)
    parser.add_argument("--out", type=pathlib.Path)
    parser.add_argument("--force", action="store_true")
    parser.add_argument("--check", action="store_true", help="only say what would not work")
    return parser.parse_args()


def read_checkpoint(path):
    """The checkpoint's config, refused where the compiler or the plugin would refuse it later."""
    if not path.is_dir():
        raise Problem(f"{path} is not a folder; give one with config.json and the weights, as "
                      "downloaded from Hugging Face")
    if not (path / "config.json").is_file():
        raise Problem(f"{path} has no config.json; give a checkpoint as downloaded from Hugging Face")
    try:
        config = json.loads((path / "config.json").read_text())
    except ValueError as error:
        raise Problem(f"{path / 'config.json'}: {error}") from error
    family = config.get("model_type")
    if family == "internvl":
        raise Problem(f"{path} is an InternVL3 in the layout of transformers; the compiler reads the "
                      "other one: take the repository without -hf in its name")
    if family not in FAMILIES:
        known = ", ".join(name for _, _, name in FAMILIES.values())
        raise Problem(f"{path} is a `{family}`; the plugin runs {known}")
    weights = list(path.glob("*.safetensors"))
    if not weights:
        raise Problem(f"{path} has no *.safetensors")
    # What an interrupted `git clone` leaves: a text of some lines in place of the weights.
    for file in weights:
        if file.stat().st_size < 1024 and b"git-lfs" in file.read_bytes():
            raise Problem(f"{file.name} is only a pointer: run `git lfs pull` in {path}")
    index = path / "model.safetensors.index.json"
    if index.is_file():
        names = set(json.loads(index.read_text())["weight_map"].values())
        missing = sorted(name for name in names if not (path / name).is_file())
        if missing:
            raise Problem(f"{path} lacks {', '.join(missing)}: the download is not complete")
    for name in NEEDED:
        if not (path / name).is_file():
            say(f"Warning: {path} has no {name}; the plugin will look for it beside the bmodel")
    return config, family, sum(file.stat().st_size for file in weights)


def half_type(config):
    """`bf16` or `f16`, the type of the weights; nothing for a quantised checkpoint."""
    text = config.get("text_config") or config.get("llm_config") or {}
    if config.get("quantization_config") or text.get("quantization_config"):
        return None
    name = (text.get("dtype") or text.get("torch_dtype") or config.get("dtype")
            or config.get("torch_dtype") or "bfloat16")
    return "f16" if name == "float16" else "bf16"


def quantization(asked, half):
    """The `-q` for the compiler."""
    if half is None:
        if asked not in (None, "auto"):
            raise Problem(f"-q {asked}: the checkpoint is quantised already and keeps its bits; "
                          "leave -q out, or take the checkpoint that is not")
        return "auto"
    known = [f"{bits}{half}" for bits in ("", "w8", "w4")]
    if asked is None:
        return f"w4{half}"
    if asked not in known:
        raise Problem(f"-q {asked} does not go with {half} weights: take one of {', '.join(known)}")
    return asked


def pixels(asked, family):
    """Width and height of the largest picture, checked."""
    side, default, name = FAMILIES[family]
    if family == "internvl_chat":
        if asked:
            raise Problem("InternVL3 always takes tiles of 448x448: leave --max-pixels out")
        return None
    if asked is None:
        return default
    match = re.fullmatch(r"(\d+)[,x](\d+)", asked)
    if not match:
        raise Problem(f"--max-pixels {asked}: give width,height such as {default[0]},{default[1]}")
    width, height = int(match[1]), int(match[2])
    if width * height == 0 or width % side or height % side:
        near = [max(side, round(n / side) * side) for n in (width, height)]
        raise Problem(f"--max-pixels {asked}: {name} takes multiples of {side}; the nearest is "
                      f"{near[0]},{near[1]}")
    return width, height


def flags(args, config, family):
    """What `llm_convert.py` is called with, and what to tell the user."""
    quantize = quantization(args.quantize, half_type(config))
    size = pixels(args.max_pixels, family)
    if args.static and args.dynamic:
        raise Problem("--static and --dynamic exclude each other")
    if args.static and args.history:
        raise Problem("--history is always dynamic: leave --static out")
    if args.seq_length < 128:
        raise Problem(f"--seq-length {args.seq_length} is too short for a prompt with pictures")
    result = ["-s", args.seq_length, "-q", quantize, "-c", args.chip]
    if quantize.startswith("w4"):
        result += ["-g", args.group_size]
    tokens = 256
    if size:
        result += ["--max_pixels", f"{size[0]},{size[1]}"]
        tokens = size[0] * size[1] // FAMILIES[family][0] ** 2
    cores = args.cores or CORES[args.chip]
    if not 1 <= cores <= CORES[args.chip]:
        raise Problem(f"--cores {cores}: {args.chip} has {CORES[args.chip]}")
    result += ["--num_core", cores]
    if args.history:
        if args.input_length:
            raise Problem("--history takes prompts in pieces: leave --input-length out")
        result += ["--use_history_kv"]
    else:
        window = args.input_length or args.seq_length
        if window > args.seq_length:
            raise Problem(f"--input-length {window} is more than --seq-length {args.seq_length}")
        result += ["--max_input_length", window]
        if not args.static:
            result += ["--dynamic"]
    if args.sample:
        result += ["--do_sample"]
    # What stands around the pictures of a prompt: template, question, times, and the answer.
    room = (args.input_length or args.seq_length) - 160
    if tokens + 10 > room:
        raise Problem(f"pictures of {tokens} tokens do not fit in a window of "
                      f"{args.input_length or args.seq_length}: raise --seq-length or lower "
                      "--max-pixels")
    pairs = room // (tokens + 10)
    if not args.check:
        say(f"{FAMILIES[family][2]}, {quantize}, {args.chip} with {cores} core(s), context "
            f"{args.seq_length}; the largest picture has {tokens} tokens, and {pairs} of them fit")
    return [str(word) for word in result]


def check_places(checkpoint, out, work):
    """The compiler copies the checkpoint's folder, so no output may lie inside it."""
    for place in (out, work):
        if checkpoint == place or checkpoint in place.parents:
            raise Problem(f"{out} lies inside the checkpoint, which the compiler copies: choose "
                          "another --out")
        if place in checkpoint.parents:
            raise Problem(f"{out} holds the checkpoint, and would be written over: choose another "
                          "--out")
    if out.exists() and any(out.iterdir()):
        raise Problem(f"{out} is not empty: choose another --out, or remove it")


def check_room(work, size, force):
    """Disk and memory; --force goes on regardless."""
    gigabytes = 1e9
    disk = 4 * size + gigabytes
    free = shutil.disk_usage(work).free
    memory = size + 3 * gigabytes
    match = re.search(r"MemAvailable:\s+(\d+) kB", pathlib.Path("/proc/meminfo").read_text())
    available = int(match[1]) * 1024 if match else memory
    for what, have, want in (("disk", free, disk), ("memory", available, memory)):
        if have < want and not force:
            raise Problem(f"about {want / gigabytes:.0f} GB of {what} are needed to compile these "
                          f"weights, {have / gigabytes:.1f} GB are free (--force tries anyway)")


def watch(process, work):
    """Says how many nets are compiled, whenever one more is."""
    said = -1
    while process.poll() is None:
        time.sleep(1)
        tasks = next(iter(work.glob("out/*/task.txt")), None)
        if tasks is None:
            continue
        done = tasks.with_name("task.txt.log")
        total = len(tasks.read_text().splitlines())
        count = max(0, len(done.read_text().splitlines()) - 1) if done.is_file() else 0
        if total and count != said:
            say(f"  compiled {count} of {total} nets")
            said = count
    return process.returncode


def compile(tools, checkpoint, options, out, work):
    """Runs the compiler in `work` and moves what it made to `out`."""
    environment = tools / install.VERSION
    env = {**os.environ, "HOME": str(tools / "home"), "VIRTUAL_ENV": str(environment),
           "PATH": f"{environment / 'bin'}:{os.environ['PATH']}"}
    env.pop("PYTHONPATH", None)
    work.mkdir(parents=True)
    log = work / "log"
    with log.open("w") as words:
        status = watch(subprocess.Popen(
            [str(environment / "bin/python"), str(environment / "bin/llm_convert.py"), "-m",
             str(checkpoint), "-o", str(work / "out"), *options], cwd=work, env=env,
            stdin=subprocess.DEVNULL, stdout=words, stderr=subprocess.STDOUT), work)
    made = list(work.glob("out/*.bmodel"))
    if len(made) != 1 or not (work / "out/config").is_dir():
        tail = "\n".join(line[:300] for line in log.read_text(errors="replace").splitlines()[-12:])
        raise Problem(f"{tail}\nthe compiler ended with {status}; all it said is in {log}, and what "
                      f"each net said in {work}/out/*/*.log")
    out.mkdir(parents=True, exist_ok=True)
    shutil.move(str(made[0]), str(out))
    shutil.move(str(work / "out/config"), str(out / "config"))
    shutil.rmtree(work)
    return out / made[0].name


def main():
    args = arguments()
    start = time.monotonic()
    try:
        checkpoint = args.checkpoint.absolute().resolve()
        config, family, size = read_checkpoint(checkpoint)
        options = flags(args, config, family)
        out = (args.out or pathlib.Path(f"{checkpoint.name}-{args.chip}")).absolute().resolve()
        work = out.with_name(out.name + ".work")
        check_places(checkpoint, out, work)
        check_room(install.existing(out.parent), size, args.force)
        if args.check:
            install.check(args.tools.absolute())
            install.python310()
            return
        install.check_programs()
        shutil.rmtree(work, ignore_errors=True)
        say(f"Compiling {checkpoint.name} ({size / 1e9:.2f} GB): minutes for 2B weights, and more for "
            "more")
        bmodel = compile(args.tools.absolute(), checkpoint, options, out, work)
    except (Problem, OSError) as problem:
        sys.exit(f"bmodel: {problem}")
    minutes, seconds = divmod(int(time.monotonic() - start), 60)
    say(f"{bmodel} ({bmodel.stat().st_size / 1e9:.2f} GB) in {minutes} min {seconds:02} s\n"
        f"Copy {out} to the board, then: vlmcaption backend=sophgo model=<that folder>")


if __name__ == "__main__":
    main()
