# SPDX-License-Identifier: MPL-2.0
"""Turns scenes into training batches.

A row of a batch is one clip: the vision part once, then a caption and some questions as separate
segments. Each segment sees the vision part and itself, never its neighbours, and starts at the
same position, so every answer is learned as if it stood alone and the pictures are paid for once.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import IterableDataset, get_worker_info

import world
from patterns import PATTERN_LOOKS, TRAINING_RENDERS, PatternPool
from render import frames_of, patches
from tokenizer import Codec
from world import CELL, Scene

LOOKS = [*sorted({*PATTERN_LOOKS.values(), *world.SOLID_LOOKS.values(), world.BLINK_LOOK}), "objects"]
"""Classes of the auxiliary head for a whole scene."""

AUX_SIZES = [len(world.COLOR_NAMES) + 1, len(world.SHAPES) + 1, len(world.MOTIONS) + 1, len(LOOKS)]
"""Classes a cell: colour, shape, motion (each with "none" last), and the look of the scene."""

IGNORE = -100
"""The target that cross entropy skips."""


@dataclass(frozen=True)
class Mix:
    """What the clips of a phase are."""

    pairs: tuple[float, ...] = (0.42, 0.20, 0.17, 0.21)
    """Shares of clips with 1, 2, 3 and 4 pairs."""
    kinds: dict[str, float] = field(
        default_factory=lambda: {"objects": 0.78, "pattern": 0.08, "ball": 0.09, "solid": 0.04, "blink": 0.01}
    )
    images: float = 0.07
    native: float = 0.2
    """Share of clips that go through a real video format and size."""
    tails: float = 0.12
    """Share of clips of several pairs whose last pair repeats the last frame."""
    questions: int = 3


@dataclass(frozen=True)
class Clock:
    """When the frames of a clip were taken: `rate` a second, from frame number `start` on."""

    rate: float = 1.0
    start: int = 0

    def pair_times(self, pairs: int, tail: bool) -> list[float]:
        """Mean time of the two frames of each pair, seconds; a tail's frame counts twice."""
        times = []
        for pair in range(pairs):
            first = self.start + 2 * pair
            second = first if tail and pair == pairs - 1 else first + 1
            times.append((first / self.rate + second / self.rate) / 2)
        return times


@dataclass
class Prefix:
    """Tokens, positions on three axes and placeholder marks of everything before the question."""

    ids: list[int]
    positions: list[tuple[int, int, int]]
    is_visual: list[bool]
    next_position: int


def prefix(
    codec: Codec, grid: tuple[int, int], pairs: int, *, image: bool = False, clock: Clock = Clock(), tail: bool = False
) -> Prefix:
    """`<|im_start|>user` and the vision part, as the stock processor lays it out.

    Every pair is `<0.5 seconds><|vision_start|>` placeholders `<|vision_end|>`; an image has no
    time. Placeholders take (t, h, w) positions, everything after them goes on behind the largest.
    """
    rows, columns = grid
    out = Prefix([], [], [], 0)

    def text(ids: list[int]) -> None:
        for token in ids:
            out.ids.append(token)
            out.positions.append((out.next_position,) * 3)
            out.is_visual.append(False)
            out.next_position += 1

    text(codec.encode("<|im_start|>user\n"))
    for time in clock.pair_times(pairs, tail):
        if not image:
            text(codec.encode(f"<{time:.1f} seconds>"))
        text([codec.vision_start])
        at = out.next_position
        for row in range(rows):
            for column in range(columns):
                out.ids.append(codec.image_pad if image else codec.video_pad)
                out.positions.append((at, at + row, at + column))
                out.is_visual.append(True)
        out.next_position += max(rows, columns)
        text([codec.vision_end])
    return out


def turn(asked: str) -> str:
    """The text between the vision part and the answer."""
    return f"{asked}<|im_end|>\n<|im_start|>assistant\n"


