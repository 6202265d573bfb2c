# SPDX-License-Identifier: MPL-2.0
"""Draws scenes: straight onto the canvas, or the long way round as a camera and the element do.

The long way is: draw at a native size, convert to limited-range Y'CbCr 4:2:0 and back, reduce to
the canvas with Pillow's antialiased bicubic filter. It costs time, so only a share of the
training clips goes that way; it teaches what chroma subsampling and ringing look like.
"""

from __future__ import annotations

import random
from enum import Enum

import cv2
import numpy as np
from PIL import Image

from world import CELL, Scene, Thing

cv2.setNumThreads(1)
SUBPIXEL_BITS = 4
"""OpenCV's fixed point: sixteenths of a pixel."""

NATIVE_SIZES: dict[tuple[int, int], list[tuple[int, int]]] = {
    # grid: (width, height) of videos that the model's size rule maps to it, small ones mostly
    (4, 4): [(256, 256), (320, 320), (480, 480), (720, 720)],
    (3, 5): [(320, 180), (426, 240), (640, 360), (640, 360), (960, 540), (1280, 720)],
    (3, 4): [(320, 240), (320, 240), (352, 288), (480, 360), (640, 480), (800, 600)],
    (2, 5): [(400, 200), (480, 264), (854, 480)],
    (2, 6): [(480, 200), (384, 160), (800, 320)],
    (3, 6): [(384, 192), (480, 240)],
    (3, 3): [(96, 96)],
}
for (rows, columns), sizes in list(NATIVE_SIZES.items()):
    NATIVE_SIZES.setdefault((columns, rows), [(h, w) for w, h in sizes])


class Matrix(Enum):
    """Which weights turn R'G'B' into Y'CbCr: (Kr, Kb)."""

    BT601 = (0.299, 0.114)
    BT709 = (0.2126, 0.0722)


def draw_thing(image: np.ndarray, thing: Thing, x: float, y: float, rx: float, ry: float) -> None:
    """Paints one shape, centre (x, y), half sizes rx and ry; a circle fills them whole."""
    one = 1 << SUBPIXEL_BITS

    def fixed(value: float) -> int:
        return round(value * one)

    if thing.shape == "circle":
        centre, axes = (fixed(x), fixed(y)), (fixed(rx), fixed(ry))
        if axes[0] == axes[1]:
            cv2.circle(image, centre, axes[0], thing.rgb, -1, cv2.LINE_AA, SUBPIXEL_BITS)
        else:
            cv2.ellipse(image, centre, axes, 0, 0, 360, thing.rgb, -1, cv2.LINE_AA, SUBPIXEL_BITS)
        return
    if thing.shape == "square":
        a, b = 0.9 * rx, 0.9 * ry
        corners = [(x - a, y - b), (x + a, y - b), (x + a, y + b), (x - a, y + b)]
    else:
        corners = [(x, y - ry), (x + rx, y + 0.8 * ry), (x - rx, y + 0.8 * ry)]
    points = np.array([[fixed(px), fixed(py)] for px, py in corners], np.int32)
    cv2.fillPoly(image, [points], thing.rgb, cv2.LINE_AA, SUBPIXEL_BITS)


def draw(scene: Scene, noise: np.random.Generator, size: tuple[int, int] | None = None) -> np.ndarray:
    """The scene's frames `[2 * pairs, height, width, 3]`, RGB, 0..=255.

    `size` is (width, height); without it the canvas is drawn. Positions and radii scale with it,
    each axis by its own factor.
    """
    height, width = scene.size
    if size is not None:
        width, height = size
    n_frames = 2 * scene.pairs
    if scene.blink is not None:
        bits = (np.arange(n_frames) + scene.blink) % 2
        return np.broadcast_to((bits * 255).astype(np.uint8)[:, None, None, None], (n_frames, height, width, 3)).copy()
    base = np.empty((height, width, 3), np.float32)
    base[:] = scene.background
    if scene.gradient is not None:
        axis, rgb = scene.gradient
        ramp = np.linspace(-1, 1, width if axis == "x" else height, dtype=np.float32)
        ramp = ramp[None, :, None] if axis == "x" else ramp[:, None, None]
        base += ramp * np.array(rgb, np.float32)
    base = np.clip(base, 0, 255).astype(np.uint8)
    sx, sy = width / (scene.grid[1] * CELL), height / (scene.grid[0] * CELL)
    frames = np.empty((n_frames, height, width, 3), np.uint8)
    for i in range(n_frames):
        if scene.tail and i == n_frames - 1:
            frames[i] = frames[i - 1]
            continue
        image = base.copy()
        for thing in scene.things:
            if thing.visible(i):
                x, y = thing.positions[i]
                rx, ry = thing.radius * scene.squash[0], thing.radius * scene.squash[1]
                draw_thing(image, thing, x * sx, y * sy, rx * sx, ry * sy)
        if scene.blur:
            image = cv2.GaussianBlur(image, (0, 0), scene.blur * sx, sigmaY=scene.blur * sy)
        frames[i] = image
    if scene.noise:
        _add_noise(frames, scene, noise)
    return frames


