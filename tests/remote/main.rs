// SPDX-License-Identifier: MPL-2.0

//! `backend=openai` against a fake server on loopback: what is sent, what becomes of answers and
//! faults, and that the video flows on whatever the server does.

mod answers;
#[path = "../common/mod.rs"]
mod common;
mod failover;
mod faults;
#[path = "../../openai-client/tests/client/mock.rs"]
#[allow(dead_code, reason = "made for the client's own tests")]
mod mock;
mod privacy;
mod server;

use std::time::Duration;

use common::Run;
use gst::prelude::*;
use server::FakeServer;

/// A camera's picture.
const SMALL: &str = "video/x-raw,format=I420,width=64,height=48,framerate=30/1";

/// The element in front of a server, with windows of one frame unless it is said otherwise.
fn run(server: &FakeServer, more: &[(&str, &str)]) -> Run {
    let uri = server.uri();
    let mut properties = vec![
        ("backend", "openai"),
        ("server-uri", uri.as_str()),
        ("server-proxy", "none"),
        ("window", "1"),
    ];
    properties.extend(more);
    Run::new(&properties, SMALL)
}

/// The same in PLAYING.
fn start(server: &FakeServer, more: &[(&str, &str)]) -> Run {
    let run = run(server, more);
    run.pipeline.set_state(gst::State::Playing).unwrap();
    run
}

fn push(run: &Run, seconds: u64) {
    run.push(Duration::from_secs(seconds), None).unwrap();
}

fn stats(run: &Run) -> gst::Structure {
    run.element.property("stats")
}

fn count(run: &Run, name: &str) -> u64 {
    stats(run).get(name).unwrap()
}

fn text(fields: &gst::StructureRef, name: &str) -> String {
    fields.get(name).unwrap()
}

/// That no buffer waited for the server.
fn assert_video_untouched(run: &Run) {
    let p99 = count(run, "push-p99");
    assert!(p99 < 50_000_000, "a push took {p99} ns");
}

/// Texts of the INFO messages among these.
fn infos(messages: &[gst::Message]) -> Vec<String> {
    let infos = messages.iter().filter_map(|message| match message.view() {
        gst::MessageView::Info(info) => Some(info.error().to_string()),
        _ => None,
    });
    infos.collect()
}

/// Waits until it is so.
fn wait_for(what: &str, patience: Duration, is_so: impl Fn() -> bool) {
    let began = std::time::Instant::now();
    while !is_so() {
        assert!(began.elapsed() < patience, "{what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}
