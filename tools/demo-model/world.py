# SPDX-License-Identifier: MPL-2.0
"""The small world that the demo model knows: scenes, their captions, questions about them.

A scene is a description, not a picture: coloured shapes and where each of them is in every
frame, in pixels of the *canvas*, the picture that the model sees (32 x 32 pixels a merged cell).
`render.py` draws it. Truth follows from the description alone, so a caption is never a guess.

Frames come in pairs (the model's temporal patch). The motion of a pair is what happens between
its two frames; between pairs an object moves on in the direction before or after, so that the
caption stays true for the clip as a whole.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, field

import numpy as np

CELL = 32
"""Canvas pixels along one side of a merged cell: patch size 16, merge 2."""

FRAME_PIXELS = 16384
"""Pixel budget of a picture, and of each frame of a video: 128x128, 128x96, 160x96."""

HELD_OUT_SEED = 770_000_001
"""Where evaluations begin; far from every training seed."""

COLORS: dict[str, tuple[tuple[int, int, int], tuple[int, int, int]]] = {
    # name: a muted and a pure tone; an object's colour lies somewhere between them
    "red": ((200, 30, 35), (255, 0, 0)),
    "orange": ((240, 130, 20), (255, 140, 0)),
    "yellow": ((235, 220, 40), (255, 255, 0)),
    "green": ((30, 160, 50), (0, 255, 0)),
    "cyan": ((40, 200, 215), (0, 255, 255)),
    "blue": ((40, 70, 210), (0, 0, 255)),
    "magenta": ((210, 40, 200), (255, 0, 255)),
    "white": ((240, 240, 240), (255, 255, 255)),
}
COLOR_NAMES = list(COLORS)
"""Also the order in which a caption names the objects."""

SHAPES = ["circle", "square", "triangle"]

DIRECTIONS: dict[str, int] = {
    # degrees, clockwise from right, because y grows downwards
    "right": 0, "down-right": 45, "down": 90, "down-left": 135,
    "left": 180, "up-left": 225, "up": 270, "up-right": 315,
}  # fmt: skip
DIRECTION_NAMES = list(DIRECTIONS)
MOTIONS = [*DIRECTION_NAMES, "still", "appears", "disappears"]
OPPOSITE = {name: DIRECTION_NAMES[(i + 4) % 8] for i, name in enumerate(DIRECTION_NAMES)}

GRIDS: dict[tuple[int, int], float] = {
    # merged cells (rows, columns): share of the clips. What `smart_resize` makes of 16384 pixels:
    # 4:3 is 3x4, 16:9 is 3x5, a hair wider than 16:9 (854x480, 1366x768) is already 2x5.
    (4, 4): 0.20, (3, 5): 0.27, (3, 4): 0.25, (5, 3): 0.07, (4, 3): 0.07,
    (3, 6): 0.03, (2, 6): 0.05, (2, 5): 0.04, (5, 2): 0.02,
}  # fmt: skip

BACKGROUNDS = [
    (0, 0, 0), (0, 0, 0), (25, 25, 25), (70, 70, 75), (10, 15, 70), (60, 10, 15), (10, 55, 20),
    (128, 128, 128), (170, 190, 215), (220, 220, 205), (255, 255, 255), (90, 60, 40),
    (205, 170, 190),
]  # fmt: skip

VIDEO_PROMPTS = [
    "Describe the video.", "Describe this video.", "What happens in the video?",
    "What happens in this video?", "What do you see?", "Caption this video.",
    "Describe what is happening.", "What is in the video?",
    "Describe the video in one sentence.", "Describe this clip.", "What is happening?",
    "Please describe the video.", "What can you see in the video?", "Describe the scene.",
]  # fmt: skip
IMAGE_PROMPTS = [
    "Describe the image.", "Describe this image.", "What is in the image?",
    "What do you see in the image?", "Caption this image.", "Describe the picture.",
    "What do you see?", "Describe the scene.", "Describe the image in one sentence.",
    "Please describe the image.",
]  # fmt: skip

MIN_STEP, MIN_DIAGONAL_STEP = 7.0, 10.0
"""Shortest visible motion inside a pair, canvas pixels."""

ANGLE_SPREAD = 10.0
"""Degrees either side of a direction; the 25 degrees between two directions stay empty."""


@dataclass
class Thing:
    """One coloured shape. `positions` is its centre in every frame, `[2 * pairs, 2]` as (x, y)."""

    color: str
    rgb: tuple[int, int, int]
    shape: str
    radius: float
    motions: list[str | None]
    """One a pair; `None` is an odd tail, a pair that shows the same frame twice."""
    positions: np.ndarray

    def visible(self, frame: int) -> bool:
        """False for the frame before it appears and the frame after it disappeared."""
        return not (
            (self.motions[0] == "appears" and frame == 0)
            or (self.motions[0] == "disappears" and frame == 1)
        )

    def phrases(self) -> list[str]:
        """Its motions without repetition, the tail left out."""
        merged: list[str] = []
        for motion in self.motions:
            if motion is not None and (not merged or merged[-1] != motion):
                merged.append(motion)
        return merged


@dataclass
class Scene:
    """A clip as a description; everything a renderer needs, and everything a caption needs."""

    grid: tuple[int, int]
    pairs: int
    things: list[Thing] = field(default_factory=list)
    look: str | None = None
    """The caption of a clip without objects: a solid screen or a test pattern."""
    background: tuple[int, int, int] = (0, 0, 0)
    gradient: tuple[str, tuple[float, float, float]] | None = None
    """Axis (`"x"` or `"y"`) and the RGB added at its far end (and taken away at its near end)."""
    noise: float = 0.0
    """Standard deviation of the pixel noise, of 255."""
    blur: float = 0.0
    """Standard deviation of a Gaussian blur, canvas pixels."""
    squash: tuple[float, float] = (1.0, 1.0)
    """Factors on the shapes' width and height, as of a camera whose aspect the grid cannot keep."""
    blink: int | None = None
    """Brightness bit of the first frame of a screen that changes between black and white."""
    tail: bool = False
    """The last pair shows the last frame twice, as a window with an odd number of frames does."""
    frames: np.ndarray | None = None
    """Ready frames `[2 * pairs, height, width, 3]` of a rendered test pattern."""

    @property
    def size(self) -> tuple[int, int]:
        """Canvas height and width in pixels."""
        return self.grid[0] * CELL, self.grid[1] * CELL


