// SPDX-License-Identifier: MPL-2.0

//! What is known of one request while it is made: how far it is, how long the next step may take,
//! and by what it can be ended.

use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::attempt::Attempt;
use crate::answer::Traffic;
use crate::config::Bounds;
use crate::error::{Bound, Problem};

/// How long a stream is read on for what may follow its `finish_reason`: the usage.
const LINGER: Duration = Duration::from_secs(1);

/// How long the end of a body is waited for, so that its connection can be used again.
const DRAIN: Duration = Duration::from_millis(50);

/// What is known of one request while it is made. A connection keeps its link for all requests.
#[derive(Debug)]
pub(crate) struct Link {
    state: Mutex<State>,
    sent: AtomicU64,
    received: AtomicU64,
    bounds: Bounds,
}

#[derive(Debug)]
struct State {
    phase: Phase,
    whole_by: Instant,
    /// The line and headers that replace the request line; taken once they are sent.
    head: Option<String>,
    /// What the request can be ended by.
    socket: Option<Arc<TcpStream>>,
    attempt: Option<Arc<Attempt>>,
    cancelled: bool,
    /// A connection was made for this request.
    is_fresh: bool,
    /// The server no longer takes the request; it may have answered.
    is_refused: bool,
    /// A part of an answer came.
    is_answered: bool,
    expired: Option<(Bound, Duration)>,
    /// What went wrong on the way, told more closely than ureq's errors do.
    trouble: Option<Problem>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Phase {
    Connecting { by: Instant },
    Sending,
    Waiting { by: Instant },
    Streaming,
    Ending { by: Instant },
}

/// How long a step may take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Allowance {
    pub(crate) left: Duration,
    bound: Bound,
    set: Duration,
}

impl Link {
    pub(crate) fn new(bounds: Bounds) -> Self {
        let now = Instant::now();
        Self {
            state: Mutex::new(State {
                phase: Phase::Sending,
                whole_by: now + bounds.whole,
                head: None,
                socket: None,
                attempt: None,
                cancelled: false,
                is_fresh: false,
                is_refused: false,
                is_answered: false,
                expired: None,
                trouble: None,
            }),
            sent: AtomicU64::new(0),
            received: AtomicU64::new(0),
            bounds,
        }
    }

    /// A request begins, with the connection of the one before if that is still there.
    pub(crate) fn begin(&self, head: String, whole_by: Instant) {
        self.sent.store(0, Ordering::Relaxed);
        self.received.store(0, Ordering::Relaxed);
        let mut state = self.state();
        state.phase = Phase::Sending;
        state.whole_by = whole_by;
        state.head = Some(head);
        state.attempt = None;
        state.cancelled = false;
        state.is_fresh = false;
        state.is_refused = false;
        state.is_answered = false;
        state.expired = None;
        state.trouble = None;
    }

    /// Ends the request wherever it is.
    pub(crate) fn cut(&self) {
        let (socket, attempt) = {
            let mut state = self.state();
            state.cancelled = true;
            (state.socket.clone(), state.attempt.clone())
        };
        if let Some(attempt) = attempt {
            attempt.abandon();
        }
        if let Some(socket) = socket {
            // It may be closed already, which is what is wanted.
            let _ = socket.shutdown(Shutdown::Both);
        }
    }

    pub(crate) fn bounds(&self) -> &Bounds {
        &self.bounds
    }

    pub(crate) fn is_cancelled(&self) -> bool {
        self.state().cancelled
    }

    /// A connection is being made. Returns `false` if the request was cancelled.
    pub(crate) fn dials(&self, attempt: &Arc<Attempt>) -> bool {
        let mut state = self.state();
        state.is_fresh = true;
        state.socket = None;
        state.attempt = Some(attempt.clone());
        !state.cancelled
    }

    /// The address is known: connecting begins.
    pub(crate) fn connects(&self) -> Instant {
        let by = Instant::now() + self.bounds.connect;
        let mut state = self.state();
        state.phase = Phase::Connecting { by };
        by.min(state.whole_by)
    }

    /// A socket is there. Returns `false` if the request was cancelled.
    pub(crate) fn connected(&self, socket: &Arc<TcpStream>) -> bool {
        let mut state = self.state();
        state.attempt = None;
        state.socket = Some(socket.clone());
        !state.cancelled
    }

