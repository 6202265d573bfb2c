# SPDX-License-Identifier: MPL-2.0
"""Measures the demo model through the whole element, as an application would see it.

    GST_PLUGIN_PATH=../../target/release PYTHONPATH=/usr/lib/python3/dist-packages \\
        python element_accuracy.py --clips 1000 --questions 400 --patterns

Held-out clips are drawn at native sizes from 320x240 to 1920x1080 in I420 and NV12 and pushed by
`appsrc` as 30 fps video. Only the buffers at whole seconds show the clip; the 29 between show a
decoy, another scene, so a wrongly sampled frame gives a wrong caption. The captions come from the
element's messages on the bus and must be right to the last character.

Python needs numpy, OpenCV, Pillow and PyGObject (Debian: python3-gi, gir1.2-gst-plugins-base-1.0).
PyGObject belongs to the system's Python: either make the virtual environment with
`/usr/bin/python3 -m venv --system-site-packages`, or, where the minor versions agree, name its
folder in PYTHONPATH as above.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

import gi
import numpy as np

import world
from patterns import PATTERN_LOOKS, ball_motions
from render import Matrix, draw, to_yuv420
from world import Scene, Thing

gi.require_version("Gst", "1.0")
from gi.repository import Gst  # noqa: E402

RATE = 30
"""Frames a second; the element samples one of them."""

SIZES: dict[tuple[int, int], list[tuple[int, int]]] = {
    # grid: native (width, height)
    (3, 4): [(320, 240), (640, 480)],
    (3, 5): [(640, 360), (1280, 720), (1920, 1080)],
    (4, 4): [(320, 320), (480, 480), (1080, 1080)],
    (5, 3): [(360, 640), (720, 1280)],
    (4, 3): [(240, 320), (480, 640)],
    (2, 6): [(960, 400), (1920, 800)],
    (2, 5): [(640, 352), (1280, 704)],
    (5, 2): [(352, 640)],
}
"""3x6 is missing: 18 cells are more than the budget of a frame, no video comes out so."""

PATTERN_SIZES = [(320, 240), (640, 360), (640, 480), (1280, 720), (1920, 1080)]
FORMATS = ["I420", "NV12"]
CLEAR_DEGREES = 5.0


@dataclass
class Clip:
    """One window of the element: what it is shown and what it must say."""

    category: str
    scene: Scene
    answer: str
    prompt: str
    size: tuple[int, int]
    format: str
    got: str | None = None
    detail: str = ""


@dataclass
class Heard:
    """What came over the bus."""

    captions: dict[int, tuple[str, list[int]]] = field(default_factory=dict)
    """Start of the window in ns: text and PTS of its frames."""
    error: str = ""


def matrix_of(size: tuple[int, int]) -> Matrix:
    """Small video is BT.601, HD is BT.709, as GStreamer assumes too."""
    return Matrix.BT709 if max(size) >= 1280 else Matrix.BT601


def video_caps(size: tuple[int, int], fmt: str) -> str:
    """Caps that leave nothing to guess."""
    colors = "bt709" if matrix_of(size) is Matrix.BT709 else "bt601"
    return (
        f"video/x-raw,format={fmt},width={size[0]},height={size[1]},framerate={RATE}/1,"
        f"pixel-aspect-ratio=1/1,interlace-mode=progressive,colorimetry={colors},chroma-site=jpeg"
    )


def to_buffer(frame: np.ndarray, size: tuple[int, int], fmt: str) -> Gst.Buffer:
    """One RGB frame as a raw video buffer."""
    width, height = size
    if width % 8 or height % 2:
        raise ValueError(f"{width}x{height} has padded rows; choose another size")
    luma, chroma = to_yuv420(frame, matrix_of(size))
    planes = [chroma] if fmt == "NV12" else [chroma[..., 0], chroma[..., 1]]
    return Gst.Buffer.new_wrapped(b"".join(np.ascontiguousarray(p).tobytes() for p in (luma, *planes)))


def same_picture(buffer: Gst.Buffer) -> Gst.Buffer:
    """A new buffer on the same memory. PyGObject's `copy` would only take another reference."""
    return buffer.copy_region(Gst.BufferCopyFlags.MEMORY, 0, buffer.get_size())


