# SPDX-License-Identifier: MPL-2.0
"""Real frames of GStreamer's `videotestsrc`, rendered once into a cache folder.

Every pattern is rendered by `gst-launch-1.0` at several native sizes and in the format of real
video (I420, NV12, or RGB), converted to RGB by GStreamer's own converter, and sampled at one
frame a second. Run as a script it fills the cache:

    python patterns.py CACHE
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
import tempfile
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from world import BLINK_LOOK, CELL, SOLID_LOOKS, Scene, Thing, direction_of

PATTERN_LOOKS: dict[str, str] = {
    "smpte": "SMPTE color bars.",
    "smpte75": "Vertical color bars.",
    "smpte100": "Vertical color bars.",
    "smpte-rp-219": "SMPTE RP 219 color bars.",
    "snow": "Random noise like television snow.",
    "black": SOLID_LOOKS["black"],
    "white": SOLID_LOOKS["white"],
    "red": SOLID_LOOKS["red"],
    "green": SOLID_LOOKS["green"],
    "blue": SOLID_LOOKS["blue"],
    "checkers-1": "A red and green checkerboard.",
    "checkers-2": "A red and green checkerboard.",
    "checkers-4": "A red and green checkerboard.",
    "checkers-8": "A red and green checkerboard.",
    "circular": "Concentric circles.",
    "zone-plate": SOLID_LOOKS["gray"],  # without parameters: one phase everywhere
    "chroma-zone-plate": SOLID_LOOKS["gray"],
    "solid-color": SOLID_LOOKS["white"],  # its default foreground-color
    "gamut": "Horizontal stripes of black, white, red and blue.",
    "bar": "A white vertical bar.",
    "pinwheel": "A black and white pinwheel.",
    "spokes": "White spokes on a black background.",
    "gradient": "A vertical gradient from black to white.",
    "colors": "A grid of many colors.",
}
"""What the model says of each pattern; `ball` and `blink` depend on the frames."""

PATTERNS = [*PATTERN_LOOKS, "ball", "blink"]
MOVING = {"snow", "smpte", "smpte-rp-219", "ball", "blink"}
"""Patterns whose frames differ; the others are cached as one frame."""

SAMPLES = 16
"""Frames of a moving pattern in the cache, one a second."""

TRAINING_RENDERS = [
    # width, height, frames a second, format
    (320, 240, 30, "I420"), (640, 480, 30, "NV12"), (640, 360, 30, "I420"), (240, 320, 30, "I420"),
    (320, 320, 25, "RGB"), (1280, 720, 30, "NV12"), (160, 120, 30, "RGB"), (320, 180, 24, "I420"),
    (320, 240, 1, "RGB"), (480, 240, 10, "RGB"), (512, 512, 30, "I420"), (854, 480, 30, "I420"),
    (1920, 1080, 30, "I420"),
]  # fmt: skip
HELD_OUT_RENDERS = [
    (352, 288, 30, "I420"), (800, 600, 30, "RGB"), (426, 240, 25, "NV12"), (384, 384, 15, "RGB"),
]  # fmt: skip
"""Sizes and rates that training never sees."""

Render = tuple[int, int, int, str]


def cache_file(cache: Path, render: Render, pattern: str) -> Path:
    """Where the frames of one pattern lie: a `.npy` of `[n, height, width, 3]`."""
    width, height, rate, fmt = render
    return cache / f"{width}x{height}-{rate}-{fmt}-{pattern}.npy"


def render_pattern(render: Render, pattern: str, samples: int) -> np.ndarray:
    """Runs `videotestsrc` and keeps one RGB frame a second."""
    width, height, rate, fmt = render
    caps = f"video/x-raw,width={width},height={height}"
    with tempfile.NamedTemporaryFile(suffix=".rgb") as raw:
        command = (
            f"gst-launch-1.0 -q videotestsrc pattern={pattern} num-buffers={(samples - 1) * rate + 1}"
            f" ! {caps},format={fmt},framerate={rate}/1 ! videorate ! video/x-raw,framerate=1/1"
            f" ! videoconvert n-threads=1 ! {caps},format=RGB ! filesink location={raw.name}"
        )
        subprocess.run(command.split(), check=True)
        stride = (width * 3 + 3) // 4 * 4
        data = np.fromfile(raw.name, np.uint8).reshape(-1, height, stride)
    return data[:samples, :, : width * 3].reshape(-1, height, width, 3)


def fill_cache(cache: Path) -> None:
    """Renders what is not there yet."""
    cache.mkdir(parents=True, exist_ok=True)
    for render in TRAINING_RENDERS + HELD_OUT_RENDERS:
        for pattern in PATTERNS:
            file = cache_file(cache, render, pattern)
            if file.exists():
                continue
            frames = render_pattern(render, pattern, SAMPLES if pattern in MOVING else 1)
            part = file.with_suffix(f".{os.getpid()}.part.npy")
            np.save(part, frames)
            part.rename(file)


def centre(frame: np.ndarray) -> np.ndarray:
    """Centroid (x, y) of the brightness: where the white ball on black is."""
    mass = frame[..., 0].astype(np.float64)
    height, width = mass.shape
    x = (mass.sum(0) * (np.arange(width) + 0.5)).sum()
    y = (mass.sum(1) * (np.arange(height) + 0.5)).sum()
    return np.array([x, y]) / mass.sum()


FILTERS = ["area", "linear", "bicubic", "bicubic", "bilinear"]
"""Resize filters: OpenCV's area and plain linear, Pillow's antialiased ones; the element's twice."""


