// SPDX-License-Identifier: MPL-2.0

//! What the element shows its model, and when: masks, gates, scenes.

mod common;

use std::time::Duration;

use common::{Run, captions, meta, pts_list, script, warnings};
use gst::prelude::*;

const SMALL: &str = "video/x-raw,format=I420,width=64,height=48,framerate=30/1";
const SECOND: u64 = 1_000_000_000;
const MOCK: (&str, &str) = ("backend", "mock");

fn second(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// Pushes a frame whose pixel at column `x`, row `y` is as bright as `luma` says.
fn push(run: &Run, at: Duration, luma: impl Fn(usize, usize) -> u8) {
    run.src.push_buffer(frame(at, luma)).unwrap();
}

fn frame(at: Duration, luma: impl Fn(usize, usize) -> u8) -> gst::Buffer {
    let (width, height) = (64, 48);
    let mut pixels: Vec<u8> = (0..width * height)
        .map(|i| luma(i % width, i / width))
        .collect();
    pixels.resize(width * height * 3 / 2, 128);
    let mut buffer = gst::Buffer::from_mut_slice(pixels);
    buffer.get_mut().unwrap().set_pts(common::clock(at));
    buffer
}

/// Nobody there.
fn yard(x: usize, y: usize) -> u8 {
    60 + ((x / 8 + y / 8) % 3) as u8 * 20
}

/// Another place altogether.
fn street(x: usize, _: usize) -> u8 {
    if (x / 20).is_multiple_of(2) { 230 } else { 20 }
}

/// Somebody in the yard, at a column.
fn walker(left: usize) -> impl Fn(usize, usize) -> u8 {
    move |x, y| {
        if (left..left + 8).contains(&x) && y > 20 {
            230
        } else {
            yard(x, y)
        }
    }
}

fn stat(run: &Run, name: &str) -> u64 {
    run.element
        .property::<gst::Structure>("stats")
        .get(name)
        .unwrap()
}

/// PTS of the first frame of each caption, s.
fn starts(captions: &[gst::Structure]) -> Vec<u64> {
    captions
        .iter()
        .map(|c| c.get::<u64>("start").unwrap() / SECOND)
        .collect()
}

/// `privacy-masks` as numbers.
fn masks(element: &gst::Element) -> Vec<f64> {
    let masks = element.property::<gst::Array>("privacy-masks");
    let structures = masks
        .iter()
        .map(|mask| mask.get::<gst::Structure>().unwrap());
    structures
        .flat_map(|mask| ["x", "y", "width", "height"].map(|name| mask.get::<f64>(name).unwrap()))
        .collect()
}

fn structure(x: f64, width: f64) -> gst::Structure {
    gst::Structure::builder("mask")
        .field("x", x)
        .field("y", 0.0)
        .field("width", width)
        .field("height", 1.0)
        .build()
}

#[test]
fn masks_can_be_written_on_a_command_line() {
    let masked = r#"videotestsrc num-buffers=1 ! vlmcaption backend=mock name=c
           privacy-masks=<"mask,x=0.0,y=0.0,width=0.5,height=0.25","mask,x=0.9,y=0.5,width=0.1,height=0.5">
           ! fakesink"#;
    common::play(masked, |pipeline| {
        let element = pipeline.by_name("c").unwrap();
        assert_eq!(masks(&element), [0.0, 0.0, 0.5, 0.25, 0.9, 0.5, 0.1, 0.5]);
    });
}

#[test]
fn a_mask_that_cannot_be_painted_fails_before_a_frame_is_seen() {
    common::init();
    let element = gst::ElementFactory::make("vlmcaption").build().unwrap();
    element.set_property_from_str("backend", "mock");
    let bus = gst::Bus::new();
    element.set_bus(Some(&bus));
    for bad in [
        r#"<"mask,x=0.0,y=0.0,width=2.0,height=0.25">"#,
        r#"<"mask,x=0.0">"#,
    ] {
        element.set_property_from_str("privacy-masks", bad);
        assert!(element.set_state(gst::State::Ready).is_err(), "{bad}");
        let message = bus.pop_filtered(&[gst::MessageType::Error]).unwrap();
        let gst::MessageView::Error(error) = message.view() else {
            unreachable!()
        };
        let text = error.error().to_string();
        assert!(text.contains("privacy-masks: mask 1"), "{text}");
        element.set_state(gst::State::Null).unwrap();
    }
}

#[test]
fn a_bad_mask_set_while_playing_is_refused_and_the_ones_before_stay() {
    let run = Run::start(&[MOCK, ("window", "1")], SMALL);
    let good = gst::Array::new([structure(0.0, 0.5)]);
    run.element.set_property("privacy-masks", good);
    run.push(second(0), None).unwrap();
    run.next_caption();
    let bad = gst::Array::new([structure(0.0, 0.5), structure(0.9, 0.5)]);
    run.element.set_property("privacy-masks", bad);
    let refused = run.messages_until(|m| m.type_() == gst::MessageType::Warning);
    let text = &warnings(&refused)[0];
    assert!(
        text.contains("mask 2") && text.contains("the one before stays"),
        "{text}"
    );
    assert_eq!(masks(&run.element), [0.0, 0.0, 0.5, 1.0]);
    run.push(second(1), None).unwrap();
    run.next_caption();
}

#[test]
fn video_passes_unmasked() {
    let all = r#"<"mask,x=0.0,y=0.0,width=1.0,height=1.0">"#;
    let run = Run::start(&[MOCK, ("window", "1"), ("privacy-masks", all)], SMALL);
    run.push_frames(31, 30);
    run.finish();
    let buffers = run.buffers.lock().unwrap();
    assert_eq!(buffers.len(), 31);
    for buffer in buffers.iter() {
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
fn a_window_without_motion_is_not_captioned_and_confirms_the_caption_before() {
    let threshold = ("motion-threshold", "0.01");
    let run = Run::start(&[MOCK, ("window", "1"), threshold], SMALL);
    for s in 0..6 {
        push(&run, second(s), yard);
    }
    push(&run, second(6), walker(10));
    push(&run, second(7), walker(30));
    for s in 8..12 {
        push(&run, second(s), yard);
    }
    push(&run, second(12), yard);
    // Not sampled: they show what is known, in the end that the frame at 12 s was looked at.
    let confirmed = || {
        let buffers = run.buffers.lock().unwrap();
        let last = buffers.last().and_then(|buffer| meta(buffer));
        last.and_then(|meta| meta.get::<u64>("confirmed").ok()) == Some(12 * SECOND)
    };
    let begun = std::time::Instant::now();
    for n in 1.. {
        push(
            &run,
            Duration::from_millis(12_500) + Duration::from_nanos(n),
            yard,
        );
        if confirmed() {
            break;
        }
        assert!(begun.elapsed() < common::PATIENCE.into(), "never confirmed");
    }
    let captions = captions(&run.finish());
    assert_eq!(starts(&captions), [0, 6, 7, 8]);
    assert_eq!(
        (stat(&run, "windows"), stat(&run, "gated-windows")),
        (13, 9)
    );
    let buffers = run.buffers.lock().unwrap();
    let last = meta(buffers.last().unwrap()).unwrap();
    assert_eq!(last.get::<String>("status").unwrap(), "fresh");
    assert_eq!(last.get::<String>("text").unwrap(), "Mock caption 4.");
    assert_eq!(last.get::<u64>("end").unwrap(), 8 * SECOND);
    assert_eq!(last.get::<u64>("confirmed").unwrap(), 12 * SECOND);
    let (age, half) = (last.get::<u64>("age").unwrap(), SECOND / 2);
    assert!(
        (4 * SECOND + half..4 * SECOND + half + SECOND / 1000).contains(&age),
        "{age}"
    );
}

#[test]
fn a_heartbeat_and_another_prompt_open_the_gate() {
    let threshold = ("motion-threshold", "0.01");
    let run = Run::start(&[MOCK, ("window", "1"), threshold], SMALL);
    let frames = |seconds: std::ops::Range<u64>| {
        let n = seconds.end;
        seconds.for_each(|s| push(&run, second(s), yard));
        while stat(&run, "windows") < n {
            std::thread::yield_now();
        }
    };
    frames(0..3);
    run.element.set_property("prompt", "Is the gate shut?");
    frames(3..6);
    run.element.set_property("heartbeat", 4 * SECOND);
    frames(6..12);
    assert_eq!(starts(&captions(&run.finish())), [0, 3, 7, 11]);
}

#[test]
fn a_failed_window_confirms_nothing() {
    let failing = script(r#"[{"error": "gone"}, {"text": "a"}]"#);
    let threshold = ("motion-threshold", "0.01");
    let model = ("model", failing.path().to_str().unwrap());
    let run = Run::start(&[MOCK, model, ("window", "1"), threshold], SMALL);
    push(&run, second(0), yard);
    run.messages_until(|m| m.type_() == gst::MessageType::Warning);
    for s in 1..4 {
        push(&run, second(s), yard);
    }
    assert_eq!(starts(&captions(&run.finish())), [1]);
}

#[test]
fn what_moves_under_a_mask_is_no_motion() {
    let threshold = ("motion-threshold", "0.01");
    let left = (
        "privacy-masks",
        r#"<"mask,x=0.0,y=0.0,width=0.5,height=1.0">"#,
    );
    let run = Run::start(&[MOCK, ("window", "1"), threshold, left], SMALL);
    for (s, column) in [(0, 0), (1, 8), (2, 16), (3, 24), (4, 50)] {
        push(&run, second(s), walker(column));
    }
    assert_eq!(starts(&captions(&run.finish())), [0, 4]);
}

#[test]
fn a_detector_upstream_decides_when_the_model_looks() {
    let labels = ("gate-labels", "<person,car>");
    let rest = [("gate-min-area", "0.1"), ("gate-linger", "0")];
    let run = Run::start(&[MOCK, ("window", "1"), labels, rest[0], rest[1]], SMALL);
    let detected = |at: f64, label: &str, width: u32| {
        let mut buffer = frame(Duration::from_secs_f64(at), yard);
        if width > 0 {
            let buffer = buffer.get_mut().unwrap();
            gst_video::VideoRegionOfInterestMeta::add(buffer, label, (0, 0, width, 24));
        }
        run.src.push_buffer(buffer).unwrap();
    };
    detected(0.0, "", 0);
    detected(1.0, "dog", 40);
    detected(2.0, "person", 40);
    detected(3.0, "car", 4);
    detected(4.0, "", 0);
    // Between two samples.
    detected(4.5, "car", 40);
    detected(5.0, "", 0);
    detected(6.0, "", 0);
    assert_eq!(starts(&captions(&run.finish())), [2, 5]);
    assert_eq!(stat(&run, "gated-windows"), 5);
    let buffers = run.buffers.lock().unwrap();
    let last = meta(buffers.last().unwrap()).unwrap();
    // A caption that came after the last buffer was pushed is not on it.
    let confirmed = last.get::<u64>("confirmed").unwrap_or_default();
    assert!(
        confirmed <= 5 * SECOND,
        "nobody looked, so nothing is confirmed"
    );
}

#[test]
fn captions_that_say_the_same_are_counted() {
    let same = script(
        r#"[{"text": "A cat."}, {"text": "a  cat"}, {"text": "A cat!"}, {"text": "A dog."}]"#,
    );
    let model = ("model", same.path().to_str().unwrap());
    let run = Run::start(&[MOCK, model, ("window", "1")], SMALL);
    run.push_frames(121, 30);
    let fields: Vec<_> = captions(&run.finish())
        .iter()
        .map(|c| {
            let first = c.get::<u64>("first-start").unwrap() / SECOND;
            (
                c.get("repeat").unwrap(),
                c.get::<u64>("repeats").unwrap(),
                first,
            )
        })
        .collect();
    assert_eq!(
        fields,
        [
            (false, 0, 0),
            (true, 1, 0),
            (true, 2, 0),
            (false, 0, 3),
            (false, 0, 4)
        ]
    );
}

#[test]
fn a_window_ends_at_a_cut_and_the_next_scene_knows_nothing_of_it() {
    let same = script(r#"[{"text": "A cat sits on a mat."}]"#);
    let model = ("model", same.path().to_str().unwrap());
    let history = ("history", "8");
    let run = Run::start(&[MOCK, model, ("window", "2"), history], SMALL);
    for s in 0..5 {
        push(&run, second(s), yard);
    }
    for s in 5..9 {
        push(&run, second(s), street);
    }
    let captions = captions(&run.finish());
    let lists: Vec<Vec<u64>> = captions
        .iter()
        .map(|c| pts_list(c).iter().map(|pts| pts / SECOND).collect())
        .collect();
    assert_eq!(
        lists,
        [vec![0, 1], vec![2, 3], vec![4], vec![5, 6], vec![7, 8]]
    );
    let flags = |name: &str| {
        captions
            .iter()
            .map(|c| c.get(name).unwrap())
            .collect::<Vec<bool>>()
    };
    assert_eq!(flags("scene-cut"), [false, false, false, true, false]);
    assert_eq!(flags("repeat"), [false, true, true, false, true]);
    let tokens: Vec<u32> = captions
        .iter()
        .map(|c| c.get("tokens-in").unwrap())
        .collect();
    assert_eq!(tokens[3], tokens[0], "no history: {tokens:?}");
    assert_eq!(tokens[4], tokens[1], "of the new scene alone: {tokens:?}");
}

#[test]
fn without_scene_cuts_windows_have_all_their_frames_whatever_they_show() {
    let rest = [("window", "2"), ("scene-cuts", "false")];
    let run = Run::start(&[&[MOCK][..], &rest].concat(), SMALL);
    for s in 0..5 {
        push(&run, second(s), yard);
    }
    for s in 5..9 {
        push(&run, second(s), street);
    }
    let captions = captions(&run.finish());
    assert_eq!(starts(&captions), [0, 2, 4, 6, 8]);
    let cut = |c: &gst::Structure| c.get::<bool>("scene-cut").unwrap();
    assert!(!captions.iter().any(cut));
}

#[test]
fn the_last_caption_is_in_the_prompt_whatever_the_history() {
    let tokens = |history: &str, prompt: &str| {
        let same = script(r#"[{"text": "A cat sits on a mat."}]"#);
        let model = ("model", same.path().to_str().unwrap());
        let rest = [("window", "1"), ("history", history), ("prompt", prompt)];
        let run = Run::start(&[&[MOCK, model][..], &rest].concat(), SMALL);
        for s in 0..3 {
            push(&run, second(s), yard);
        }
        let captions = captions(&run.finish());
        let tokens = captions.iter().map(|c| c.get::<u32>("tokens-in").unwrap());
        tokens.collect::<Vec<_>>()
    };
    let plain = tokens("0", "What is new?");
    assert_eq!(plain[1], plain[0], "no history is asked for");
    for history in ["0", "1"] {
        let without = tokens(history, "What is new since ?");
        let with = tokens(history, "What is new since {last}?");
        assert_eq!(with[0], without[0], "there was none: {with:?}");
        assert!(with[1] > without[1], "{with:?}, {without:?}");
        if history == "0" {
            assert_eq!(with[2], with[1], "it is the last one alone: {with:?}");
        }
    }
}

#[test]
fn a_reset_forgets_what_was_said_and_what_is_in_flight() {
    let steps = script(r#"[{"text": "A cat."}, {"text": "never", "prefill-ms": 600000}]"#);
    let model = ("model", steps.path().to_str().unwrap());
    let rest = [("history", "8"), ("motion-threshold", "0.01")];
    let run = Run::start(&[MOCK, model, ("window", "1"), rest[0], rest[1]], SMALL);
    push(&run, second(0), yard);
    let first = run.next_caption();
    // The mock counts an answer when its prefill is done, so the second hangs until the end.
    push(&run, second(1), street);
    while stat(&run, "windows") < 2 {
        std::thread::yield_now();
    }
    run.element.emit_by_name::<()>("reset", &[]);
    assert_eq!(stat(&run, "queued"), 0);
    push(&run, Duration::from_millis(1500), street);
    assert_eq!(first.get::<u64>("sequence").unwrap(), 1);
    while run.buffers.lock().unwrap().len() < 3 {
        std::thread::yield_now();
    }
    let buffers = run.buffers.lock().unwrap();
    let last = meta(buffers.last().unwrap()).unwrap();
    assert_eq!(last.get::<String>("status").unwrap(), "none");
}

#[test]
fn after_a_reset_a_still_scene_is_captioned_anew() {
    let same = script(r#"[{"text": "A cat."}]"#);
    let model = ("model", same.path().to_str().unwrap());
    let rest = [("history", "8"), ("motion-threshold", "0.01")];
    let run = Run::start(&[MOCK, model, ("window", "1"), rest[0], rest[1]], SMALL);
    push(&run, second(0), yard);
    let first = run.next_caption();
    push(&run, second(1), yard);
    while stat(&run, "gated-windows") < 1 {
        std::thread::yield_now();
    }
    run.element.emit_by_name::<()>("reset", &[]);
    push(&run, second(2), yard);
    let second = run.next_caption();
    let tokens = |caption: &gst::Structure| caption.get::<u32>("tokens-in").unwrap();
    assert_eq!(tokens(&second), tokens(&first));
    assert!(!second.get::<bool>("repeat").unwrap());
    assert_eq!(second.get::<u64>("sequence").unwrap(), 3);
}

/// What gives way in a caption, and the tokens it was allowed.
fn overload(caption: &gst::Structure) -> (String, u32) {
    (
        caption.get("overload").unwrap(),
        caption.get("max-tokens").unwrap(),
    )
}

#[test]
fn late_captions_become_shorter_and_the_user_is_told_once() {
    let words = "a red car and ".repeat(40);
    let talker = script(&format!(r#"[{{"text": "{words}", "token-ms": 20}}]"#));
    let model = ("model", talker.path().to_str().unwrap());
    // 64 tokens take 1.28 s, 32 take 0.64 s.
    let run = Run::start(&[MOCK, model, ("window", "1")], SMALL);
    // A window that waits for the model to be loaded does not count, so the first is without.
    push(&run, second(0), yard);
    run.next_caption();
    run.element.set_property("latency-budget", 900_000_000u64);
    let mut made = Vec::new();
    let mut told = Vec::new();
    for s in 1..6 {
        push(&run, second(s), yard);
        let messages = run.messages_until(|m| common::named(m, "vlmcaption/caption"));
        made.extend(captions(&messages));
        told.extend(warnings(&messages));
    }
    told.extend(warnings(&run.finish()));
    let overloads: Vec<_> = made.iter().map(overload).collect();
    let (all, half) = (("none".to_owned(), 64), ("tokens".to_owned(), 32));
    assert_eq!(
        overloads,
        [&all, &all, &half, &half, &half].map(Clone::clone)
    );
    assert!(made[4].get::<u32>("tokens-out").unwrap() <= 32);
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].contains("latency-budget (900 ms)"), "{told:?}");
}

#[test]
fn where_nothing_helps_each_step_is_taken_and_windows_are_skipped_at_last() {
    let slow = script(r#"[{"text": "a", "prefill-ms": 100}]"#);
    let model = ("model", slow.path().to_str().unwrap());
    let run = Run::start(&[MOCK, model, ("window", "4")], SMALL);
    // A window that waits for the model to be loaded does not count, so the first is without.
    (0..4).for_each(|s| push(&run, second(s), yard));
    run.next_caption();
    run.element.set_property("latency-budget", 20_000_000u64);
    let mut made = Vec::new();
    for window in 1..11 {
        let skipped = stat(&run, "skipped-windows");
        (0..4).for_each(|s| push(&run, second(4 * window + s), yard));
        while stat(&run, "windows") <= window {
            std::thread::yield_now();
        }
        if stat(&run, "skipped-windows") == skipped {
            made.push(run.next_caption());
        }
    }
    let steps: Vec<String> = made.iter().map(|c| overload(c).0).collect();
    assert_eq!(
        steps[..7],
        [
            "none", "tokens", "tokens", "frames", "pixels", "pixels", "skip"
        ]
    );
    let frames: Vec<Vec<u64>> = made.iter().take(5).map(pts_seconds).collect();
    assert_eq!(frames[2], [12, 13, 14, 15]);
    assert_eq!(frames[3], [17, 19], "every second frame of the same span");
    let tokens: Vec<u32> = made.iter().map(|c| c.get("tokens-in").unwrap()).collect();
    assert!(tokens[3] < tokens[2], "{tokens:?}");
    assert!(tokens[4] < tokens[3], "{tokens:?}");
    // A frame as small as this has no smaller size than the last.
    assert!(tokens[5] <= tokens[4], "{tokens:?}");
    assert!(stat(&run, "skipped-windows") > 0);
    let stats = run.element.property::<gst::Structure>("stats");
    assert_eq!(stats.get::<String>("overload").unwrap(), "skip");
    // Without a budget all is given again.
    run.element.set_property("latency-budget", 0u64);
    (44..48).for_each(|s| push(&run, second(s), yard));
    assert_eq!(overload(&run.next_caption()), ("none".to_owned(), 64));
}

#[test]
fn the_user_is_told_when_windows_begin_to_be_skipped() {
    let slow = script(r#"[{"text": "a", "prefill-ms": 100}]"#);
    let model = ("model", slow.path().to_str().unwrap());
    let budget = ("latency-budget", "20000000");
    let run = Run::start(&[MOCK, model, ("window", "1"), budget], SMALL);
    // How many the element is ahead of the model when it hears of the last rung is for the machine to say.
    for s in 0..40 {
        push(&run, second(s), yard);
    }
    let messages = run.finish();
    let told = warnings(&messages);
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told[1].contains("windows are left out"), "{told:?}");
    let dropped = messages
        .iter()
        .filter(|m| common::named(m, "vlmcaption/dropped"));
    let reasons: Vec<String> = dropped
        .map(|m| m.structure().unwrap().get("reason").unwrap())
        .collect();
    assert!(reasons.contains(&"overload".to_owned()), "{reasons:?}");
}

#[test]
fn when_the_load_is_gone_captions_are_whole_again() {
    let mut steps = vec![r#"{"text": "a", "prefill-ms": 1000}"#; 3];
    steps.extend([r#"{"text": "a"}"#; 40]);
    let busy = script(&format!("[{}]", steps.join(",")));
    let model = ("model", busy.path().to_str().unwrap());
    let run = Run::start(&[MOCK, model, ("window", "1")], SMALL);
    // A window that waits for the model to be loaded does not count, so the first is without.
    push(&run, second(0), yard);
    run.next_caption();
    run.element.set_property("latency-budget", 400_000_000u64);
    let overloads: Vec<u32> = (1..21)
        .map(|s| {
            push(&run, second(s), yard);
            overload(&run.next_caption()).1
        })
        .collect();
    assert_eq!(overloads[..4], [64, 32, 16, 16]);
    assert_eq!(overloads[19], 64);
}

fn pts_seconds(caption: &gst::Structure) -> Vec<u64> {
    pts_list(caption).iter().map(|pts| pts / SECOND).collect()
}