MODEL = {"folder": ""}
"""Set by `--model`; empty is the model that the plugin has built in."""


def make_pipeline(source: str, window: int, prompt: str) -> Gst.Pipeline:
    """`source ! vlmcaption ! fakesink`, nothing dropped."""
    pipeline = Gst.parse_launch(f"{source} ! vlmcaption name=caption ! fakesink sync=false")
    element = pipeline.get_by_name("caption")
    element.set_property("model", MODEL["folder"])
    element.set_property("prompt", prompt)
    element.set_property("window", window)
    Gst.util_set_object_arg(element, "drop-policy", "block")
    return pipeline


def listen(pipeline: Gst.Pipeline, heard: Heard, timeout_s: float) -> None:
    """Reads the bus until the stream has ended."""
    bus = pipeline.get_bus()
    kinds = Gst.MessageType.ELEMENT | Gst.MessageType.ERROR | Gst.MessageType.EOS
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        message = bus.timed_pop_filtered(Gst.SECOND, kinds)
        if message is None:
            continue
        if message.type == Gst.MessageType.EOS:
            return
        if message.type == Gst.MessageType.ERROR:
            error, debug = message.parse_error()
            heard.error = f"{error.message} ({debug})"
            return
        structure = message.get_structure()
        if structure.get_name() == "vlmcaption/caption":
            heard.captions[structure.get_value("start")] = (structure.get_value("text"), times(structure))
    heard.error = f"no end of stream within {timeout_s} s"


def times(structure: Gst.Structure) -> list[int]:
    """The PTS of a window's frames; empty where this PyGObject cannot read the list."""
    try:
        return [int(v) for v in structure.get_value("pts-list")]
    except TypeError:
        return []


def push_clips(clips: list[Clip], noise: np.random.Generator, decoy: Scene) -> None:
    """Streams clips of one size, format, length and prompt as consecutive windows."""
    first = clips[0]
    n_frames = 2 * first.scene.pairs
    source = f"appsrc name=source format=time block=true max-bytes=20000000 caps={video_caps(first.size, first.format)}"
    pipeline = make_pipeline(source, n_frames, first.prompt)
    appsrc = pipeline.get_by_name("source")
    between = to_buffer(draw(decoy, noise, first.size)[0], first.size, first.format)
    pipeline.set_state(Gst.State.PLAYING)
    heard = Heard()
    second = 0
    for clip in clips:
        for frame in draw(clip.scene, noise, clip.size):
            shown = to_buffer(frame, clip.size, clip.format)
            for i in range(RATE):
                buffer = same_picture(between if i else shown)
                number = second * RATE + i
                buffer.pts = number * Gst.SECOND // RATE
                buffer.duration = (number + 1) * Gst.SECOND // RATE - buffer.pts
                if appsrc.emit("push-buffer", buffer) != Gst.FlowReturn.OK:
                    break
            second += 1
    appsrc.emit("end-of-stream")
    listen(pipeline, heard, 120 + 2 * len(clips))
    pipeline.set_state(Gst.State.NULL)
    for i, clip in enumerate(clips):
        start = i * n_frames * Gst.SECOND
        clip.got, pts = heard.captions.get(start, (None, []))
        clip.detail = heard.error
        wanted = [start + k * Gst.SECOND for k in range(n_frames)]
        if clip.got is not None and pts and pts != wanted:
            clip.detail = f"window of {[p / Gst.SECOND for p in pts]} s"


