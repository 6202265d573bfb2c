# SPDX-License-Identifier: MPL-2.0
"""Asks transformers what a small checkpoint says, for `cargo test --test sophgo`.

    reference.py CHECKPOINT [--out FOLDER] [--seed N] [--only CASE,...]

Runs the bf16 weights twice, computing in bf16 (what is compared) and in f32 (how far bf16 is off),
and writes `reference.json` and `reference.safetensors` into FOLDER, by default the checkpoint's.

JSON:

- `family`: `qwen3vl`, `qwen25vl` or `internvl3`
- `hidden_size`, `vocab_size`, `n_layers`
- `visuals`: a list of `{grid: [1, h, w], mean, std}`, the grid in patches before the merge
- `cases`: a list of
  - `name`
  - `segments`: `[{"tokens": [ids]} | {"visual": k}]`, the prompt in order
  - `positions`: `[[t, h, w], ...]`, one per row of the prompt; a visual is as many rows as it has
    tokens. InternVL3 has one axis, written three times
  - `next_position`: of the first generated token, all axes; later ones count on
  - `greedy`: for each of N_STEPS steps `{token, margin, noise}`: the choice of the bf16 run, the
    difference of its two largest logits, and the standard deviation over the vocabulary of what
    bf16 and f32 differ by after the same tokens. A choice means something where
    `margin / noise` is some units; below, another order of the same sums may choose otherwise
  - `f32_greedy`: the tokens of the f32 run on its own
  - `sure_steps`: how many steps from the first on have `margin >= SURE * noise`
  - `cosine`: per decoder layer, the least cosine of any row between the bf16 and the f32 run
- a case with several turns has `turns` instead: a list of the above. Each turn continues the
  sequence: the one before answered with the first `kept` tokens of its `greedy`, of which the last
  was not yet run; so a later turn's first segment begins with that token. `fresh` names the case
  that has the whole conversation as one prompt and the same answer as the last turn.

Safetensors:

- `visual.<k>.pixels` u8: `[n_patches, 3 * 2 * P * P]`, rows in merge-block order, `[channel, frame,
  y, x]` inside, as the processors of the Qwen families cut them; for InternVL3 `[3, 448, 448]`. A
  model reads `(x / 255 - mean) / std` in f32
- `visual.<k>.embeds` f32 `[n_tokens, hidden]`, `visual.<k>.deepstack.<j>` likewise
- `case.<name>.block.<i>` f32 `[rows, hidden]`: output of decoder layer i for the rows of the prompt,
  before deepstack features are added; the last one's after the final norm
- `case.<name>.logits` f32 `[N_STEPS, vocab_size]`
- for a turn, `<name>` is `<case>.turn.<t>`, t from 0, and rows are those of the turn

Prompts are drawn anew until the answer has some variety and many steps are sure.

Needs: torch, transformers 5, safetensors.
"""

import argparse
import json
import pathlib

import torch
from safetensors.torch import save_file

from transformers.utils import logging

from families import load, new_cache

N_STEPS = 24
SURE = 6.0  # as in tests/sophgo/reference.rs
TRIES = 24

VISUALS = {
    "qwen3vl": [(6, 10), (6, 10), (6, 10), (8, 8), (4, 12)],
    "qwen25vl": [(6, 10), (6, 10), (6, 10), (8, 8), (4, 12)],
    "internvl3": [(32, 32), (32, 32)],
}


# A case is a list of turns, a turn a list of parts: a number of tokens to draw, or a tuple of
# visuals that stand side by side (`run` puts the marks before and after). The last number of a
# filled prompt is what is left of the window.
def run(*visuals, seconds=2.0):
    return {"run": visuals, "seconds": seconds}


