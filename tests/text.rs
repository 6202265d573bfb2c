// SPDX-License-Identifier: MPL-2.0

//! The text pad: a well-formed stream of its own that holds nobody back.

mod common;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::{Run, script};
use gst::prelude::*;

const SMALL: &str = "video/x-raw,format=I420,width=64,height=48,framerate=30/1";
const MOCK: (&str, &str) = ("backend", "mock");
const SECOND: gst::ClockTime = gst::ClockTime::SECOND;

/// Everything that came out of the text pad.
#[derive(Default)]
struct Heard {
    events: Vec<gst::Event>,
    texts: Vec<(String, gst::ClockTime, gst::ClockTime)>,
}

/// Links an `appsink` to the text pad of a run that has not started.
fn listen(run: &Run) -> Arc<Mutex<Heard>> {
    let heard = Arc::new(Mutex::new(Heard::default()));
    let sink = gst::ElementFactory::make("fakesink")
        .property("sync", false)
        .property("async", false)
        .build()
        .unwrap();
    run.pipeline.add(&sink).unwrap();
    sink.sync_state_with_parent().unwrap();
    let pad = run.element.request_pad_simple("text_src").unwrap();
    let sinkpad = sink.static_pad("sink").unwrap();
    let collected = heard.clone();
    let kinds = gst::PadProbeType::EVENT_DOWNSTREAM
        | gst::PadProbeType::EVENT_FLUSH
        | gst::PadProbeType::BUFFER;
    sinkpad.add_probe(kinds, move |_, info| {
        let mut heard = collected.lock().unwrap();
        match &info.data {
            Some(gst::PadProbeData::Event(event)) => heard.events.push(event.clone()),
            Some(gst::PadProbeData::Buffer(buffer)) => {
                let bytes = buffer.map_readable().unwrap();
                let text = String::from_utf8(bytes.to_vec()).unwrap();
                heard
                    .texts
                    .push((text, buffer.pts().unwrap(), buffer.duration().unwrap()));
            }
            _ => {}
        }
        gst::PadProbeReturn::Ok
    });
    // Linked last: what has been pushed by then is pushed again to the new peer.
    pad.link(&sinkpad).unwrap();
    heard
}

fn finish(run: &Run, heard: &Mutex<Heard>) {
    run.finish();
    let ended = || {
        let heard = heard.lock().unwrap();
        heard
            .events
            .iter()
            .any(|event| event.type_() == gst::EventType::Eos)
    };
    while !ended() {
        std::thread::yield_now();
    }
}

#[test]
fn the_text_stream_begins_as_a_stream_must() {
    let run = Run::new(&[MOCK, ("window", "2")], SMALL);
    let heard = listen(&run);
    run.pipeline.set_state(gst::State::Playing).unwrap();
    run.push_frames(61, 30);
    finish(&run, &heard);
    let heard = heard.lock().unwrap();
    let types: Vec<_> = heard
        .events
        .iter()
        .take(3)
        .map(|event| event.type_())
        .collect();
    use gst::EventType::{Caps, Segment, StreamStart};
    assert_eq!(types, [StreamStart, Caps, Segment]);
    let gst::EventView::StreamStart(start) = heard.events[0].view() else {
        unreachable!()
    };
    assert!(start.stream_id().ends_with("/text"));
    assert!(start.stream_flags().contains(gst::StreamFlags::SPARSE));
}

#[test]
fn window_timing_gives_cues_the_times_of_their_frames() {
    let run = Run::new(&[MOCK, ("window", "2"), ("text-timing", "window")], SMALL);
    let heard = listen(&run);
    run.pipeline.set_state(gst::State::Playing).unwrap();
    run.push_frames(181, 30);
    finish(&run, &heard);
    let want = [
        (
            "Mock caption 1.".to_owned(),
            gst::ClockTime::ZERO,
            2 * SECOND,
        ),
        ("Mock caption 2.".to_owned(), 2 * SECOND, 2 * SECOND),
        ("Mock caption 3.".to_owned(), 4 * SECOND, 2 * SECOND),
        // The last window has one frame.
        ("Mock caption 4.".to_owned(), 6 * SECOND, SECOND),
    ];
    assert_eq!(heard.lock().unwrap().texts, want);
}

