#!/usr/bin/python3
# SPDX-License-Identifier: MPL-2.0
"""Watches for one thing and prints when it comes and goes.

You see:  begin and end of every event, for half a minute: a ball that comes and goes.
You need: python3-gst-1.0 (Debian), the plugin in GST_PLUGIN_PATH or target/release.

  pipelines/alarm.py ["Is there a person?" [SOURCE]]

SOURCE is the beginning of a pipeline, for example "rtspsrc location=rtsp://camera/path ! decodebin".
VLMCAPTION_MODEL is the folder of a model; without it the built-in one knows shapes and test pictures.
"""

import os
import sys
from pathlib import Path

import gi

os.environ.setdefault("GST_PLUGIN_PATH", str(Path(__file__).parent.parent / "target/release"))
gi.require_version("Gst", "1.0")
from gi.repository import Gst  # noqa: E402

# Pictures one after the other, twelve seconds each.
SCENE = "concat name=join ! {watch} " + " ".join(
    f"videotestsrc pattern={pattern} num-buffers=120 ! video/x-raw,width=320,height=192,"
    "framerate=10/1 ! join."
    for pattern in ("black", "ball", "black")
)


def main() -> None:
    """Builds the pipeline and prints what is posted until it ends."""
    Gst.init(None)
    question = sys.argv[1] if len(sys.argv) > 1 else "Is there a white circle?"
    source = sys.argv[2] if len(sys.argv) > 2 else None
    watch = "vlmcaption name=watch window=2 ! fakesink sync=true"
    scene = f"{source} ! videoconvert ! {watch}" if source else SCENE.format(watch=watch)
    pipeline = Gst.parse_launch(scene)
    element = pipeline.get_by_name("watch")
    element.set_property("model", os.environ.get("VLMCAPTION_MODEL", ""))
    prompt = Gst.Structure.new_empty("watched")
    prompt.set_value("kind", "yes-no")
    prompt.set_value("text", question)
    element.set_property("prompts", Gst.ValueArray([prompt]))

    pipeline.set_state(Gst.State.PLAYING)
    wanted = Gst.MessageType.ELEMENT | Gst.MessageType.ERROR | Gst.MessageType.EOS
    while True:
        message = pipeline.get_bus().timed_pop_filtered(Gst.CLOCK_TIME_NONE, wanted)
        if message.type == Gst.MessageType.ERROR:
            raise SystemExit(message.parse_error())
        if message.type == Gst.MessageType.EOS:
            break
        event = message.get_structure()
        if event.has_name("vlmcaption/event"):
            print(
                f"{event.get_value('wallclock')} {event.get_value('kind'):5}"
                f" #{event.get_value('event-id')} {question}"
                f" ({event.get_value('duration') / Gst.SECOND:.0f} s)",
                flush=True,
            )
    pipeline.set_state(Gst.State.NULL)


main()
