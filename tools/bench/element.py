#!/usr/bin/python3
# SPDX-License-Identifier: MPL-2.0
"""Captions through the element: how soon after a window's last frame, and of several cameras.

    element.py MODEL [--part soon|cameras] [--json FILE]

1. `soon`: from the arrival of a window's last frame to its first token, the frames arriving as a live
   camera sends them, against the same window with all frames handed over at once. One thread at
   1 frame a second, one thread at 1 frame in two seconds, two threads at 1 frame a second.
2. `cameras`: four cameras on one model in one process against one camera, one thread, each window
   captioned: captions a minute, tokens a second, processor time a caption. What decoding takes is the
   difference from captions of one token.

Needs python3-gst-1.0 and the plugin: GST_PLUGIN_PATH, else target/release.
"""

import argparse
import json
import os
import pathlib
import sys
import time

import gi

ROOT = pathlib.Path(__file__).resolve().parents[2]
os.environ.setdefault("GST_PLUGIN_PATH", str(ROOT / "target/release"))
gi.require_version("Gst", "1.0")
from gi.repository import Gst  # noqa: E402

LIMIT_S = 900
FRAME = "video/x-raw,format=NV12,width=1280,height=720"

# Threads and frames a second of the cameras whose first window is timed.
PACES = {1: ("1/1", "1/2"), 2: ("1/1",)}
WINDOW = 10
CAMERAS = 4
TOKENS = 48

# Frames of a window, windows of a camera, and tokens of a caption: captions of the bench's clip; and
# of short windows, in which decoding has the larger part, with and without it.
LOADS = (10, 1, TOKENS), (2, 2, TOKENS), (2, 2, 1)


class Caption:
    """What a caption's message says, and when it was posted."""

    def __init__(self, structure):
        self.wall, self.cpu = time.monotonic(), time.process_time()
        self.end, self.tokens, self.reused, self.rows = (
            structure.get_value(name) for name in ("end", "tokens-out", "reused", "tokens-in"))


class Run:
    """A pipeline that is run once."""

    def __init__(self, description):
        self.captions, self.arrivals = [], {}
        self.pipeline = Gst.parse_launch(description)
        # Called where a message is posted: its time is the caption's.
        self.pipeline.get_bus().set_sync_handler(self.on_message)
        for element in self.pipeline.children:
            if element.get_factory().get_name() == "vlmcaption":
                pad = element.get_static_pad("sink")
                pad.add_probe(Gst.PadProbeType.BUFFER, self.on_frame)

    def on_frame(self, _pad, info):
        self.arrivals[info.get_buffer().pts] = time.monotonic(), time.process_time()
        return Gst.PadProbeReturn.OK

    def on_message(self, _bus, message):
        structure = message.get_structure()
        if structure and structure.get_name() == "vlmcaption/caption":
            self.captions.append(Caption(structure))
        return Gst.BusSyncReply.PASS

    def play(self):
        """Plays to the end of the stream; wall and processor time of it."""
        wall, cpu = time.monotonic(), time.process_time()
        self.pipeline.set_state(Gst.State.PLAYING)
        message = self.pipeline.get_bus().timed_pop_filtered(
            LIMIT_S * Gst.SECOND, Gst.MessageType.ERROR | Gst.MessageType.EOS)
        if not message or message.type == Gst.MessageType.ERROR:
            sys.exit(str(message.parse_error()) if message else f"not done within {LIMIT_S} s")
        return time.monotonic() - wall, time.process_time() - cpu

    def stop(self):
        self.pipeline.set_state(Gst.State.NULL)

    def measure(self, model, threads):
        """Plays with the model loaded and used before the first frame comes.

        Another element captions a frame first; those that ask for the same share its engine.
        """
        first = Run("videotestsrc num-buffers=1 ! video/x-raw,width=64,height=64 "
                    f"! {element(model, threads, 1, 1)} ! fakesink sync=false")
        first.play()
        self.pipeline.set_state(Gst.State.READY)
        # What an element prepares while a window fills it prepares if it has the engine alone.
        first.stop()
        took = self.play()
        self.stop()
        return took


