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

/// Links a `fakesink` to the text pad of a run that has not started.
fn listen(run: &Run) -> Arc<Mutex<Heard>> {
    let heard = Arc::new(Mutex::new(Heard::default()));
    let pad = run.element.request_pad_simple("text_src").unwrap();
    // Linked last: what has been pushed by then is pushed again to the new peer.
    pad.link(&reader(run, &heard)).unwrap();
    heard
}

/// The pad of a `fakesink` that notes what comes.
fn reader(run: &Run, heard: &Arc<Mutex<Heard>>) -> gst::Pad {
    let sink = gst::ElementFactory::make("fakesink")
        .property("sync", false)
        .property("async", false)
        .build()
        .unwrap();
    run.pipeline.add(&sink).unwrap();
    sink.sync_state_with_parent().unwrap();
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
    sinkpad
}

fn finish(run: &Run, heard: &Mutex<Heard>) {
    run.finish();
    wait_for(heard, |heard| count(heard, gst::EventType::Eos) > 0);
}

/// Waits for something to come out of the text pad.
fn wait_for(heard: &Mutex<Heard>, come: impl Fn(&Heard) -> bool) {
    let begun = std::time::Instant::now();
    while !come(&heard.lock().unwrap()) {
        assert!(
            begun.elapsed() < common::PATIENCE.into(),
            "it does not come"
        );
        std::thread::yield_now();
    }
}

fn count(heard: &Heard, kind: gst::EventType) -> usize {
    let events = heard.events.iter();
    events.filter(|event| event.type_() == kind).count()
}

