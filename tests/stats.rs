// SPDX-License-Identifier: MPL-2.0

//! What the element says of itself in numbers.

mod common;

use std::time::{Duration, Instant};

use common::{Run, captions, named, script};
use gst::prelude::*;

const SMALL: &str = "video/x-raw,format=I420,width=64,height=48,framerate=30/1";
const MOCK: (&str, &str) = ("backend", "mock");

fn is_stats(message: &gst::Message) -> bool {
    named(message, "vlmcaption/stats")
}

fn fields(messages: &[gst::Message]) -> gst::Structure {
    messages.last().unwrap().structure().unwrap().to_owned()
}

#[test]
fn statistics_are_posted_though_no_buffer_comes_and_their_interval_may_change() {
    let run = Run::start(&[MOCK, ("stats-interval", "20000000")], SMALL);
    let began = Instant::now();
    for n in 1..=5 {
        let stats = fields(&run.messages_until(is_stats));
        assert_eq!(stats.get::<u64>("buffers").unwrap(), 0);
        assert!(began.elapsed() >= Duration::from_millis(20 * (n - 1)));
    }
    run.element.set_property("stats-interval", 0u64);
    run.push(Duration::ZERO, None).unwrap();
    let late = run.finish().into_iter().filter(is_stats).count();
    assert!(late <= 1, "one may have been under way, these are {late}");
}

#[test]
fn a_push_takes_no_time_though_the_model_thinks() {
    let slow = script(r#"[{"text": "a b c d", "prefill-ms": 300, "token-ms": 20}]"#);
    let path = slow.path().to_str().unwrap();
    let policy = ("drop-policy", "latest");
    let run = Run::start(&[MOCK, ("model", path), ("window", "1"), policy], SMALL);
    run.push_frames(301, 30);
    let n_captions = captions(&run.finish()).len() as u64;
    let stats = run.element.property::<gst::Structure>("stats");
    let number = |name: &str| stats.get::<u64>(name).unwrap();
    assert_eq!((number("buffers"), number("captions")), (301, n_captions));
    let percentiles = ["push-p50", "push-p95", "push-p99", "push-max"].map(number);
    assert!(
        percentiles.is_sorted() && percentiles[0] > 0,
        "{percentiles:?}"
    );
    assert!(number("push-p99") < 50_000_000, "{percentiles:?}");
    let ttft = ["ttft-last", "ttft-p50", "ttft-p95"].map(number);
    assert!(ttft.iter().all(|ttft| *ttft >= 300_000_000), "{ttft:?}");
    let rate = stats.get::<f64>("decode-rate").unwrap();
    assert!(
        (5.0..=50.0).contains(&rate),
        "a token takes 20 ms: {rate} a second"
    );
    assert!(number("uptime") > 300_000_000);
    assert_eq!(stats.get::<&str>("backend").unwrap(), "mock");
}

#[test]
fn the_counts_of_dropped_messages_are_all_that_was_dropped() {
    let slow = script(r#"[{"text": "a", "prefill-ms": 400}]"#);
    let path = slow.path().to_str().unwrap();
    let policy = ("drop-policy", "latest");
    let run = Run::start(&[MOCK, ("model", path), ("window", "1"), policy], SMALL);
    run.push_frames(601, 30);
    let mut messages = run.finish();
    let stats = run.element.property::<gst::Structure>("stats");
    // What is not yet told is told at the end.
    run.element.set_state(gst::State::Ready).unwrap();
    let bus = run.pipeline.bus().unwrap();
    messages.extend(std::iter::from_fn(|| bus.pop()));
    let told = |reason: &str| -> u64 {
        let counts = messages
            .iter()
            .filter(|m| named(m, "vlmcaption/dropped"))
            .filter_map(|m| m.structure())
            .filter(|fields| fields.get::<&str>("reason") == Ok(reason));
        counts
            .map(|fields| fields.get::<u64>("count").unwrap())
            .sum()
    };
    let counted = |name: &str| stats.get::<u64>(name).unwrap();
    assert!(counted("dropped-windows") + counted("dropped-frames") > 2);
    assert_eq!(told("busy"), counted("dropped-windows"));
    assert_eq!(told("prepare"), counted("dropped-frames"));
}

#[test]
fn an_error_is_remembered_with_its_time() {
    let failing = script(r#"[{"error": "the device is gone"}, {"text": "back"}]"#);
    let path = failing.path().to_str().unwrap();
    let run = Run::start(&[MOCK, ("model", path), ("window", "1")], SMALL);
    run.push_frames(31, 30);
    run.finish();
    let stats = run.element.property::<gst::Structure>("stats");
    assert_eq!(
        stats.get::<&str>("last-error").unwrap(),
        "the device is gone"
    );
    let time = stats.get::<&str>("last-error-time").unwrap();
    assert!(time.starts_with("20") && time.ends_with('Z'), "{time}");
    assert_eq!(stats.get::<u64>("failed").unwrap(), 1);
    assert_eq!(stats.get::<u64>("captions").unwrap(), 1);
}
