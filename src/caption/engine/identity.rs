// SPDX-License-Identifier: MPL-2.0

//! What an engine is, and what it has sent: readable at any time, whatever its thread does.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

/// What an engine is, and what it has sent.
#[derive(Debug, Default)]
pub struct Identity {
    /// Of the model.
    name: Mutex<String>,
    /// Host and port of a server; empty of a model on this machine.
    destination: String,
    traffic: Traffic,
}

/// What went to a server and came back; nothing of a model on this machine.
#[derive(Debug, Default)]
pub struct Traffic {
    sent_bytes: AtomicU64,
    received_bytes: AtomicU64,
    sent_frames: AtomicU64,
    requests: AtomicU64,
}

/// The numbers of a [`Traffic`] at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sent {
    /// Bytes to the server, headers and TLS included.
    pub bytes: u64,
    /// Bytes from the server.
    pub received_bytes: u64,
    /// Frames to the server; those that are asked about twice count twice.
    pub frames: u64,
    /// Requests, those that found out what the server takes included.
    pub requests: u64,
}

impl Identity {
    /// With a model's name.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: Mutex::new(name.into()),
            ..Self::default()
        }
    }

    /// The same of a server, by its host and port.
    pub fn of_server(name: impl Into<String>, destination: String) -> Self {
        Self {
            destination,
            ..Self::new(name)
        }
    }

    /// Host and port of a server; empty of a model on this machine.
    pub fn destination(&self) -> &str {
        &self.destination
    }

    /// What to call the model in captions.
    pub fn name(&self) -> String {
        self.name.lock().unwrap().clone()
    }

    /// A server has said which model it runs.
    pub fn rename(&self, name: &str) {
        name.clone_into(&mut self.name.lock().unwrap());
    }

    /// What it has sent.
    pub fn traffic(&self) -> &Traffic {
        &self.traffic
    }
}

impl Traffic {
    /// Adds what went over the network.
    pub fn add(&self, more: Sent) {
        self.sent_bytes.fetch_add(more.bytes, Ordering::Relaxed);
        self.received_bytes
            .fetch_add(more.received_bytes, Ordering::Relaxed);
        self.sent_frames.fetch_add(more.frames, Ordering::Relaxed);
        self.requests.fetch_add(more.requests, Ordering::Relaxed);
    }

    /// The numbers now.
    pub fn now(&self) -> Sent {
        Sent {
            bytes: self.sent_bytes.load(Ordering::Relaxed),
            received_bytes: self.received_bytes.load(Ordering::Relaxed),
            frames: self.sent_frames.load(Ordering::Relaxed),
            requests: self.requests.load(Ordering::Relaxed),
        }
    }
}

impl std::iter::Sum for Sent {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), |sum, more| Self {
            bytes: sum.bytes + more.bytes,
            received_bytes: sum.received_bytes + more.received_bytes,
            frames: sum.frames + more.frames,
            requests: sum.requests + more.requests,
        })
    }
}
