#!/usr/bin/python3
# SPDX-License-Identifier: MPL-2.0
"""Reads captions from the messages on the bus.

You see:  start, end, age and text of every caption of a ten-second test source.
You need: python3-gst-1.0 (Debian), the plugin in GST_PLUGIN_PATH or target/release.
"""

import os
from pathlib import Path

import gi

os.environ.setdefault("GST_PLUGIN_PATH", str(Path(__file__).parent.parent / "target/release"))
gi.require_version("Gst", "1.0")
from gi.repository import Gst  # noqa: E402

Gst.init(None)
pipeline = Gst.parse_launch(
    "videotestsrc is-live=true num-buffers=300 ! video/x-raw,framerate=30/1"
    " ! vlmcaption window=2 ! fakesink sync=true"
)
pipeline.set_state(Gst.State.PLAYING)
wanted = Gst.MessageType.ELEMENT | Gst.MessageType.ERROR | Gst.MessageType.EOS
while True:
    message = pipeline.get_bus().timed_pop_filtered(Gst.CLOCK_TIME_NONE, wanted)
    if message.type == Gst.MessageType.ERROR:
        raise SystemExit(message.parse_error())
    if message.type == Gst.MessageType.EOS:
        break
    caption = message.get_structure()
    if caption.has_name("vlmcaption/caption"):
        start, end = (caption.get_value(key) / Gst.SECOND for key in ("start", "end"))
        # Not there if the camera's time went back meanwhile.
        age = f"{caption.get_value('age') / Gst.SECOND:.2f} s old" if caption.has_field("age") else "old"
        print(f"{start:4.1f} s - {end:4.1f} s, {age}: {caption.get_value('text')}")
pipeline.set_state(Gst.State.NULL)