def _add_noise(frames: np.ndarray, scene: Scene, noise: np.random.Generator) -> None:
    """Gaussian noise; the frames cut theirs from one long strip at random places, which is cheap."""
    length = frames[0].size
    strip = noise.standard_normal(2 * length, dtype=np.float32) * scene.noise
    for i in range(len(frames)):
        if scene.tail and i == len(frames) - 1:
            frames[i] = frames[i - 1]
            continue
        start = int(noise.integers(0, length))
        grain = strip[start : start + length].reshape(frames[i].shape)
        frames[i] = np.clip(frames[i].astype(np.float32) + grain, 0, 255).astype(np.uint8)


def to_yuv420(frame: np.ndarray, matrix: Matrix) -> tuple[np.ndarray, np.ndarray]:
    """Limited-range planes of one RGB frame with even sides: Y `[h, w]`, CbCr `[h / 2, w / 2, 2]`.

    Chroma is the mean of its 2x2 block.
    """
    kr, kb = matrix.value
    kg = 1 - kr - kb
    luma = np.array([kr, kg, kb])
    cb = (np.array([0, 0, 1]) - luma) / (2 * (1 - kb))
    cr = (np.array([1, 0, 0]) - luma) / (2 * (1 - kr))
    weights = np.stack([luma * 219 / 255, cb * 224 / 255, cr * 224 / 255])
    offsets = np.array([[16], [128], [128]])
    yuv = cv2.transform(frame.astype(np.float32), np.hstack([weights, offsets]).astype(np.float32))
    chroma = cv2.resize(yuv[..., 1:], None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    return _byte(yuv[..., 0]), _byte(chroma)


def from_yuv420(luma: np.ndarray, chroma: np.ndarray, matrix: Matrix) -> np.ndarray:
    """The inverse of `to_yuv420`, chroma interpolated linearly."""
    kr, kb = matrix.value
    kg = 1 - kr - kb
    height, width = luma.shape
    full = cv2.resize(chroma, (width, height), interpolation=cv2.INTER_LINEAR)
    yuv = np.dstack([luma, full]).astype(np.float32)
    y = 255 / 219
    to_cb, to_cr = 2 * (1 - kb) * 255 / 224, 2 * (1 - kr) * 255 / 224
    weights = np.array([[y, 0, to_cr], [y, -kb * to_cb / kg, -kr * to_cr / kg], [y, to_cb, 0]])
    offsets = -weights @ np.array([16, 128, 128])
    return _byte(cv2.transform(yuv, np.hstack([weights, offsets[:, None]]).astype(np.float32)))


def _byte(values: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def reduce_frame(frame: np.ndarray, grid: tuple[int, int]) -> np.ndarray:
    """Pillow's antialiased bicubic resize to the canvas, as the element does it."""
    size = grid[1] * CELL, grid[0] * CELL
    return np.asarray(Image.fromarray(frame).resize(size, Image.Resampling.BICUBIC))


def draw_natively(
    scene: Scene, noise: np.random.Generator, size: tuple[int, int], matrix: Matrix | None
) -> np.ndarray:
    """The canvas frames as they come out of a real video of this (width, height).

    `matrix` is the video's colour matrix; without one the video is RGB.
    """
    native = draw(scene, noise, size)
    out = np.empty((len(native), *scene.size, 3), np.uint8)
    for i, frame in enumerate(native):
        if scene.tail and i == len(native) - 1:
            out[i] = out[i - 1]
            continue
        if matrix is not None:
            frame = from_yuv420(*to_yuv420(frame, matrix), matrix)
        out[i] = reduce_frame(frame, scene.grid)
    return out


def frames_of(
    scene: Scene, rng: random.Random, noise: np.random.Generator, native_share: float
) -> np.ndarray:
    """The frames that the model sees of this scene, the long way in `native_share` of the calls."""
    if scene.frames is not None:
        return scene.frames
    if rng.random() < native_share:
        size = rng.choice(NATIVE_SIZES[scene.grid])
        matrix = rng.choice([Matrix.BT601, Matrix.BT601, Matrix.BT709, None])
        return draw_natively(scene, noise, size, matrix)
    return draw(scene, noise)


def patches(frames: np.ndarray, grid: tuple[int, int]) -> np.ndarray:
    """Cuts frames into the rows that the vision net reads, still as bytes.

    `frames` is `[2 * pairs, height, width, 3]`; the result `[pairs, cells * 4, 1536]` in merge-block
    order: block row, block column, row, column; inside a row channel, frame, y, x.
    """
    pairs = len(frames) // 2
    rows, columns = grid
    cut = frames.reshape(pairs, 2, rows, 2, 16, columns, 2, 16, 3)
    cut = cut.transpose(0, 2, 5, 3, 6, 8, 1, 4, 7)
    return np.ascontiguousarray(cut).reshape(pairs, rows * columns * 4, 1536)
