// SPDX-License-Identifier: MPL-2.0

//! One model, many cameras.

mod common;

use std::collections::HashMap;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use common::{named, script};
use gst::prelude::*;

fn launch(pipeline: &str) -> gst::Pipeline {
    common::init();
    let pipeline = gst::parse::launch(pipeline);
    pipeline.unwrap().downcast::<gst::Pipeline>().unwrap()
}

/// The element and the text of the next caption.
fn next_caption(pipeline: &gst::Pipeline) -> (String, gst::Structure) {
    let bus = pipeline.bus().unwrap();
    loop {
        let message = bus.timed_pop(common::PATIENCE).expect("no caption in time");
        if named(&message, "vlmcaption/caption") {
            let element = message.src().unwrap().name().to_string();
            return (element, message.structure().unwrap().to_owned());
        }
    }
}

/// What each element of a pipeline had of the device, and the longest turn, counted from when all
/// `n` have had their first caption, over a number of them in all.
///
/// It is the device's time that is shared, so that is what is measured: how many captions a share
/// comes to depends on what else the machine does meanwhile.
fn share(pipeline: &str, n: usize, n_captions: usize) -> (HashMap<String, Duration>, Duration) {
    let pipeline = launch(pipeline);
    pipeline.set_state(gst::State::Playing).unwrap();
    let mut shares = HashMap::new();
    while shares.len() < n {
        shares.insert(next_caption(&pipeline).0, Duration::ZERO);
    }
    let mut longest = Duration::ZERO;
    for _ in 0..n_captions {
        let (element, caption) = next_caption(&pipeline);
        let turn = Duration::from_nanos(caption.get::<u64>("total").unwrap());
        *shares.entry(element).or_default() += turn;
        longest = longest.max(turn);
    }
    pipeline.set_state(gst::State::Null).unwrap();
    (shares, longest)
}

/// A camera that always has another frame, however busy the machine is.
fn camera(name: usize, model: &str, more: &str) -> String {
    format!(
        "videotestsrc ! video/x-raw,width=32,height=32,framerate=50/1 !
         vlmcaption name=c{name} window=1 sample-rate=50/1 drop-policy=block {model} {more} !
         fakesink sync=false async=false "
    )
}

/// Whoever has had least is next, so at any time no two are further apart than the turn that one of
/// them has had last, at either end of what was counted, and one is being made.
fn assert_even((shares, longest): (HashMap<String, Duration>, Duration)) {
    let (most, fewest) = (
        shares.values().max().unwrap(),
        shares.values().min().unwrap(),
    );
    assert!(*most <= *fewest + longest * 3, "{longest:?}: {shares:?}");
    let all: Duration = shares.values().sum();
    assert!(
        longest * 3 < all / 4,
        "too few to tell: {longest:?} of {all:?}"
    );
}

