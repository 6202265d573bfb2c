// SPDX-License-Identifier: MPL-2.0

//! `backend=openai` against a fake server on loopback: what is sent, what becomes of answers and
//! faults, and that the video flows on whatever the server does: of every test here, that is seen when
//! its element is dropped.

mod answers;
mod campaign;
#[path = "../common/mod.rs"]
mod common;
mod context;
mod evidence;
mod exchange;
mod failover;
mod faults;
#[path = "../../openai-client/tests/client/mock.rs"]
#[allow(dead_code, reason = "made for the client's own tests")]
mod mock;
mod privacy;
mod server;
mod switch;

use std::ops::Deref;
use std::time::Duration;

use common::Run;
use gst::prelude::*;
use server::FakeServer;

/// A camera's picture.
const SMALL: &str = "video/x-raw,format=I420,width=64,height=48,framerate=30/1";

/// No push takes longer than this, one in a hundred aside.
const LONGEST_PUSH: Duration = Duration::from_millis(50);

/// Of fewer than a hundred pushes none does: the longest is what the machine's other work makes it. No
/// server here is slow for less than 300 ms.
const LONGEST_OF_FEW: Duration = Duration::from_millis(200);

/// The element before a server. No buffer waits for the server, whatever becomes of that.
struct Remote(Run);

impl Remote {
    fn new(properties: &[(&str, &str)]) -> Self {
        Self(Run::new(properties, SMALL))
    }

    /// In PLAYING.
    fn start(properties: &[(&str, &str)]) -> Self {
        Self(Run::start(properties, SMALL))
    }
}

impl Deref for Remote {
    type Target = Run;

    fn deref(&self) -> &Run {
        &self.0
    }
}

impl Drop for Remote {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            let p99 = Duration::from_nanos(count(self, "push-p99"));
            let most = match count(self, "buffers") {
                0..100 => LONGEST_OF_FEW,
                _ => LONGEST_PUSH,
            };
            assert!(p99 < most, "a push took {p99:?}");
        }
    }
}

/// The element before a server, with windows of one frame unless it is said otherwise.
fn run(server: &FakeServer, more: &[(&str, &str)]) -> Remote {
    let uri = server.uri();
    let mut properties = vec![
        ("backend", "openai"),
        ("server-uri", uri.as_str()),
        ("server-proxy", "none"),
        ("window", "1"),
    ];
    properties.extend(more);
    Remote::new(&properties)
}

/// The same in PLAYING.
fn start(server: &FakeServer, more: &[(&str, &str)]) -> Remote {
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