# --- captions ---------------------------------------------------------------------------------


def article(noun: str) -> str:
    """`an orange`, `a red`."""
    return ("an " if noun[0] in "aeio" else "a ") + noun


def enumerate_words(words: list[str]) -> str:
    """`A`, `A and B`, `A, B and C`."""
    return words[0] if len(words) == 1 else ", ".join(words[:-1]) + " and " + words[-1]


def motion_phrase(motions: list[str]) -> str:
    """`moves up-left then down then stays still`: a direction after a direction has no verb."""
    out: list[str] = []
    moving = False
    for motion in motions:
        if motion in DIRECTIONS:
            out.append(motion if moving else f"moves {motion}")
        else:
            out.append("stays still" if motion == "still" else motion)
        moving = motion in DIRECTIONS
    return " then ".join(out)


def caption(scene: Scene, video: bool = True) -> str:
    """The one right answer to "Describe the video." (or "... the image.": no verbs)."""
    if scene.look is not None:
        return scene.look
    parts = []
    for thing in scene.things:
        noun = article(f"{thing.color} {thing.shape}")
        parts.append(f"{noun} {motion_phrase(thing.phrases())}" if video else noun)
    text = enumerate_words(parts)
    return text[0].upper() + text[1:] + "."


# --- questions --------------------------------------------------------------------------------

QUESTION_KINDS: dict[str, float] = {
    "exists": 2.0, "count": 1.0, "color": 2.0, "colors": 1.0, "shape": 1.0, "direction": 4.0,
    "moving": 1.0,
}  # fmt: skip
"""Relative frequency. Directions and colours by shape are the hardest, so they come most often."""


def question(rng: random.Random, scene: Scene, kind: str, video: bool = True) -> tuple[str, str] | None:
    """A question of this kind with its answer; `None` where the scene has none to ask."""
    things = scene.things if scene.look is None else []
    if kind == "exists":
        return _ask_exists(rng, things)
    if kind == "count":
        asked = ["How many objects are there?", "How many shapes are there?",
                 "How many objects do you see?", "Count the objects."]  # fmt: skip
        return rng.choice(asked), f"{len(things)}."
    if not things:
        return None
    if kind == "color":
        shape = rng.choice(things).shape
        of_shape = [t for t in things if t.shape == shape]
        if len(of_shape) != 1:
            return None
        asked = [f"What color is the {shape}?", f"What is the color of the {shape}?"]
        return rng.choice(asked), of_shape[0].color.capitalize() + "."
    if kind == "colors":
        asked = ["What colors are the objects?", "Which colors do the objects have?"]
        return rng.choice(asked), enumerate_words([t.color for t in things]).capitalize() + "."
    thing = rng.choice(things)
    if kind == "shape":
        return f"What shape is {thing.color}?", article(thing.shape).capitalize() + "."
    if not video:
        return None
    if kind == "direction":
        alone = sum(t.shape == thing.shape for t in things) == 1
        name = thing.shape if alone and rng.random() < 0.3 else f"{thing.color} {thing.shape}"
        asked = [f"Which direction does the {name} move?", f"How does the {name} move?",
                 f"What does the {name} do?"]  # fmt: skip
        return rng.choice(asked), f"It {motion_phrase(thing.phrases())}."
    if kind == "moving":
        motions = thing.phrases()
        if motions[0] in ("appears", "disappears"):
            return None
        asked = f"Is the {thing.color} {thing.shape} moving?"
        hint = " Answer yes or no." if rng.random() < 0.5 else ""
        return asked + hint, "No." if motions == ["still"] else "Yes."
    raise ValueError(f"no such kind of question: {kind}")