QWEN_TURNS = [[7, run(0), 9], [6, run(4), 8], [11]]
CASES = {
    "qwen3vl": {
        "text": [[13]],
        "one_pair": [[6, run(3), 7]],
        "two_pairs": [[5, run(0), 3, run(1), 8]],
        "three_turns": QWEN_TURNS,
        "fills_64": [[9, run(2), "fill 64"]],
        "fills_192": [[9, run(0), 4, run(4), 4, run(1), "fill 192"]],
    },
    "qwen25vl": {
        "text": [[13]],
        "one_pair": [[6, run(3), 7]],
        "two_pairs": [[5, run(0, 1), 8]],
        "three_pairs_uneven": [[5, run(0, 1, 2, seconds=0.75), 8]],
        "three_pairs_slow": [[5, run(2, 1, 0, seconds=4.0), 8]],
        "three_turns": QWEN_TURNS,
        "fills_64": [[9, run(2), "fill 64"]],
        "fills_192": [[9, run(0, 1), 4, run(4), "fill 192"]],
    },
    "internvl3": {
        "text": [[13]],
        "one_tile": [[6, run(0), 7]],
        "three_turns": [[7, run(1), 9], [14], [11]],
        "fills_128": [["fill 128"]],
        "fills_384": [[9, run(0), "fill 384"]],
    },
}
KEPT = 6
"""How many tokens of an answer stay in the conversation."""