def element(model, threads, window, tokens, more=""):
    return (f'vlmcaption model="{model}" precision=int8 device=threads={threads} window={window} '
            f"max-tokens={tokens} eos-timeout={LIMIT_S * Gst.SECOND} attach=none {more}")


def first_token(model, threads, rate):
    """Seconds (wall, processor) from the last frame of a window to its first token.

    `rate` is the camera's; None hands over all frames at once. The caption ends with its first
    token, so the message comes when that was chosen.
    """
    live, rate = ("true", rate) if rate else ("false", "1/1")
    captioner = element(model, threads, WINDOW, 1, f"sample-rate={rate}")
    run = Run(f"videotestsrc is-live={live} pattern=ball num-buffers={WINDOW} "
              f"! {FRAME},framerate={rate} ! {captioner} ! fakesink sync=false")
    run.measure(model, threads)
    said = run.captions[0]
    wall, cpu = run.arrivals[said.end]
    return dict(wall=said.wall - wall, cpu=said.cpu - cpu, reused=said.reused, rows=said.rows)


def soon(model):
    """How soon the first token is there, as a camera sends the frames and all at once."""
    results = []
    for threads, rates in PACES.items():
        whole = first_token(model, threads, None)
        for rate in rates:
            paced = first_token(model, threads, rate)
            part, part_cpu = (paced[key] / whole[key] for key in ("wall", "cpu"))
            results.append(dict(threads=threads, rate=rate, part=part, paced=paced,
                                whole=whole))
            print(f"{threads} thread(s), {rate} frames/s: {paced['wall']:.2f} s from the last "
                  f"of {WINDOW} frames to the first token ({paced['cpu']:.2f} s CPU; "
                  f"{paced['reused']} of {paced['rows']} rows were there), all at once "
                  f"{whole['wall']:.2f} s ({whole['cpu']:.2f} s CPU): {part:.2f} of it, "
                  f"{part_cpu:.2f} by processor time (target 0.33)", flush=True)
    return results


def saturate(model, window, windows, tokens, n):
    """`n` cameras whose every window is captioned, as fast as it goes."""
    branch = (f"videotestsrc pattern=ball num-buffers={window * windows} ! {FRAME},framerate=1/1 "
              f"! {element(model, 1, window, tokens)} ! fakesink sync=false ")
    run = Run(branch * n)
    wall, cpu = run.measure(model, 1)
    captions = len(run.captions)
    if captions != n * windows:
        sys.exit(f"{captions} captions of {n * windows}")
    tokens = sum(caption.tokens for caption in run.captions)
    print(f"{n} camera(s), windows of {window} frames, {tokens / captions:.0f} tokens: "
          f"{60 * captions / wall:.2f} captions a minute, {tokens / wall:.2f} tokens/s, "
          f"{cpu / captions:.2f} s CPU a caption", flush=True)
    return dict(window=window, cameras=n, captions=captions, tokens=tokens, wall=wall, cpu=cpu)


def cameras(model):
    """One camera and several on one model."""
    results = {}
    for load in LOADS:
        one, four = results[load] = [saturate(model, *load, n) for n in (1, CAMERAS)]
        gain = CAMERAS * one["cpu"] / four["cpu"]
        print(f"  {CAMERAS} cameras: {gain:.2f} times the captions for the processor time, "
              f"{CAMERAS * one['wall'] / four['wall']:.2f} times the captions a minute", flush=True)
    whole, head = (results[load] for load in LOADS[1:])
    rates = [(long["tokens"] - short["tokens"]) / (long["cpu"] - short["cpu"])
             for long, short in zip(whole, head)]
    print(f"decoding, tokens a second of processor time: one camera {rates[0]:.1f}, {CAMERAS} cameras "
          f"{rates[1]:.1f}, {rates[1] / rates[0]:.2f} times", flush=True)
    return [figures for pair in results.values() for figures in pair]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("--part", choices=("soon", "cameras"))
    parser.add_argument("--json", type=pathlib.Path)
    args = parser.parse_args()
    Gst.init(None)
    parts = dict(soon=soon, cameras=cameras)
    results = {name: part(args.model) for name, part in parts.items()
               if args.part in (None, name)}
    if args.json:
        args.json.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
