// SPDX-License-Identifier: MPL-2.0

//! What the element adds to a push: 1080p NV12 frames through `identity` and through `vlmcaption`
//! in turns, in one run.
//!
//! `cargo bench --bench push` prints the percentiles of a push for frames that are sampled and
//! frames that are not, with a model that answers at once and one that thinks for three seconds,
//! and how much that is above `identity`.

#![expect(clippy::print_stdout, reason = "a benchmark prints its result")]

use std::io::Write;
use std::time::{Duration, Instant};

use gst::prelude::*;

const FPS: u64 = 30;
/// Frames of one turn.
const TURN: u64 = 1_500;
const TURNS: usize = 4;
const CAPS: &str = "video/x-raw,format=NV12,width=1920,height=1080,framerate=30/1";

struct Peer {
    name: &'static str,
    harness: gst_check::Harness,
    n_pushed: u64,
    plain: Vec<Duration>,
    sampled: Vec<Duration>,
}

impl Peer {
    fn new(name: &'static str, element: &gst::Element) -> Self {
        let mut harness = gst_check::Harness::with_element(element, Some("sink"), Some("src"));
        harness.set_src_caps_str(CAPS);
        harness.set_drop_buffers(true);
        Self {
            name,
            harness,
            n_pushed: 0,
            plain: Vec::new(),
            sampled: Vec::new(),
        }
    }

    /// Pushes one turn of frames, all of the same memory, as fast as they are taken.
    fn turn(&mut self, frame: &gst::Buffer) {
        for _ in 0..TURN {
            let at = |n| gst::ClockTime::from_nseconds(n * 1_000_000_000 / FPS);
            let n = self.n_pushed;
            let mut buffer = frame.copy();
            {
                let buffer = buffer.get_mut().expect("just copied");
                buffer.set_pts(at(n));
                buffer.set_duration(at(n + 1) - at(n));
            }
            let began = Instant::now();
            self.harness
                .push(buffer)
                .expect("the harness takes every frame");
            let took = began.elapsed();
            if n.is_multiple_of(FPS) {
                &mut self.sampled
            } else {
                &mut self.plain
            }
            .push(took);
            self.n_pushed += 1;
            // About as fast as a 300 fps camera: a mailbox that never empties measures nothing.
            std::thread::sleep(Duration::from_micros(300));
        }
    }
}

fn percentile(times: &mut [Duration], part: f64) -> f64 {
    times.sort_unstable();
    times[((times.len() - 1) as f64 * part) as usize].as_secs_f64() * 1e6
}

fn main() {
    gst::init().expect("GStreamer starts");
    gstvlmcaption::plugin_register_static().expect("the plugin registers");
    let mut script = tempfile::NamedTempFile::new().expect("a temporary file");
    script
        .write_all(br#"[{"text": "a", "prefill-ms": 3000}]"#)
        .expect("it can be written");

    let make = |name: &str| {
        gst::ElementFactory::make(name)
            .build()
            .expect("the element exists")
    };
    let mock = |model: Option<&str>| {
        let element = make("vlmcaption");
        element.set_property_from_str("backend", "mock");
        element.set_property_from_str("drop-policy", "latest");
        element.set_property("model", model);
        element
    };
    let isolated = mock(script.path().to_str());
    isolated.set_property_from_str("isolation", "process");
    let mut peers = [
        Peer::new("identity", &make("identity")),
        Peer::new("vlmcaption, model answers at once", &mock(None)),
        Peer::new(
            "vlmcaption, model thinks for 3 s",
            &mock(script.path().to_str()),
        ),
        Peer::new("vlmcaption, the same in a worker", &isolated),
    ];
    let info = gst_video::VideoInfo::from_caps(&CAPS.parse::<gst::Caps>().expect("caps"))
        .expect("video caps");
    let frame = gst::Buffer::with_size(info.size()).expect("memory for a frame");
    for _ in 0..TURNS {
        for peer in &mut peers {
            peer.turn(&frame);
        }
    }

    println!(
        "microseconds a push, 1080p NV12, {} frames each",
        TURN * TURNS as u64
    );
    println!(
        "{:<36} {:>8} {:>8} {:>8} {:>8}",
        "", "p50", "p99", "max", "p99 - id"
    );
    let identity = percentile(&mut peers[0].plain, 0.99);
    for peer in &mut peers {
        for (kind, times) in [("", &mut peer.plain), (" (sampled)", &mut peer.sampled)] {
            println!(
                "{:<36} {:>8.1} {:>8.1} {:>8.1} {:>8.1}",
                format!("{}{kind}", peer.name),
                percentile(times, 0.5),
                percentile(times, 0.99),
                percentile(times, 1.0),
                percentile(times, 0.99) - identity,
            );
        }
    }
}
