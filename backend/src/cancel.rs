// SPDX-License-Identifier: MPL-2.0

//! The end of a call that nobody waits for any more.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::error::Error;

/// Tells a long call from another thread that its result is no longer wanted.
#[derive(Debug, Clone, Default)]
pub struct Cancel(Arc<Flag>);

#[derive(Debug, Default)]
struct Flag {
    cancelled: AtomicBool,
    checks: AtomicU64,
}

impl Cancel {
    /// Asks for the end; calls that look at it return [`Error::Cancelled`] soon.
    pub fn cancel(&self) {
        self.0.cancelled.store(true, Ordering::Release);
    }

    /// Whether the end was asked for.
    pub fn is_cancelled(&self) -> bool {
        self.0.cancelled.load(Ordering::Acquire)
    }

    /// Signs of life so far: how often [`check`](Self::check) and [`alive`](Self::alive) were called.
    pub fn checks(&self) -> u64 {
        self.0.checks.load(Ordering::Relaxed)
    }

    /// A sign of life from within a step that is not left before its end, such as a large product:
    /// it may take minutes on a small machine, and is not stuck.
    pub fn alive(&self) {
        self.0.checks.fetch_add(1, Ordering::Relaxed);
    }

    /// [`Error::Cancelled`] if the end was asked for. Each call is a sign of life: a program that
    /// does not call this for long counts as stuck.
    pub fn check(&self) -> Result<(), Error> {
        self.alive();
        if self.is_cancelled() {
            Err(Error::Cancelled)
        } else {
            Ok(())
        }
    }
}
