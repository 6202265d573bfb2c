// SPDX-License-Identifier: MPL-2.0

//! Another model while the video plays.

mod common;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use common::{Run, captions, named, pts_list, script, warnings};
use gst::prelude::*;

const SMALL: &str = "video/x-raw,format=I420,width=64,height=48,framerate=30/1";
/// From one frame of the camera to the next: every sixth is sampled.
const FRAME: Duration = Duration::from_millis(33);

/// Threads are counted in these tests, so one runs at a time.
static ALONE: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(|failed| failed.into_inner())
}

/// Engines that are alive in this process.
fn n_engines() -> usize {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let names =
        tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok());
    // Linux keeps 15 characters.
    names
        .filter(|name| name.trim() == "vlmcaption-engi")
        .count()
}

fn wait_for_engines(n: usize) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while n_engines() != n {
        assert!(Instant::now() < deadline, "{} engines", n_engines());
        std::thread::yield_now();
    }
}

/// Feeds a run like a camera while `scene` plays; frames pushed.
fn film(run: &Run, scene: impl FnOnce()) -> u64 {
    let done = AtomicBool::new(false);
    run.pipeline.set_state(gst::State::Playing).unwrap();
    std::thread::scope(|scope| {
        let (src, done) = (&run.src, &done);
        let camera = scope.spawn(move || {
            let mut n = 0;
            while !done.load(Ordering::Relaxed) {
                let mut buffer = gst::Buffer::with_size(64 * 48 * 3 / 2).unwrap();
                let pts = gst::ClockTime::from_nseconds(n * 1_000_000_000 / 30);
                buffer.get_mut().unwrap().set_pts(pts);
                src.push_buffer(buffer).unwrap();
                n += 1;
                std::thread::sleep(FRAME);
            }
            n
        });
        scene();
        done.store(true, Ordering::Relaxed);
        camera.join().unwrap()
    })
}

/// A run whose windows all wait for their turn.
fn run(model: &str, more: &[(&str, &str)]) -> Run {
    let mut properties = vec![
        ("backend", "mock"),
        ("model", model),
        ("sample-rate", "5/1"),
        ("window", "2"),
        ("drop-policy", "oldest"),
        ("max-queued", "64"),
    ];
    properties.extend(more);
    Run::new(&properties, SMALL)
}

fn says<'a>(text: &'a str) -> impl Fn(&gst::Message) -> bool + 'a {
    move |message| {
        named(message, "vlmcaption/caption")
            && message
                .structure()
                .and_then(|fields| fields.get::<String>("text").ok())
                .is_some_and(|said| said.starts_with(text))
    }
}

/// The windows, one after another, are all that was sampled; none was lost and none came twice.
fn assert_whole(captions: &[gst::Structure]) {
    let get = |name: &str| -> Vec<u64> { captions.iter().map(|c| c.get(name).unwrap()).collect() };
    let n = captions.len() as u64;
    assert_eq!(get("sequence"), (1..=n).collect::<Vec<_>>());
    let times: Vec<u64> = captions.iter().flat_map(|c| pts_list(c)).collect();
    let expected = (0..times.len() as u64).map(|n| n * 200_000_000);
    assert_eq!(times, expected.collect::<Vec<_>>());
}

