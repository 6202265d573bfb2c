# SPDX-License-Identifier: MPL-2.0
"""Runs checkpoints with `transformers` in f32 and keeps what they said.

    logits.py OUT CHECKPOINT... [--seed N] [--only CASE,...]

For each checkpoint: `OUT/<name>.json` with the inputs (runs of tokens and of visual tokens,
positions by `get_rope_index`, the greedy answer) and `OUT/<name>.safetensors` with the raw logits
of some steps of the greedy answer, one `[steps, vocab_size]` per case.

Pixels follow a rule instead of being kept: see `pixels`; tests/golden_logits.rs has the same rule.
A prompt is drawn anew until the answer has some variety and no step's choice is a near tie, so
that another order of the same sums cannot change a token.

Needs: torch, transformers 5, safetensors, numpy.
"""

import argparse
import json
import pathlib

import numpy as np
import torch
from safetensors.torch import save_file
from transformers import Qwen3VLForConditionalGeneration

N_STEPS = 32
KEPT_STEPS = [0, 1, 7, 31]

# name -> (kind, grid of a temporal patch in patches, number of them)
CASES = {
    "text": ("text", None, 0),
    "image-2x6": ("image", (2, 6), 1),
    "image-6x10": ("image", (6, 10), 1),
    "image-14x4": ("image", (14, 4), 1),
    "two-images-4x8": ("image", (4, 8), 2),
    "video-1-pair-6x10": ("video", (6, 10), 1),
    "video-3-pairs-14x4": ("video", (14, 4), 3),
    "video-6-pairs-4x6": ("video", (4, 6), 6),
}


def hashed(numbers):
    """A number in 0..2**32 for each, without a pattern."""
    x = (numbers.astype(np.uint64) * 2654435761 + 12345) % 2**32
    x ^= x >> 15
    x = x * 2246822519 % 2**32
    return x ^ (x >> 13)


def pixels(seed, rows, row_len):
    """`[rows, row_len]` u8: a shade per patch row and channel, and noise on it.

    With i the index of a byte and c the index of its third of a row (its channel), both over all
    rows: `hash(c + seed * 65537) >> 24` times 3/4 plus `hash(i + seed * 257) >> 24` times 1/4,
    rounded down.
    """
    index = np.arange(rows * row_len)
    shade = hashed(index // (row_len // 3) + seed * 65537) >> 24
    noise = hashed(index + seed * 257) >> 24
    return ((shade * 3 + noise) // 4).astype(np.uint8).reshape(rows, row_len)


def draw(config, kind, grid, count, generator):
    """Runs of a prompt: token ids, or (grid, seed) of visual tokens."""
    top = min(config.image_token_id, config.video_token_id, config.vision_start_token_id,
              config.vision_end_token_id, config.text_config.vocab_size) - 8

    def words(n):
        return torch.randint(0, top, (n,), generator=generator).tolist()

    runs = [words(5)]
    for _ in range(count):
        if kind == "video":
            runs[-1] += words(3)
        runs[-1].append(config.vision_start_token_id)
        runs.append((grid, int(torch.randint(0, 1000, (1,), generator=generator))))
        runs.append([config.vision_end_token_id])
    runs[-1] += words(6)
    return runs


def inputs(config, kind, runs):
    """What the reference takes."""
    vision = config.vision_config
    row_len = vision.in_channels * vision.temporal_patch_size * vision.patch_size**2
    placeholder = config.image_token_id if kind == "image" else config.video_token_id
    ids, types, rows, grids = [], [], [], []
    for run in runs:
        if isinstance(run, list):
            ids += run
            types += [0] * len(run)
        else:
            (h, w), seed = run
            raw = torch.from_numpy(pixels(seed, h * w, row_len)).float()
            rows.append((raw / 255 - 0.5) / 0.5)
            grids.append([1, h, w])
            n = h * w // vision.spatial_merge_size**2
            ids += [placeholder] * n
            types += [1 if kind == "image" else 2] * n
    result = {"input_ids": torch.tensor([ids]), "attention_mask": torch.ones(1, len(ids)).long()}
    if rows:
        names = ("pixel_values", "image_grid_thw") if kind == "image" else (
            "pixel_values_videos", "video_grid_thw")
        if kind == "video":
            grids = [[len(grids)] + grids[0][1:]]
        result |= {"mm_token_type_ids": torch.tensor([types]), names[0]: torch.cat(rows),
                   names[1]: torch.tensor(grids)}
    return result


@torch.no_grad()
def answer(model, kind, runs):
    """Positions `[rows, 3]`, greedy tokens and their logits `[N_STEPS, vocab_size]`."""
    given = inputs(model.config, kind, runs)
    if "mm_token_type_ids" in given:
        wanted = {k: v for k, v in given.items() if "grid" in k or k in ("input_ids", "mm_token_type_ids")}
        positions, _ = model.model.get_rope_index(**wanted)
        positions = positions[:, 0].T.tolist()
    else:
        positions = [[i] * 3 for i in range(given["input_ids"].shape[1])]
    model.model.rope_deltas = None
    out = model.generate(**given, do_sample=False, max_new_tokens=N_STEPS, eos_token_id=None,
                         pad_token_id=0, repetition_penalty=1.0, output_logits=True,
                         return_dict_in_generate=True)
    tokens = out.sequences[0, given["input_ids"].shape[1]:].tolist()
    return positions, tokens, torch.cat(out.logits).float()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("checkpoints", type=pathlib.Path, nargs="+")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", help="names of cases, with commas")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    for path in args.checkpoints:
        model = Qwen3VLForConditionalGeneration.from_pretrained(
            path, dtype=torch.float32, attn_implementation="eager").eval()
        model.generation_config.eos_token_id = None
        kept, vectors = [], {}
        for number, (name, (kind, grid, count)) in enumerate(CASES.items()):
            if args.only and name not in args.only.split(","):
                continue
            best = None
            for attempt in range(40):
                generator = torch.Generator().manual_seed(args.seed * 1000 + number * 40 + attempt)
                runs = draw(model.config, kind, grid, count, generator)
                positions, tokens, logits = answer(model, kind, runs)
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
                         {"visual": {"h": r[0][0], "w": r[0][1], "seed": r[1]}} for r in runs],
                "positions": positions, "greedy": tokens, "steps": KEPT_STEPS})
            vectors[name] = logits[KEPT_STEPS].contiguous()
        with open(args.out / f"{path.name}.json", "w") as f:
            json.dump({"cases": kept}, f, separators=(",", ":"))
            f.write("\n")
        save_file(vectors, args.out / f"{path.name}.safetensors")


if __name__ == "__main__":
    main()
