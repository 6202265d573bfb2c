# SPDX-License-Identifier: MPL-2.0
"""Captions of the same clip by this engine and by its peers, measured in turns in one run.

    bench.py OUT [--peers NAME,...] [--rounds N] [--tokens N] [--checkpoint FOLDER] [--isa NAME]

The clip is 10 frames of 512x288 pixels (16:9, 144 visual tokens a pair), the model Qwen3-VL-2B's
shapes with weights of noise, one thread. All figures are processor time, which other work on the
machine disturbs less than wall time. OUT gets the checkpoint, what the peers need, and the results
(`results.json`). A peer that cannot be installed or run is said and left out.

Peers: ours (int8), ours-bf16, transformers (torch, bf16), llamacpp (Q8_0, the vision net in bf16, two
frames a patch), llamacpp-images (each frame alone), llamacpp-q4_k (Q4_K), openvino-genai (int8),
openvino (int8, composed of its parts). *-tower: the vision tower of Qwen3-VL-4B below four layers of
its decoder, of which the vision figure counts. element: the plugin's element (element.py). Rounds of
those with a target come first, then the element, then the others once.

--isa holds the engine and its peers to an instruction set that the processor may have more than
(isa.py). Each says itself what it ran, and one that ran more is left out.

`cargo xtask bench` starts this with an interpreter that has torch and transformers.
"""

import argparse
import glob
import importlib.util
import json
import os
import pathlib
import site
import statistics
import subprocess
import sys

from held import held
from isa import ISAS, named, refusal

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
PAIRS, WIDTH, HEIGHT, PATCH = 5, 512, 288, 16
ROWS = PAIRS * 149 + 5
NAMES = ("ours", "transformers", "llamacpp", "llamacpp-images", "openvino-genai", "ours-bf16",
         "llamacpp-q4_k", "openvino", "ours-tower", "llamacpp-tower", "transformers-tower", "element")

# How often these are measured at most, unless peers are named. Those once come last.
MOST = dict.fromkeys(NAMES[5:], 1) | {"llamacpp-images": 2}
LIMIT_S = 900

CPUINFO = pathlib.Path("/proc/cpuinfo")

# The one that has GStreamer's bindings.
SYSTEM_PYTHON = "/usr/bin/python3"

# What is aimed at: our figure as a part of the peer's.
TARGETS = {"transformers": 0.6, "llamacpp": 0.5, "llamacpp-images": 0.3, "openvino-genai": 0.9,
           "openvino": 0.9}
TARGETS_256 = {"llamacpp": 0.45, "openvino-genai": 0.7, "openvino": 0.7}
TARGETS_OF = {"avx2": TARGETS_256, "avxvnni": TARGETS_256,
              "avx512": {"llamacpp": 0.36, "openvino-genai": 0.55},
              "avx512bf16": {"llamacpp": 0.36, "openvino-genai": 0.55}}
STREAMS = 3
STREAMS_OF = {"avx2": 2, "avxvnni": 2}
STAGES = "vision", "prefill", "decode"