    /// The head, which is due now: sending begins.
    pub(crate) fn take_head(&self) -> Option<String> {
        let mut state = self.state();
        let head = state.head.take();
        if head.is_some() {
            state.phase = Phase::Sending;
        }
        head
    }

    /// The request is sent and the answer is waited for, if it was not before.
    pub(crate) fn waits(&self) {
        let mut state = self.state();
        if state.phase == Phase::Sending {
            let by = Instant::now() + self.bounds.first_byte;
            state.phase = Phase::Waiting { by };
        }
    }

    /// A part of an answer came, be it of its head.
    pub(crate) fn answers(&self) {
        self.state().is_answered = true;
    }

    /// The answer has begun.
    pub(crate) fn streams(&self) {
        let mut state = self.state();
        if !matches!(state.phase, Phase::Ending { .. }) {
            state.phase = Phase::Streaming;
        }
    }

    /// The answer is whole: only what may follow it is waited for.
    pub(crate) fn lingers(&self) {
        self.end_within(LINGER);
    }

    /// Nothing more is wanted than the end of the body.
    pub(crate) fn drains(&self) {
        self.end_within(DRAIN);
    }

    fn end_within(&self, how_long: Duration) {
        let by = Instant::now() + how_long;
        self.state().phase = Phase::Ending { by };
    }

    /// How long the next step may take; `None` if that time is over, which is noted.
    pub(crate) fn allowance(&self) -> Option<Allowance> {
        let now = Instant::now();
        let mut state = self.state();
        let (by, bound, set) = match state.phase {
            Phase::Connecting { by } => (by, Bound::Connect, self.bounds.connect),
            Phase::Sending => (now + self.bounds.between, Bound::Send, self.bounds.between),
            Phase::Waiting { by } => (by, Bound::FirstByte, self.bounds.first_byte),
            Phase::Streaming => (
                now + self.bounds.between,
                Bound::Between,
                self.bounds.between,
            ),
            Phase::Ending { by } => (by, Bound::Between, self.bounds.between),
        };
        let (by, bound, set) = match state.whole_by < by {
            true => (state.whole_by, Bound::Whole, self.bounds.whole),
            false => (by, bound, set),
        };
        let left = by.saturating_duration_since(now);
        if left.is_zero() {
            state.expired = Some((bound, set));
            return None;
        }
        Some(Allowance { left, bound, set })
    }

    /// A step took longer than it may.
    pub(crate) fn expires(&self, allowance: Allowance) {
        self.state().expired = Some((allowance.bound, allowance.set));
    }

    /// A bound that is watched elsewhere was passed.
    pub(crate) fn expires_at(&self, bound: Bound, set: Duration) {
        self.state().expired = Some((bound, set));
    }

    /// When all of the request must be over.
    pub(crate) fn whole_by(&self) -> Instant {
        self.state().whole_by
    }

    /// The server no longer takes the request.
    pub(crate) fn refuses(&self) {
        self.state().is_refused = true;
    }

    pub(crate) fn is_refused(&self) -> bool {
        self.state().is_refused
    }

    /// Something went wrong on the way; the first word counts.
    pub(crate) fn note(&self, trouble: Problem) {
        self.state().trouble.get_or_insert(trouble);
    }

    /// What the request failed by, if it is known here.
    pub(crate) fn verdict(&self) -> Option<Problem> {
        let state = self.state();
        if state.cancelled {
            return Some(Problem::Cancelled);
        }
        if let Some((bound, after)) = state.expired {
            return Some(Problem::Timeout { bound, after });
        }
        state.trouble.clone()
    }

    /// Whether the request went over a connection of an earlier one and nothing came back: the
    /// server may have closed it before it read the request.
    pub(crate) fn may_be_stale(&self) -> bool {
        let state = self.state();
        !state.is_fresh && !state.is_answered
    }

    pub(crate) fn sends(&self, n_bytes: usize) {
        self.sent.fetch_add(n_bytes as u64, Ordering::Relaxed);
    }

    pub(crate) fn receives(&self, n_bytes: usize) {
        self.received.fetch_add(n_bytes as u64, Ordering::Relaxed);
    }

    /// What has gone over the network for this request.
    pub(crate) fn traffic(&self) -> Traffic {
        Traffic {
            sent: self.sent.load(Ordering::Relaxed),
            received: self.received.load(Ordering::Relaxed),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