#[test]
fn models_are_exchanged_without_a_lost_frame_or_window() {
    let _alone = alone();
    let a = script(r#"[{"text": "A {n}", "prefill-ms": 500}]"#);
    let b = script(r#"{"load-ms": 700, "answers": [{"text": "B {n}"}]}"#);
    let run = run(a.path().to_str().unwrap(), &[]);
    let mut messages = Vec::new();
    let pushed = film(&run, || {
        messages.extend(run.messages_until(says("A 1")));
        run.element.set_property("model", b.path().to_str());
        messages.extend(run.messages_until(says("B 3")));
        wait_for_engines(1);
        run.element.set_property("model", None::<&str>);
        run.element.set_property_from_str("backend", "cpu");
        messages.extend(run.messages_until(|message| {
            let fields = message.structure();
            fields.is_some_and(|fields| fields.get::<&str>("backend") == Ok("cpu"))
        }));
        wait_for_engines(1);
    });
    messages.extend(run.finish());
    assert_eq!(run.buffers.lock().unwrap().len() as u64, pushed);
    let captions = captions(&messages);
    assert_whole(&captions);
    let says = |caption: &gst::Structure| {
        let get = |name: &str| caption.get::<String>(name).unwrap();
        let text = get("text");
        let first = text.chars().next().unwrap_or('?');
        match get("backend").as_str() {
            "mock" => format!("mock {} {first}", get("model")),
            other => format!("{other} {} {}", get("model"), get("device")),
        }
    };
    let mut order: Vec<String> = captions.iter().map(says).collect();
    order.dedup();
    assert_eq!(order, ["mock mock A", "mock mock B", "cpu demo cpu"]);
    assert!(warnings(&messages).is_empty(), "{:?}", warnings(&messages));
    let progress = messages
        .iter()
        .filter(|m| m.type_() == gst::MessageType::Progress);
    assert!(progress.count() >= 2, "B took its time to load");
}

#[test]
fn windows_that_overlap_begin_anew_with_the_other_model() {
    let _alone = alone();
    let (a, b) = (script(r#"[{"text": "A"}]"#), script(r#"[{"text": "B"}]"#));
    let overlap = [("window", "4"), ("stride", "2")];
    let run = run(a.path().to_str().unwrap(), &overlap);
    let mut messages = Vec::new();
    film(&run, || {
        messages.extend(run.messages_until(says("A")));
        run.element.set_property("model", b.path().to_str());
        messages.extend(run.messages_until(says("B")));
        messages.extend(run.messages_until(says("B")));
    });
    messages.extend(run.finish());
    let captions = captions(&messages);
    let sequence = captions.iter().map(|c| c.get::<u64>("sequence").unwrap());
    assert!(sequence.eq(1..=captions.len() as u64));
    let mut times: Vec<u64> = captions.iter().flat_map(|c| pts_list(c)).collect();
    times.sort_unstable();
    times.dedup();
    let expected = (0..times.len() as u64).map(|n| n * 200_000_000);
    assert!(
        times.iter().copied().eq(expected),
        "every sample is in a window"
    );
}

#[test]
fn a_model_that_cannot_be_used_is_refused_and_the_one_before_stays() {
    let _alone = alone();
    let a = script(r#"[{"text": "A"}]"#);
    let off = script(r#"{"load-error": "no such device", "answers": [{"text": "off"}]}"#);
    let run = run(a.path().to_str().unwrap(), &[]);
    film(&run, || {
        for (model, reason) in [
            ("/no/such/script.json", "/no/such/script.json"),
            (off.path().to_str().unwrap(), "no such device"),
        ] {
            run.messages_until(says("A"));
            run.element.set_property("model", model);
            let messages = run.messages_until(|m| m.type_() == gst::MessageType::Warning);
            let warning = &warnings(&messages)[0];
            assert!(warning.contains(reason), "{warning}");
            assert!(warning.contains("the model before stays"), "{warning}");
            let kept = run.element.property::<String>("model");
            assert_eq!(kept, a.path().to_str().unwrap());
            wait_for_engines(1);
            let after = run.messages_until(says("A"));
            assert!(warnings(&after).is_empty());
        }
    });
}

#[test]
fn a_model_that_hangs_can_be_left_for_another() {
    let _alone = alone();
    let stuck = script(r#"[{"hang": true}]"#);
    let b = script(r#"[{"text": "B"}]"#);
    let timeout = [("model-timeout", "300000000")];
    let run = run(stuck.path().to_str().unwrap(), &timeout);
    film(&run, || {
        run.messages_until(|m| m.type_() == gst::MessageType::Warning);
        run.element.set_property("model", b.path().to_str());
        run.messages_until(says("B"));
        wait_for_engines(1);
        // A frame of the second window was pushed after the first caption.
        run.messages_until(says("B"));
        run.messages_until(says("B"));
    });
    run.finish();
    let buffers = run.buffers.lock().unwrap();
    let last = common::meta(buffers.last().unwrap()).unwrap();
    assert_ne!(last.get::<&str>("status").unwrap(), "error");
}