def resize(frame: np.ndarray, grid: tuple[int, int], how: str) -> np.ndarray:
    """Reduces one frame to the canvas of a grid."""
    size = grid[1] * CELL, grid[0] * CELL
    if how == "area":
        return cv2.resize(frame, size, interpolation=cv2.INTER_AREA)
    if how == "linear":
        return cv2.resize(frame, size, interpolation=cv2.INTER_LINEAR)
    return np.asarray(Image.fromarray(frame).resize(size, Image.Resampling[how.upper()]))


class PatternPool:
    """The cache, read as scenes."""

    def __init__(self, cache: Path, renders: list[Render]):
        self.cache = cache
        self.renders = renders

    @lru_cache(maxsize=20000)
    def _still(self, render: Render, pattern: str, grid: tuple[int, int], how: str) -> np.ndarray:
        return resize(np.load(cache_file(self.cache, render, pattern))[0], grid, how)

    @lru_cache(maxsize=2000)
    def _sample(self, render: Render, pattern: str, index: int, grid: tuple[int, int], how: str) -> np.ndarray:
        frames = np.load(cache_file(self.cache, render, pattern), mmap_mode="r")
        return resize(np.ascontiguousarray(frames[index]), grid, how)

    @lru_cache(maxsize=200)
    def _ball_path(self, render: Render) -> np.ndarray:
        frames = np.load(cache_file(self.cache, render, "ball"), mmap_mode="r")
        return np.array([centre(f) for f in frames])

    def scene(
        self,
        rng: random.Random,
        grid: tuple[int, int],
        pairs: int,
        *,
        pattern: str | None = None,
        render: Render | None = None,
        how: str | None = None,
        tail: bool = False,
    ) -> tuple[Scene, float]:
        """A clip of a real pattern, and how clear its caption is.

        Clearness is the smallest distance in degrees of a ball's step from the boundary of its
        direction; patterns other than ball are always clear. A tail of `blink` has no caption, so
        that one must not be asked for.
        """
        while True:
            chosen = pattern or rng.choice(PATTERNS)
            source = render or rng.choice(self.renders)
            filt = how or rng.choice(FILTERS)
            n = 2 * pairs
            if chosen in MOVING:
                start = rng.randint(0, SAMPLES - n)
                frames = np.stack([self._sample(source, chosen, start + i, grid, filt) for i in range(n)])
            else:
                start = 0
                frames = np.repeat(self._still(source, chosen, grid, filt)[None], n, 0)
            if chosen == "ball":
                scene, clear = self._ball(source, start, grid, pairs, tail)
            elif chosen == "blink":
                look = blink_look(frames)
                if look is None or tail:
                    continue
                scene, clear = Scene(grid, pairs, look=look), 22.5
            else:
                scene, clear = Scene(grid, pairs, look=PATTERN_LOOKS[chosen]), 22.5
            scene.tail = tail
            scene.frames = frames
            if tail:
                frames[-1] = frames[-2]
            return scene, clear

    def _ball(self, render: Render, start: int, grid: tuple[int, int], pairs: int, tail: bool) -> tuple[Scene, float]:
        scale = np.array([grid[1] * CELL / render[0], grid[0] * CELL / render[1]])
        path = self._ball_path(render)[start : start + 2 * pairs] * scale
        motions, clear = ball_motions(path[: len(path) - 2 * tail])
        if tail:
            motions = [*motions, None]
            path[-1] = path[-2]
        ball = Thing("white", (255, 255, 255), "circle", 20 * scale[0], motions, path)
        return Scene(grid, pairs, [ball]), clear


def ball_motions(path: np.ndarray) -> tuple[list[str | None], float]:
    """The direction of every pair of positions, and the least clear one's margin in degrees."""
    motions: list[str | None] = []
    clear = 22.5
    for step in path[1::2] - path[::2]:
        length = np.hypot(*step)
        if length < 1:
            motions.append("still")
            continue
        name, margin = direction_of(*step)
        motions.append(name)
        clear = min(clear, margin if length > 5 else 0.0)
    return motions, clear


def blink_look(frames: np.ndarray) -> str | None:
    """What sampled frames of `blink` show; `None` where no caption is right."""
    bright = [bool(f.mean() > 128) for f in frames]
    if len(set(bright)) == 1:
        return SOLID_LOOKS["white" if bright[0] else "black"]
    if all(a != b for a, b in zip(bright[::2], bright[1::2])):
        return BLINK_LOOK
    return None


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cache", type=Path)
    fill_cache(parser.parse_args().cache)
    return 0


if __name__ == "__main__":
    sys.exit(main())
