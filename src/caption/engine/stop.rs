// SPDX-License-Identifier: MPL-2.0

//! Why threads that take turns take no more.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::shared::Shared;
use crate::caption::reports::outbox::Wake;

/// Of all threads of a program.
#[derive(Default)]
pub(crate) struct Stop {
    /// One of them has ended.
    over: AtomicBool,
    /// Why the device is gone.
    loss: Arc<Mutex<Option<String>>>,
}

impl Stop {
    /// The others end as well.
    pub(crate) fn end(&self) {
        self.over.store(true, Ordering::Release);
    }

    pub(crate) fn is_over(&self) -> bool {
        self.over.load(Ordering::Acquire)
    }

    /// Why the device is gone, if it is.
    pub(crate) fn loss(&self) -> Option<String> {
        self.loss
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Notes why, and wakes who waits for a turn.
    pub(crate) fn on_loss(&self, shared: &Arc<Shared>) -> Box<dyn Fn(&str) + Send + Sync> {
        let (loss, shared) = (self.loss.clone(), Arc::downgrade(shared));
        Box::new(move |reason| {
            *loss.lock().unwrap_or_else(PoisonError::into_inner) = Some(reason.to_owned());
            if let Some(shared) = shared.upgrade() {
                shared.wake();
            }
        })
    }
}
