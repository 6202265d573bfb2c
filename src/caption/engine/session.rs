// SPDX-License-Identifier: MPL-2.0

//! One element's place at an engine.

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use super::handle::Engine;
use super::pairs::OpenWindow;
use super::schedule::{Load, Schedule};
use super::shared::Shared;
pub use super::state::SessionOptions;
use super::state::{Drained, SessionState};
use super::turn::{Epoch, InquiryJob, Job};
use crate::caption::frames::processor::FrameProcessor;
use crate::caption::frames::window::Pair;
use crate::caption::mailbox::{DropPolicy, Sent, Waited};
use crate::caption::reports::outbox::Wake;
use crate::caption::reports::reporter::Outlet;

/// One element's place at an engine; it keeps the engine.
pub struct Session {
    engine: Arc<Engine>,
    id: u64,
    epoch: Epoch,
}

impl Session {
    /// Begins one that reports to `outlet`.
    pub(crate) fn begin(engine: &Arc<Engine>, options: SessionOptions, outlet: Outlet) -> Self {
        let shared = engine.shared();
        outlet.on_room(Arc::<Shared>::downgrade(shared) as Weak<dyn Wake>);
        let mut epoch = Epoch::default();
        let id = shared.schedule().add(|used| {
            let state = SessionState::new(options, outlet, used);
            epoch = state.epoch();
            state
        });
        Self {
            engine: engine.clone(),
            id,
            epoch,
        }
    }

    /// Raised by every flush: what was begun under another number is thrown away. Waits for nobody.
    pub(crate) fn epoch(&self) -> u64 {
        self.epoch.get()
    }

    /// Offers pairs for encoding while their window fills; each is skipped if nobody needs it by the
    /// time its turn comes. `of` is the oldest window that they are of.
    pub(crate) fn offer_pairs(&self, pairs: &[Arc<Pair>], of: Option<OpenWindow>, epoch: u64) {
        let mut schedule = self.schedule();
        let session = schedule.wake(self.id);
        if let Some(session) = session.filter(|session| session.accepts(epoch)) {
            session.offer_pairs(pairs, of);
        }
        drop(schedule);
        self.notify();
    }

    /// Queues a window by the drop policy, unless a flush has come since `epoch`. Only
    /// [`DropPolicy::Block`] waits.
    pub(crate) fn submit(&self, job: Job, epoch: u64) -> Sent<Job> {
        let mut schedule = self.schedule();
        loop {
            let failed = schedule.failure().is_some();
            let Some(session) = schedule.wake(self.id) else {
                return Sent::Flushing(job);
            };
            if !session.accepts(epoch) || failed {
                return Sent::Flushing(job);
            }
            if session.policy() == DropPolicy::Block && session.is_full() {
                schedule = self.engine.shared().wait(schedule);
                continue;
            }
            let sent = session.offer_window(job);
            drop(schedule);
            self.notify();
            return sent;
        }
    }

    /// Queues a question of the application's, unless a flush has come since `epoch`: its frames
    /// may have been prepared under other privacy masks.
    ///
    /// # Errors
    /// Why it will not be answered.
    pub(crate) fn inquire(&self, asked: InquiryJob, epoch: u64) -> Result<(), String> {
        let mut schedule = self.schedule();
        if let Some(reason) = schedule.failure() {
            return Err(reason.to_owned());
        }
        if let Some(session) = schedule.get_mut(self.id) {
            session.inquire(asked, epoch)?;
        }
        drop(schedule);
        self.notify();
        Ok(())
    }

    /// Complete windows that wait.
    pub(crate) fn queued(&self) -> usize {
        let schedule = self.schedule();
        schedule.get(self.id).map_or(0, SessionState::queued)
    }

    /// Waits until the reports of all queued windows are in the outlet, at most until `deadline`.
    pub(crate) fn wait_idle(&self, deadline: Instant) -> Waited {
        let mut schedule = self.schedule();
        loop {
            let failed = schedule.failure().is_some();
            let Some(session) = schedule.get(self.id) else {
                return Waited::Interrupted;
            };
            if session.is_flushing() || failed {
                return Waited::Interrupted;
            }
            if session.is_idle() {
                return Waited::Idle;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left == Duration::ZERO {
                return Waited::TimedOut;
            }
            schedule = self.engine.shared().wait_for(schedule, left);
        }
    }

    /// A session of the same kind at another engine.
    pub(crate) fn successor(&self, engine: &Arc<Engine>, outlet: Outlet) -> Option<Self> {
        let options = self.schedule().get(self.id)?.options();
        Some(Self::begin(engine, options, outlet))
    }

    /// Takes over everything but work from a session, whose work goes before its own.
    pub(crate) fn take_over(&self, old: &Self) {
        let handover = old.change(SessionState::hand_over);
        self.change(|session| {
            if let Some(handover) = handover {
                session.take_over(handover);
            }
        });
    }

    /// There will be no more work: calls `drained` when all has been told, perhaps now.
    pub(crate) fn retire(&self, drained: Drained) {
        self.change(|session| session.retire(drained));
        self.engine.shared().call_drained();
    }

    /// Whether the model is loaded.
    pub(crate) fn is_ready(&self) -> bool {
        matches!(self.schedule().load(), Load::Ready(_))
    }

    /// Whether nothing can be hoped for: the device has been silent for this long, or the model
    /// cannot be used.
    pub(crate) fn is_lost(&self, patience: Duration) -> bool {
        let silent = !patience.is_zero() && self.engine.silence() >= patience;
        silent || self.schedule().failure().is_some()
    }

    /// What is done to the frames that its engine is shown.
    pub(crate) fn processor(&self) -> Arc<dyn FrameProcessor> {
        self.engine.processor().clone()
    }

    /// Changes its state, and wakes whoever may wait for that.
    pub(crate) fn change<T>(&self, change: impl FnOnce(&mut SessionState) -> T) -> Option<T> {
        let changed = self.schedule().get_mut(self.id).map(change);
        self.notify();
        changed
    }

    fn schedule(&self) -> std::sync::MutexGuard<'_, Schedule> {
        self.engine.shared().schedule()
    }

    fn notify(&self) {
        self.engine.shared().notify();
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let session = self.schedule().remove(self.id);
        if let Some(session) = session {
            session.cancel();
        }
        self.notify();
    }
}