# How llama.cpp is built where no instruction set is named.
NATIVE = "-C target-cpu=native"


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
        self.isa, self.suffix = ISAS.get(args.isa), f"-{args.isa}" if args.isa else ""
        self.results = self.out / f"results{self.suffix}.json"
        self.commands, self.failed = {}, set()
        path = os.pathsep.join(filter(None, (str(self.site), os.environ.get("PYTHONPATH"))))
        self.env = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": path}
        self.switches = self.isa.env() if self.isa else {}
        self.hides = self.isa and self.isa.hides(CPUINFO.read_text())

    def need(self, *packages):
        """Installs those Python packages that are not there, beside the interpreter's own."""
        sys.path.append(str(self.site))
        importlib.invalidate_caches()
        missing = [name for module, name in packages if importlib.util.find_spec(module) is None]
        if missing:
            run([sys.executable, "-m", "pip", "install", "--disable-pip-version-check", "--quiet",
                 "--target", self.site, *missing])

    def make_checkpoint(self, folder, *options):
        if not (folder / "model.safetensors.index.json").exists():
            run([sys.executable, ROOT / "tools/golden/big_shapes.py", folder, *options])
        return folder

    def tower(self):
        """A checkpoint of the 4B's vision tower, with a layer more than it has deepstack levels:
        llama.cpp takes no level in its last."""
        return self.make_checkpoint(self.out / "checkpoint-4b-tower", "--model", "4b",
                                    "--layers", 4)

    def grid(self):
        return [HEIGHT // PATCH, WIDTH // PATCH]

    def target(self):
        return pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))

    def cargo(self, *words):
        run([os.environ.get("CARGO", "cargo"), "build", "--release", "--locked", *words], cwd=ROOT)

    def prepare_ours(self, precision, checkpoint, tokens):
        self.cargo("--example", "engine_report")
        program = self.target() / "release/examples/engine_report"
        return [program, checkpoint, precision, 1, PAIRS, tokens]

    def prepare_transformers(self, checkpoint, tokens):
        self.need(("torch", "torch"), ("transformers", "transformers"))
        # torch multiplies bf16 with loops of its own where no instruction does.
        plain = self.isa and not self.isa.beyond(["avx2_vnni"])
        return [sys.executable, HERE / "peer_transformers.py", checkpoint, PAIRS, tokens,
                *self.grid(), *(["float32"] if plain else [])]

    def hidden(self, python, packages):
        """What runs a peer whose packages are held to the instruction set, if the processor has
        more."""
        if not self.hides:
            return []
        folder, path = self.out / f"held-{packages[-1]}", self.env["PYTHONPATH"]
        say(f"{packages[-1]} is held to {self.isa.ours} in {folder}")
        return ["env", *held(python, path, packages, folder, self.isa.ours),
                f"PYTHONPATH={folder}{os.pathsep}{path}"]

    def prepare_openvino(self):
        self.need(("openvino", "openvino"), ("nncf", "nncf"))
        return [*self.hidden(sys.executable, ["openvino"]), sys.executable,
                HERE / "peer_openvino.py", self.checkpoint, PAIRS, self.tokens, *self.grid(), ROWS]

    def prepare_openvino_genai(self):
        """GenAI and its exporter, which takes no transformers after 5.0, in an environment of their
        own above this interpreter's packages."""
        python, model = self.out / "genai/bin/python", self.out / "openvino-2b"
        env = {key: value for key, value in self.env.items() if key != "PYTHONPATH"}
        if not python.exists():
            run([sys.executable, "-m", "venv", self.out / "genai"])
            where = subprocess.run([python, "-c", "import site; print(site.getsitepackages()[0])"],
                                   check=True, text=True, capture_output=True).stdout.strip()
            above = "\n".join(site.getsitepackages())
            (pathlib.Path(where) / "above.pth").write_text(above + "\n")
        if subprocess.run([python, "-c", "import openvino_genai, optimum.intel"], env=env,
                          capture_output=True, check=False).returncode:
            run([python, "-m", "pip", "install", "--disable-pip-version-check", "--quiet",
                 "openvino-genai", "optimum-intel", "nncf", "transformers==5.0.0"], env=env)
        if not model.exists():
            part = model.with_suffix(".part")
            run([self.out / "genai/bin/optimum-cli", "export", "openvino", "--model",
                 self.checkpoint, "--task", "image-text-to-text", "--weight-format", "int8",
                 "--sym", part], env=env)
            part.rename(model)
        packages = ["openvino", "openvino_tokenizers", "openvino_genai"]
        return [*self.hidden(python, packages), python,
                HERE / "peer_openvino_genai.py", model, PAIRS, self.tokens, WIDTH, HEIGHT]

    def prepare_element(self):
        self.cargo("--lib")
        run([SYSTEM_PYTHON, "-c", "import gi"])
        return [SYSTEM_PYTHON, HERE / "element.py", self.checkpoint, "--json",
                self.out / "element.json"]

    def prepare_llamacpp(self, how, checkpoint, out, tokens, kind="q8_0"):
        """Builds llama.cpp for this very machine, its fastest, or for the instruction set."""
        program = self.out / f"llamacpp{self.suffix}/release/bench-llamacpp"
        sources = HERE / "llamacpp/src/main.rs", HERE / "llamacpp/Cargo.lock"
        if not program.exists() or any(source.stat().st_mtime > program.stat().st_mtime
                                       for source in sources):
            self.build_llamacpp()
        self.need(("gguf", "gguf"))
        run([sys.executable, HERE / "gguf_weights.py", checkpoint, out, "--llm", kind],
            env=self.env)
        return [program, out / f"llm-{kind}.gguf", out / "mmproj-bf16.gguf", how, 2 * PAIRS, tokens,
                WIDTH, HEIGHT]

    def build_llamacpp(self):
        """A long build (8 minutes of processor time); cmake, ninja and libclang come from pip."""
        self.need(("cmake", "cmake"), ("ninja", "ninja"), ("clang", "libclang"))
        target = self.out / f"llamacpp{self.suffix}"
        flags, cmake = (self.isa.rustflags, self.isa.cmake) if self.isa else (NATIVE, {})
        include = subprocess.run(["cc", "-print-file-name=include"], check=True, text=True,
                                 capture_output=True).stdout.strip()
        clang = [pathlib.Path(place).parent for place in glob.glob(f"{self.out}/*/**/libclang.so",
                                                                   recursive=True)]
        env = self.env | cmake | {
            "CARGO_TARGET_DIR": str(target), "RUSTFLAGS": flags,
            "PATH": os.pathsep.join((str(self.site / "bin"), os.environ["PATH"])),
            "BINDGEN_EXTRA_CLANG_ARGS": f"-I{include}"}
        if clang:
            env["LIBCLANG_PATH"] = str(clang[0])
        cargo = os.environ.get("CARGO", "cargo")
        run([cargo, "build", "--release", "--locked"], cwd=HERE / "llamacpp", env=env)

    def prepare(self, peer):
        ours = self.checkpoint, self.out, self.tokens
        match peer:
            case "ours":
                return self.prepare_ours("int8", self.checkpoint, self.tokens)
            case "ours-bf16":
                return self.prepare_ours("bf16", self.checkpoint, self.tokens)
            case "ours-tower":
                return self.prepare_ours("int8", self.tower(), 1)
            case "transformers":
                return self.prepare_transformers(self.checkpoint, self.tokens)
            case "transformers-tower":
                return self.prepare_transformers(self.tower(), 1)
            case "llamacpp":
                return self.prepare_llamacpp("pairs", *ours)
            case "llamacpp-images":
                return self.prepare_llamacpp("images", *ours)
            case "llamacpp-q4_k":
                return self.prepare_llamacpp("pairs", *ours, "q4_k")
            case "llamacpp-tower":
                return self.prepare_llamacpp("pairs", self.tower(), self.out / "tower", 1)
            case "openvino-genai":
                return self.prepare_openvino_genai()
            case "openvino":
                return self.prepare_openvino()
            case "element":
                return self.prepare_element()
        raise ValueError(f"there is no peer {peer}; there are {', '.join(NAMES)}")

    def round(self, results, peers):
        """Measures each once; one that fails is not tried again."""
        for peer in peers:
            if peer in self.failed:
                continue
            try:
                figures = self.measure(peer)
            except RuntimeError as error:
                say(f"{peer} is left out: {error}")
                self.failed.add(peer)
                continue
            results[peer].append(figures)
            say(f"{peer}: {json.dumps(figures)}")
            self.results.write_text(json.dumps(results, indent=1))

    def through_element(self):
        """The element's own figures, printed as they come."""
        plugins = os.environ.get("GST_PLUGIN_PATH", self.target() / "release")
        env = os.environ | self.switches | {"GST_PLUGIN_PATH": str(plugins),
                                            "XDG_CACHE_HOME": str(self.out / "cache")}
        try:
            run(self.commands["element"], env=env)
        except subprocess.CalledProcessError as error:
            say(f"element is left out: {error}")

    def measure(self, peer):
        command = [str(word) for word in self.commands[peer]]
        try:
            result = subprocess.run(command, env=self.env | self.switches, text=True,
                                    capture_output=True, check=False, timeout=LIMIT_S)
        except (subprocess.TimeoutExpired, OSError) as error:
            raise RuntimeError(str(error)) from error
        lines = [line for line in result.stdout.splitlines() if line.startswith("{")]
        if result.returncode or not lines:
            raise RuntimeError(f"`{' '.join(command)}` ended with {result.returncode}: "
                               f"{result.stderr.strip()[-400:]}")
        figures = json.loads(lines[-1])
        if self.isa and (excess := self.isa.excess(figures["isa"])):
            raise RuntimeError(excess)
        figures["caption"] = sum(figures.get(stage, 0) for stage in ("prepare", *STAGES))
        return figures


