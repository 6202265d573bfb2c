// SPDX-License-Identifier: MPL-2.0

//! Servers with a switch of what they do, and what is heard of several backends.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use gst::prelude::*;

use crate::common::{Run, captions, named};
use crate::faults::play_until;
use crate::mock::Connection;
use crate::server::{FakeServer, Kind, said};
use crate::text;

const PATIENCE: Duration = Duration::from_secs(60);

/// What a server does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Does {
    Works,
    /// Closes what is asked of it.
    Dies,
    /// Never answers, until the other side closes.
    Hangs,
    /// Answers after [`SLOW`].
    IsSlow,
}

/// How long a slow server takes for each answer.
pub const SLOW: Duration = Duration::from_secs(3);

/// The switch of a server.
#[derive(Clone)]
pub struct Switch(Arc<AtomicU8>);

impl Switch {
    pub fn set(&self, does: Does) {
        self.0.store(does as u8, Ordering::SeqCst);
    }

    fn is(&self, does: Does) -> bool {
        self.0.load(Ordering::SeqCst) == does as u8
    }
}

/// A server that says `text`, and the switch of what it does instead.
pub fn switched(text: &str) -> (FakeServer, Switch) {
    let (answer, switch) = (said(text), Switch(Arc::default()));
    let does = switch.clone();
    let hears = move |connection: &mut Connection| {
        if does.is(Does::Hangs) {
            connection.wait_for_close();
        } else if does.is(Does::IsSlow) {
            std::thread::sleep(SLOW);
        }
        does.is(Does::Works) || does.is(Does::IsSlow)
    };
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let server = FakeServer::start_with(any, Kind::Vllm, hears, move |connection, _, _| {
        connection.send(&answer)
    });
    (server, switch)
}

/// What was heard of an element with several backends.
pub struct Heard {
    sequences: BTreeSet<u64>,
    pub messages: Vec<gst::Message>,
    /// When a caption came last, and the longest time without one since that was asked.
    last: Instant,
    longest: Duration,
    /// Who answered last, and who is said to.
    whose: String,
}

/// Who answers: where, and which model.
fn whose(fields: &gst::StructureRef) -> String {
    format!("{} {}", text(fields, "device"), text(fields, "model"))
}

impl Heard {
    pub fn new() -> Self {
        Self {
            sequences: BTreeSet::new(),
            messages: Vec::new(),
            last: Instant::now(),
            longest: Duration::ZERO,
            whose: String::new(),
        }
    }

    /// Takes what was posted since; whether a caption of this backend, or of a server at this address, is
    /// among it. No window may be answered twice, and none by one that was not said to answer.
    pub fn has(&mut self, run: &Run, backend: &str) -> bool {
        let bus = run.pipeline.bus().unwrap();
        let new: Vec<gst::Message> = std::iter::from_fn(|| bus.pop()).collect();
        let mut found = false;
        for message in &new {
            if named(message, "vlmcaption/backend") {
                let told = whose(message.structure().unwrap());
                assert_ne!(told, self.whose, "a change to itself is told");
                self.whose = told;
            }
            for caption in captions(std::slice::from_ref(message)) {
                let sequence = caption.get::<u64>("sequence").unwrap();
                assert!(self.sequences.insert(sequence), "window {sequence} again");
                let device = text(&caption, "device");
                if self.whose.is_empty() {
                    self.whose = whose(&caption);
                }
                assert_eq!(whose(&caption), self.whose, "who answers is not told");
                found |= text(&caption, "backend") == backend || device == backend;
                self.last = Instant::now();
            }
        }
        self.longest = self.longest.max(self.last.elapsed());
        self.messages.extend(new);
        found
    }

    /// Who was said to answer, one after another: backends, of servers their addresses.
    pub fn changes(&self) -> Vec<String> {
        let changes = self.messages.iter().filter_map(|message| {
            let told = named(message, "vlmcaption/backend").then(|| message.structure())??;
            Some(match text(told, "backend").as_str() {
                "openai" => text(told, "device"),
                other => other.to_owned(),
            })
        });
        changes.collect()
    }

    /// The longest time without a caption since this was asked last.
    pub fn take_gap(&mut self) -> Duration {
        std::mem::take(&mut self.longest)
    }
}

/// Plays until this backend has answered a window; how long that took.
pub fn until_answered(run: &Run, heard: &mut Heard, frame: &mut u64, backend: &str) -> Duration {
    let heard = std::cell::RefCell::new(heard);
    let (took, next) = play_until(run, *frame, PATIENCE, || {
        heard.borrow_mut().has(run, backend)
    });
    *frame = next;
    took
}

/// Plays for a while.
pub fn play_for(run: &Run, heard: &mut Heard, frame: &mut u64, time: Duration) {
    let (began, heard) = (Instant::now(), std::cell::RefCell::new(heard));
    let (_, next) = play_until(run, *frame, PATIENCE, || {
        heard.borrow_mut().has(run, "");
        began.elapsed() >= time
    });
    *frame = next;
}

/// Five windows a second, of which the newest is answered.
pub const FAST: [(&str, &str); 2] = [("sample-rate", "5/1"), ("drop-policy", "latest")];
