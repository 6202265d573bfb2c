#!/usr/bin/python3
# SPDX-License-Identifier: MPL-2.0
"""A camera made of a test source: H.264 or H.265 over RTSP, on loopback only.

You see:  its address on the first line, then nothing; it serves until it is stopped.
You need: python3-gi, gir1.2-gst-rtsp-server-1.0, x264enc (gstreamer1.0-plugins-ugly);
          for H.265 x265enc (gstreamer1.0-plugins-bad).

    pipelines/rtsp-server.py [--port 8554] [--pattern smpte] [--framerate 25] [--codec h264]
"""

import argparse
import sys

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtspServer  # noqa: E402

parser = argparse.ArgumentParser(description="An RTSP camera on loopback.")
parser.add_argument("--port", default="8554")
parser.add_argument("--pattern", default="smpte", help="of videotestsrc")
parser.add_argument("--framerate", type=int, default=25, help="frames a second")
parser.add_argument("--codec", choices=["h264", "h265"], default="h264")
options = parser.parse_args()
number = options.codec[1:]

Gst.init(None)
factory = GstRtspServer.RTSPMediaFactory()
factory.set_launch(
    f"( videotestsrc is-live=true pattern={options.pattern} ! "
    "video/x-raw,width=640,height=360,"
    f"framerate={options.framerate}/1 ! "
    f"x{number}enc tune=zerolatency speed-preset=ultrafast key-int-max={options.framerate} ! "
    f"h{number}parse ! rtph{number}pay name=pay0 pt=96 config-interval=1 )"
)
factory.set_shared(True)
server = GstRtspServer.RTSPServer(address="127.0.0.1", service=options.port)
server.get_mount_points().add_factory("/camera", factory)
if server.attach(None) == 0:
    sys.exit(f"port {options.port} is taken; give another one with --port")
print(f"rtsp://127.0.0.1:{server.get_bound_port()}/camera", flush=True)
GLib.MainLoop().run()
