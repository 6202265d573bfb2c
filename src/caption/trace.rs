// SPDX-License-Identifier: MPL-2.0

//! Where the time of windows goes, for whoever wants to see it: spans, told as they end.
//!
//! While nobody listens this costs a look at one flag. Whoever listens is called on the thread that
//! did the work, so he must return soon; he may drop what he cannot take.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Instant;

/// What the time went to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// From the arrival of a window's first frame to that of its last.
    Window,
    /// From then to the turn on the device.
    Queue,
    /// The vision net, of one pair.
    Encode,
    /// Of a question, to the first token.
    Prefill,
    /// From then to the last token.
    Decode,
}

impl Stage {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Window,
        Self::Queue,
        Self::Encode,
        Self::Prefill,
        Self::Decode,
    ];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Window => "window",
            Self::Queue => "queue",
            Self::Encode => "encode",
            Self::Prefill => "prefill",
            Self::Decode => "decode",
        }
    }
}

/// A piece of time.
#[derive(Debug, Clone, Copy)]
pub struct Span<'a> {
    /// What it went to.
    pub stage: Stage,
    /// Whose it was: the element's name.
    pub element: &'a str,
    /// Number of the window; 0 of a pair whose window is being filled.
    pub window: u64,
    /// Id of the question; empty where it is of no one question.
    pub question: &'a str,
    /// Tokens: of a pair, of a prompt, of an answer.
    pub tokens: usize,
    /// When it began.
    pub began: Instant,
    /// When it ended.
    pub ended: Instant,
}

/// Hears spans as they end.
pub type Listener = Arc<dyn Fn(&Span<'_>) + Send + Sync>;

static ON: AtomicBool = AtomicBool::new(false);
static LISTENERS: RwLock<Vec<Listener>> = RwLock::new(Vec::new());

/// Whether anybody listens.
pub fn is_on() -> bool {
    ON.load(Ordering::Relaxed)
}

/// Has a listener told of every span from now on.
pub fn listen(listener: Listener) {
    let mut listeners = LISTENERS.write().unwrap_or_else(PoisonError::into_inner);
    listeners.push(listener);
    ON.store(true, Ordering::Relaxed);
}

/// Tells whoever listens.
pub fn tell(span: &Span<'_>) {
    if !is_on() {
        return;
    }
    let listeners = LISTENERS.read().unwrap_or_else(PoisonError::into_inner);
    for listener in listeners.iter() {
        listener(span);
    }
}