def run_clips(clips: list[Clip], seed: int) -> None:
    """All clips, those that can share a pipeline together."""
    noise, rng = np.random.default_rng(seed), random.Random(seed)
    groups: dict[tuple, list[Clip]] = defaultdict(list)
    for clip in clips:
        groups[clip.size, clip.format, clip.scene.pairs, clip.prompt].append(clip)
    done, begin, told = 0, time.monotonic(), 0
    for members in groups.values():
        push_clips(members, noise, world.object_scene(rng, members[0].scene.grid, 1))
        done += len(members)
        if done - told >= 100:
            told = done
            right = sum(c.got == c.answer for c in clips if c.got is not None)
            print(f"# {done}/{len(clips)} clips, {right} right, {time.monotonic() - begin:.0f} s", flush=True)


def object_clips(rng: random.Random, count: int) -> list[Clip]:
    """1-3 objects x 1-4 pairs in turn, grids, sizes and formats at random."""
    out = []
    for i in range(count):
        n, pairs = i % 3 + 1, i // 3 % 4 + 1
        scene = world.object_scene(rng, _grid(rng), pairs, count=n)
        name = f"objects {n}, pairs {pairs}"
        out.append(_clip(rng, name, scene, "Describe the video.", world.caption(scene)))
    return out


def question_clips(rng: random.Random, count: int) -> list[Clip]:
    """Questions of every kind in turn."""
    out: list[Clip] = []
    kinds = list(world.QUESTION_KINDS)
    while len(out) < count:
        scene = world.object_scene(rng, _grid(rng), rng.randint(1, 4))
        kind = kinds[len(out) % len(kinds)]
        asked = world.question(rng, scene, kind)
        if asked is not None:
            out.append(_clip(rng, f"question: {kind}", scene, *asked))
    return out


def _grid(rng: random.Random) -> tuple[int, int]:
    while (grid := world.random_grid(rng)) not in SIZES:
        pass
    return grid


def _clip(rng: random.Random, category: str, scene: Scene, prompt: str, answer: str) -> Clip:
    size, fmt = rng.choice(SIZES[scene.grid]), rng.choice(FORMATS)
    return Clip(category, scene, answer, prompt, size, fmt)


def run_patterns(windows: int = 2, balls: int = 12) -> list[Clip]:
    """Every claimed pattern of a real `videotestsrc`, 1 and 2 pairs a window."""
    out = []
    for size in PATTERN_SIZES:
        grid = world.grid_for(*size)
        for pattern in [*PATTERN_LOOKS, "ball", "blink"]:
            for fmt in FORMATS:
                for pairs in (1, 2):
                    n = balls // pairs if pattern == "ball" else windows
                    out += _run_pattern(pattern, size, fmt, grid, pairs, n)
    return out


def _run_pattern(
    pattern: str, size: tuple[int, int], fmt: str, grid: tuple[int, int], pairs: int, windows: int
) -> list[Clip]:
    seconds = 2 * pairs * windows
    source = (
        f"videotestsrc pattern={pattern} num-buffers={(seconds - 1) * RATE + 1} ! "
        f"video/x-raw,format={fmt},width={size[0]},height={size[1]},framerate={RATE}/1"
    )
    pipeline = make_pipeline(source, 2 * pairs, "Describe the video.")
    pipeline.set_state(Gst.State.PLAYING)
    heard = Heard()
    listen(pipeline, heard, 300)
    pipeline.set_state(Gst.State.NULL)
    out = []
    for i in range(windows):
        start = 2 * pairs * i
        scene = Scene(grid, pairs, look=PATTERN_LOOKS.get(pattern, world.SOLID_LOOKS["black"]))
        category = f"pattern {pattern}"
        if pattern == "ball":
            scene, clear = ball_scene(size, grid, start, pairs)
            category = "ball, clear" if clear >= CLEAR_DEGREES else "ball, near a boundary"
        text, _ = heard.captions.get(start * Gst.SECOND, (None, []))
        clip = Clip(category, scene, world.caption(scene), "Describe the video.", size, fmt, text)
        clip.detail = heard.error
        out.append(clip)
    return out


