#!/usr/bin/python3
# SPDX-License-Identifier: MPL-2.0
"""A camera is never held up: RTSP at 30 frames a second while the model thinks three seconds.

Serves a camera on loopback, captions it with a mock that takes 3 s for every answer, and fails unless
the element's own measure of a push (`push-p99` of its `stats`) stays under 2 ms and the jitterbuffer
has lost and dropped nothing. Prints what was measured. A machine too slow to encode and decode 30
frames a second shows in the frame rate, which is printed and not judged: every frame that reaches the
element must leave it.

    tests/rtsp-blocks.py [--minutes 10]

Needs what pipelines/rtsp-server.py needs, and the plugin: GST_PLUGIN_PATH, else target/debug.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import gi

ROOT = Path(__file__).resolve().parent.parent
os.environ.setdefault("GST_PLUGIN_PATH", str(ROOT / "target/debug"))
gi.require_version("Gst", "1.0")
from gi.repository import Gst  # noqa: E402

LIMIT_MS = 2.0
# Keyframe, handshake and the first packets are not what is measured.
WARM_UP_S = 5

parser = argparse.ArgumentParser()
parser.add_argument("--minutes", type=float, default=10)
options = parser.parse_args()

Gst.init(None)
script = tempfile.NamedTemporaryFile("w", suffix=".json")
json.dump([{"text": "Caption {n}.", "prefill-ms": 3000}], script)
script.flush()
server = subprocess.Popen(
    [ROOT / "pipelines/rtsp-server.py", "--port", "0", "--framerate", "30"],
    stdout=subprocess.PIPE,
    text=True,
)
buffers = []
frames = 0
entered = 0


def on_element(_bin, _child, element):
    if element.get_factory() and element.get_factory().get_name() == "rtpjitterbuffer":
        buffers.append(element)


def on_frame(_pad, _info):
    global frames
    frames += 1
    return Gst.PadProbeReturn.OK


def on_enter(_pad, _info):
    global entered
    entered += 1
    return Gst.PadProbeReturn.OK


def jitter():
    total = {}
    for buffer in buffers:
        stats = buffer.get_property("stats")
        for key in ("num-pushed", "num-lost", "num-late", "num-duplicates"):
            total[key] = total.get(key, 0) + stats.get_value(key)
    return total


try:
    uri = server.stdout.readline().strip()
    pipeline = Gst.parse_launch(
        f"rtspsrc location={uri} latency=200 ! rtph264depay ! h264parse ! avdec_h264 "
        f"! vlmcaption name=captioner backend=mock model={script.name} "
        "! fakesink name=sink sync=true qos=true"
    )
    pipeline.connect("deep-element-added", on_element)
    captioner = pipeline.get_by_name("captioner")
    captioner.get_static_pad("src").add_probe(Gst.PadProbeType.BUFFER, on_frame)
    captioner.get_static_pad("sink").add_probe(Gst.PadProbeType.BUFFER, on_enter)
    pipeline.set_state(Gst.State.PLAYING)
    bus = pipeline.get_bus()
    begin = time.monotonic()
    captions = late = 0
    start_frames, start_jitter, start = 0, {}, None
    kinds = Gst.MessageType.ERROR | Gst.MessageType.EOS
    kinds |= Gst.MessageType.ELEMENT | Gst.MessageType.QOS
    while start is None or time.monotonic() < start + options.minutes * 60:
        if start is None and time.monotonic() > begin + WARM_UP_S:
            start, start_frames, start_jitter = time.monotonic(), frames, jitter()
            late = 0
        message = bus.timed_pop_filtered(Gst.SECOND // 5, kinds)
        if not message:
            continue
        if message.type == Gst.MessageType.ELEMENT:
            captions += message.get_structure().has_name("vlmcaption/caption")
        elif message.type == Gst.MessageType.QOS:
            late += 1
        else:
            sys.exit(f"the stream ended: {message.type} {message.get_structure().to_string()}")
    took = time.monotonic() - start
    stats = captioner.get_property("stats")
    p50, p95, p99, most = (
        stats.get_value(f"push-{key}") / 1e6 for key in ("p50", "p95", "p99", "max")
    )
    change = {key: value - start_jitter.get(key, 0) for key, value in jitter().items()}
    shown = frames - start_frames
    pipeline.set_state(Gst.State.NULL)
    kept = entered - frames
finally:
    server.kill()
    server.wait()

print(f"{took:.0f} s, {shown} frames ({shown / took:.2f} a second), {captions} captions, {late} QoS messages")
print(f"push: p50 {p50:.3f} ms, p95 {p95:.3f} ms, p99 {p99:.3f} ms, longest {most:.3f} ms")
print("jitterbuffer:", ", ".join(f"{key} {value}" for key, value in change.items()))
failed = []
if p99 >= LIMIT_MS:
    failed.append(f"push p99 is not under {LIMIT_MS} ms")
if change.get("num-lost", 1) or change.get("num-late", 1):
    failed.append("the jitterbuffer dropped packets")
# The one in its hands when the pipeline was stopped may be missing.
if kept > 1:
    failed.append(f"the element kept {kept} frames")
if captions < took / 4 - 2:
    failed.append("captions are missing")
sys.exit("; ".join(failed) or 0)
