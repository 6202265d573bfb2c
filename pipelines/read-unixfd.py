#!/usr/bin/python3
# SPDX-License-Identifier: MPL-2.0
"""Reads captions in another process: frames and their metas come through a Unix socket.

You see:  the time of a buffer, the status of its caption, the caption, once a second.
You need: GStreamer 1.24 or newer in both processes (unixfdsink, unixfdsrc: gstreamer1.0-plugins-bad)
          and python3-gst-1.0; the plugin only in the first:

    gst-launch-1.0 videotestsrc is-live=true ! video/x-raw,framerate=30/1 ! vlmcaption window=2 \\
        ! unixfdsink socket-path=/tmp/camera
    pipelines/read-unixfd.py /tmp/camera [SECONDS]
"""

import sys

import gi

gi.require_version("Gst", "1.0")
from gi.repository import Gst  # noqa: E402

META = "GstVlmCaptionMeta"
last = -1


def on_buffer(_pad, info):
    global last
    buffer = info.get_buffer()
    meta = buffer.get_custom_meta(META)
    if meta and buffer.pts // Gst.SECOND != last:
        last = buffer.pts // Gst.SECOND
        caption = meta.get_structure()
        status, text = caption.get_value("status"), caption.get_value("text")
        print(f"{buffer.pts / Gst.SECOND:5.1f} s: {status}: {text}", flush=True)
    return Gst.PadProbeReturn.OK


Gst.init(None)
if Gst.version() < (1, 24):
    sys.exit("unixfdsrc needs GStreamer 1.24")
# This process has no vlmcaption: the name alone makes the meta readable.
Gst.meta_register_custom_simple(META)
seconds = int(sys.argv[2]) if len(sys.argv) > 2 else 10
pipeline = Gst.parse_launch("unixfdsrc name=source ! fakesink name=sink sync=false")
pipeline.get_by_name("source").set_property("socket-path", sys.argv[1])
pipeline.get_by_name("sink").get_static_pad("sink").add_probe(Gst.PadProbeType.BUFFER, on_buffer)
pipeline.set_state(Gst.State.PLAYING)
ends = Gst.MessageType.ERROR | Gst.MessageType.EOS
message = pipeline.get_bus().timed_pop_filtered(seconds * Gst.SECOND, ends)
pipeline.set_state(Gst.State.NULL)
if message and message.type == Gst.MessageType.ERROR:
    sys.exit(str(message.parse_error()))