def _ask_exists(rng: random.Random, things: list[Thing]) -> tuple[str, str]:
    """Half the questions are about something that is there, most others about a near miss."""
    have = {(t.color, t.shape) for t in things}
    if things and rng.random() < 0.5:
        color, shape = rng.choice(sorted(have))
    elif things and rng.random() < 0.7:
        thing = rng.choice(things)
        if rng.random() < 0.5:
            color, shape = thing.color, rng.choice(SHAPES)
        else:
            color, shape = rng.choice(COLOR_NAMES), thing.shape
    else:
        color, shape = rng.choice(COLOR_NAMES), rng.choice(SHAPES)
    form = rng.random()
    if form < 0.2:
        asked, answer = f"Is there {article(shape)}?", any(s == shape for _, s in have)
    elif form < 0.4 and things:
        asked, answer = f"Is there anything {color}?", any(c == color for c, _ in have)
    else:
        asked, answer = f"Is there {article(color)} {shape}?", (color, shape) in have
    if rng.random() < 0.6:
        asked += " Answer yes or no."
    return asked, "Yes." if answer else "No."


def questions(rng: random.Random, scene: Scene, count: int, video: bool = True) -> list[tuple[str, str]]:
    """`count` random questions that this scene can answer."""
    out: list[tuple[str, str]] = []
    kinds, weights = zip(*QUESTION_KINDS.items())
    while len(out) < count:
        asked = question(rng, scene, rng.choices(kinds, weights)[0], video)
        if asked is not None:
            out.append(asked)
    return out


def prompt(rng: random.Random, video: bool = True) -> str:
    """One of the ways to ask for a caption, three times in ten the plain one.

    A window of a single frame is an image, but the element still asks for a video; so does this.
    """
    prompts = VIDEO_PROMPTS if video else IMAGE_PROMPTS
    form = rng.random()
    if form < 0.3:
        return prompts[0]
    if form < 0.5 and not video:
        return VIDEO_PROMPTS[0]
    return rng.choice(VIDEO_PROMPTS + IMAGE_PROMPTS if rng.random() < 0.08 else prompts)


# --- drawing scenes at random -----------------------------------------------------------------


def direction_of(dx: float, dy: float) -> tuple[str, float]:
    """The direction of a step and how many degrees it is from the boundary of its sector."""
    angle = math.degrees(math.atan2(dy, dx)) % 360
    sector = round(angle / 45) % 8
    off = abs((angle - 45 * sector + 180) % 360 - 180)
    return DIRECTION_NAMES[sector], 22.5 - off


def grid_for(width: int, height: int, budget: int = FRAME_PIXELS) -> tuple[int, int]:
    """Merged cells of a video frame, by the size rule of the stock processor (`smart_resize`)."""
    rows, columns = round(height / CELL), round(width / CELL)
    if rows * columns * CELL**2 > budget:
        shrink = (height * width / budget) ** 0.5
        rows, columns = max(1, int(height / shrink / CELL)), max(1, int(width / shrink / CELL))
    return rows, columns


def random_grid(rng: random.Random) -> tuple[int, int]:
    """A grid in the shares of `GRIDS`."""
    return rng.choices(list(GRIDS), list(GRIDS.values()))[0]


def _motions(rng: random.Random, pairs: int, alone: bool, ball: bool, tail: bool) -> list[str | None]:
    """What an object does in each pair."""

    def one() -> str:
        return "still" if rng.random() < 0.22 and not ball else rng.choice(DIRECTION_NAMES)

    full = pairs - tail
    if pairs == 1:
        special = not ball and rng.random() < 0.08
        motions = [rng.choice(["appears", "disappears"]) if special else one()]
    elif rng.random() < (0.3 if alone else 0.6):
        motions = [one()] * full
    elif alone and rng.random() < 0.6:
        motions = [one() for _ in range(full)]
    else:
        change = rng.randint(1, full) if full > 1 else 1
        motions = [one()] * change + [one()] * (full - change)
    return [*motions, None] if tail else list(motions)


