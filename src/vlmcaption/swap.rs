// SPDX-License-Identifier: MPL-2.0

//! Another model while the video plays: opened and loaded in the background, then taken over
//! between two windows.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Several properties may be set one after another: a change begins this long after the last.
const SETTLE: Duration = Duration::from_millis(100);

/// When to go over to which model.
#[derive(Default)]
pub(super) struct Swap {
    due: Option<Instant>,
    /// The model that is to come.
    coming: Option<Arc<Candidate>>,
}

/// A model that was asked for, and what has become of it.
#[derive(Default)]
pub(super) struct Candidate {
    arrived: AtomicBool,
    refused: AtomicBool,
    /// Another one was asked for since.
    unwanted: AtomicBool,
}

impl Swap {
    /// A property that chooses the model was set.
    pub fn ask(&mut self, now: Instant) {
        self.due = Some(now + SETTLE);
    }

    /// Whether the change begins now, and else time until it does; `None` if there is none.
    pub fn take_due(&mut self, now: Instant) -> Option<Result<(), Duration>> {
        let due = self.due?;
        if now < due {
            return Some(Err(due - now));
        }
        self.due = None;
        Some(Ok(()))
    }

    /// This one is to come.
    pub fn expect(&mut self, candidate: Arc<Candidate>) {
        self.coming = Some(candidate);
    }

    /// The model that was to come is not wanted any more: what it does is not told. Whether there was
    /// one.
    pub fn forget(&mut self) -> bool {
        let coming = self.coming.take();
        let coming = coming.filter(|coming| !coming.has_arrived());
        if let Some(coming) = &coming {
            coming.unwanted.store(true, Ordering::Release);
        }
        coming.is_some()
    }
}

impl Candidate {
    /// It takes over.
    pub fn arrive(&self) {
        self.arrived.store(true, Ordering::Release);
    }

    pub fn has_arrived(&self) -> bool {
        self.arrived.load(Ordering::Acquire)
    }

    /// It cannot be used; whether that is news.
    pub fn refuse(&self) -> bool {
        !self.refused.swap(true, Ordering::AcqRel)
    }

    pub fn is_refused(&self) -> bool {
        self.refused.load(Ordering::Acquire)
    }

    pub fn is_unwanted(&self) -> bool {
        self.unwanted.load(Ordering::Acquire)
    }
}
