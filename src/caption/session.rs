// SPDX-License-Identifier: MPL-2.0

//! One element's place at an engine.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::engine::Engine;
use super::inquiry::{Asked, FLUSHED};
use super::mailbox::{DropPolicy, Sent, Waited};
use super::pairs::Coming;
use super::prompt::Ask;
use super::reporter::Outlet;
use super::schedule::{Drained, Epoch, Job, Load, SessionState};
use super::window::Pair;
use crate::vlm::Checkpoint;

/// What a session begins with.
#[derive(Debug, Clone)]
pub struct SessionOptions {
    /// Id of the stream, for prompts.
    pub stream: String,
    /// Share of the device's time, against other sessions' weights.
    pub weight: u32,
    /// Who gives way when the queue is full.
    pub policy: DropPolicy,
    /// Complete windows that may wait.
    pub max_queued: usize,
    /// What is asked.
    pub ask: Ask,
}

/// One element's place at an engine.
pub struct Session {
    engine: Arc<Engine>,
    id: u64,
    epoch: Epoch,
}

impl Session {
    /// The place that the engine made under this id.
    pub(super) fn new(engine: Arc<Engine>, id: u64, epoch: Epoch) -> Self {
        Self { engine, id, epoch }
    }

    /// Offers pairs for encoding while their window fills; each is skipped if nobody needs it by the
    /// time its turn comes. `of` is the oldest window that they are of.
    pub(super) fn offer_pairs(&self, pairs: &[Arc<Pair>], of: Option<Coming>, epoch: u64) {
        let mut state = self.engine.shared.state();
        if let Some(session) = state.wake(self.id).filter(|session| session.accepts(epoch)) {
            session.pairs.offer(pairs, of);
        }
        drop(state);
        self.engine.shared.changed.notify_all();
    }

    /// Queues a window by the drop policy, unless a flush has come since `epoch`. Only
    /// [`DropPolicy::Block`] waits.
    pub(super) fn submit(&self, job: Job, epoch: u64) -> Sent<Job> {
        let mut state = self.engine.shared.state();
        loop {
            let failed = matches!(state.load, Load::Failed(_));
            let Some(session) = state.wake(self.id) else {
                return Sent::Flushing(job);
            };
            if !session.accepts(epoch) || failed {
                return Sent::Flushing(job);
            }
            if session.policy == DropPolicy::Block && session.windows.is_full() {
                state = self.engine.shared.wait(state);
                continue;
            }
            let policy = session.policy;
            let sent = session.windows.offer(job, policy);
            drop(state);
            self.engine.shared.changed.notify_all();
            return sent;
        }
    }

    /// Queues a question of the application's, unless a flush has come since `epoch`: its frames
    /// may have been prepared under other privacy masks.
    ///
    /// # Errors
    /// Why it will not be answered.
    pub(super) fn inquire(&self, asked: Asked, epoch: u64) -> Result<(), String> {
        let mut state = self.engine.shared.state();
        if let Load::Failed(reason) = &state.load {
            return Err(reason.clone());
        }
        if let Some(session) = state.sessions.get_mut(&self.id) {
            if session.epoch.get() != epoch {
                return Err(FLUSHED.into());
            }
            session.inquiries.push_back(asked);
        }
        drop(state);
        self.engine.shared.changed.notify_all();
        Ok(())
    }

    /// Raised by every flush: what was begun under another number is thrown away. Waits for nobody.
    pub(super) fn epoch(&self) -> u64 {
        self.epoch.get()
    }

    /// Changes what the next windows are asked; whether that is something else.
    pub fn set_ask(&self, ask: Ask) -> bool {
        let mut other = false;
        self.with(|session| {
            let kept: Vec<String> = ask.all().iter().map(|q| q.id.clone()).collect();
            session.asked.retain(|id, _| kept.contains(id));
            other = *session.ask != ask;
            session.ask = Arc::new(ask);
        });
        other
    }

    /// Changes who gives way when the queue is full.
    pub fn set_policy(&self, policy: DropPolicy) {
        self.with(|session| session.policy = policy);
    }

