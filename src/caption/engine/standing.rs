// SPDX-License-Identifier: MPL-2.0

//! How an engine stands, for whoever decides whether another one does better.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Whether a turn shows that a device or a server is at fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Fault {
    /// It is not.
    #[default]
    None,
    /// It is there and has too much to do.
    Busy,
    /// It has failed: again and again, it is begun anew.
    Broken,
}

/// How an engine stands.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Standing {
    /// The model can be used.
    pub is_ready: bool,
    /// Why it cannot, once that is known.
    pub failure: Option<String>,
    /// Windows that were answered.
    pub n_answered: u64,
    /// Windows that were not, by its own fault.
    pub n_failed: u64,
    /// Why the last one was not.
    pub last_failure: String,
}

/// An engine's, which its thread changes.
#[derive(Debug, Default)]
pub(crate) struct Record(Mutex<Standing>);

impl Record {
    pub(crate) fn now(&self) -> Standing {
        self.standing().clone()
    }

    pub(crate) fn ready(&self) {
        let mut standing = self.standing();
        standing.is_ready = true;
        standing.failure = None;
    }

    pub(crate) fn lost(&self, reason: &str) {
        let mut standing = self.standing();
        standing.is_ready = false;
        standing.failure = Some(reason.to_owned());
    }

    pub(crate) fn answered(&self) {
        self.standing().n_answered += 1;
    }

    pub(crate) fn failed(&self, reason: &str) {
        let mut standing = self.standing();
        standing.n_failed += 1;
        reason.clone_into(&mut standing.last_failure);
    }

    fn standing(&self) -> MutexGuard<'_, Standing> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