def _path(rng: random.Random, size: tuple[int, int], radius: float, motions: list[str | None]) -> np.ndarray | None:
    """Centres in every frame that show these motions and stay inside the canvas."""
    height, width = size
    pairs = len(motions)
    pace = rng.uniform(9, 26) if rng.random() < 0.6 else rng.uniform(9, 56)

    def step(motion: str | None, length: float) -> tuple[float, float]:
        if motion not in DIRECTIONS:
            return 0.0, 0.0
        angle = math.radians(DIRECTIONS[motion] + rng.uniform(-ANGLE_SPREAD, ANGLE_SPREAD))
        return length * math.cos(angle), length * math.sin(angle)

    steps: list[tuple[float, float]] = []
    for pair, motion in enumerate(motions):
        length = pace * rng.uniform(0.8, 1.25)
        steps.append(step(motion, length))
        if pair + 1 < pairs:
            after = motions[pair + 1]
            along = motion if after is None or rng.random() < 0.5 else after
            steps.append(step(along, length * rng.choice([1, 1, 0.5, 0.1])))
    path = np.concatenate([[[0.0, 0.0]], np.cumsum(np.array(steps), 0)])
    low, extent = path.min(0), path.max(0) - path.min(0)
    free = np.array([width - 2 * radius - 2, height - 2 * radius - 2])
    if (free < 0).any():
        return None
    fit = min(1.0, *(free / np.maximum(extent, 1e-6)))
    if fit < 1:
        fit *= rng.uniform(0.75, 1.0)
        path, low, extent = path * fit, low * fit, extent * fit
    for pair, motion in enumerate(motions):
        if motion in DIRECTIONS:
            shortest = MIN_DIAGONAL_STEP if "-" in motion else MIN_STEP
            if np.hypot(*(path[2 * pair + 1] - path[2 * pair])) < shortest:
                return None
    room = free - extent
    corner = np.array([rng.uniform(radius + 1, radius + 1 + room[i]) for i in range(2)])
    return path - low + corner


def _colors_on(rng: random.Random, background: tuple[int, ...]) -> list[tuple[str, tuple[int, int, int]]]:
    """The colours, in random order and tone, that stand out from this background."""
    out = []
    for name in rng.sample(COLOR_NAMES, len(COLOR_NAMES)):
        mix = rng.random()
        muted, pure = COLORS[name]
        rgb = tuple(
            int(min(255, max(0, a * (1 - mix) + b * mix + rng.uniform(-10, 10))))
            for a, b in zip(muted, pure)
        )
        contrast = [abs(c - b) for c, b in zip(rgb, background)]
        if sum(contrast) > 150 and max(contrast) > 70:
            out.append((name, rgb))
    return out


def random_things(
    rng: random.Random,
    grid: tuple[int, int],
    pairs: int,
    *,
    count: int | None = None,
    ball: bool = False,
    still: bool = False,
    tail: bool = False,
) -> tuple[tuple[int, int, int], list[Thing]]:
    """A background and one to three objects of different colours that never touch."""
    size = grid[0] * CELL, grid[1] * CELL
    side = min(size)
    while True:
        n = count or (1 if ball else rng.choices([1, 2, 3], [0.35, 0.30, 0.35])[0])
        background = (0, 0, 0)
        if not ball:
            tone = rng.choice(BACKGROUNDS)
            background = tuple(min(255, max(0, c + rng.randint(-12, 12))) for c in tone)
        colors = _colors_on(rng, background)
        if ball and rng.random() < 0.7:
            colors = [("white", (255, 255, 255))]
        if len(colors) < n:
            continue
        things: list[Thing] = []
        for color, rgb in colors[:n]:
            for _ in range(12):
                if ball:
                    radius = rng.uniform(4, 12)
                elif n == 1:
                    radius = rng.uniform(9, min(34, side * 0.34))
                else:
                    radius = rng.uniform(9.5, min(26, side * 0.24))
                motions = ["still"] * pairs if still else _motions(rng, pairs, n == 1, ball, tail)
                path = _path(rng, size, radius, motions)
                if path is None:
                    continue
                touches = any(
                    (np.hypot(*(path - t.positions).T) < (radius + t.radius) * 1.12 + 1).any()
                    for t in things
                )
                if not touches:
                    shape = "circle" if ball else rng.choice(SHAPES)
                    things.append(Thing(color, rgb, shape, radius, motions, path))
                    break
            else:
                break
        if len(things) == n:
            things.sort(key=lambda t: COLOR_NAMES.index(t.color))
            return background, things


