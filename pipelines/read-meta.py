#!/usr/bin/python3
# SPDX-License-Identifier: MPL-2.0
"""Reads captions from the video buffers themselves, one buffer a second.

You see:  the time of the buffer, who captioned it, the status and age of the caption, the caption.
You need: python3-gst-1.0 (Debian), the plugin in GST_PLUGIN_PATH or target/release.
"""

import os
from pathlib import Path

import gi

os.environ.setdefault("GST_PLUGIN_PATH", str(Path(__file__).parent.parent / "target/release"))
gi.require_version("Gst", "1.0")
from gi.repository import Gst  # noqa: E402


def on_buffer(_pad, info):
    buffer = info.get_buffer()
    meta = buffer.get_custom_meta("GstVlmCaptionMeta")
    if meta and buffer.pts % Gst.SECOND < Gst.SECOND // 30:
        last = meta.get_structure()
        # Captioners before the last one, if there are any.
        others = list(last.get_value("upstream")) if last.has_field("upstream") else []
        for caption in [last, *others]:
            line = f"{buffer.pts / Gst.SECOND:4.1f} s, {caption.get_value('element')}: "
            line += caption.get_value("status")
            if caption.has_field("age"):
                line += f", {caption.get_value('age') / Gst.SECOND:.2f} s old: {caption.get_value('text')}"
            print(line)
    return Gst.PadProbeReturn.OK


Gst.init(None)
pipeline = Gst.parse_launch(
    "videotestsrc is-live=true num-buffers=300 ! video/x-raw,framerate=30/1"
    " ! vlmcaption window=2 ! fakesink name=sink sync=true"
)
pipeline.get_by_name("sink").get_static_pad("sink").add_probe(Gst.PadProbeType.BUFFER, on_buffer)
pipeline.set_state(Gst.State.PLAYING)
ends = Gst.MessageType.ERROR | Gst.MessageType.EOS
message = pipeline.get_bus().timed_pop_filtered(Gst.CLOCK_TIME_NONE, ends)
pipeline.set_state(Gst.State.NULL)
if message.type == Gst.MessageType.ERROR:
    raise SystemExit(message.parse_error())
