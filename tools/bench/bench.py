# SPDX-License-Identifier: MPL-2.0
"""Captions of the same clip by this engine and by its peers, measured in turns in one run.

    bench.py OUT [--peers NAME,...] [--rounds N] [--tokens N] [--checkpoint FOLDER]

The clip is 10 frames of 512x288 pixels (16:9, 144 visual tokens a pair), the model Qwen3-VL-2B's
shapes with weights of noise, one thread. All figures are processor time, which other work on the
machine disturbs less than wall time. OUT gets the checkpoint, what the peers need, and the results
(`results.json`). A peer that cannot be installed or run is said and left out.

Peers: ours (int8), ours-bf16, transformers (torch, bf16), llamacpp (Q8_0, the vision net in bf16, two
frames a patch), llamacpp-images (each frame alone), openvino (int8, composed of its parts).
`cargo xtask bench` starts this with an interpreter that has torch and transformers.
"""

import argparse
import glob
import importlib.util
import json
import os
import pathlib
import statistics
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
PAIRS, WIDTH, HEIGHT, PATCH = 5, 512, 288, 16
ROWS = PAIRS * 149 + 5
NAMES = "ours", "ours-bf16", "transformers", "llamacpp", "llamacpp-images", "openvino"

# What is aimed at: our figure as a part of the peer's.
TARGETS = {"transformers": 0.6, "llamacpp": 0.5, "llamacpp-images": 0.3, "openvino": 0.9}
STAGES = "vision", "prefill", "decode"


def say(text):
    print(text, flush=True)


def run(command, **options):
    """Runs a command, its output to a log that an error names."""
    say("$ " + " ".join(map(str, command)))
    return subprocess.run([str(word) for word in command], check=True, **options)