    /// Changes the name of the stream in prompts.
    pub fn set_stream(&self, stream: &str) {
        self.with(|session| stream.clone_into(&mut session.stream));
    }

    /// Complete windows that wait.
    pub fn queued(&self) -> usize {
        let state = self.engine.shared.state();
        state
            .sessions
            .get(&self.id)
            .map_or(0, |session| session.windows.len())
    }

    /// Drops everything in flight and refuses more until [`stop_flush`](Self::stop_flush). When it
    /// returns, nothing of what was before will be put in the outlet any more.
    pub(super) fn start_flush(&self) {
        self.with(|session| {
            session.flushing = true;
            session.forget();
        });
    }

    /// Drops everything in flight and what was said, and goes on. When it returns, nothing of what
    /// was before will be put in the outlet any more.
    pub(super) fn restart(&self) {
        self.with(SessionState::forget);
    }

    /// Accepts windows again.
    pub fn stop_flush(&self) {
        self.with(|session| session.flushing = false);
    }

    /// Waits until the reports of all queued windows are in the outlet, at most until `deadline`.
    pub fn wait_idle(&self, deadline: Instant) -> Waited {
        let mut state = self.engine.shared.state();
        loop {
            let failed = matches!(state.load, Load::Failed(_));
            let Some(session) = state.sessions.get(&self.id) else {
                return Waited::Interrupted;
            };
            if session.flushing || failed {
                return Waited::Interrupted;
            }
            let waiting = !session.windows.is_empty() || !session.inquiries.is_empty();
            if !waiting && session.running.is_none() {
                return Waited::Idle;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left == Duration::ZERO {
                return Waited::TimedOut;
            }
            state = self.engine.shared.wait_for(state, left);
        }
    }

    /// A session of the same kind at another engine.
    pub(super) fn heir(&self, engine: &Arc<Engine>, outlet: Outlet) -> Self {
        let options = {
            let state = self.engine.shared.state();
            // It is there: only the drop of this session removes it.
            state.sessions[&self.id].options()
        };
        engine.session(options, outlet)
    }

    /// Takes over everything but work from a session, whose work goes before its own.
    pub(super) fn inherit(&self, old: &Self) {
        let mut left = None;
        old.with(|session| left = Some(session.legacy()));
        self.with(|session| {
            session.held = true;
            if let Some(left) = left {
                session.take_over(left);
            }
        });
    }

    /// Lets its work be done.
    pub(super) fn release(&self) {
        self.with(|session| session.held = false);
    }

    /// There will be no more work: calls `drained` when all has been told, perhaps now.
    pub(super) fn retire(&self, drained: Drained) {
        self.with(|session| session.drained = Some(drained));
        self.engine.shared.call_drained();
    }

    /// Whether the model is loaded.
    pub(super) fn is_ready(&self) -> bool {
        matches!(self.engine.shared.state().load, Load::Ready)
    }

    /// Whether nothing can be hoped for: the device has been silent for this long, or the model
    /// cannot be used.
    pub(super) fn is_lost(&self, patience: Duration) -> bool {
        let silent = !patience.is_zero() && self.engine.silence() >= patience;
        let failed = || {
            let state = self.engine.shared.state();
            matches!(state.load, Load::Failed(_))
        };
        silent || failed()
    }

    /// The checkpoint that its engine runs.
    pub(super) fn checkpoint(&self) -> Arc<Checkpoint> {
        self.engine.shared.checkpoint.clone()
    }

    fn with(&self, change: impl FnOnce(&mut SessionState)) {
        let mut state = self.engine.shared.state();
        if let Some(session) = state.sessions.get_mut(&self.id) {
            change(session);
        }
        drop(state);
        self.engine.shared.changed.notify_all();
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let mut state = self.engine.shared.state();
        let session = state.sessions.remove(&self.id);
        drop(state);
        if let Some(cancel) = session.and_then(|s| s.running) {
            cancel.cancel();
        }
        self.engine.shared.changed.notify_all();
    }
}