def object_scene(
    rng: random.Random,
    grid: tuple[int, int],
    pairs: int,
    *,
    count: int | None = None,
    ball: bool = False,
    still: bool = False,
    tail: bool = False,
    clean: float = 0.2,
) -> Scene:
    """Shapes on a background; `clean` is the share without gradient, blur, noise and squash."""
    background, things = random_things(
        rng, grid, pairs, count=count, ball=ball, still=still, tail=tail
    )
    scene = Scene(grid, pairs, things, background=background, tail=tail)
    if rng.random() < clean:
        return scene
    if rng.random() < 0.3:
        gray = rng.uniform(-35, 35)
        rgb = (gray, gray, gray)
        if rng.random() < 0.4:
            rgb = tuple(rng.uniform(-28, 28) for _ in range(3))
        scene.gradient = (rng.choice("xy"), rgb)
    if rng.random() < 0.4:
        scene.blur = rng.uniform(0.3, 1.0)
    if rng.random() < 0.45:
        scene.noise = rng.uniform(1, 9)
    if rng.random() < 0.25:
        flat = rng.uniform(0.82, 1.0)
        scene.squash = (flat, 1.0) if rng.random() < 0.5 else (1.0, flat)
    return scene


def wavy_path(frames: np.ndarray, size: tuple[float, float], radius: float) -> np.ndarray:
    """Centre of the ball of `videotestsrc pattern=ball` in these frames, `[n, 2]`, native pixels.

    It moves along a Lissajous figure by frame number; `size` is (width, height).
    """
    turn = 2 * math.pi * np.asarray(frames) / 200
    width, height = size
    x = radius + (0.5 + 0.5 * np.sin(turn)) * (width - 2 * radius)
    y = radius + (0.5 + 0.5 * np.sin(turn * math.sqrt(2))) * (height - 2 * radius)
    return np.stack([x, y], 1)


def wavy_ball_scene(rng: random.Random, grid: tuple[int, int], pairs: int) -> Scene:
    """The path of `videotestsrc pattern=ball` (motion=wavy) at a random time, size and rate.

    Its radius is 20. Clips with a step near the boundary of two directions are thrown away: they
    have no one right caption.
    """
    height, width = grid[0] * CELL, grid[1] * CELL
    for _ in range(200):
        native = rng.choice([320, 320, 640, 480, 400, 352, 800])
        scale = width / native
        radius = min(20, height / scale * 0.2)
        rate = rng.choice([30, 30, 25, 24, 15, 60])
        start = rng.uniform(0, 100000)
        frames = start + rate * np.arange(2 * pairs)
        path = wavy_path(frames, (native, height / scale), radius) * scale
        steps = path[1::2] - path[::2]
        found = [direction_of(*s) for s in steps]
        if all(margin >= 4 and np.hypot(*s) > 5 for (_, margin), s in zip(found, steps)):
            ball = Thing("white", (255, 255, 255), "circle", radius * scale, [d for d, _ in found], path)
            return Scene(grid, pairs, [ball])
    return object_scene(rng, grid, pairs, ball=True, clean=0.7)


SOLID_LOOKS = {
    name: f"{article(name).capitalize()} screen." for name in (*COLOR_NAMES, "black", "gray")
}
BLINK_LOOK = "The screen blinks between black and white."


def solid_scene(rng: random.Random, grid: tuple[int, int], pairs: int) -> Scene:
    """A screen of one colour."""
    name = rng.choice(list(SOLID_LOOKS))
    mix = rng.random()
    muted, pure = COLORS.get(name, ((0, 0, 0),) * 2 if name == "black" else ((128, 128, 128),) * 2)
    rgb = tuple(
        min(255, max(0, round(a * (1 - mix) + b * mix + rng.uniform(-8, 8)))) for a, b in zip(muted, pure)
    )
    noise = rng.uniform(1, 6) if rng.random() < 0.4 else 0.0
    return Scene(grid, pairs, look=SOLID_LOOKS[name], background=rgb, noise=noise)


def blink_scene(rng: random.Random, grid: tuple[int, int], pairs: int) -> Scene:
    """Black and white by turns, sampled so that the two frames of a pair differ."""
    return Scene(grid, pairs, look=BLINK_LOOK, blink=rng.randint(0, 1))