def ball_scene(size: tuple[int, int], grid: tuple[int, int], start: int, pairs: int) -> tuple[Scene, float]:
    """Where the ball is at these seconds, and how clear its directions are."""
    frames = RATE * (start + np.arange(2 * pairs))
    scale = np.array([grid[1] * world.CELL / size[0], grid[0] * world.CELL / size[1]])
    path = world.wavy_path(frames, size, 20) * scale
    motions, clear = ball_motions(path)
    ball = Thing("white", (255, 255, 255), "circle", 20 * scale[0], motions, path)
    return Scene(grid, pairs, [ball]), clear


def table(clips: list[Clip], key) -> list[tuple[str, int, int]]:
    """Right and total by a key, sorted."""
    counts: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    for clip in clips:
        counts[key(clip)][0] += clip.got == clip.answer
        counts[key(clip)][1] += 1
    return [(name, *counts[name]) for name in sorted(counts)]


def show(title: str, rows: list[tuple[str, int, int]]) -> None:
    print(f"\n{title}")
    for name, right, total in rows:
        print(f"  {name:28} {right:5}/{total:<5} {100 * right / total:6.2f} %")


def group_of(clip: Clip) -> str:
    """The line of the summary that a clip counts for."""
    for start, name in (("objects", "object captions"), ("question", "questions"), ("pattern", "patterns")):
        if clip.category.startswith(start):
            return name
    return clip.category


BARS = {"object captions": 0.97, "questions": 0.95, "patterns": 1.0, "ball, clear": 0.97}


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clips", type=int, default=1000)
    parser.add_argument("--questions", type=int, default=0)
    parser.add_argument("--patterns", action="store_true", help="every claimed videotestsrc pattern")
    parser.add_argument("--model", default="", help="a model folder; empty is the built-in one")
    parser.add_argument("--seed", type=int, default=world.HELD_OUT_SEED + 1)
    parser.add_argument("--json", type=Path, help="where to write scores and failures")
    parser.add_argument("--show", type=int, default=30, help="failures to print")
    a = parser.parse_args()
    MODEL["folder"] = a.model
    Gst.init(None)
    if Gst.ElementFactory.find("vlmcaption") is None:
        parser.error("no vlmcaption element: set GST_PLUGIN_PATH to the folder of the plugin")
    rng = random.Random(a.seed)
    clips = object_clips(rng, a.clips) + question_clips(rng, a.questions)
    run_clips(clips, a.seed)
    if a.patterns:
        clips += run_patterns()
    if not clips:
        parser.error("nothing to do")
    objects = [c for c in clips if group_of(c) == "object captions"]
    show("by category", table(clips, lambda c: c.category))
    if objects:
        show("object captions by size", table(objects, lambda c: f"{c.size[0]}x{c.size[1]} {c.format}"))
    summary = table(clips, group_of)
    show("summary", summary)
    failures = [c for c in clips if c.got != c.answer and c.category != "ball, near a boundary"]
    for c in failures[: a.show]:
        print(f"{c.category} {c.size[0]}x{c.size[1]} {c.format}: {c.prompt} {c.detail}")
        print(f"    want {c.answer}\n    got  {c.got}")
    odd = [c.detail for c in clips if c.got is not None and c.detail.startswith("window of")]
    if odd:
        print(f"{len(odd)} windows of other frames than asked, the first: {odd[0]}")
    if a.json:
        value = {
            "summary": {name: [right, total] for name, right, total in summary},
            "categories": {name: [right, total] for name, right, total in table(clips, lambda c: c.category)},
            "failures": [
                {"category": c.category, "size": list(c.size), "format": c.format, "prompt": c.prompt,
                 "want": c.answer, "got": c.got, "detail": c.detail}
                for c in failures
            ],
        }  # fmt: skip
        a.json.write_text(json.dumps(value, indent=1) + "\n")
    return 1 if odd or any(right < BARS.get(name, 0) * total for name, right, total in summary) else 0


if __name__ == "__main__":
    sys.exit(main())
