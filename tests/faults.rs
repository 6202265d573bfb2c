// SPDX-License-Identifier: MPL-2.0

//! Everything that can go wrong with the model, the device and the stream while a camera runs: the
//! video flows on, buffers say so within a second, the user is told once, and captions come again
//! by themselves when the cause is gone.

mod common;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use common::camera::{Camera, FRAME, Sends, good};
use common::{named, script, warnings};
use gst::prelude::*;

/// Frames 15 to 60 have no timestamps.
fn untimed(n: u64) -> gst::Buffer {
    let mut buffer = good(n);
    if (15..60).contains(&n) {
        buffer.get_mut().unwrap().set_pts(gst::ClockTime::NONE);
    }
    buffer
}

/// Frames 15 to 60 are too small to be frames.
fn broken(n: u64) -> gst::Buffer {
    let mut buffer = good(n);
    if (15..60).contains(&n) {
        buffer.get_mut().unwrap().set_size(100);
    }
    buffer
}

fn infos(messages: &[gst::Message]) -> Vec<String> {
    let infos = messages.iter().filter_map(|message| match message.view() {
        gst::MessageView::Info(info) => Some(info.error().to_string()),
        _ => None,
    });
    infos.collect()
}

/// A case of the table: how it fails, and with what words.
struct Fault {
    model: &'static str,
    more: &'static [(&'static str, &'static str)],
    sends: Sends,
    says: &'static str,
    /// From the frame before the fault to the first buffer that says so.
    within: Duration,
}

impl Fault {
    /// Once good, or not yet begun; then bad, then good again with other words.
    fn check(&self) {
        let model = script(self.model);
        let camera = Camera::new(model.path().to_str().unwrap(), self.more);
        let bad = AtomicBool::new(false);
        let buffers = camera.play(self.sends, Duration::from_secs(30), |seen| {
            bad.fetch_or(seen.status == "error", Ordering::Relaxed);
            bad.load(Ordering::Relaxed) && seen.status == "fresh" && seen.text.starts_with("after")
        });
        let messages = camera.messages();
        let warnings = warnings(&messages);
        assert_eq!(warnings.len(), 1, "{warnings:?}");
        assert!(warnings[0].contains(self.says), "{warnings:?}");
        let infos = infos(&messages);
        assert_eq!(infos.len(), 1, "{infos:?}");
        assert!(infos[0].contains(self.says), "{infos:?}");
        // The video never stood still.
        let gaps = buffers.windows(2).map(|pair| pair[1].at - pair[0].at);
        let longest = gaps.max().unwrap();
        assert!(longest < Duration::from_millis(500), "{longest:?}");
        let first_bad = buffers.iter().position(|seen| seen.status == "error");
        let first_bad = first_bad.expect("a buffer that says error");
        let good = buffers[..first_bad].iter();
        // A caption that has come stays until the fault.
        let began = good.rev().find(|seen| seen.status != "fresh").map(|s| s.at);
        let told = buffers[first_bad].at - began.unwrap_or(buffers[0].at);
        assert!(told < self.within, "told after {told:?}");
        let last = buffers.last().unwrap();
        assert_eq!(last.status, "fresh", "recovered");
    }
}

const SOON: Duration = Duration::from_secs(2);

#[test]
fn an_error_of_the_model() {
    Fault {
        model: r#"[{"text": "before"}, {"error": "it is gone"}, {"text": "after", "repeat": 999}]"#,
        more: &[],
        sends: good,
        says: "it is gone",
        within: SOON,
    }
    .check();
}

#[test]
fn a_device_that_fails_again_and_again_is_begun_anew() {
    Fault {
        model: r#"[{"text": "before"}, {"error": "it is gone", "repeat": 4},
                   {"text": "after", "repeat": 999}]"#,
        more: &[],
        sends: good,
        says: "it is gone",
        within: SOON,
    }
    .check();
}

#[test]
fn a_model_that_cannot_be_loaded_is_tried_again() {
    Fault {
        model: r#"{"load-error": "no such device", "load-errors": 1,
                   "answers": [{"text": "after"}]}"#,
        more: &[],
        sends: good,
        says: "no such device",
        within: SOON,
    }
    .check();
}

#[test]
fn a_device_that_does_not_return() {
    Fault {
        model: r#"[{"text": "before"}, {"hang-ms": 3000, "text": "after", "repeat": 1},
                   {"text": "after", "repeat": 999}]"#,
        more: &[("model-timeout", "500000000")],
        sends: good,
        says: "has not answered",
        within: Duration::from_millis(500 + 500) + SOON,
    }
    .check();
}

#[test]
fn frames_without_timestamps() {
    Fault {
        model: r#"[{"text": "after"}]"#,
        more: &[],
        sends: untimed,
        says: "have no timestamps",
        within: 15 * FRAME + SOON,
    }
    .check();
}

#[test]
fn frames_that_cannot_be_read() {
    Fault {
        model: r#"[{"text": "after"}]"#,
        more: &[],
        sends: broken,
        says: "frame",
        within: 15 * FRAME + SOON,
    }
    .check();
}

#[test]
fn a_pipeline_stops_though_its_device_never_returns() {
    let model = script(r#"[{"hang-ms": 60000}]"#);
    let camera = Camera::new(
        model.path().to_str().unwrap(),
        &[("model-timeout", "200000000")],
    );
    camera.play(good, Duration::from_secs(30), |seen| seen.status == "error");
    let began = Instant::now();
    camera.run.pipeline.set_state(gst::State::Null).unwrap();
    let took = began.elapsed();
    assert!(took < Duration::from_secs(5), "{took:?}");
}

#[test]
fn a_model_that_loads_slowly_says_how_far_it_is_and_the_video_flows() {
    let model = script(r#"{"load-ms": 2500, "answers": [{"text": "after"}]}"#);
    let camera = Camera::new(model.path().to_str().unwrap(), &[]);
    let buffers = camera.play(good, Duration::from_secs(30), |seen| seen.status == "fresh");
    assert!(buffers.len() > 30, "{}", buffers.len());
    let waiting = buffers.iter().filter(|seen| seen.status == "none").count();
    assert!(waiting + 5 > buffers.len(), "nothing was wrong meanwhile");
    let messages = camera.messages();
    assert!(warnings(&messages).is_empty());
    let progress = |kind: gst::ProgressType| {
        let of_kind = messages.iter().filter(|message| match message.view() {
            gst::MessageView::Progress(progress) => progress.get().0 == kind,
            _ => false,
        });
        of_kind.count()
    };
    assert_eq!(progress(gst::ProgressType::Start), 1);
    assert!(progress(gst::ProgressType::Continue) >= 2);
    assert_eq!(progress(gst::ProgressType::Complete), 1);
    assert!(messages.iter().any(|m| named(m, "vlmcaption/loading")));
}