fn time_segment() -> gst::Event {
    let segment = gst::FormattedSegment::<gst::ClockTime>::new();
    gst::event::Segment::new(segment.as_ref())
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
    // The caption may be there before the push of its frame has returned: a flush in it would tell
    // the source to stop.
    let quiet = pad.stream_lock();
    pad.send_event(gst::event::FlushStart::new());
    drop(quiet);
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

#[test]
fn the_text_pad_has_the_latency_of_the_video() {
    let run = Run::new(&[MOCK, ("window", "1")], SMALL);
    run.src.set_is_live(true);
    run.src.set_latency(gst::ClockTime::from_mseconds(70), None);
    let _heard = listen(&run);
    run.pipeline.set_state(gst::State::Playing).unwrap();
    run.push(Duration::ZERO, None).unwrap();
    run.next_caption();
    for pad in ["src", "text_src"] {
        let mut query = gst::query::Latency::new();
        assert!(run.element.static_pad(pad).unwrap().query(&mut query));
        let (live, least, _) = query.result();
        assert_eq!((live, least.mseconds()), (true, 70), "{pad}");
    }
}

#[test]
fn a_seek_of_the_pipeline_comes_from_both_pads_and_is_done_once() {
    let run = Run::new(&[MOCK, ("window", "1")], SMALL);
    let heard = listen(&run);
    run.src.set_stream_type(gst_app::AppStreamType::Seekable);
    let seeks = Arc::new(Mutex::new(Vec::new()));
    let noted = seeks.clone();
    run.src.set_callbacks(
        gst_app::AppSrcCallbacks::builder()
            .seek_data(move |_, to| {
                noted.lock().unwrap().push(to);
                true
            })
            .build(),
    );
    run.pipeline.set_state(gst::State::Playing).unwrap();
    run.push(Duration::ZERO, None).unwrap();
    run.next_caption();
    let begun = seeks.lock().unwrap().len();
    run.pipeline
        .seek_simple(gst::SeekFlags::FLUSH, 30 * SECOND)
        .unwrap();
    assert_eq!(seeks.lock().unwrap()[begun..], [30 * SECOND.nseconds()]);
    run.push(Duration::from_secs(30), None).unwrap();
    finish(&run, &heard);
    let last = heard.lock().unwrap().texts.last().cloned().unwrap();
    assert_eq!(last.1, 30 * SECOND);
}

#[test]
fn a_flush_ends_a_push_of_text_that_is_stuck() {
    let run = Run::new(&[MOCK, ("window", "1")], SMALL);
    let pad = run.element.request_pad_simple("text_src").unwrap();
    // In PAUSED it keeps what comes first.
    let sink = gst::ElementFactory::make("fakesink")
        .property("async", false)
        .build()
        .unwrap();
    run.pipeline.add(&sink).unwrap();
    let sinkpad = sink.static_pad("sink").unwrap();
    let (stuck, is_stuck) = std::sync::mpsc::channel();
    let kinds = gst::PadProbeType::BUFFER | gst::PadProbeType::EVENT_DOWNSTREAM;
    sinkpad.add_probe(kinds, move |_, info| {
        let gap = info
            .event()
            .is_some_and(|event| event.type_() == gst::EventType::Gap);
        if gap || info.buffer().is_some() {
            let _ = stuck.send(());
        }
        gst::PadProbeReturn::Ok
    });
    pad.link(&sinkpad).unwrap();
    run.pipeline.set_state(gst::State::Paused).unwrap();
    run.push(Duration::ZERO, None).unwrap();
    run.next_caption();
    is_stuck.recv().unwrap();
    let video = run.element.static_pad("sink").unwrap();
    assert!(video.send_event(gst::event::FlushStart::new()));
    assert!(video.send_event(gst::event::FlushStop::new(true)));
}

#[test]
fn new_caps_of_the_video_change_nothing_in_the_text() {
    let run = Run::new(&[MOCK, ("window", "1")], SMALL);
    let heard = listen(&run);
    run.pipeline.set_state(gst::State::Playing).unwrap();
    run.push(Duration::ZERO, None).unwrap();
    let wide = "video/x-raw,format=I420,width=128,height=48,framerate=30/1";
    run.src.set_caps(Some(&wide.parse().unwrap()));
    run.push(Duration::from_secs(1), None).unwrap();
    finish(&run, &heard);
    let heard = heard.lock().unwrap();
    assert_eq!(heard.texts.len(), 2);
    let count = |kind| heard.events.iter().filter(|e| e.type_() == kind).count();
    use gst::EventType::{Caps, Eos, Segment, StreamStart};
    for kind in [StreamStart, Caps, Segment, Eos] {
        assert_eq!(count(kind), 1, "{kind:?}");
    }
}

#[test]
fn a_video_gap_is_a_gap_of_the_text_too() {
    let run = Run::new(&[MOCK, ("window", "1")], SMALL);
    let heard = listen(&run);
    run.pipeline.set_state(gst::State::Playing).unwrap();
    run.push(Duration::ZERO, None).unwrap();
    run.next_caption();
    let gap = gst::event::Gap::builder(SECOND)
        .duration(5 * SECOND)
        .build();
    assert!(run.element.static_pad("sink").unwrap().send_event(gap));
    finish(&run, &heard);
    let heard = heard.lock().unwrap();
    let end = heard.events.iter().rev().find_map(|event| {
        let gst::EventView::Gap(gap) = event.view() else {
            return None;
        };
        let (begin, duration) = gap.get();
        Some(begin + duration?)
    });
    assert_eq!(end, Some(6 * SECOND));
}

#[test]
fn a_stream_without_a_frame_ends_the_text_too() {
    let run = Run::new(&[MOCK, ("window", "1")], SMALL);
    let heard = listen(&run);
    run.pipeline.set_state(gst::State::Playing).unwrap();
    finish(&run, &heard);
    let heard = heard.lock().unwrap();
    assert_eq!(heard.events[0].type_(), gst::EventType::StreamStart);
    assert!(heard.texts.is_empty());
}

#[test]
fn after_the_end_another_stream_begins_the_text_again() {
    let run = Run::new(&[MOCK, ("window", "1")], SMALL);
    let heard = listen(&run);
    // A sink takes nothing more after EOS; a muxer or a `concat` does.
    for (pad, peer) in [("src", "the video's"), ("text_src", "the text's")] {
        let pad = run.element.static_pad(pad).unwrap();
        let peer = pad.peer().expect(peer);
        peer.add_probe(gst::PadProbeType::EVENT_DOWNSTREAM, |_, info| {
            if info.event().unwrap().type_() != gst::EventType::Eos {
                return gst::PadProbeReturn::Ok;
            }
            info.data = None;
            gst::PadProbeReturn::Handled
        });
    }
    run.pipeline.set_state(gst::State::Playing).unwrap();
    run.push(Duration::ZERO, None).unwrap();
    run.next_caption();
    let pad = run.element.static_pad("sink").unwrap();
    assert!(pad.send_event(gst::event::Eos::new()));
    wait_for(&heard, |heard| count(heard, gst::EventType::Eos) == 1);
    assert!(pad.send_event(gst::event::StreamStart::new("another")));
    assert!(pad.send_event(time_segment()));
    run.push(Duration::ZERO, None).unwrap();
    run.next_caption();
    wait_for(&heard, |heard| heard.texts.len() == 2);
    run.src.end_of_stream().unwrap();
    wait_for(&heard, |heard| count(heard, gst::EventType::Eos) == 2);
    let heard = heard.lock().unwrap();
    assert_eq!(count(&heard, gst::EventType::StreamStart), 2);
    assert_eq!(heard.texts[1].0, "Mock caption 2.");
}

#[test]
fn a_reader_that_fails_is_told_of_and_reads_again_once_it_is_linked_anew() {
    let run = Run::new(&[MOCK, ("window", "1")], SMALL);
    let heard = Arc::new(Mutex::new(Heard::default()));
    let pad = run.element.request_pad_simple("text_src").unwrap();
    let sinkpad = reader(&run, &heard);
    let refusal = sinkpad.add_probe(gst::PadProbeType::BUFFER, |_, info| {
        info.data = None;
        info.flow_res = Err(gst::FlowError::NotNegotiated);
        gst::PadProbeReturn::Handled
    });
    pad.link(&sinkpad).unwrap();
    let asked = Arc::new(Mutex::new(0));
    let noted = asked.clone();
    run.pipeline.set_state(gst::State::Playing).unwrap();
    run.push(Duration::ZERO, None).unwrap();
    let told = run.messages_until(|message| message.type_() == gst::MessageType::Warning);
    let warning = common::warnings(&told).remove(0);
    assert!(warning.contains("not-negotiated"), "{warning}");
    // The camera has nothing to do with it.
    let camera = run.src.static_pad("src").unwrap();
    camera.add_probe(gst::PadProbeType::EVENT_UPSTREAM, move |_, info| {
        let event = info.event().map(|event| event.type_());
        *noted.lock().unwrap() += usize::from(event == Some(gst::EventType::Reconfigure));
        gst::PadProbeReturn::Ok
    });
    run.push(Duration::from_secs(1), None).unwrap();
    run.next_caption();
    sinkpad.remove_probe(refusal.unwrap());
    pad.unlink(&sinkpad).unwrap();
    pad.link(&sinkpad).unwrap();
    run.push(Duration::from_secs(2), None).unwrap();
    wait_for(&heard, |heard| !heard.texts.is_empty());
    let last = run.finish();
    assert_eq!(common::warnings(&last), [""; 0]);
    assert_eq!(*asked.lock().unwrap(), 0);
    assert_eq!(run.buffers.lock().unwrap().len(), 3);
}

#[test]
fn a_text_pad_that_is_requested_again_begins_where_the_video_is() {
    let gaps = ("text-gaps", "buffer");
    let run = Run::new(&[MOCK, ("window", "1"), gaps], SMALL);
    let first = listen(&run);
    run.pipeline.set_state(gst::State::Playing).unwrap();
    run.push(Duration::ZERO, None).unwrap();
    wait_for(&first, |heard| !heard.texts.is_empty());
    let pad = run.element.static_pad("text_src").unwrap();
    let sink = pad.peer().unwrap().parent_element().unwrap();
    run.element.release_request_pad(&pad);
    // The pipeline would wait for its EOS.
    sink.set_state(gst::State::Null).unwrap();
    run.pipeline.remove(&sink).unwrap();
    for second in [1, 98, 99] {
        run.push(Duration::from_secs(second), None).unwrap();
    }
    while run.buffers.lock().unwrap().len() < 4 {
        std::thread::yield_now();
    }
    let heard = listen(&run);
    run.push(Duration::from_secs(100), None).unwrap();
    finish(&run, &heard);
    let heard = heard.lock().unwrap();
    assert!(heard.texts.iter().all(|cue| cue.1 >= 99 * SECOND));
    assert!(heard.texts.iter().any(|cue| cue.0.starts_with("Mock")));
}

#[test]
fn the_texts_segment_is_the_videos_and_is_done_when_that_is() {
    let run = Run::new(&[MOCK, ("window", "1")], SMALL);
    let heard = listen(&run);
    run.pipeline.set_state(gst::State::Playing).unwrap();
    run.push(Duration::ZERO, None).unwrap();
    run.next_caption();
    let pad = run.element.static_pad("sink").unwrap();
    let done = gst::event::SegmentDone::builder(SECOND)
        .seqnum(gst::Seqnum::next())
        .build();
    assert!(pad.send_event(done.clone()));
    finish(&run, &heard);
    let heard = heard.lock().unwrap();
    let seqnum = |kind| {
        heard
            .events
            .iter()
            .find(|e| e.type_() == kind)
            .unwrap()
            .seqnum()
    };
    let video = run.element.static_pad("src").unwrap();
    let segment = video.sticky_event::<gst::event::Segment>(0).unwrap();
    assert_eq!(seqnum(gst::EventType::Segment), segment.seqnum());
    assert_eq!(seqnum(gst::EventType::SegmentDone), done.seqnum());
}

/// The video's reader is taken away; what is left reads the text.
fn unlink_video(run: &Run) {
    let pad = run.element.static_pad("src").unwrap();
    let sink = pad.peer().unwrap().parent_element().unwrap();
    run.element.unlink(&sink);
    run.pipeline.remove(&sink).unwrap();
    sink.set_state(gst::State::Null).unwrap();
}

#[test]
fn the_stream_goes_on_while_the_text_alone_is_read() {
    let run = Run::new(&[MOCK, ("window", "1")], SMALL);
    unlink_video(&run);
    let heard = listen(&run);
    run.pipeline.set_state(gst::State::Playing).unwrap();
    for second in 0..3 {
        run.push(Duration::from_secs(second), None).unwrap();
        run.next_caption();
    }
    wait_for(&heard, |heard| heard.texts.len() == 3);
}

#[test]
fn an_error_of_the_texts_reader_is_heard_upstream_once_nothing_else_reads() {
    let run = Run::new(&[MOCK, ("window", "1")], SMALL);
    unlink_video(&run);
    let heard = Arc::new(Mutex::new(Heard::default()));
    let pad = run.element.request_pad_simple("text_src").unwrap();
    let sinkpad = reader(&run, &heard);
    sinkpad.add_probe(gst::PadProbeType::BUFFER, |_, info| {
        info.data = None;
        info.flow_res = Err(gst::FlowError::NotNegotiated);
        gst::PadProbeReturn::Handled
    });
    pad.link(&sinkpad).unwrap();
    run.pipeline.set_state(gst::State::Playing).unwrap();
    run.push(Duration::ZERO, None).unwrap();
    let told = run.messages_until(|message| message.type_() == gst::MessageType::Warning);
    assert!(common::warnings(&told)[0].contains("not-negotiated"));
    let _ = run.push(Duration::from_secs(1), None);
    let bus = run.pipeline.bus().unwrap();
    let error = bus.timed_pop_filtered(common::PATIENCE, &[gst::MessageType::Error]);
    let error = error.expect("the source goes on");
    let gst::MessageView::Error(error) = error.view() else {
        panic!("{error:?}");
    };
    let debug = error.debug().unwrap_or_default();
    assert!(debug.contains("not-negotiated"), "{debug}");
}

#[test]
fn without_any_reader_the_source_is_told() {
    let run = Run::new(&[MOCK, ("window", "1")], SMALL);
    unlink_video(&run);
    run.element.request_pad_simple("text_src").unwrap();
    run.pipeline.set_state(gst::State::Playing).unwrap();
    let _ = run.push(Duration::ZERO, None);
    let bus = run.pipeline.bus().unwrap();
    let error = bus.timed_pop_filtered(common::PATIENCE, &[gst::MessageType::Error]);
    assert!(error.is_some(), "frames go nowhere and nobody knows");
}
