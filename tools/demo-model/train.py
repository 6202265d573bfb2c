# SPDX-License-Identifier: MPL-2.0
"""Trains the demo model on the CPU: the whole schedule is the table `SCHEDULE`.

    python train.py --tokenizer T.json --patterns CACHE --output run/            # from random weights
    python train.py ... --phases polish-1,polish-2 --init ../../models/demo      # go on from weights

Each phase ends with a decayed learning rate, so `run/PHASE.pt` of every phase is a usable model.
It is written every three minutes, and a run that was stopped goes on from there when it is
started again with the same folder.

Two things make it fast. An auxiliary head says for every visual token what lies in its cell; it
teaches the vision net directly and is thrown away at the end. And Muon updates every matrix, the
patch embedding above all: under AdamW shapes stay at chance for a long time.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader
from transformers import Qwen3VLForConditionalGeneration

from batches import AUX_SIZES, IGNORE, Batches, Mix, segment_mask
from model import HIDDEN, Dense, new_model
from tokenizer import Codec

AUX_WEIGHTS = (0.3, 1.0, 0.5, 0.1)
"""Colour, shape, motion, look: shape is what the net learns last."""

NONE_WEIGHT = 0.25
"""Weight of cells without an object, which are most of them."""

SAVE_SECONDS = 180


@dataclass(frozen=True)
class Phase:
    """One leg of the schedule."""

    name: str
    clips: int
    lr: float
    """Muon's; AdamW's (embeddings, norms, biases) is `adam_lr`."""
    adam_lr: float
    batch: int = 48
    warmup: int = 100
    """Steps."""
    flat: float = 0.3
    """Share of the phase before the cosine decay begins."""
    floor: float = 0.01
    """Where the decay ends, as a share of the learning rate."""
    aux: float = 1.0
    mix: Mix = field(default_factory=Mix)
    after: tuple[str, ...] = ()
    """Names of the phases whose mean it goes on from; the one before it in the table if none."""


FINE = Mix(kinds={"objects": 0.70, "pattern": 0.07, "ball": 0.18, "solid": 0.04, "blink": 0.01}, native=0.25)
"""The mix of the last phases: more of what is hardest, the ball and real video formats."""

SCHEDULE = [
    Phase("one-pair", 36_000, lr=0.012, adam_lr=1.5e-3, flat=1.0, mix=Mix(pairs=(1.0,), native=0.1)),
    Phase("all-pairs", 90_000, lr=0.012, adam_lr=1.5e-3, flat=0.6, floor=0.3),
    Phase("polish-1", 60_000, lr=0.008, adam_lr=1e-3, flat=0.3, aux=0.5),
    Phase("polish-2", 60_000, lr=0.006, adam_lr=8e-4, flat=0.3, aux=0.5, mix=FINE),
    Phase("polish-3", 40_000, lr=0.004, adam_lr=5e-4, flat=0.2, aux=0.3, mix=FINE),
    Phase("polish-4", 30_000, lr=0.004, adam_lr=5e-4, flat=0.2, aux=0.3, mix=FINE, after=("polish-2",)),
    # Two ways from one place, and what they agree on.
    Phase("polish-5", 12_000, lr=0.002, adam_lr=2.5e-4, flat=0.1, aux=0.0, mix=FINE, after=("polish-3", "polish-4")),
]


class Muon:
    """Momentum, made orthogonal by five Newton-Schulz steps (Jordan et al., 2024).

    Matrices of one shape go through the iteration together.
    """

    def __init__(self, weights: list[nn.Parameter], decay: float = 0.02):
        self.decay = decay
        self.groups: dict[tuple[int, int], list[nn.Parameter]] = {}
        for weight in weights:
            shape = weight.shape[0], weight.numel() // weight.shape[0]
            self.groups.setdefault(shape, []).append(weight)
        self.momenta = {weight: torch.zeros_like(weight) for weight in weights}

    @torch.no_grad()
    def step(self, lr: float, beta: float) -> None:
        """One update of every matrix; `beta` is the momentum."""
        for (rows, columns), weights in self.groups.items():
            updates = []
            for weight in weights:
                momentum = self.momenta[weight].lerp_(weight.grad, 1 - beta)
                updates.append(weight.grad.lerp(momentum, beta).flatten(1))
            update = orthogonal(torch.stack(updates))
            scale = lr * max(1, rows / columns) ** 0.5
            for weight, change in zip(weights, update):
                weight.mul_(1 - lr * self.decay)
                weight.add_(change.view_as(weight), alpha=-scale)


def orthogonal(x: Tensor) -> Tensor:
    """Moves the singular values of a stack of matrices close to one."""
    tall = x.shape[1] > x.shape[2]
    if tall:
        x = x.transpose(1, 2)
    x = (x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)).bfloat16()
    for _ in range(5):
        square = x @ x.transpose(1, 2)
        x = 3.4445 * x + (-4.7750 * square + 2.0315 * (square @ square)) @ x
    return (x.transpose(1, 2) if tall else x).float()


class Trainer:
    """The model, its auxiliary head and both optimizers."""

    def __init__(self, stock: Qwen3VLForConditionalGeneration):
        self.stock = stock
        self.dense = Dense(stock)
        self.aux = nn.Linear(HIDDEN, sum(AUX_SIZES))
        matrices, tables, vectors = [], [], list(self.aux.parameters())
        for name, weight in stock.named_parameters():
            if "patch_embed.proj.weight" in name or (weight.ndim == 2 and "embed" not in name):
                matrices.append(weight)
            else:
                (tables if weight.ndim >= 2 else vectors).append(weight)
        self.muon = Muon(matrices)
        self.adam = torch.optim.AdamW(
            [{"params": tables, "weight_decay": 0.02}, {"params": vectors, "weight_decay": 0.0}],
            betas=(0.9, 0.98),
        )
        self.parameters = [*stock.parameters(), *self.aux.parameters()]
        self.steps = 0

    def losses(self, batch: dict, with_aux: bool) -> tuple[Tensor, Tensor, Tensor]:
        """Cross entropy of the answers, of the four auxiliary targets, and the share of right tokens."""
        pixels = batch["pixels"]
        size, pairs = pixels.shape[:2]
        with torch.autocast("cpu", dtype=torch.bfloat16):
            grid = tuple(batch["grid"])  # a list after its way through the loader
            visual, deep = self.dense.vision(pixels.flatten(0, 1).float() / 127.5 - 1, grid)
            hidden = self.dense.text(
                batch["ids"],
                batch["positions"],
                segment_mask(batch["segments"]),
                batch["is_visual"],
                visual.reshape(size, -1, HIDDEN),
                [d.reshape(size, -1, HIDDEN) for d in deep],
            )
            asked = batch["targets"] != IGNORE
            logits = self.dense.logits(hidden[asked]).float()
            seen = self.aux(visual).float() if with_aux else None
        targets = batch["targets"][asked]
        answer = F.cross_entropy(logits, targets)
        right = (logits.argmax(-1) == targets).float().mean()
        if seen is None:
            return answer, torch.zeros(len(AUX_SIZES)), right
        cells = batch["cells"].flatten(0, 1).flatten(2)
        aux = []
        for i, scores in enumerate(seen.split(AUX_SIZES, -1)):
            weight = torch.ones(AUX_SIZES[i])
            if i < 3:
                weight[-1] = NONE_WEIGHT
            flat = scores.reshape(-1, AUX_SIZES[i])
            aux.append(F.cross_entropy(flat, cells[:, i].reshape(-1), weight, ignore_index=IGNORE))
        return answer, torch.stack(aux), right

    def step(self, batch: dict, phase: Phase, rate: float, aux: float) -> list[float]:
        """One update; `rate` scales both learning rates."""
        answer, seen, right = self.losses(batch, aux > 0)
        loss = answer + aux * (seen * torch.tensor(AUX_WEIGHTS)).sum()
        loss.backward()
        nn.utils.clip_grad_norm_(self.parameters, 1.0)
        for group in self.adam.param_groups:
            group["lr"] = phase.adam_lr * rate
        self.adam.step()
        self.muon.step(phase.lr * rate, min(0.95, 0.85 + self.steps / 3000))
        for weight in self.parameters:
            weight.grad = None
        self.steps += 1
        return [answer.item(), right.item(), *seen.tolist()]

    def save(self, file: Path, clips: int) -> None:
        """Writes weights, head and optimizers after so many clips of a phase, whole or not at all."""
        part = file.with_suffix(".part")
        state = {
            "model": self.stock.state_dict(),
            "aux": self.aux.state_dict(),
            "adam": self.adam.state_dict(),
            "muon": [self.muon.momenta[w] for group in self.muon.groups.values() for w in group],
            "steps": self.steps,
            "clips": clips,
        }
        torch.save(state, part)
        part.rename(file)

    def average(self, files: list[Path]) -> None:
        """Takes the mean of the weights in these files (Wortsman et al., Model soups, 2022)."""
        states = [torch.load(file, map_location="cpu") for file in files]
        for part, module in (("model", self.stock), ("aux", self.aux)):
            names = states[0][part]
            module.load_state_dict({n: torch.stack([s[part][n] for s in states]).mean(0) for n in names})

    def resume(self, file: Path) -> int:
        """Goes on from what `save` wrote; returns the clips its phase has had."""
        state = torch.load(file, map_location="cpu")
        self.stock.load_state_dict(state["model"])
        self.aux.load_state_dict(state["aux"])
        self.adam.load_state_dict(state["adam"])
        weights = [w for group in self.muon.groups.values() for w in group]
        for weight, momentum in zip(weights, state["muon"], strict=True):
            self.muon.momenta[weight].copy_(momentum)
        self.steps = state["steps"]
        return state["clips"]


def rate_at(phase: Phase, progress: float, steps: int) -> float:
    """Warm-up, flat part, cosine to the floor."""
    rate = min(1.0, (steps + 1) / phase.warmup)
    if progress > phase.flat:
        wave = 0.5 * (1 + math.cos(math.pi * (progress - phase.flat) / (1 - phase.flat)))
        rate *= phase.floor + (1 - phase.floor) * wave
    return rate


def run_phase(
    trainer: Trainer, phase: Phase, n_clips: float, minutes: float, loader: DataLoader, output: Path, had: int = 0
) -> None:  # fmt: skip
    """Trains on so many clips, `had` of them already seen, or fewer if the minutes of wall time
    are over before.

    The learning rate follows whichever is further, so it has decayed at the end either way.
    """
    batches = iter(loader)
    begin = saved = time.monotonic()
    steps, clips = 0, had
    mean: list[float] = []
    before = had / n_clips
    while True:
        timed = before + (1 - before) * (time.monotonic() - begin) / (60 * minutes)
        progress = max(clips / n_clips, timed)
        if progress >= 1:
            break
        batch = next(batches)
        aux = phase.aux * max(0.1, 1 - max(0.0, progress - 0.3) / 0.5)
        values = trainer.step(batch, phase, rate_at(phase, progress, steps), aux)
        mean = [0.97 * m + 0.03 * v for m, v in zip(mean, values)] if mean else values
        steps += 1
        clips += len(batch["ids"])
        if steps % 50 == 0:
            spent = time.monotonic() - begin
            heads = " ".join(f"{m:.3f}" for m in mean[2:])
            print(
                f"{phase.name} step {steps} {spent:.0f} s clips {clips} ({(clips - had) / spent:.0f}/s) "
                f"loss {mean[0]:.4f} right {mean[1]:.4f} aux {heads}",
                flush=True,
            )
        if time.monotonic() - saved > SAVE_SECONDS:
            saved = time.monotonic()
            trainer.save(output / f"{phase.name}.pt", clips)
    trainer.save(output / f"{phase.name}.pt", clips)
    (output / f"{phase.name}.done").touch()
    spent = (time.monotonic() - begin) / 60
    print(f"{phase.name} ends: {steps} steps, {clips} clips, {spent:.1f} minutes", flush=True)


def load_weights(trainer: Trainer, source: Path) -> None:
    """From a folder in the stock format (the head starts anew) or a `.pt` of ours."""
    if source.is_dir():
        stored = Qwen3VLForConditionalGeneration.from_pretrained(source, dtype=torch.float32)
        trainer.stock.load_state_dict(stored.state_dict())
    else:
        stored = torch.load(source, map_location="cpu")
        trainer.stock.load_state_dict(stored["model"])
        trainer.aux.load_state_dict(stored["aux"])


def train(
    tokenizer: Path, patterns: Path, output: Path, *,
    phases: list[str], scale: float = 1.0, minutes: float = math.inf,
    init: Path | None = None, seed: int = 1, threads: int = 2,
) -> Path:  # fmt: skip
    """Runs these phases in order and returns the last checkpoint.

    `scale` is a factor on the clips of each; `minutes` is for all of them together, shared out
    by the clips that are left. Phases that `output` has whole are not run again.
    """
    torch.manual_seed(seed)
    torch.set_num_threads(threads)
    output.mkdir(parents=True, exist_ok=True)
    trainer = Trainer(new_model(Codec(tokenizer)))
    if init is not None:
        load_weights(trainer, init)
    chosen = [p for p in SCHEDULE if p.name in phases]
    had = {}
    for phase in chosen:
        file = output / f"{phase.name}.pt"
        if not file.exists():
            break
        clips = trainer.resume(file)
        whole = file.with_suffix(".done").exists()
        had[phase.name] = math.inf if whole else clips
        print(f"{phase.name}: {'whole' if whole else f'goes on after {clips} clips'}", flush=True)
    left = [max(0.0, p.clips * scale - had.get(p.name, 0)) for p in chosen]
    for i, phase in enumerate(chosen):
        if left[i] == 0:
            continue
        seen = had.get(phase.name, 0)
        starts = [output / f"{name}.pt" for name in phase.after if name in phases]
        if seen == 0 and starts:
            trainer.average(starts)
        data = Batches(tokenizer, patterns, phase.mix, phase.batch, seed=1000 * seed + 17 * i + 7 * seen)
        loader = DataLoader(data, batch_size=None, num_workers=1, prefetch_factor=6)
        share = left[i] / sum(left)
        run_phase(trainer, phase, phase.clips * scale, minutes * share, loader, output, seen)
    return output / f"{chosen[-1].name}.pt"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tokenizer", type=Path, required=True)
    parser.add_argument("--patterns", type=Path, required=True, help="cache of patterns.py")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--phases", default=",".join(p.name for p in SCHEDULE))
    parser.add_argument("--scale", type=float, default=1.0, help="factor on the clips of each phase")
    parser.add_argument("--minutes", type=float, default=math.inf, help="limit for all phases together")
    parser.add_argument("--init", type=Path, help="weights to go on from: a model folder or a .pt")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    a = parser.parse_args()
    unknown = set(a.phases.split(",")) - {p.name for p in SCHEDULE}
    if unknown:
        parser.error(f"no such phase: {', '.join(sorted(unknown))}")
    train(
        a.tokenizer, a.patterns, a.output, phases=a.phases.split(","), scale=a.scale,
        minutes=a.minutes, init=a.init, seed=a.seed, threads=a.threads,
    )  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main())