class Bench:
    def __init__(self, args):
        self.out, self.tokens = args.out.resolve(), args.tokens
        self.checkpoint = args.checkpoint or self.out / "checkpoint-2b"
        self.site = self.out / "site"
        self.commands = {}
        path = os.pathsep.join(filter(None, (str(self.site), os.environ.get("PYTHONPATH"))))
        self.env = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": path}

    def need(self, *packages):
        """Installs those Python packages that are not there, beside the interpreter's own."""
        sys.path.append(str(self.site))
        importlib.invalidate_caches()
        missing = [name for module, name in packages if importlib.util.find_spec(module) is None]
        if missing:
            run([sys.executable, "-m", "pip", "install", "--disable-pip-version-check", "--quiet",
                 "--target", self.site, *missing])

    def make_checkpoint(self):
        if not (self.checkpoint / "model.safetensors.index.json").exists():
            run([sys.executable, ROOT / "tools/golden/big_shapes.py", self.checkpoint,
                 "--model", "2b"])

    def grid(self):
        return [HEIGHT // PATCH, WIDTH // PATCH]

    def prepare_ours(self, precision):
        cargo = os.environ.get("CARGO", "cargo")
        run([cargo, "build", "--release", "--locked", "--example", "engine_report"], cwd=ROOT)
        target = os.environ.get("CARGO_TARGET_DIR", ROOT / "target")
        program = pathlib.Path(target) / "release/examples/engine_report"
        return [program, self.checkpoint, precision, 1, PAIRS, self.tokens]

    def prepare_transformers(self):
        self.need(("torch", "torch"), ("transformers", "transformers"))
        return [sys.executable, HERE / "peer_transformers.py", self.checkpoint, PAIRS, self.tokens,
                *self.grid()]

    def prepare_openvino(self):
        self.need(("openvino", "openvino"), ("nncf", "nncf"))
        return [sys.executable, HERE / "peer_openvino.py", self.checkpoint, PAIRS, self.tokens,
                *self.grid(), ROWS]

    def prepare_llamacpp(self, how):
        """Builds llama.cpp for this very machine: its fastest."""
        program = self.out / "llamacpp/release/bench-llamacpp"
        sources = HERE / "llamacpp/src/main.rs", HERE / "llamacpp/Cargo.lock"
        if not program.exists() or any(source.stat().st_mtime > program.stat().st_mtime
                                       for source in sources):
            self.build_llamacpp()
        self.need(("gguf", "gguf"))
        run([sys.executable, HERE / "gguf_weights.py", self.checkpoint, self.out], env=self.env)
        return [program, self.out / "llm-q8_0.gguf", self.out / "mmproj-bf16.gguf", how,
                2 * PAIRS, self.tokens, WIDTH, HEIGHT]

    def build_llamacpp(self):
        """A long build (8 minutes of processor time); cmake, ninja and libclang come from pip."""
        self.need(("cmake", "cmake"), ("ninja", "ninja"), ("clang", "libclang"))
        target = self.out / "llamacpp"
        include = subprocess.run(["cc", "-print-file-name=include"], check=True, text=True,
                                 capture_output=True).stdout.strip()
        clang = [pathlib.Path(place).parent for place in glob.glob(f"{self.out}/*/**/libclang.so",
                                                                   recursive=True)]
        env = self.env | {"CARGO_TARGET_DIR": str(target), "RUSTFLAGS": "-C target-cpu=native",
                          "PATH": os.pathsep.join((str(self.site / "bin"), os.environ["PATH"])),
                          "BINDGEN_EXTRA_CLANG_ARGS": f"-I{include}"}
        if clang:
            env["LIBCLANG_PATH"] = str(clang[0])
        cargo = os.environ.get("CARGO", "cargo")
        run([cargo, "build", "--release", "--locked"], cwd=HERE / "llamacpp", env=env)

    def prepare(self, peer):
        match peer:
            case "ours":
                return self.prepare_ours("int8")
            case "ours-bf16":
                return self.prepare_ours("bf16")
            case "transformers":
                return self.prepare_transformers()
            case "llamacpp":
                return self.prepare_llamacpp("pairs")
            case "llamacpp-images":
                return self.prepare_llamacpp("images")
            case "openvino":
                return self.prepare_openvino()
        raise ValueError(f"there is no peer {peer}; there are {', '.join(NAMES)}")

    def measure(self, peer):
        command = [str(word) for word in self.commands[peer]]
        result = subprocess.run(command, env=self.env, text=True, capture_output=True, check=False)
        lines = [line for line in result.stdout.splitlines() if line.startswith("{")]
        if result.returncode or not lines:
            raise RuntimeError(f"`{' '.join(command)}` ended with {result.returncode}: "
                               f"{result.stderr.strip()[-400:]}")
        figures = json.loads(lines[-1])
        figures["caption"] = sum(figures.get(stage, 0) for stage in ("prepare", *STAGES))
        return figures


def median(results, key):
    values = [result[key] for result in results if result.get(key) is not None]
    return statistics.median(values) if values else None


def spread(results, key):
    values = [result[key] for result in results]
    return (max(values) - min(values)) / statistics.median(values)


def table(results):
    """The medians as Markdown, our figure as a part of each peer's, and the targets."""
    lines = ["| | vision, s | prefill, s (tokens/s) | decode, s (tokens/s) | caption, s CPU "
             "(spread) | last frame to first token, s | four streams | peak memory, GB | "
             "ours / this |", "|---|---|---|---|---|---|---|---|---|"]
    ours = median(results["ours"], "caption") if results.get("ours") else None
    for peer, runs in results.items():
        if not runs:
            continue
        vision, prefill, decode, caption = (median(runs, key) for key in (*STAGES, "caption"))
        rows, tokens = runs[0]["rows"], runs[0]["tokens"]
        last, streams, peak = (median(runs, key) for key in ("last", "streams", "peak"))
        ratio = f"{ours / caption:.2f}" if ours and not peer.startswith("ours") else ""
        if ratio and peer in TARGETS:
            ratio += f" (target {TARGETS[peer]})"
        name = peer + (" (composed)" if runs[0].get("composed") else "")
        lines.append("| " + " | ".join((
            name, f"{vision:.2f}", f"{prefill:.2f} ({rows / prefill:.0f})",
            f"{decode:.2f} ({tokens / decode:.1f})",
            f"{caption:.2f} ({100 * spread(runs, 'caption'):.0f} %)",
            f"{last:.2f}" if last else "", f"{streams:.2f}" if streams else "",
            f"{peak / 1e9:.2f}" if peak else "", ratio)) + " |")
    return "\n".join(lines)


def verdicts(results):
    """The targets that are not of the caption."""
    ours = results.get("ours")
    if not ours:
        return
    whole = median(ours, "vision") + median(ours, "prefill")
    yield f"last frame to first token, of the whole clip: {median(ours, 'last') / whole:.2f}" \
          " (target 0.33)"
    yield f"four streams in a batch, of one: {median(ours, 'streams'):.2f} (target 3)"
    if results.get("llamacpp"):
        theirs = median(results["llamacpp"], "decode")
        yield f"decode, tokens/s of llama.cpp's at 8 bits: {theirs / median(ours, 'decode'):.2f}" \
              " (target 0.95)"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--peers", default=",".join(NAMES))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tokens", type=int, default=48)
    parser.add_argument("--checkpoint", type=pathlib.Path)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    bench = Bench(args)
    bench.need(("torch", "torch"), ("safetensors", "safetensors"))
    bench.make_checkpoint()
    for peer in args.peers.split(","):
        try:
            bench.commands[peer] = bench.prepare(peer)
        except (subprocess.CalledProcessError, OSError) as error:
            say(f"{peer} is left out: {error}")
    results = {peer: [] for peer in bench.commands}
    failed = set()
    for number in range(args.rounds):
        for peer in bench.commands:
            if peer in failed:
                continue
            try:
                figures = bench.measure(peer)
            except RuntimeError as error:
                say(f"{peer} is left out: {error}")
                failed.add(peer)
                continue
            results[peer].append(figures)
            say(f"round {number + 1} {peer}: {json.dumps(figures)}")
            (bench.out / "results.json").write_text(json.dumps(results, indent=1))
    say("\n" + table(results) + "\n")
    for line in verdicts(results):
        say(line)


if __name__ == "__main__":
    main()
