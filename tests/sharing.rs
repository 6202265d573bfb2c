// SPDX-License-Identifier: MPL-2.0

//! One model, many cameras.

mod common;

use std::collections::HashMap;

use common::{named, script};
use gst::prelude::*;

/// Captions of each element of a pipeline, counted from when all `n` have had their first, over a
/// number of them in all: a camera that starts late is not one that starves.
fn share(pipeline: &str, n: usize, n_captions: usize) -> HashMap<String, usize> {
    common::init();
    let pipeline = gst::parse::launch(pipeline)
        .unwrap()
        .downcast::<gst::Pipeline>()
        .unwrap();
    pipeline.set_state(gst::State::Playing).unwrap();
    let bus = pipeline.bus().unwrap();
    let next = || loop {
        let message = bus.timed_pop(common::PATIENCE).expect("no caption in time");
        if named(&message, "vlmcaption/caption") {
            return message.src().unwrap().name().to_string();
        }
    };
    let mut counts = HashMap::new();
    while counts.len() < n {
        counts.insert(next(), 0);
    }
    for _ in 0..n_captions {
        *counts.entry(next()).or_insert(0) += 1;
    }
    pipeline.set_state(gst::State::Null).unwrap();
    counts
}

fn camera(name: usize, model: &str, more: &str) -> String {
    format!(
        "videotestsrc is-live=true ! video/x-raw,width=32,height=32,framerate=50/1 !
         vlmcaption name=c{name} window=1 sample-rate=50/1 {model} {more} !
         fakesink sync=false async=false "
    )
}

/// Most and fewest captions of any element.
fn spread(counts: &HashMap<String, usize>) -> (usize, usize) {
    (
        *counts.values().max().unwrap(),
        *counts.values().min().unwrap(),
    )
}

#[test]
fn sixteen_cameras_on_one_busy_mock_get_even_shares() {
    let slow = script(r#"[{"text": "a", "prefill-ms": 5}]"#);
    let model = format!("backend=mock model={}", slow.path().display());
    let cameras: String = (0..16).map(|name| camera(name, &model, "")).collect();
    let (most, fewest) = spread(&share(&cameras, 16, 480));
    assert!(most * 10 <= fewest * 12, "{most} and {fewest}");
}

#[test]
fn sixteen_cameras_on_one_busy_cpu_get_even_shares() {
    let cameras: String = (0..16).map(|name| camera(name, "", "")).collect();
    let (most, fewest) = spread(&share(&cameras, 16, 480));
    assert!(most * 10 <= fewest * 12, "{most} and {fewest}");
}

#[test]
fn a_camera_with_three_times_the_priority_gets_three_times_the_captions() {
    let slow = script(r#"[{"text": "a", "prefill-ms": 40}]"#);
    let model = format!("backend=mock model={}", slow.path().display());
    let cameras = camera(0, &model, "priority=300") + &camera(1, &model, "priority=100");
    let counts = share(&cameras, 2, 80);
    let ratio = counts["c0"] as f64 / counts["c1"] as f64;
    assert!((2.4..=3.6).contains(&ratio), "{counts:?}");
}
