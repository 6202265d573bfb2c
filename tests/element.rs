// SPDX-License-Identifier: MPL-2.0

//! The element as a pipeline sees it: what passes, what is sampled, what is said about it.

mod common;

use std::time::{Duration, Instant};

use common::{Run, captions, meta, named, pts_list, script, warnings};
use gst::prelude::*;

const SMALL: &str = "video/x-raw,format=I420,width=64,height=48,framerate=30/1";
const MOCK: (&str, &str) = ("backend", "mock");
const SECOND: u64 = 1_000_000_000;

#[test]
fn every_buffer_passes_with_its_bytes_and_times() {
    let run = Run::start(&[MOCK], SMALL);
    run.push_frames(90, 30);
    run.finish();
    let buffers = run.buffers.lock().unwrap();
    assert_eq!(buffers.len(), 90);
    for (i, buffer) in buffers.iter().enumerate() {
        assert_eq!(buffer.pts().unwrap().nseconds(), i as u64 * SECOND / 30);
        assert!(
            buffer
                .map_readable()
                .unwrap()
                .iter()
                .all(|byte| *byte == 128)
        );
    }
}

#[test]
fn a_caption_names_the_frames_it_is_about() {
    let run = Run::start(&[MOCK, ("window", "2")], SMALL);
    run.push_frames(121, 30);
    let captions = captions(&run.finish());
    let lists: Vec<_> = captions.iter().map(|c| pts_list(c)).collect();
    assert_eq!(
        lists,
        [
            vec![0, SECOND],
            vec![2 * SECOND, 3 * SECOND],
            vec![4 * SECOND]
        ]
    );
    assert_eq!(captions[1].get::<u64>("start").unwrap(), 2 * SECOND);
    assert_eq!(captions[1].get::<u64>("end").unwrap(), 3 * SECOND);
    assert_eq!(captions[1].get::<u64>("sequence").unwrap(), 2);
    assert_eq!(
        captions[1].get::<String>("text").unwrap(),
        "Mock caption 2."
    );
    assert_eq!(captions[1].get::<String>("finish-reason").unwrap(), "eos");
    assert_eq!(captions[1].get::<String>("backend").unwrap(), "mock");
}

#[test]
fn sampling_goes_by_time_at_any_frame_rate() {
    let sampled = |caps: &str, times: Vec<u64>| {
        let run = Run::start(&[MOCK, ("window", "1")], caps);
        for time in times {
            run.push(Duration::from_nanos(time), None).unwrap();
        }
        captions(&run.finish())
            .iter()
            .flat_map(|c| pts_list(c))
            .collect::<Vec<_>>()
    };
    let caps = |fps: &str| format!("video/x-raw,format=GRAY8,width=64,height=64,framerate={fps}");
    let ntsc = |i: u64| i * 1001 * SECOND / 60_000;
    assert_eq!(
        sampled(&caps("60000/1001"), (0..121).map(ntsc).collect()),
        [0, ntsc(60), ntsc(120)]
    );
    assert_eq!(
        sampled(&caps("5/1"), (0..11).map(|i| i * SECOND / 5).collect()),
        [0, SECOND, 2 * SECOND]
    );
    // Variable rate, with a gap of three seconds; nothing is known of the frame rate.
    assert_eq!(
        sampled(
            &caps("0/1"),
            vec![
                SECOND / 4,
                SECOND / 2,
                SECOND * 5 / 4,
                SECOND * 9 / 2,
                SECOND * 19 / 4,
                SECOND * 11 / 2
            ]
        ),
        [SECOND / 4, SECOND * 5 / 4, SECOND * 9 / 2, SECOND * 11 / 2]
    );
}