def median(results, key):
    values = [result[key] for result in results if result.get(key) is not None]
    return statistics.median(values) if values else None


def spread(results, key):
    values = [result[key] for result in results]
    return (max(values) - min(values)) / statistics.median(values)


def table(results, targets):
    """The medians as Markdown, our figure as a part of each peer's, and the targets."""
    lines = ["| | vision, s | prefill, s (tokens/s) | decode, s (tokens/s) | caption, s CPU "
             "(spread) | last frame to first token, s | four streams | peak memory, GB | "
             "ours / this |", "|---|---|---|---|---|---|---|---|---|"]
    ours = median(results["ours"], "caption") if results.get("ours") else None
    for peer, runs in results.items():
        if not runs or peer.endswith("-tower"):
            continue
        vision, prefill, decode, caption = (median(runs, key) for key in (*STAGES, "caption"))
        rows, tokens = runs[0]["rows"], runs[0]["tokens"]
        last, streams, peak = (median(runs, key) for key in ("last", "streams", "peak"))
        ratio = f"{ours / caption:.2f}" if ours and not peer.startswith("ours") else ""
        if ratio and peer in targets:
            ratio += f" (target {targets[peer]})"
        name = peer + (" (composed)" if runs[0].get("composed") else "")
        lines.append("| " + " | ".join((
            name, f"{vision:.2f}", f"{prefill:.2f} ({rows / prefill:.0f})",
            f"{decode:.2f} ({tokens / decode:.1f})",
            f"{caption:.2f}" + (f" ({100 * spread(runs, 'caption'):.0f} %)" if runs[1:] else ""),
            f"{last:.2f}" if last else "", f"{streams:.2f}" if streams else "",
            f"{peak / 1e9:.2f}" if peak else "", ratio)) + " |")
    return "\n".join(lines)


