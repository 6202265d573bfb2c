// SPDX-License-Identifier: MPL-2.0

//! Ends requests from another thread, at once and wherever they are.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::wire::link::Link;

/// Ends requests from another thread. Clones are the same one.
///
/// A request that is being looked up, connected, sent, waited for or read ends within a millisecond
/// with [`Problem::Cancelled`](crate::Problem::Cancelled), and its connection is closed, by which
/// servers know that nobody waits any more. Requests that begin later end at once.
#[derive(Debug, Clone, Default)]
pub struct Cancel(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    cancelled: bool,
    /// What the requests go over that are being made.
    links: Vec<Arc<Link>>,
}

/// A request that can be cancelled; it no longer can once this is dropped.
pub(crate) struct Attached<'a> {
    cancel: &'a Cancel,
    link: Arc<Link>,
}

impl Cancel {
    /// Ends all requests that it was given to.
    pub fn cancel(&self) {
        let links = {
            let mut state = self.state();
            state.cancelled = true;
            state.links.clone()
        };
        self.0.changed.notify_all();
        for link in links {
            link.cut();
        }
    }

    /// Whether the end was asked for.
    pub fn is_cancelled(&self) -> bool {
        self.state().cancelled
    }

    /// Waits, and returns whether the end was asked for; then it returns at once.
    pub fn wait(&self, how_long: Duration) -> bool {
        let until = Instant::now() + how_long;
        let mut state = self.state();
        while !state.cancelled {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            let waited = self.0.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }

    /// Makes a request's link known; `None` if the end was asked for already.
    pub(crate) fn attach(&self, link: &Arc<Link>) -> Option<Attached<'_>> {
        let mut state = self.state();
        if state.cancelled {
            return None;
        }
        state.links.push(link.clone());
        Some(Attached {
            cancel: self,
            link: link.clone(),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Attached<'_> {
    fn drop(&mut self) {
        let mut state = self.cancel.state();
        state.links.retain(|link| !Arc::ptr_eq(link, &self.link));
    }
}
