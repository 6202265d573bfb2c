#!/usr/bin/python3
# SPDX-License-Identifier: MPL-2.0
"""The text pad against its readers, for a minute each.

1. WebVTT and SRT files of a 60 s clip are read by ffmpeg, and their cues are the times of the windows
   as the messages on the bus say them.
2. `textoverlay` with its default settings shows 60 s of live video while the model never answers: every
   frame comes, none late at a sink that keeps the clock.

Prints what was measured; fails if it is not so.

    tests/subtitles-proof.py [--seconds 60]

Needs ffmpeg, python3-gst-1.0, and the plugin: GST_PLUGIN_PATH, else target/debug.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import gi

ROOT = Path(__file__).resolve().parent.parent
os.environ.setdefault("GST_PLUGIN_PATH", str(ROOT / "target/debug"))
gi.require_version("Gst", "1.0")
from gi.repository import Gst  # noqa: E402

# The files say milliseconds.
ROUNDING_S = 0.0011
# A frame and a half: a busy machine wakes a sink up late, a picture that waits for text is later still.
SLACK_MS = 50

parser = argparse.ArgumentParser()
parser.add_argument("--seconds", type=int, default=60)
seconds = parser.parse_args().seconds
Gst.init(None)
folder = tempfile.TemporaryDirectory()
work = Path(folder.name)


def run(description, on_message=lambda message: None, prepare=lambda pipeline: None):
    pipeline = Gst.parse_launch(description)
    prepare(pipeline)
    pipeline.set_state(Gst.State.PLAYING)
    while True:
        message = pipeline.get_bus().timed_pop(300 * Gst.SECOND)
        if not message or message.type == Gst.MessageType.ERROR:
            sys.exit(str(message.parse_error()) if message else "nothing on the bus for five minutes")
        on_message(message)
        if message.type == Gst.MessageType.EOS:
            break
    pipeline.set_state(Gst.State.NULL)


def cues(file):
    """What ffmpeg reads: begin, end, text."""
    srt = subprocess.run(
        ["ffmpeg", "-v", "error", "-i", file, "-f", "srt", "-"],
        capture_output=True, text=True, check=True,
    )
    if srt.stderr:
        sys.exit(f"{file}: {srt.stderr}")
    time = r"(\d+):(\d+):(\d+),(\d+)"
    found = []
    for block in srt.stdout.strip().split("\n\n"):
        _number, times, text = block.split("\n", 2)
        n = [int(group) for group in re.fullmatch(f"{time} --> {time}", times).groups()]
        begin, end = (((h * 60 + m) * 60) + s + ms / 1000 for h, m, s, ms in (n[:4], n[4:]))
        found.append((begin, end, text))
    return found


def files():
    script = work / "answers.json"
    script.write_text('[{"text": "Window {n}: a person & a dog.\\n\\nThey walk.", "prefill-ms": 20}]')
    windows = []

    def on_message(message):
        fields = message.get_structure()
        if message.type == Gst.MessageType.ELEMENT and fields.has_name("vlmcaption/caption"):
            begin, end = (fields.get_value(key) / Gst.SECOND for key in ("start", "end"))
            # A cue lasts to where the frame after its last would be.
            windows.append((begin, end + 1, fields.get_value("text").replace("\n\n", "\n")))

    run(
        f"videotestsrc num-buffers={seconds * 30} ! video/x-raw,width=64,height=48,framerate=30/1 "
        f"! vlmcaption name=c backend=mock model={script} ! fakesink sync=false "
        "c.text_src ! tee name=t "
        f"t. ! queue ! webvttenc ! filesink async=false location={work}/a.vtt "
        f"t. ! queue ! srtenc ! filesink async=false location={work}/a.srt",
        on_message,
    )
    good = bool(windows)
    for name in ("a.vtt", "a.srt"):
        found = cues(work / name)
        worst = max(
            (abs(x - y) for f, w in zip(found, windows) for x, y in zip(f[:2], w[:2])), default=0
        )
        texts = [f[2] for f in found] == [w[2] for w in windows]
        same = len(found) == len(windows) and texts and worst <= ROUNDING_S
        print(f"{name}: {len(found)} cues of {len(windows)} windows, "
              f"at most {worst * 1000:.1f} ms apart, texts {'the same' if texts else 'DIFFER'}")
        good = good and same
    return good


def overlay():
    script = work / "never.json"
    script.write_text('[{"text": "a", "prefill-ms": 100000000}]')
    qos, pipelines, stats = [], [], []

    def on_message(message):
        if message.type == Gst.MessageType.QOS:
            qos.append(message.src.get_name() != "reference")
        elif message.type == Gst.MessageType.EOS:
            # They are gone once the pipeline is stopped.
            for name in ("sink", "reference"):
                stats.append(pipelines[0].get_by_name(name).get_property("stats"))
        elif message.type == Gst.MessageType.LATENCY:
            pipelines[0].recalculate_latency()

    def prepare(pipeline):
        pipelines.append(pipeline)
        for name, pad, count in (("c", "src", passed), ("sink", "sink", came)):
            pad = pipeline.get_by_name(name).get_static_pad(pad)
            pad.add_probe(Gst.PadProbeType.BUFFER, lambda _pad, _info, count=count: count.append(1) or 1)

    passed, came = [], []
    n = seconds * 30
    # The sinks drop, count and report what comes later than its time and the slack. The second camera,
    # without captions, tells a busy machine from a picture that waits.
    camera = f"videotestsrc is-live=true num-buffers={n} ! video/x-raw,width=320,height=240,framerate=30/1 "
    sink = f"fakesink sync=true qos=true max-lateness={SLACK_MS * 1000000}"
    run(
        f"{camera} ! queue ! textoverlay text=reference ! {sink} name=reference "
        f"{camera} ! vlmcaption name=c backend=mock model={script} eos-timeout=0 "
        "! queue ! overlay.video_sink c.text_src ! queue ! overlay.text_sink textoverlay name=overlay "
        f"! {sink} name=sink",
        on_message,
        prepare,
    )
    shown, late = (stats[0].get_value(key) for key in ("rendered", "dropped"))
    reference = stats[1].get_value("dropped")
    print(f"textoverlay: {len(passed)} frames of the camera, {len(came)} at the sink, {shown} shown, "
          f"{late} more than {SLACK_MS} ms late, {sum(qos)} QoS messages; "
          f"without captions {reference} late")
    if late and reference:
        print("this machine is too busy to tell: frames are late without captions too")
    return shown == len(passed) >= 0.99 * n and not late and not any(qos)


results = [files(), overlay()]
sys.exit(0 if all(results) else "FAILED")