def verdicts(results, streams):
    """The targets that are not of the caption, and the larger model's vision tower."""
    ours = results.get("ours")
    if ours:
        whole = median(ours, "vision") + median(ours, "prefill")
        yield f"last frame to first token, of the whole clip: {median(ours, 'last') / whole:.2f}" \
              " (target 0.33)"
        yield f"four streams in a batch, of one: {median(ours, 'streams'):.2f} (target {streams})"
    for peer, bits, target in (("llamacpp", "8", " (target 0.95)"), ("llamacpp-q4_k", "4.5", "")):
        if ours and results.get(peer):
            part = median(results[peer], "decode") / median(ours, "decode")
            yield f"decode, tokens/s of llama.cpp's at {bits} bits: {part:.2f}{target}"
    towers = {peer: median(runs, "vision") for peer, runs in results.items()
              if peer.endswith("-tower") and runs}
    for peer, vision in towers.items():
        part = f": ours / this {towers['ours-tower'] / vision:.2f}" if "ours-tower" in towers else ""
        yield f"vision tower of the 4B, five pairs, {peer}: {vision:.2f} s{part}"


def report(results, isa):
    """The table, and what else is aimed at."""
    if any(runs and not peer.endswith("-tower") for peer, runs in results.items()):
        say("\n" + table(results, TARGETS_OF.get(isa, TARGETS)) + "\n")
    for line in verdicts(results, STREAMS_OF.get(isa, STREAMS)):
        say(line)
    for peer, runs in results.items():
        if runs:
            say(f"{peer} ran {', '.join(named(runs[-1]['isa'])) or 'none that it names'} by what it "
                f"says: {runs[-1]['isa']}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=pathlib.Path)
    everything = ",".join(NAMES)
    parser.add_argument("--peers", default=everything)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tokens", type=int, default=48)
    parser.add_argument("--checkpoint", type=pathlib.Path)
    parser.add_argument("--isa")
    args = parser.parse_args()
    if args.isa:
        reason = refusal(args.isa, CPUINFO.read_text())
        if reason:
            parser.error(reason)
    args.out.mkdir(parents=True, exist_ok=True)
    bench = Bench(args)
    bench.need(("torch", "torch"), ("safetensors", "safetensors"))
    bench.make_checkpoint(bench.checkpoint, "--model", "2b")
    for peer in args.peers.split(","):
        try:
            bench.commands[peer] = bench.prepare(peer)
        except (subprocess.CalledProcessError, OSError, RuntimeError) as error:
            say(f"{peer} is left out: {error}")
    say(f"load before: {os.getloadavg()[0]:.1f}")
    most = {peer: MOST.get(peer, args.rounds) if args.peers == everything else args.rounds
            for peer in bench.commands}
    element = most.pop("element", 0)
    once = [peer for peer, rounds in most.items() if rounds == 1 < args.rounds]
    results = {peer: [] for peer in most}
    for number in range(args.rounds):
        bench.round(results, [peer for peer, rounds in most.items()
                              if number < rounds and peer not in once])
    report(results, args.isa)
    say(f"load after: {os.getloadavg()[0]:.1f}")
    if element:
        bench.through_element()
    if once:
        bench.round(results, once)
        report(results, args.isa)


if __name__ == "__main__":
    main()
