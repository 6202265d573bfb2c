// SPDX-License-Identifier: MPL-2.0

//! What is heard of a camera: the words that the parts of this program exchange.

use std::fmt;
use std::sync::Arc;

use serde::Serialize;

use crate::time::Millis;

/// A caption, by this machine's clock.
#[derive(Debug, Clone, PartialEq)]
pub struct Caption {
    /// When its first frame was seen.
    pub start: Millis,
    /// When its last frame was seen.
    pub end: Millis,
    pub text: String,
    pub model: String,
    /// A small JPEG of about its last frame.
    pub thumb: Option<Arc<[u8]>>,
}

/// How likely the answer to an alarm's question was "yes", once.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    pub alarm: String,
    pub at: Millis,
    pub probability: f64,
}

/// An alarm begins.
#[derive(Debug, Clone, PartialEq)]
pub struct Begin {
    /// The element's number of it; an end has the same.
    pub number: u64,
    pub alarm: String,
    pub at: Millis,
    pub probability: Option<f64>,
}

/// An alarm ends.
#[derive(Debug, Clone, PartialEq)]
pub struct End {
    pub number: u64,
    pub alarm: String,
    pub at: Millis,
    pub peak: Option<f64>,
    pub reason: String,
}

/// The clip of an alarm, whole and on the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Clip {
    pub from: Millis,
    pub to: Millis,
    pub size: u64,
}

/// How things stand with a camera.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// Nothing has come yet.
    Connecting,
    /// Pictures come.
    Live,
    /// Pictures came until just now.
    Stalled,
    /// No pictures for longer than `offline-after`.
    Offline,
    /// Switched off in the file.
    Disabled,
}

impl Phase {
    /// The word for it, as stored and shown.
    pub fn word(self) -> &'static str {
        match self {
            Self::Connecting => "connecting",
            Self::Live => "live",
            Self::Stalled => "stalled",
            Self::Offline => "offline",
            Self::Disabled => "disabled",
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, out: &mut fmt::Formatter) -> fmt::Result {
        out.write_str(self.word())
    }
}

/// Why nothing is said of a camera that shows something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// The gate is shut: nothing moves.
    Gated,
    /// The model loads, or fails.
    NoModel,
}

impl Why {
    /// The word for it, as stored and shown.
    pub fn word(self) -> &'static str {
        match self {
            Self::Gated => "gated",
            Self::NoModel => "no-model",
        }
    }
}

/// A time in which nothing is said of a camera that shows something; it may go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lull {
    pub why: Why,
    pub start: Millis,
    pub end: Option<Millis>,
}
