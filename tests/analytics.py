#!/usr/bin/env python3
# SPDX-License-Identifier: MPL-2.0
"""GStreamer's own analytics (1.24 and newer), written and read with its own bindings: detections of a
`GstAnalyticsRelationMeta` open the gate, and alarms that are open are classes in it.

    tests/analytics.py [--must]     --must: fail where GStreamer has no analytics
    VLMCAPTION_PLUGIN_PATH          the folder with libgstvlmcaption.so, unless GStreamer finds it anyway

Needs Python with GStreamer's bindings, and those of GstAnalytics (gir1.2-gst-plugins-bad-1.0).
"""

import json
import os
import sys
import tempfile

if "VLMCAPTION_PLUGIN_PATH" in os.environ:
    os.environ["GST_PLUGIN_PATH"] = os.environ["VLMCAPTION_PLUGIN_PATH"]

import gi

gi.require_version("Gst", "1.0")
from gi.repository import GLib, Gst

try:
    gi.require_version("GstAnalytics", "1.0")
    from gi.repository import GstAnalytics
except (ImportError, ValueError) as error:
    print(f"NOT RUN: analytics need GStreamer 1.24, which is in Debian 13 and Ubuntu 24.04 ({error})")
    sys.exit("--must" in sys.argv)

WIDTH, HEIGHT = 64, 48
CAPS = f"video/x-raw,format=I420,width={WIDTH},height={HEIGHT},framerate=0/1"
PATIENCE = 60 * Gst.SECOND


class Run:
    """`appsrc ! vlmcaption ! appsink` with a model that answers from a list."""

    def __init__(self, answers, properties):
        self.script = tempfile.NamedTemporaryFile("w", suffix=".json")
        json.dump([{"text": text} for text in answers], self.script)
        self.script.flush()
        self.pipeline = Gst.parse_launch(
            f"appsrc name=src format=time caps={CAPS} ! vlmcaption name=c backend=mock"
            f" model={self.script.name} window=1 drop-policy=block {properties}"
            " ! appsink name=sink sync=false"
        )
        self.src, self.sink = map(self.pipeline.get_by_name, ("src", "sink"))
        self.bus = self.pipeline.get_bus()
        self.pipeline.set_state(Gst.State.PLAYING)

    def push(self, at, detection=None):
        """A gray frame at `at` seconds: the buffer as it comes out."""
        buffer = Gst.Buffer.new_wrapped(bytes([128]) * (WIDTH * HEIGHT * 3 // 2))
        buffer.pts = round(at * Gst.SECOND)
        if detection:
            label, *place = detection
            meta = GstAnalytics.buffer_add_analytics_relation_meta(buffer)
            added, _ = meta.add_od_mtd(GLib.quark_from_string(label), *place, 0.9)
            assert added
        assert self.src.emit("push-buffer", buffer) == Gst.FlowReturn.OK
        return self.sink.emit("pull-sample").get_buffer()

    def wait(self, kind):
        """The next message with that name, or of that type."""
        while message := self.bus.timed_pop(PATIENCE):
            if message.type == Gst.MessageType.ERROR:
                sys.exit(str(message.parse_error()))
            fields = message.get_structure()
            if kind in (message.type, fields and fields.get_name()):
                return fields
        sys.exit(f"no {kind} in time")

    def finish(self):
        """Ends the stream: the second that each caption began at."""
        self.src.emit("end-of-stream")
        starts = []
        while message := self.bus.timed_pop(PATIENCE):
            fields = message.get_structure()
            if message.type == Gst.MessageType.EOS:
                self.pipeline.set_state(Gst.State.NULL)
                return starts
            if fields and fields.get_name() == "vlmcaption/caption":
                starts.append(fields.get_value("start") // Gst.SECOND)
        sys.exit("no end in time")


def classes(buffer):
    """The words of all `GstAnalyticsClsMtd` of a buffer, with how sure they are."""
    meta = GstAnalytics.buffer_get_analytics_relation_meta(buffer)
    found = []
    for number in range(GstAnalytics.relation_get_length(meta) if meta else 0):
        is_class, mtd = meta.get_cls_mtd(number)
        if is_class:
            for at in range(mtd.get_length()):
                word = GLib.quark_to_string(mtd.get_quark(at))
                found.append((word, round(mtd.get_level(at), 3)))
    return found


def expect(what, got, want):
    if got != want:
        sys.exit(f"{what}: {got}, not {want}")
    print(f"{what}: {got}")


def a_detection_opens_the_gate():
    run = Run(["a"], 'gate-labels="<person,car>" gate-min-area=0.1 gate-linger=0')
    half = WIDTH // 2 + 8
    run.push(0)
    run.push(1, ("dog", 0, 0, half, 24))
    run.push(2, ("person", 0, 0, half, 24))
    run.push(3, ("car", 0, 0, 4, 24))
    # A tenth of the frame, of which all but a corner is outside.
    run.push(4, ("car", -30, -20, half, 24))
    # Between two samples.
    run.push(4.5, ("car", 8, 8, half, 24))
    run.push(5)
    run.push(6)
    expect("windows with a person or a car", run.finish(), [2, 5])


def any_detection_opens_the_gate_of_all():
    run = Run(["a"], r'gate-labels="<\"*\">" gate-linger=0')
    run.push(0)
    run.push(1, ("whatever", 0, 0, 8, 8))
    run.push(2)
    expect("windows with anything", run.finish(), [1])


def an_open_alarm_is_a_class():
    prompts = r'prompts="<\"ball,kind=yes-no,text=\\\"Is\\ there\\ a\\ ball?\\\"\">"'
    run = Run(["no", "yes", "yes", "no"], prompts)
    seen = []
    for second, message in enumerate(("caption", "event", "caption", "event")):
        run.push(second)
        run.wait(f"vlmcaption/{message}")
        # This frame is no sample: it shows what buffers carry now.
        seen.append(classes(run.push(second + 0.5, ("cat", 0, 0, 8, 8))))
    expect("while an alarm is open", seen, [[], [("ball:yes", 1.0)], [("ball:yes", 1.0)], []])
    buffer = run.push(3.6, ("cat", 0, 0, 8, 8))
    meta = GstAnalytics.buffer_get_analytics_relation_meta(buffer)
    expect("what was on the buffer stays", meta.get_od_mtd(0)[0], True)
    run.finish()


def what_a_model_writes_is_no_class():
    run = Run(["A secret sentence."], "")
    run.push(0)
    run.wait("vlmcaption/caption")
    expect("after a caption", classes(run.push(0.5)), [])
    secret = GLib.quark_try_string("A secret sentence.")
    expect("the caption among the words of the process", secret, 0)
    run.finish()


Gst.init(None)
print(Gst.version_string())
a_detection_opens_the_gate()
any_detection_opens_the_gate_of_all()
an_open_alarm_is_a_class()
what_a_model_writes_is_no_class()
