# SPDX-License-Identifier: MPL-2.0
"""Makes the demo model from nothing: the one command.

    python make.py --output build/

Tokenizer, pattern cache, every training phase from random weights, export, evaluation. What is
already in the output folder (tokenizer, pattern cache, phases of the training) is kept: a run that
was stopped goes on when it is started again. `--minutes` bounds the training; without it the whole
schedule runs. `--install` puts the files in place when they pass the bars.
"""

from __future__ import annotations

import argparse
import math
import shutil
import subprocess
import sys
from pathlib import Path

import tokenizer as tokenizer_script
from export import export
from patterns import fill_cache
from train import SCHEDULE, train

HERE = Path(__file__).resolve().parent
SHIPPED = HERE.parent.parent / "models" / "demo"


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, default=Path("build"))
    parser.add_argument("--minutes", type=float, default=math.inf, help="limit of the training time")
    parser.add_argument("--scale", type=float, default=1.0, help="factor on the clips of each phase")
    parser.add_argument("--init", type=Path, help="a model folder to go on from, polishing phases only")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--clips", type=int, default=1000, help="held-out clips of the evaluation")
    parser.add_argument("--install", action="store_true", help="copy the result to models/demo")
    a = parser.parse_args()
    a.output.mkdir(parents=True, exist_ok=True)

    tokenizer = a.init / "tokenizer.json" if a.init else a.output / "tokenizer.json"
    if not tokenizer.exists():
        print(f"training the tokenizer: {tokenizer}", flush=True)
        tokenizer_script.train().save(str(tokenizer))

    patterns = a.output / "patterns"
    print(f"rendering test patterns: {patterns}", flush=True)
    fill_cache(patterns)

    phases = [p.name for p in SCHEDULE if a.init is None or p.name.startswith("polish")]
    print(f"training: {', '.join(phases)}", flush=True)
    checkpoint = train(
        tokenizer, patterns, a.output / "run", phases=phases, scale=a.scale, minutes=a.minutes,
        init=a.init, seed=a.seed, threads=a.threads,
    )  # fmt: skip

    model = a.output / "model"
    export(checkpoint, tokenizer, model)
    evaluation = subprocess.run(
        [
            sys.executable, str(HERE / "evaluate.py"), str(model), "--patterns", str(patterns),
            "--clips", str(a.clips), "--threads", str(a.threads), "--json", str(a.output / "evaluation.json"),
        ]
    )  # fmt: skip
    if evaluation.returncode == 0 and a.install:
        shutil.copytree(model, SHIPPED, dirs_exist_ok=True)
        print(f"installed in {SHIPPED}")
    return evaluation.returncode


if __name__ == "__main__":
    sys.exit(main())
