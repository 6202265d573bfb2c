// SPDX-License-Identifier: MPL-2.0

//! A camera in front of the element, and each buffer as it leaves it.

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use gst::prelude::*;

use super::{Run, meta};

const SMALL: &str = "video/x-raw,format=I420,width=64,height=48,framerate=30/1";
/// From one frame of the camera to the next.
pub const FRAME: Duration = Duration::from_millis(33);

/// A frame as it left the element.
pub struct Seen {
    pub at: Instant,
    pub status: String,
    pub text: String,
}

/// What a camera sends for its `n`th frame.
pub type Sends = fn(n: u64) -> gst::Buffer;

/// A camera in front of the element, and all that comes of it.
pub struct Camera {
    pub run: Run,
    seen: Receiver<Seen>,
    /// Frames so far.
    sent: Cell<u64>,
}

impl Camera {
    /// `more` are properties beside those of a mock that plays `model`.
    pub fn new(model: &str, more: &[(&str, &str)]) -> Self {
        let mut properties = vec![
            ("backend", "mock"),
            ("model", model),
            ("window", "1"),
            ("sample-rate", "5/1"),
            ("drop-policy", "latest"),
        ];
        properties.extend(more);
        Self::of(&properties)
    }

    /// With these properties.
    pub fn of(properties: &[(&str, &str)]) -> Self {
        let run = Run::new(properties, SMALL);
        let (sender, seen) = channel();
        let pad = run.element.static_pad("src").unwrap();
        pad.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
            let fields = info.buffer().and_then(|buffer| meta(buffer));
            let get = |name| fields.as_ref().and_then(|f| f.get::<String>(name).ok());
            let seen = Seen {
                at: Instant::now(),
                status: get("status").unwrap_or_default(),
                text: get("text").unwrap_or_default(),
            };
            // Nobody listens any more once the test has seen enough.
            let _ = sender.send(seen);
            gst::PadProbeReturn::Ok
        });
        Self {
            run,
            seen,
            sent: Cell::new(0),
        }
    }

    /// Plays until a buffer is as `last` says, which must come within `patience`; all buffers.
    pub fn play(
        &self,
        sends: Sends,
        patience: Duration,
        last: impl Fn(&Seen) -> bool,
    ) -> Vec<Seen> {
        self.run.pipeline.set_state(gst::State::Playing).unwrap();
        let first = self.sent.get();
        let done = AtomicBool::new(false);
        let mut all = Vec::new();
        std::thread::scope(|scope| {
            let (src, done) = (&self.run.src, &done);
            let pushed = scope.spawn(move || {
                let mut n = first;
                while !done.load(Ordering::Relaxed) {
                    src.push_buffer(sends(n)).unwrap();
                    n += 1;
                    std::thread::sleep(FRAME);
                }
                n
            });
            let deadline = Instant::now() + patience;
            while let Ok(seen) = self
                .seen
                .recv_timeout(deadline.saturating_duration_since(Instant::now()))
            {
                let found = last(&seen);
                all.push(seen);
                if found {
                    break;
                }
            }
            done.store(true, Ordering::Relaxed);
            let pushed = pushed.join().unwrap();
            self.sent.set(pushed);
            while (all.len() as u64) < pushed - first {
                let seen = self.seen.recv_timeout(Duration::from_secs(10));
                all.push(seen.expect("a frame that was pushed did not come out"));
            }
        });
        all
    }

    /// What was posted since this was asked last.
    pub fn messages(&self) -> Vec<gst::Message> {
        let bus = self.run.pipeline.bus().unwrap();
        std::iter::from_fn(|| bus.pop()).collect()
    }
}

/// A good frame.
pub fn good(n: u64) -> gst::Buffer {
    let mut buffer = gst::Buffer::with_size(64 * 48 * 3 / 2).unwrap();
    buffer
        .get_mut()
        .unwrap()
        .set_pts(gst::ClockTime::from_mseconds(33 * n));
    buffer
}