#[test]
fn sixteen_cameras_on_one_busy_mock_get_even_shares() {
    let slow = script(r#"[{"text": "a", "prefill-ms": 5}]"#);
    let model = format!("backend=mock model={}", slow.path().display());
    let cameras: String = (0..16).map(|name| camera(name, &model, "")).collect();
    assert_even(share(&cameras, 16, 480));
}

#[test]
fn sixteen_cameras_on_one_busy_cpu_get_even_shares() {
    let cameras: String = (0..16).map(|name| camera(name, "", "")).collect();
    assert_even(share(&cameras, 16, 480));
}

#[test]
fn a_camera_with_three_times_the_priority_gets_three_times_the_captions() {
    let slow = script(r#"[{"text": "a", "prefill-ms": 40}]"#);
    let model = format!("backend=mock model={}", slow.path().display());
    let cameras = camera(0, &model, "priority=300") + &camera(1, &model, "priority=100");
    let (shares, _) = share(&cameras, 2, 80);
    let ratio = shares["c0"].as_secs_f64() / shares["c1"].as_secs_f64();
    assert!((2.4..=3.6).contains(&ratio), "{shares:?}");
}

/// Lets its first caller wait until the sender is dropped.
#[derive(Clone)]
struct Stuck(Arc<Mutex<Receiver<()>>>, Sender<()>);

impl Stuck {
    /// It, what says that somebody waits, and what lets him go.
    fn new() -> (Self, Receiver<()>, Sender<()>) {
        let (go, gate) = channel();
        let (waits, waiting) = channel();
        (Self(Arc::new(Mutex::new(gate)), waits), waiting, go)
    }

    fn wait(&self) {
        let _ = self.1.send(());
        let _ = self.0.lock().unwrap().recv();
    }
}

/// A camera whose listener is stuck, beside two of another application on the same model.
fn others_go_on(stick: impl Fn(&gst::Pipeline, Stuck)) {
    let slow = script(r#"[{"text": "a", "prefill-ms": 5}]"#);
    let model = format!("backend=mock model={}", slow.path().display());
    let first = launch(&camera(0, &model, ""));
    let others = launch(&(camera(1, &model, "") + &camera(2, &model, "")));
    let (stuck, waiting, go) = Stuck::new();
    stick(&first, stuck);
    first.set_state(gst::State::Playing).unwrap();
    waiting.recv_timeout(common::PATIENCE.into()).unwrap();
    others.set_state(gst::State::Playing).unwrap();
    let mut counts = HashMap::new();
    while counts.len() < 2 || counts.values().any(|n| *n < 50) {
        *counts.entry(next_caption(&others).0).or_insert(0) += 1;
    }
    // Its own captions wait, and come once they are heard.
    drop(go);
    let heard = (0..50).map(|_| next_caption(&first).0);
    assert!(heard.count() == 50);
    others.set_state(gst::State::Null).unwrap();
    first.set_state(gst::State::Null).unwrap();
}

#[test]
fn a_signal_handler_that_is_stuck_keeps_no_other_camera_waiting() {
    others_go_on(|pipeline, stuck| {
        let element = pipeline.by_name("c0").unwrap();
        let stuck = Mutex::new(stuck);
        element.connect("caption", false, move |_| {
            let stuck = stuck.lock().unwrap().clone();
            stuck.wait();
            None
        });
    });
}

#[test]
fn a_bus_sync_handler_that_is_stuck_keeps_no_other_camera_waiting() {
    others_go_on(|pipeline, stuck| {
        let stuck = Mutex::new(stuck);
        pipeline.bus().unwrap().set_sync_handler(move |_, message| {
            if named(message, "vlmcaption/caption") {
                let stuck = stuck.lock().unwrap().clone();
                stuck.wait();
            }
            gst::BusSyncReply::Pass
        });
    });
}

#[test]
fn a_camera_whose_listener_is_stuck_is_stopped_all_the_same() {
    let slow = script(r#"[{"text": "a", "prefill-ms": 5}]"#);
    let model = format!("backend=mock model={}", slow.path().display());
    let pipeline = launch(&camera(0, &model, ""));
    let (stuck, waiting, go) = Stuck::new();
    let stuck = Mutex::new(stuck);
    let element = pipeline.by_name("c0").unwrap();
    element.connect("caption", false, move |_| {
        let stuck = stuck.lock().unwrap().clone();
        stuck.wait();
        None
    });
    pipeline.set_state(gst::State::Playing).unwrap();
    waiting.recv_timeout(common::PATIENCE.into()).unwrap();
    let began = Instant::now();
    pipeline.set_state(gst::State::Null).unwrap();
    assert!(began.elapsed() < Duration::from_secs(20));
    drop(go);
}

#[test]
fn a_listener_may_flush_and_stop_the_element_by_itself() {
    let model = script(r#"[{"text": "a", "prefill-ms": 5}]"#);
    let pipeline = launch(&camera(
        0,
        &format!("backend=mock model={}", model.path().display()),
        "",
    ));
    let element = pipeline.by_name("c0").unwrap();
    let (done, ends) = channel();
    let done = Mutex::new(done);
    let mut n = 0;
    let own = Mutex::new(move |element: &gst::Element| {
        n += 1;
        match n {
            1 => element.emit_by_name::<()>("reset", &[]),
            2 => {
                let (from, to) = (gst::SeekType::Set, gst::SeekType::None);
                let (begin, end) = (gst::ClockTime::ZERO, gst::ClockTime::NONE);
                let flush = gst::SeekFlags::FLUSH;
                let seek = gst::event::Seek::new(1.0, flush, from, begin, to, end);
                assert!(element.static_pad("src").unwrap().send_event(seek));
            }
            3 => {
                element.set_locked_state(true);
                element.set_state(gst::State::Null).unwrap();
            }
            _ => {}
        }
        n
    });
    element.connect("caption", false, move |values| {
        let element = values[0].get::<gst::Element>().unwrap();
        let n = (own.lock().unwrap())(&element);
        let _ = done.lock().unwrap().send(n);
        None
    });
    drop(element);
    pipeline.set_state(gst::State::Playing).unwrap();
    while ends.recv_timeout(common::PATIENCE.into()).unwrap() < 3 {}
    pipeline.set_state(gst::State::Null).unwrap();
}