def cell_labels(scene: Scene) -> np.ndarray:
    """What the auxiliary head must say, `[pairs, 4, rows, columns]`.

    A cell knows the object whose centre lies in it in either frame of the pair; a cell with the
    centres of two objects is not asked.
    """
    rows, columns = scene.grid
    none = [size - 1 for size in AUX_SIZES]
    out = np.empty((scene.pairs, 4, rows, columns), np.int64)
    out[:] = np.array(none)[None, :, None, None]
    out[:, 3] = LOOKS.index(scene.look or "objects")
    for pair in range(scene.pairs):
        owners: dict[tuple[int, int], set[int]] = {}
        for i, thing in enumerate(scene.things):
            for frame in (2 * pair, 2 * pair + 1):
                if scene.tail and frame == 2 * scene.pairs - 1:
                    frame -= 1
                if thing.visible(frame):
                    x, y = thing.positions[frame]
                    cell = (
                        min(rows - 1, max(0, int(y // CELL))),
                        min(columns - 1, max(0, int(x // CELL))),
                    )
                    owners.setdefault(cell, set()).add(i)
        for (row, column), things in owners.items():
            if len(things) > 1:
                out[pair, :3, row, column] = IGNORE
                continue
            thing = scene.things[things.pop()]
            motion = thing.motions[pair] or "still"
            out[pair, :3, row, column] = (
                world.COLOR_NAMES.index(thing.color),
                world.SHAPES.index(thing.shape),
                world.MOTIONS.index(motion),
            )
    return out


def random_scene(
    rng: random.Random, pool: PatternPool, mix: Mix, grid: tuple[int, int], pairs: int, *, image: bool, tail: bool
) -> Scene:
    """One scene of the mixture; its frames are drawn elsewhere."""
    kind = rng.choices(list(mix.kinds), list(mix.kinds.values()))[0]
    if kind == "pattern" and not image:
        # Of a large frame little more than a shimmer is left of the snow: that takes practice.
        pattern = "snow" if rng.random() < 0.15 else None
        while True:
            scene, clear = pool.scene(rng, grid, pairs, pattern=pattern, tail=tail)
            if clear >= 4:
                return scene
    if kind == "pattern":
        pattern = rng.choice(list(PATTERN_LOOKS))
        scene, _ = pool.scene(rng, grid, pairs, pattern=pattern)
        scene.frames[1] = scene.frames[0]
        return scene
    if kind == "solid":
        scene = world.solid_scene(rng, grid, pairs)
        scene.tail = tail
        return scene
    if kind == "blink" and not image and not tail:
        return world.blink_scene(rng, grid, pairs)
    if kind == "ball":
        way = rng.random()
        if not image and not tail and way < 0.4:
            return world.wavy_ball_scene(rng, grid, pairs)
        if not image and not tail and way < 0.8:
            while True:
                scene, clear = pool.scene(rng, grid, pairs, pattern="ball")
                if clear >= 4:
                    return scene
        return world.object_scene(rng, grid, pairs, ball=True, still=image, tail=tail, clean=0.7)
    return world.object_scene(rng, grid, pairs, still=image, tail=tail)


def make_batch(
    rng: random.Random, noise: np.random.Generator, codec: Codec, pool: PatternPool, mix: Mix, size: int
) -> dict[str, object]:
    """A batch of one grid, one number of pairs and one clock, ready for `Dense`."""
    grid = world.random_grid(rng)
    image = rng.random() < mix.images
    pairs = 1 if image else rng.choices(range(1, len(mix.pairs) + 1), mix.pairs)[0]
    tail = pairs > 1 and rng.random() < mix.tails
    clock = Clock()
    if not image and rng.random() < 0.2:
        clock = replace(clock, start=rng.randint(0, 400))
    if not image and rng.random() < 0.12:
        clock = replace(clock, rate=rng.choice([0.2, 0.5, 2.0, 4.0]))
    size = max(8, int(size / pairs**0.8))
    head = prefix(codec, grid, pairs, image=image, clock=clock, tail=tail)
    cells = grid[0] * grid[1]
    pixels = np.empty((size, pairs, cells * 4, 1536), np.uint8)
    labels, rows = [], []
    for b in range(size):
        scene = random_scene(rng, pool, mix, grid, pairs, image=image, tail=tail)
        frames = frames_of(scene, rng, noise, mix.native)
        if image:
            frames[1] = frames[0]
        pixels[b] = patches(frames, grid)
        labels.append(cell_labels(scene))
        asked = [(world.prompt(rng, not image), world.caption(scene, not image))]
        asked += world.questions(rng, scene, mix.questions, not image)
        rows.append(_row(codec, head, asked))
    length = (max(len(r[0]) for r in rows) + 7) // 8 * 8
    ids = np.zeros((size, length), np.int64)
    positions = np.zeros((size, length, 3), np.int64)
    segments = np.full((size, length), -1, np.int64)
    targets = np.full((size, length + 1), IGNORE, np.int64)
    for b, (row_ids, row_positions, row_segments, row_targets) in enumerate(rows):
        n = len(row_ids)
        ids[b, :n], positions[b, :n] = row_ids, row_positions
        segments[b, :n], targets[b, :n] = row_segments, row_targets
    is_visual = np.zeros(length, bool)
    is_visual[: len(head.is_visual)] = head.is_visual
    return {
        "grid": grid,
        "pixels": torch.from_numpy(pixels),
        "cells": torch.from_numpy(np.stack(labels)),
        "ids": torch.from_numpy(ids),
        "positions": torch.from_numpy(positions).permute(2, 0, 1).contiguous(),
        "segments": torch.from_numpy(segments),
        "targets": torch.from_numpy(targets[:, 1:].copy()),
        "is_visual": torch.from_numpy(is_visual),
    }


def _row(codec: Codec, head: Prefix, asked: list[tuple[str, str]]) -> tuple[list, list, list, list]:
    """Ids, positions, segment numbers (0 is the vision part) and targets of one clip."""
    ids, positions = list(head.ids), list(head.positions)
    segments, targets = [0] * len(ids), [IGNORE] * len(ids)
    for i, (text, answer) in enumerate(asked):
        before, after = codec.encode(turn(text)), codec.encode(f"{answer}<|im_end|>")
        ids += before + after
        n = len(before) + len(after)
        positions += [(head.next_position + k,) * 3 for k in range(n)]
        segments += [i + 1] * n
        targets += [IGNORE] * len(before) + after
    return ids, positions, segments, targets


def segment_mask(segments: Tensor) -> Tensor:
    """Causal, and a segment sees the vision part and itself only: `[batch, length, length]`."""
    length = segments.shape[1]
    causal = torch.ones(length, length, dtype=torch.bool).tril()
    same = segments[:, :, None] == segments[:, None, :]
    return causal & ((segments == 0)[:, None, :] | same)


class Batches(IterableDataset):
    """An endless stream of batches from one seed."""

    def __init__(self, tokenizer: Path, cache: Path, mix: Mix, size: int, seed: int):
        self.tokenizer, self.cache = tokenizer, cache
        self.mix, self.size, self.seed = mix, size, seed

    def __iter__(self) -> Iterator[dict[str, object]]:
        torch.set_num_threads(1)
        worker = get_worker_info()
        seed = self.seed + 7919 * (worker.id if worker else 0)
        rng, noise = random.Random(seed), np.random.default_rng(seed)
        codec, pool = Codec(self.tokenizer), PatternPool(self.cache, TRAINING_RENDERS)
        while True:
            yield make_batch(rng, noise, codec, pool, self.mix, self.size)
