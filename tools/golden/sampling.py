# SPDX-License-Identifier: MPL-2.0
"""Reference vectors for sampling: what the processors and warpers of transformers leave of logits.

    python tools/golden/sampling.py --out tests/data/processor

The list of processors is the one that `generate` itself makes of a `GenerationConfig`, so that
their order and the cases in which one is left out are its own. Writes `sampling.json`.

Needs: torch, transformers 5.
"""

import argparse
import json
import random
from pathlib import Path
from typing import Any

import torch
from transformers import GenerationConfig, Qwen2Config, Qwen2ForCausalLM
from transformers.generation.logits_process import LogitsProcessorList

EDGES: list[dict[str, Any]] = [
    # Everything equal; the most and the least that each allows; more asked for than there is.
    {"logits": [1.0] * 9, "top_p": 0.9375, "top_k": 3},
    {"logits": [1.0] * 9, "top_k": 3},
    {"logits": [1.0] * 9, "min_p": 1.0},
    {"logits": [3.0, 1.0, 3.0, 2.0], "min_p": 1.0},
    {"logits": [3.0, 1.0, 3.0, 2.0], "min_p": 0.0},
    {"logits": [3.0, 1.0, 2.5, 2.0], "top_p": 0.0},
    {"logits": [3.0, 1.0, 2.5, 2.0], "top_k": 100},
    {"logits": [3.0, 1.0, 2.5, 2.0], "top_k": 1, "top_p": 0.25, "min_p": 0.5},
    # Flat and steep, and both signs under a penalty and a reward.
    {"logits": [0.5, -0.5, 0.25, -4.0], "temperature": 10.0, "min_p": 0.9375},
    {"logits": [30.0, -30.0, 29.0, -4.0], "temperature": 0.125},
    {"logits": [2.0, -2.0, 0.0, 1.0], "repetition_penalty": 2.0, "seen": [0, 1, 2]},
    {"logits": [2.0, -2.0, 0.0, 1.0], "repetition_penalty": 0.5, "seen": [0, 1, 2]},
]


def drawn(rng: random.Random) -> dict[str, Any]:
    """A case of any kind."""
    # Multiples of 1/64 are exact in JSON and f32; few of them, so that some are equal.
    logits = [rng.randint(-300, 300) / 64 for _ in range(rng.choice([5, 40, 200]))]
    return {
        "logits": logits,
        "seen": rng.choices(range(len(logits)), k=rng.randint(0, 6)),
        "repetition_penalty": rng.choice([1.0, 1.5, 1.25, 0.75]),
        "temperature": rng.choice([1.0, 0.5, 0.75, 2.0]),
        "top_k": rng.choice([0, 0, 1, 3, 20]),
        "top_p": rng.choice([1.0, 1.0, 0.875, 0.5, 0.25]),
        "min_p": rng.choice([0.0, 0.0, 0.0625, 0.125, 0.5]),
    }


def splits_equals(scores: torch.Tensor, left: torch.Tensor) -> bool:
    """Whether of equally likely tokens some are left and some are not: which ones depends on how
    torch happens to sort."""
    return bool(set(scores[left.isfinite()].tolist()) & set(scores[~left.isfinite()].tolist()))


def processors(model: Qwen2ForCausalLM, case: dict[str, Any], sample: bool) -> LogitsProcessorList:
    """As `generate` makes them."""
    config = GenerationConfig(
        do_sample=sample,
        temperature=case["temperature"],
        top_k=case["top_k"],
        top_p=case["top_p"],
        # Ours has no null; `generate` leaves the warper out then.
        min_p=case["min_p"] or None,
        repetition_penalty=case["repetition_penalty"],
    )
    return model._get_logits_processor(config, device="cpu")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder for the file")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    rng = random.Random(arguments.seed)
    sizes = dict(hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1)
    model = Qwen2ForCausalLM(Qwen2Config(vocab_size=8, num_key_value_heads=1, **sizes))
    plain = {"seen": [], "repetition_penalty": 1.0, "temperature": 1.0, "top_k": 0, "top_p": 1.0,
             "min_p": 0.0}
    edges = iter([plain | edge for edge in EDGES])
    cases = []
    while len(cases) < len(EDGES) + 60:
        case = next(edges, None) or drawn(rng)
        ids = torch.tensor([case["seen"]], dtype=torch.long)
        scores = torch.tensor([case["logits"]])
        penalized = processors(model, case, False)(ids, scores.clone())[0]
        left = processors(model, case, True)(ids, scores.clone())[0]
        if splits_equals(penalized, left):
            continue
        cases.append(case)
        case["greedy"] = int(penalized.argmax())
        probabilities = left.double().softmax(-1)
        kept = left.isfinite().nonzero()[:, 0].tolist()
        case["kept"] = [[i, round(float(probabilities[i]), 9)] for i in kept]
    text = json.dumps({"seed": arguments.seed, "cases": cases}, separators=(",", ":"))
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / "sampling.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
