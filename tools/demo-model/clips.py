# SPDX-License-Identifier: MPL-2.0
"""Writes held-out clips as scene descriptions, so that any renderer can draw them.

    python clips.py --model ../../models/demo --clips 64 --output ../../tests/data/demo-clips.jsonl

One JSON object a line:

    id          a name, unique in the file
    pairs       number of frame pairs; the clip has 2 * pairs frames, one a second
    background  [r, g, b], 0..=255
    gradient    null, or {"axis": "x" or "y", "rgb": [r, g, b]}: added to the background, from
                -rgb at the near edge (left or top) linearly to +rgb at the far edge
    noise       standard deviation of Gaussian noise on every value of every frame, of 255
    blur        standard deviation of a Gaussian blur, canvas pixels
    grid        [rows, columns] of merged cells; the canvas has 32 * rows by 32 * columns pixels
    objects     drawn in this order; they never overlap
        color, rgb, shape   the name in the caption, the paint, circle, square or triangle
        radius              canvas pixels
        x, y                centre in every frame, canvas pixels from the left and top edge
        visible             in every frame: false before it appears and after it disappeared
    caption     the one right answer to "Describe the video."
    questions   [[question, answer], ...]

Around the centre (x, y) with radius r: a circle has radius r; a square reaches 0.9 r to each side;
a triangle has the corners (x, y - r), (x + r, y + 0.8 r) and (x - r, y + 0.8 r).

To draw a clip at width x height, multiply x by width / (32 * columns) and y by
height / (32 * rows), shapes included. Choose a size whose grid is the clip's: 640x360 is [3, 5],
320x240 and 640x480 are [3, 4].

With `--model` only clips stay in the file that this model answers rightly in stock transformers,
caption and questions, when they are drawn at `--size` and reduced by Pillow's bicubic filter.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from pathlib import Path

import numpy as np

import world
from render import draw_natively
from world import Scene


def describe(scene: Scene, name: str, asked: list[tuple[str, str]]) -> dict[str, object]:
    """The JSON form of a scene of objects."""
    gradient = None
    if scene.gradient is not None:
        axis, rgb = scene.gradient
        gradient = {"axis": axis, "rgb": [round(c, 2) for c in rgb]}
    return {
        "id": name,
        "pairs": scene.pairs,
        "background": list(scene.background),
        "gradient": gradient,
        "noise": round(scene.noise, 2),
        "blur": round(scene.blur, 2),
        "grid": list(scene.grid),
        "objects": [
            {
                "color": thing.color,
                "rgb": list(thing.rgb),
                "shape": thing.shape,
                "radius": round(thing.radius, 2),
                "x": [round(float(x), 2) for x in thing.positions[:, 0]],
                "y": [round(float(y), 2) for y in thing.positions[:, 1]],
                "visible": [thing.visible(i) for i in range(2 * scene.pairs)],
            }
            for thing in scene.things
        ],
        "caption": world.caption(scene),
        "questions": [list(pair) for pair in asked],
    }


class Filter:
    """Keeps the clips that a model answers rightly."""

    def __init__(self, model: Path, size: tuple[int, int]):
        from evaluate import Item, Stock  # only here: without a model no torch is needed

        self.item, self.stock, self.size = Item, Stock(model), size

    def right(self, scene: Scene, asked: list[tuple[str, str]]) -> bool:
        frames = draw_natively(scene, np.random.default_rng(0), self.size, None)
        asked = [("Describe the video.", world.caption(scene)), *asked]
        items = [self.item("", scene.grid, scene.pairs, frames, q, a) for q, a in asked]
        return self.stock.answers(items) == [a for _, a in asked]


def make_clips(count: int, seed: int, grid: tuple[int, int], clean: float, keep: Filter | None) -> list[dict]:
    """Clips of 1-3 objects and 1-4 pairs in turn."""
    rng = random.Random(seed)
    out: list[dict] = []
    tried = 0
    while len(out) < count:
        objects, pairs = len(out) % 3 + 1, len(out) // 3 % 4 + 1
        scene = world.object_scene(rng, grid, pairs, count=objects, clean=clean)
        asked = world.questions(rng, scene, 2)
        tried += 1
        if asked[0] != asked[1] and (keep is None or keep.right(scene, asked)):
            out.append(describe(scene, f"{len(out):04d}-{objects}-objects-{pairs}-pairs", asked))
    print(f"{tried} clips tried, {count} kept", file=sys.stderr)
    return out


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clips", type=int, default=64)
    parser.add_argument("--seed", type=int, default=world.HELD_OUT_SEED + 64)
    parser.add_argument("--size", default="640x360", help="native size; it fixes the grid too")
    parser.add_argument("--clean", type=float, default=1.0, help="share without noise, blur, gradient")
    parser.add_argument("--model", type=Path, help="keep only what this model answers rightly")
    parser.add_argument("--output", type=Path, required=True)
    a = parser.parse_args()
    width, height = map(int, a.size.split("x"))
    keep = Filter(a.model, (width, height)) if a.model else None
    clips = make_clips(a.clips, a.seed, world.grid_for(width, height), a.clean, keep)
    a.output.parent.mkdir(parents=True, exist_ok=True)
    a.output.write_text("".join(json.dumps(clip) + "\n" for clip in clips))
    return 0


if __name__ == "__main__":
    sys.exit(main())
