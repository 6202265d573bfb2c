# SPDX-License-Identifier: MPL-2.0
"""Runs checkpoints with `transformers` in f32 and keeps what they said.

    logits.py OUT CHECKPOINT... [--seed N] [--only CASE,...] [--steps N]

For each checkpoint: `OUT/<name>.json` with the inputs (runs of tokens and of visual tokens,
positions as the class counts them, the greedy answer) and `OUT/<name>.safetensors` with the raw logits
of some steps of the greedy answer, one `[steps, vocab_size]` per case.

Pixels follow a rule instead of being kept: see `pixels` in families.py; tests/golden_logits.rs has
the same rule.
A prompt is drawn anew until the answer has some variety and no step's choice is a near tie, so
that another order of the same sums cannot change a token.

Needs: torch, transformers 5, safetensors, numpy.
"""

import argparse
import json
import pathlib

import torch
from families import FAMILIES
from safetensors.torch import save_file

N_STEPS = 32
KEPT_STEPS = [0, 1, 7, 31]


@torch.no_grad()
def answer(family, model, kind, runs, steps):
    """Positions `[rows, 3]`, greedy tokens and their logits `[steps, vocab_size]`."""
    given = family.inputs(model.config, kind, runs)
    positions = family.positions(model, given)
    tokens, logits = family.answer(model, given, positions, steps)
    return positions, tokens, logits


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("checkpoints", type=pathlib.Path, nargs="+")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", help="names of cases, with commas")
    parser.add_argument("--steps", type=int, default=N_STEPS, help="tokens of an answer")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    for path in args.checkpoints:
        # What OpenGVLab's code reads is kept beside the same in the layout of transformers.
        source = path / "transformers"
        source = source if source.exists() else path
        family = FAMILIES[json.loads((source / "config.json").read_text())["model_type"]]
        model = family.model.from_pretrained(
            source, dtype=torch.float32, attn_implementation="eager").eval()
        model.generation_config.eos_token_id = None
        kept, vectors = [], {}
        for number, (name, (kind, grid, count)) in enumerate(family.cases.items()):
            if args.only and name not in args.only.split(","):
                continue
            best = None
            for attempt in range(40):
                generator = torch.Generator().manual_seed(args.seed * 1000 + number * 40 + attempt)
                runs = family.draw(model.config, kind, grid, count, generator)
                positions, tokens, logits = answer(family, model, kind, runs, args.steps)
                top = logits.topk(2).values
                gap = ((top[:, 0] - top[:, 1]) / logits.std(dim=1)).min().item()
                score = (min(len(set(tokens)), 6), gap)
                if best is None or score > best[0]:
                    best = (score, runs, positions, tokens, logits)
                if score[0] >= 6 and gap > 0.01:
                    break
            (variety, gap), runs, positions, tokens, logits = best
            print(f"{path.name} {name}: {len(positions)} rows, {len(set(tokens))} different tokens, "
                  f"least gap {gap:.4f}, attempts {attempt + 1}", flush=True)
            kept.append({
                "name": name,
                "runs": [{"tokens": r} if isinstance(r, list) else
                         {"visual": dict(zip("wht", reversed(r[0]))) | {"seed": r[1]}} for r in runs],
                "positions": positions, "greedy": tokens, "steps": KEPT_STEPS})
            vectors[name] = logits[KEPT_STEPS].contiguous()
        with open(args.out / f"{path.name}.json", "w") as f:
            json.dump({"cases": kept}, f, separators=(",", ":"))
            f.write("\n")
        save_file(vectors, args.out / f"{path.name}.safetensors")


if __name__ == "__main__":
    main()
