// SPDX-License-Identifier: MPL-2.0

//! What went over the network, whatever came of it.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::answer::Traffic;

/// What went over the network, whatever came of it.
#[derive(Debug, Default)]
pub struct Meter {
    sent: AtomicU64,
    received: AtomicU64,
    calls: AtomicU64,
    questions: AtomicU64,
}

/// The numbers of a [`Meter`] at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Metered {
    /// Bytes.
    pub traffic: Traffic,
    /// Calls of any kind, those that got no answer included.
    pub calls: u64,
    /// Questions that were sent whole, with all their pictures.
    pub questions: u64,
}

impl Meter {
    /// The numbers now.
    pub fn now(&self) -> Metered {
        Metered {
            traffic: Traffic {
                sent: self.sent.load(Ordering::Relaxed),
                received: self.received.load(Ordering::Relaxed),
            },
            calls: self.calls.load(Ordering::Relaxed),
            questions: self.questions.load(Ordering::Relaxed),
        }
    }

    pub(crate) fn count_call(&self, traffic: Traffic) {
        self.sent.fetch_add(traffic.sent, Ordering::Relaxed);
        self.received.fetch_add(traffic.received, Ordering::Relaxed);
        self.calls.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn count_question(&self) {
        self.questions.fetch_add(1, Ordering::Relaxed);
    }
}