#[test]
fn every_buffer_after_a_caption_carries_it_with_its_age() {
    // A model that answers at once could be before the frame.
    let slow = script(r#"[{"text": "Mock caption {n}.", "prefill-ms": 200}]"#);
    let model = ("model", slow.path().to_str().unwrap());
    let properties = [MOCK, model, ("window", "1"), ("sample-rate", "1/10")];
    let run = Run::start(&properties, SMALL);
    run.push(Duration::ZERO, None).unwrap();
    run.next_caption();
    for s in [1, 4, 30, 31] {
        run.push(Duration::from_secs(s), None).unwrap();
    }
    run.finish();
    let buffers = run.buffers.lock().unwrap();
    let fields: Vec<_> = buffers.iter().map(|b| meta(b).unwrap()).collect();
    let status = |i: usize| fields[i].get::<String>("status").unwrap();
    assert_eq!(
        status(0),
        "none",
        "the first frame was pushed before anything was said of it"
    );
    assert_eq!(status(1), "fresh");
    assert_eq!(fields[1].get::<u64>("age").unwrap(), SECOND);
    assert_eq!(fields[2].get::<String>("text").unwrap(), "Mock caption 1.");
    assert_eq!(fields[2].get::<u64>("age").unwrap(), 4 * SECOND);
}

#[test]
fn a_busy_model_drops_windows_and_never_the_video() {
    let slow = script(r#"[{"text": "a", "prefill-ms": 400}]"#);
    let path = slow.path().to_str().unwrap();
    let policy = ("drop-policy", "latest");
    let run = Run::start(&[MOCK, ("model", path), ("window", "1"), policy], SMALL);
    let stat = |name: &str| {
        let stats = run.element.property::<gst::Structure>("stats");
        stats.get::<u64>(name).unwrap()
    };
    let began = Instant::now();
    for n in 0..301 {
        let at = |n: u64| Duration::from_nanos(n * SECOND / 30);
        run.push(at(n), Some(at(n + 1) - at(n))).unwrap();
        // A camera leaves time to prepare a frame before the next is sampled.
        while stat("frames") < n / 30 + 1 {
            std::thread::yield_now();
        }
    }
    // Ten windows of 0.4 s each would be 4 s of thinking.
    assert!(
        began.elapsed() < Duration::from_secs(3),
        "{:?}",
        began.elapsed()
    );
    let messages = run.finish();
    assert_eq!(run.buffers.lock().unwrap().len(), 301);
    let captions = captions(&messages);
    assert!(captions.len() < 11, "{}", captions.len());
    assert_eq!(
        captions.last().unwrap().get::<u64>("end").unwrap(),
        10 * SECOND,
        "the newest window is kept"
    );
    assert!(messages.iter().any(|m| named(m, "vlmcaption/dropped")));
    assert_eq!(stat("dropped-frames"), 0);
    assert_eq!(stat("dropped-windows") + captions.len() as u64, 11);
}

#[test]
fn a_file_is_captioned_whole_however_slow_the_model() {
    let slow = script(r#"[{"text": "{n}", "prefill-ms": 100}]"#);
    let run = Run::start(
        &[
            MOCK,
            ("model", slow.path().to_str().unwrap()),
            ("window", "1"),
        ],
        SMALL,
    );
    run.push_frames(301, 30);
    let texts: Vec<String> = captions(&run.finish())
        .iter()
        .map(|c| c.get("text").unwrap())
        .collect();
    assert_eq!(texts, (1..=11).map(|n| n.to_string()).collect::<Vec<_>>());
}

#[test]
fn stopping_wakes_a_stream_that_waits_for_the_model() {
    let hang = script(r#"[{"text": "a", "prefill-ms": 600000}]"#);
    let path = hang.path().to_str().unwrap();
    let run = Run::start(&[MOCK, ("model", path), ("window", "1")], SMALL);
    for s in 0..6 {
        run.push(Duration::from_secs(s), None).unwrap();
    }
    let began = Instant::now();
    run.pipeline.set_state(gst::State::Null).unwrap();
    assert!(
        began.elapsed() < Duration::from_secs(2),
        "{:?}",
        began.elapsed()
    );
}

#[test]
fn the_end_of_a_stream_waits_only_so_long() {
    let hang = script(r#"[{"text": "a", "prefill-ms": 600000}]"#);
    let path = hang.path().to_str().unwrap();
    let timeout = ("eos-timeout", "200000000");
    let run = Run::start(&[MOCK, ("model", path), ("window", "1"), timeout], SMALL);
    run.push(Duration::ZERO, None).unwrap();
    let messages = run.finish();
    assert!(captions(&messages).is_empty());
    let warnings = warnings(&messages);
    assert!(
        warnings.len() == 1 && warnings[0].contains("eos-timeout"),
        "{warnings:?}"
    );
}

#[test]
fn an_error_of_the_model_is_told_once_and_ends_with_its_cause() {
    let json = r#"[{"text": "a"}, {"error": "gone"}, {"error": "gone"}, {"text": "b"}]"#;
    let failing = script(json);
    let path = failing.path().to_str().unwrap();
    let run = Run::start(&[MOCK, ("model", path), ("window", "1")], SMALL);
    run.push_frames(121, 30);
    let messages = run.finish();
    assert_eq!(run.buffers.lock().unwrap().len(), 121);
    assert_eq!(warnings(&messages), ["gone"]);
    let texts: Vec<String> = captions(&messages)
        .iter()
        .map(|c| c.get("text").unwrap())
        .collect();
    assert_eq!(texts, ["a", "b", "a"]);
}

#[test]
fn a_flush_drops_what_is_in_flight() {
    let slow = script(r#"[{"text": "{n}", "prefill-ms": 600000}]"#);
    let path = slow.path().to_str().unwrap();
    let run = Run::start(&[MOCK, ("model", path), ("window", "1")], SMALL);
    let stat = |name: &str| {
        let stats = run.element.property::<gst::Structure>("stats");
        stats.get::<u64>(name).unwrap()
    };
    run.push(Duration::ZERO, None).unwrap();
    run.push(Duration::from_secs(1), None).unwrap();
    // One is at the model and one waits; before that there is nothing to flush.
    let began = Instant::now();
    while (stat("frames"), stat("queued")) != (2, 1) {
        assert!(began.elapsed() < Duration::from_secs(60), "no windows");
        std::thread::yield_now();
    }
    let pad = run.element.static_pad("sink").unwrap();
    pad.send_event(gst::event::FlushStart::new());
    pad.send_event(gst::event::FlushStop::new(true));
    assert_eq!(stat("queued"), 0);
    // What was at the model would keep the end of the stream for ten minutes.
    let messages = run.finish();
    assert!(captions(&messages).is_empty());
    assert!(warnings(&messages).is_empty(), "{:?}", warnings(&messages));
}

#[test]
fn a_prompt_changed_while_playing_reaches_the_next_window() {
    let run = Run::start(&[MOCK, ("window", "1")], SMALL);
    run.push(Duration::ZERO, None).unwrap();
    let before = run.next_caption().get::<String>("prompt-hash").unwrap();
    run.element.set_property("prompt", "Is anybody there?");
    run.push(Duration::from_secs(1), None).unwrap();
    let after = run.next_caption().get::<String>("prompt-hash").unwrap();
    assert_ne!(before, after);
    run.element.set_property("prompt", "");
    let refused = run.messages_until(|m| m.type_() == gst::MessageType::Warning);
    assert!(warnings(&refused)[0].contains("prompt is empty"));
    assert_eq!(
        run.element.property::<String>("prompt"),
        "Is anybody there?"
    );
}

#[test]
fn a_change_of_size_ends_the_window_and_nothing_else() {
    // Between two pairs, and within one.
    for n_before in 1..=3 {
        let run = Run::start(&[MOCK, ("window", "4")], SMALL);
        for s in 0..n_before {
            run.push(Duration::from_secs(s), None).unwrap();
        }
        let caps = "video/x-raw,format=RGB,width=200,height=96,framerate=0/1";
        run.src.set_caps(Some(&caps.parse().unwrap()));
        for s in n_before..n_before + 4 {
            run.push(Duration::from_secs(s), None).unwrap();
        }
        let messages = run.finish();
        let lists: Vec<usize> = captions(&messages)
            .iter()
            .map(|c| pts_list(c).len())
            .collect();
        assert_eq!(lists, [n_before as usize, 4]);
        assert!(warnings(&messages).is_empty());
        assert_eq!(run.buffers.lock().unwrap().len(), n_before as usize + 4);
    }
}

#[test]
fn a_gap_longer_than_a_window_ends_it_before_the_next_frame_comes() {
    let gap = |run: &Run, at: u64, seconds: u64| {
        let gap = gst::event::Gap::builder(gst::ClockTime::from_seconds(at))
            .duration(gst::ClockTime::from_seconds(seconds));
        assert!(run.src.send_event(gap.build()));
    };
    let run = Run::start(&[MOCK, ("window", "4")], SMALL);
    run.push(Duration::ZERO, None).unwrap();
    run.push(Duration::from_secs(1), None).unwrap();
    // It may come in parts; the first three are not long enough.
    for second in 2..6 {
        gap(&run, second, 1);
    }
    assert_eq!(pts_list(&run.next_caption()), [0, 1_000_000_000]);
    // A short one ends nothing.
    for second in [6, 7, 9, 10] {
        run.push(Duration::from_secs(second), None).unwrap();
        if second == 7 {
            gap(&run, 8, 1);
        }
    }
    assert_eq!(pts_list(&run.next_caption()).len(), 4);
}

#[test]
fn a_model_that_is_not_there_fails_at_ready_and_says_where_it_was_sought() {
    common::init();
    let element = gst::ElementFactory::make("vlmcaption").build().unwrap();
    element.set_property("model", "/no/such/model");
    let bus = gst::Bus::new();
    element.set_bus(Some(&bus));
    assert!(element.set_state(gst::State::Ready).is_err());
    let message = bus.pop_filtered(&[gst::MessageType::Error]).unwrap();
    let gst::MessageView::Error(error) = message.view() else {
        unreachable!()
    };
    assert!(
        error.error().to_string().contains("/no/such/model"),
        "{}",
        error.error()
    );
    element.set_state(gst::State::Null).unwrap();
}

#[test]
fn the_signal_carries_what_the_bus_carries() {
    let run = Run::start(&[MOCK, ("window", "1")], SMALL);
    let (sender, receiver) = std::sync::mpsc::channel();
    run.element.connect("caption", false, move |values| {
        sender
            .send(values[1].get::<gst::Structure>().unwrap())
            .unwrap();
        None
    });
    run.push(Duration::ZERO, None).unwrap();
    let posted = run.next_caption();
    let heard = receiver.recv_timeout(Duration::from_secs(10)).unwrap();
    assert_eq!(posted.get::<String>("text"), heard.get::<String>("text"));
    assert_eq!(run.element.property::<String>("caption"), "Mock caption 1.");
}

#[test]
fn a_released_text_pad_can_be_asked_for_again() {
    common::init();
    let element = gst::ElementFactory::make("vlmcaption").build().unwrap();
    let pad = element.request_pad_simple("text_src").unwrap();
    element.release_request_pad(&pad);
    assert!(element.request_pad_simple("text_src").is_some());
}

/// Has upstream's latency queries fail until told otherwise.
fn mute(run: &Run) -> gst::PadProbeId {
    let pad = run.src.static_pad("src").unwrap();
    let kind = gst::PadProbeType::QUERY_UPSTREAM;
    let id = pad.add_probe(kind, |_, info| match info.query() {
        Some(query) if query.type_() == gst::QueryType::Latency => gst::PadProbeReturn::Drop,
        _ => gst::PadProbeReturn::Ok,
    });
    id.unwrap()
}

#[test]
fn a_stream_that_does_not_say_whether_it_is_live_is_never_held_up() {
    let script = script(r#"[{"hang": true}]"#);
    let run = Run::new(&[MOCK, ("window", "1")], SMALL);
    run.element.set_property("model", script.path().to_str());
    mute(&run);
    run.pipeline.set_state(gst::State::Playing).unwrap();
    for second in 0..20 {
        run.push(Duration::from_secs(second), None).unwrap();
    }
    let began = Instant::now();
    while run.buffers.lock().unwrap().len() < 20 {
        assert!(began.elapsed() < Duration::from_secs(30), "the video waits");
        std::thread::yield_now();
    }
}

#[test]
fn upstream_is_asked_again_whether_it_is_live_when_latency_is_set_anew() {
    let script = script(r#"[{"text": "A yard.", "prefill-ms": 50}]"#);
    let run = Run::new(&[MOCK, ("window", "1")], SMALL);
    run.element.set_property("model", script.path().to_str());
    let muted = mute(&run);
    run.pipeline.set_state(gst::State::Playing).unwrap();
    run.push(Duration::ZERO, None).unwrap();
    run.next_caption();
    run.src.static_pad("src").unwrap().remove_probe(muted);
    let latency = gst::event::Latency::new(gst::ClockTime::ZERO);
    let pad = run.element.static_pad("src").unwrap();
    assert!(pad.send_event(latency));
    for second in 1..9 {
        run.push(Duration::from_secs(second), None).unwrap();
    }
    let captions = captions(&run.finish());
    assert_eq!(captions.len(), 8, "a file is captioned whole");
}

#[test]
fn pools_have_buffers_for_those_that_are_sampled() {
    let run = Run::new(&[MOCK], SMALL);
    let caps: gst::Caps = SMALL.parse().unwrap();
    let pools = |offer: &'static [(u32, u32)]| {
        let peer = run.element.static_pad("src").unwrap().peer().unwrap();
        let kind = gst::PadProbeType::QUERY_DOWNSTREAM;
        let probe = peer.add_probe(kind, move |_, info| {
            let Some(query) = info.query_mut() else {
                return gst::PadProbeReturn::Ok;
            };
            let gst::QueryViewMut::Allocation(query) = query.view_mut() else {
                return gst::PadProbeReturn::Ok;
            };
            for (min, max) in offer {
                query.add_allocation_pool(gst::BufferPool::NONE, 4608, *min, *max);
            }
            match offer.is_empty() {
                true => gst::PadProbeReturn::Drop,
                false => gst::PadProbeReturn::Handled,
            }
        });
        let mut query = gst::query::Allocation::new(Some(&caps), true);
        let answered = run.element.static_pad("sink").unwrap().query(&mut query);
        assert!(answered);
        peer.remove_probe(probe.unwrap());
        let pools = query.allocation_pools();
        pools
            .map(|(_, size, min, max)| (size, min, max))
            .collect::<Vec<_>>()
    };
    run.pipeline.set_state(gst::State::Ready).unwrap();
    assert_eq!(
        pools(&[(2, 0), (1, 2), (0, 9)]),
        [(4608, 5, 0), (4608, 4, 4), (4608, 3, 9)]
    );
    assert_eq!(pools(&[]), [(4608, 3, 0)], "where downstream has none");
}

#[test]
fn who_reads_the_text_is_not_the_cameras_business() {
    let run = Run::new(&[MOCK], SMALL);
    let text = run.element.request_pad_simple("text_src").unwrap();
    let heard = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let (camera, events) = (run.src.static_pad("src").unwrap(), heard.clone());
    camera.add_probe(gst::PadProbeType::EVENT_UPSTREAM, move |_, info| {
        if let Some(event) = info.event() {
            events.lock().unwrap().push(event.type_());
        }
        gst::PadProbeReturn::Ok
    });
    run.pipeline.set_state(gst::State::Playing).unwrap();
    assert!(text.send_event(gst::event::Reconfigure::new()));
    assert!(!heard.lock().unwrap().contains(&gst::EventType::Reconfigure));
    let video = run.element.static_pad("src").unwrap();
    assert!(video.send_event(gst::event::Reconfigure::new()));
    assert!(heard.lock().unwrap().contains(&gst::EventType::Reconfigure));
}