def draw_pixels(model, grid, generator):
    """A shade per patch and channel, with noise on it: what a smooth picture looks like, roughly."""
    side, row_len = model.patch()
    n_rows = grid[1] * grid[2]
    if side == 448:
        shade = torch.randint(0, 200, (3, 14, 14), generator=generator).float()
        big = torch.nn.functional.interpolate(shade[None], size=(448, 448), mode="bilinear")[0]
        noise = torch.randint(0, 56, (3, 448, 448), generator=generator)
        return (big + noise).clamp(0, 255).to(torch.uint8)
    shade = torch.randint(0, 192, (n_rows, 3, 1), generator=generator)
    noise = torch.randint(0, 64, (n_rows, 3, row_len // 3), generator=generator)
    return (shade + noise).to(torch.uint8).reshape(n_rows, row_len)


def normalised(model, pixels):
    """`(x / 255 - mean) / std` in f32, channel by channel."""
    mean, std = (torch.tensor(v).view(1, 3, 1) for v in (model.mean, model.std))
    shape = pixels.shape
    planes = pixels.float().reshape(-1 if shape[0] != 3 else 1, 3, shape[-1] ** 2 if shape[0] == 3
                                    else shape[-1] // 3)
    return ((planes / 255 - mean) / std).reshape(shape)


def draw_segments(model, lengths, parts, first, generator):
    """Segments of a turn, and for each run of visuals its seconds."""
    config = model.config
    marks = (getattr(config, "vision_start_token_id", 2042),
             getattr(config, "vision_end_token_id", 2043))
    segments, seconds = [{"tokens": list(first)}], []

    def words(n):
        segments[-1]["tokens"] += torch.randint(0, 2000, (n,), generator=generator).tolist()

    def rows():
        return sum(len(s["tokens"]) if "tokens" in s else lengths[s["visual"]]
                   for s in segments)

    for part in parts:
        if isinstance(part, int):
            words(part)
        elif isinstance(part, str):
            words(int(part.split()[1]) - rows())
        else:
            segments[-1]["tokens"].append(marks[0])
            segments += [{"visual": k} for k in part["run"]]
            seconds.append(part["seconds"])
            segments.append({"tokens": [marks[1]]})
    return [s for s in segments if s.get("tokens") != []], seconds


def positions_of(model, grids, segments, seconds, start):
    """Positions of a turn's rows, and the one after them."""
    rows, run_grids, seconds = [], [], list(seconds)
    for segment in [*segments, {"tokens": []}]:
        if "visual" in segment:
            run_grids.append(grids[segment["visual"]])
            continue
        if run_grids:
            placed, start = model.place(start, run_grids, seconds.pop(0))
            rows, run_grids = rows + placed, []
        rows += [[start + i] * 3 for i in range(len(segment["tokens"]))]
        start += len(segment["tokens"])
    return rows, start


def rows_of(model, seen, segments):
    """Embedded rows of a turn, which of them are visual, and the inner features of those."""
    rows, spots, inner = [], [], []
    for segment in segments:
        if "visual" in segment:
            embeds, deepstack = seen[segment["visual"]]
            rows.append(embeds)
            inner.append(deepstack)
            spots += [True] * len(embeds)
        else:
            rows.append(model.embed(segment["tokens"]))
            spots += [False] * len(segment["tokens"])
    deepstack = [torch.cat(level) for level in zip(*inner)]
    return torch.cat(rows), torch.tensor(spots), deepstack


@torch.no_grad()
def answer(model, seen, turn, cache, forced=None):
    """Runs a turn's prompt and N_STEPS tokens: layer outputs, tokens, logits `[N_STEPS, vocab]`.

    `forced` are the tokens to run instead of the chosen ones. The cache is left as the turn leaves
    it: with the rows of the prompt and of `KEPT - 1` tokens.
    """
    embeds, spots, deepstack = rows_of(model, seen, turn["segments"])
    blocks = model.run(embeds, turn["positions"], cache, spots, deepstack)
    n_rows = cache.get_seq_length()
    hidden, tokens, logits = blocks[-1][-1], [], []
    for step in range(N_STEPS):
        logits.append(model.logits(hidden))
        tokens.append(int(logits[-1].argmax()))
        token = tokens[-1] if forced is None else forced[step]
        if step + 1 < N_STEPS:
            position = turn["next_position"] + step
            hidden = model.run(model.embed([token]), [[position] * 3], cache)[-1][-1]
    cache.crop(n_rows + KEPT - 1)
    return blocks, tokens, torch.stack(logits)


def compare(exact, rough, seen32, seen16, turn, cache32, cache16):
    """Runs a turn both ways and fills in what it says; returns tensors to keep."""
    blocks, tokens, logits = answer(rough, seen16, turn, cache16)
    # The f32 run on its own needs a cache of its own: later turns continue the bf16 answer.
    turn["f32_greedy"] = answer(exact, seen32, turn, copy_of(cache32))[1]
    exact_blocks, _, exact_logits = answer(exact, seen32, turn, cache32, forced=tokens)
    top = logits.topk(2).values
    margins = (top[:, 0] - top[:, 1]).tolist()
    noises = (logits - exact_logits).std(dim=1).tolist()
    turn["greedy"] = [{"token": t, "margin": m, "noise": n}
                      for t, m, n in zip(tokens, margins, noises)]
    sure = [m >= SURE * n for m, n in zip(margins, noises)]
    turn["sure_steps"] = sure.index(False) if False in sure else N_STEPS
    turn["cosine"] = [torch.cosine_similarity(a, b).min().item()
                      for a, b in zip(blocks, exact_blocks)]
    return blocks, logits


def copy_of(cache):
    """Another cache with the same rows."""
    copy = new_cache()
    for index, layer in enumerate(cache.layers):
        if layer.is_initialized:
            copy.update(layer.keys.clone(), layer.values.clone(), index)
    return copy


def conversation(exact, rough, visuals, seen32, seen16, turns, generator):
    """Draws and runs a case's turns; returns them and their tensors.

    A turn is drawn anew until its answer has some variety and nearly all steps are sure; after
    TRIES the best is taken.
    """
    grids = [grid for grid, _ in visuals]
    lengths = [len(embeds) for embeds, _ in seen16]
    cache32, cache16 = new_cache(), new_cache()
    done, kept, first, start = [], [], [], 0
    for parts in turns:
        best = None
        for _ in range(TRIES):
            segments, seconds = draw_segments(rough, lengths, parts, first, generator)
            turn = {"segments": segments}
            turn["positions"], turn["next_position"] = positions_of(
                rough, grids, segments, seconds, start)
            caches = copy_of(cache32), copy_of(cache16)
            tensors = compare(exact, rough, seen32, seen16, turn, *caches)
            variety = min(len({step["token"] for step in turn["greedy"]}), 8)
            score = turn["sure_steps"] + 2 * variety
            if best is None or score > best[0]:
                best = (score, turn, tensors, caches)
            if score >= N_STEPS - 4 + 2 * 8:
                break
        _, turn, tensors, (cache32, cache16) = best
        turn["kept"] = KEPT
        done.append(turn)
        kept.append(tensors)
        first = [turn["greedy"][KEPT - 1]["token"]]
        start = turn["next_position"] + KEPT - 1
    return done, kept


def as_one(turns):
    """A conversation as one prompt."""
    whole = {"segments": [], "positions": []}
    for number, turn in enumerate(turns):
        whole["segments"] += [dict(s) for s in turn["segments"]]
        whole["positions"] += turn["positions"]
        whole["next_position"] = turn["next_position"]
        if number + 1 < len(turns):
            ran = [step["token"] for step in turn["greedy"][:KEPT - 1]]
            whole["segments"].append({"tokens": ran})
            whole["positions"] += [[turn["next_position"] + i] * 3 for i in range(len(ran))]
    joined = []
    for segment in whole["segments"]:
        if joined and "tokens" in segment and "tokens" in joined[-1]:
            joined[-1] = {"tokens": joined[-1]["tokens"] + segment["tokens"]}
        else:
            joined.append(segment)
    return whole | {"segments": joined}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoint", type=pathlib.Path)
    parser.add_argument("--out", type=pathlib.Path)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", help="names of cases, with commas")
    args = parser.parse_args()
    logging.disable_progress_bar()
    torch.set_num_threads(1)  # more only wait for each other: the models are tiny
    out = args.out or args.checkpoint
    out.mkdir(parents=True, exist_ok=True)
    family, exact = load(args.checkpoint, torch.float32)
    _, rough = load(args.checkpoint, torch.bfloat16)
    tensors, visuals, seen16, seen32, listed = {}, [], [], [], []
    generator = torch.Generator().manual_seed(args.seed)
    for k, (height, width) in enumerate(VISUALS[family]):
        grid = [1, height, width]
        pixels = draw_pixels(rough, grid, generator)
        values = normalised(rough, pixels)
        with torch.no_grad():
            seen16.append(rough.see(values, grid))
            seen32.append(exact.see(values, grid))
        embeds, deepstack = seen16[-1]
        visuals.append((grid, pixels))
        listed.append({"grid": grid, "mean": rough.mean, "std": rough.std})
        tensors[f"visual.{k}.pixels"] = pixels
        tensors[f"visual.{k}.embeds"] = embeds.float()
        for j, level in enumerate(deepstack):
            tensors[f"visual.{k}.deepstack.{j}"] = level.float()
        least = torch.cosine_similarity(embeds.float(), seen32[-1][0]).min().item()
        print(f"{family} visual {k}: {tuple(embeds.shape)}, bf16 against f32 {least:.6f}", flush=True)

    cases = []

    def keep(name, turn, kept):
        blocks, logits = kept
        for i, block in enumerate(blocks):
            tensors[f"case.{name}.block.{i}"] = block.contiguous()
        tensors[f"case.{name}.logits"] = logits
        print(f"{family} {name}: {len(turn['positions'])} rows, "
              f"{len({s['token'] for s in turn['greedy']})} different tokens, "
              f"{turn['sure_steps']} sure steps, f32 the same for "
              f"{same(turn)}, cosine {min(turn['cosine']):.6f}", flush=True)

    def same(turn):
        pairs = zip(turn["f32_greedy"], turn["greedy"])
        return next((i for i, (a, b) in enumerate(pairs) if a != b["token"]), N_STEPS)

    for number, (name, parts) in enumerate(CASES[family].items()):
        if args.only and name not in args.only.split(","):
            continue
        generator = torch.Generator().manual_seed(args.seed * 1000 + number)
        turns, kept = conversation(exact, rough, visuals, seen32, seen16, parts, generator)
        if len(turns) == 1:
            turns[0].pop("kept")
            cases.append({"name": name} | turns[0])
            keep(name, turns[0], kept[0])
            continue
        for t, turn in enumerate(turns):
            keep(f"{name}.turn.{t}", turn, kept[t])
        fresh = as_one(turns)
        values = compare(exact, rough, seen32, seen16, fresh, new_cache(), new_cache())
        keep(f"{name}_fresh", fresh, values)
        cases += [{"name": name, "fresh": f"{name}_fresh", "turns": turns},
                  {"name": f"{name}_fresh"} | fresh]
    text = exact.text.config
    content = {"family": family, "hidden_size": text.hidden_size, "vocab_size": text.vocab_size,
               "n_layers": text.num_hidden_layers, "visuals": listed, "cases": cases}
    (out / "reference.json").write_text(json.dumps(content, separators=(",", ":")) + "\n")
    save_file(tensors, out / "reference.safetensors")


if __name__ == "__main__":
    main()