#[test]
fn gaps_follow_the_video_while_there_is_nothing_to_say() {
    let hang = script(r#"[{"text": "a", "prefill-ms": 600000}]"#);
    let path = hang.path().to_str().unwrap();
    let timeout = ("eos-timeout", "0");
    let policy = ("drop-policy", "latest");
    let run = Run::new(&[MOCK, ("model", path), policy, timeout], SMALL);
    let heard = listen(&run);
    run.pipeline.set_state(gst::State::Playing).unwrap();
    run.push_frames(300, 30);
    finish(&run, &heard);
    let heard = heard.lock().unwrap();
    assert!(heard.texts.is_empty());
    let mut end = gst::ClockTime::ZERO;
    for event in &heard.events {
        if let gst::EventView::Gap(gap) = event.view() {
            let (begin, duration) = gap.get();
            assert_eq!(begin, end, "gaps leave nothing out and never overlap");
            end = begin + duration.unwrap();
        }
    }
    assert_eq!(end, 10 * SECOND);
}

#[test]
fn arrival_timing_never_goes_back() {
    let run = Run::new(&[MOCK, ("window", "1"), ("text-timing", "arrival")], SMALL);
    let heard = listen(&run);
    run.pipeline.set_state(gst::State::Playing).unwrap();
    run.push_frames(301, 30);
    finish(&run, &heard);
    let heard = heard.lock().unwrap();
    assert_eq!(heard.texts.len(), 11);
    for pair in heard.texts.windows(2) {
        assert!(pair[1].1 >= pair[0].1 + pair[0].2, "{pair:?}");
    }
}

#[test]
fn textoverlay_that_waits_for_text_shows_video_without_a_caption() {
    common::init();
    let hang = script(r#"[{"text": "a", "prefill-ms": 600000}]"#);
    let pipeline = gst::parse::launch(&format!(
        "videotestsrc num-buffers=300 ! video/x-raw,width=64,height=48,framerate=30/1 !
         vlmcaption name=c backend=mock model={} drop-policy=latest eos-timeout=0 !
         textoverlay name=o ! fakesink sync=false name=s c.text_src ! o.text_sink",
        hang.path().display()
    ))
    .unwrap()
    .downcast::<gst::Pipeline>()
    .unwrap();
    pipeline.set_state(gst::State::Playing).unwrap();
    let kinds = [gst::MessageType::Eos, gst::MessageType::Error];
    let end = pipeline
        .bus()
        .unwrap()
        .timed_pop_filtered(common::PATIENCE, &kinds);
    assert_eq!(end.unwrap().type_(), gst::MessageType::Eos);
    pipeline.set_state(gst::State::Null).unwrap();
}

#[test]
fn a_reader_that_never_reads_does_not_hold_the_video() {
    let run = Run::new(&[MOCK, ("window", "1")], SMALL);
    let pad = run.element.request_pad_simple("text_src").unwrap();
    // A queue that is full after one buffer, in front of a sink that never prerolls.
    let queue = gst::ElementFactory::make("queue")
        .property("max-size-buffers", 1u32)
        .build()
        .unwrap();
    run.pipeline.add(&queue).unwrap();
    pad.link(&queue.static_pad("sink").unwrap()).unwrap();
    let blocked = queue.static_pad("src").unwrap();
    blocked.add_probe(gst::PadProbeType::BLOCK_DOWNSTREAM, |_, _| {
        gst::PadProbeReturn::Ok
    });
    run.pipeline.set_state(gst::State::Playing).unwrap();
    run.push_frames(301, 30);
    run.finish();
    assert_eq!(run.buffers.lock().unwrap().len(), 301);
}

#[test]
fn a_text_pad_can_be_had_while_playing() {
    let run = Run::start(&[MOCK, ("window", "1")], SMALL);
    run.push(Duration::ZERO, None).unwrap();
    run.next_caption();
    let heard = listen(&run);
    run.push(Duration::from_secs(1), None).unwrap();
    finish(&run, &heard);
    let heard = heard.lock().unwrap();
    assert_eq!(heard.events[0].type_(), gst::EventType::StreamStart);
    assert_eq!(heard.texts.last().unwrap().0, "Mock caption 2.");
}

#[test]
fn a_flush_begins_the_text_anew() {
    let run = Run::new(&[MOCK, ("window", "1")], SMALL);
    let heard = listen(&run);
    run.pipeline.set_state(gst::State::Playing).unwrap();
    run.push(Duration::ZERO, None).unwrap();
    run.next_caption();
    let pad = run.element.static_pad("sink").unwrap();
    pad.send_event(gst::event::FlushStart::new());
    pad.send_event(gst::event::FlushStop::new(true));
    let segment = gst::FormattedSegment::<gst::ClockTime>::new();
    pad.send_event(gst::event::Segment::new(segment.as_ref()));
    run.push(Duration::from_secs(7), None).unwrap();
    finish(&run, &heard);
    let heard = heard.lock().unwrap();
    let last = heard.texts.last().unwrap();
    assert_eq!((last.1, last.2), (7 * SECOND, SECOND));
    let flushes = heard
        .events
        .iter()
        .filter(|e| e.type_() == gst::EventType::FlushStop)
        .count();
    assert_eq!(flushes, 1);
}
