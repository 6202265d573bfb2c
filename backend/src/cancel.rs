// SPDX-License-Identifier: MPL-2.0

//! The end of a call that nobody waits for any more.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use super::error::Error;

/// Tells a long call from another thread that its result is no longer wanted.
#[derive(Debug, Clone, Default)]
pub struct Cancel(Arc<Flag>);

#[derive(Default)]
struct Flag {
    cancelled: AtomicBool,
    checks: AtomicU64,
    wakers: Mutex<Vec<Weak<Wake>>>,
    caller: Option<Box<dyn Caller>>,
}

/// Whoever waits for a call where this process's [`Cancel::cancel`] is not called: another process.
pub trait Caller: Send + Sync {
    /// Whether it has asked for the end.
    fn is_cancelled(&self) -> bool;

    /// Takes note of a sign of life.
    fn alive(&self);
}

/// Wakes a call that waits.
type Wake = dyn Fn() + Send + Sync;

/// A call that is woken by its [`Cancel`] as long as this lives.
#[must_use = "nothing is woken once this is dropped"]
pub struct Woken(#[expect(dead_code, reason = "kept alive, and called by the cancel")] Arc<Wake>);

impl std::fmt::Debug for Flag {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Flag")
            .field("cancelled", &self.cancelled)
            .field("checks", &self.checks)
            .finish_non_exhaustive()
    }
}

impl Flag {
    fn wakers(&self) -> MutexGuard<'_, Vec<Weak<Wake>>> {
        self.wakers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Cancel {
    /// One that somebody else holds too, who wakes nobody.
    pub fn of_caller(caller: Box<dyn Caller>) -> Self {
        Self(Arc::new(Flag {
            caller: Some(caller),
            ..Flag::default()
        }))
    }

    /// Asks for the end; calls that look at it return [`Error::Cancelled`] soon, and those that wait
    /// are woken.
    pub fn cancel(&self) {
        self.0.cancelled.store(true, Ordering::Release);
        let wakers: Vec<_> = self.0.wakers().iter().filter_map(Weak::upgrade).collect();
        for wake in wakers {
            wake();
        }
    }

    /// Whether the end was asked for.
    pub fn is_cancelled(&self) -> bool {
        let caller = self.0.caller.as_ref();
        self.0.cancelled.load(Ordering::Acquire)
            || caller.is_some_and(|caller| caller.is_cancelled())
    }

    /// Has `wake` called when the end is asked for, and at once if it was: what a call needs that waits
    /// for something else. It must not wait itself, and may be called with locks held.
    pub fn on_cancel(&self, wake: impl Fn() + Send + Sync + 'static) -> Woken {
        let wake: Arc<Wake> = Arc::new(wake);
        {
            let mut wakers = self.0.wakers();
            wakers.retain(|waker| waker.strong_count() > 0);
            wakers.push(Arc::downgrade(&wake));
        }
        // After it is there: a cancel before saw it not, and one after sees it.
        if self.is_cancelled() {
            wake();
        }
        Woken(wake)
    }

    /// Signs of life so far: how often [`check`](Self::check) and [`alive`](Self::alive) were called.
    pub fn checks(&self) -> u64 {
        self.0.checks.load(Ordering::Relaxed)
    }

    /// A sign of life from within a step that is not left before its end, such as a large product:
    /// it may take minutes on a small machine, and is not stuck.
    pub fn alive(&self) {
        self.0.checks.fetch_add(1, Ordering::Relaxed);
        if let Some(caller) = &self.0.caller {
            caller.alive();
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_woken_by_a_cancel_before_and_during_it_and_not_after_it() {
        let calls = Arc::new(AtomicU64::new(0));
        let count = |cancel: &Cancel| {
            let calls = calls.clone();
            cancel.on_cancel(move || {
                calls.fetch_add(1, Ordering::Relaxed);
            })
        };
        let cancel = Cancel::default();
        drop(count(&cancel));
        let during = count(&cancel);
        cancel.clone().cancel();
        assert_eq!(calls.load(Ordering::Relaxed), 1, "the one that waits");
        let _late = count(&cancel);
        assert_eq!(calls.load(Ordering::Relaxed), 2, "at once");
        drop(during);
    }
}
