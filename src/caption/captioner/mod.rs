// SPDX-License-Identifier: MPL-2.0

//! One element's way from sampled frames to captions: its prepare thread, its windows, its session.

mod handover;
mod lane;
mod preparer;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use handover::Manner;
use lane::{Command, Lane};
use preparer::Preparer;

pub use lane::{Counters, MAX_KEPT, Options, ReadPixels, Sample};

use super::engine::Engine;
use super::frames::ladder::Rung;
use super::frames::rules::Rules;
use super::mailbox::{DropPolicy, Sent, Waited};
use super::questions::inquiry::Inquiry;
use super::questions::prompt::Ask;
use super::reports::outbox::Listener;
use super::reports::report::{DropReason, WindowReport};

/// Frames in, captions out, for one element.
pub struct Captioner {
    lane: Arc<Lane>,
    thread: Option<JoinHandle<()>>,
}

impl Captioner {
    /// Begins; `listener` hears what comes of it, from other threads, until this is dropped.
    pub fn start(
        engine: &Arc<Engine>,
        options: Options,
        listener: Listener,
    ) -> std::io::Result<Self> {
        let lane = Arc::new(Lane::new(engine, &options, listener)?);
        let processor = engine.processor().clone();
        let thread = {
            let lane = lane.clone();
            std::thread::Builder::new()
                .name("vlmcaption-prep".into())
                .spawn(move || Preparer::new(&lane, processor, &options).run())?
        };
        Ok(Self {
            lane,
            thread: Some(thread),
        })
    }

    /// Hands a sampled frame over; never waits unless the policy is [`DropPolicy::Block`]. False
    /// at a flush.
    pub fn submit(&self, sample: Sample) -> bool {
        let policy = *self.lane.policy.lock().unwrap();
        // A hole inside a window is worse than a window that ends early, so it is the arriving
        // frame that gives way here, whichever windows give way later.
        let policy = if policy == DropPolicy::Block {
            policy
        } else {
            DropPolicy::Oldest
        };
        let epoch = self.lane.sessions.current().epoch();
        match self
            .lane
            .mailbox
            .send(Command::Sample(epoch, Instant::now(), sample), policy)
        {
            Sent::Queued => true,
            Sent::Flushing(_) => false,
            Sent::Replaced(command) | Sent::Refused(command) => {
                if let Command::Sample(..) = command {
                    self.lane
                        .counters
                        .dropped_frames
                        .fetch_add(1, Ordering::Relaxed);
                    self.lane.reporter.report(WindowReport::Dropped {
                        reason: DropReason::Prepare,
                        count: 1,
                    });
                }
                true
            }
        }
    }

    /// Asks a question about the frames at hand: those of the window being filled, or else of the
    /// last one. Comes to an [`InquiryReport`](super::reports::report::InquiryReport), unless it is
    /// cancelled or this is dropped.
    pub fn inquire(&self, inquiry: Inquiry) {
        let epoch = self.lane.sessions.current().epoch();
        self.lane
            .mailbox
            .send_control(Command::Inquire(epoch, inquiry));
    }

    /// Ends the windows being filled: they are captioned with the frames they have.
    pub fn close_window(&self) {
        let epoch = self.lane.sessions.current().epoch();
        self.lane.mailbox.send_control(Command::Close(epoch));
    }

    /// The stream has come to this PTS without a frame: if that is longer after the last one than a
    /// window, the windows being filled end.
    pub fn pass(&self, pts: Duration) {
        let epoch = self.lane.sessions.current().epoch();
        self.lane.mailbox.send_control(Command::Pass(epoch, pts));
    }

    /// Ends the windows being filled and waits, at most `timeout`, until all is captioned and told; a
    /// listener that calls this waits for nothing.
    pub fn drain(&self, timeout: Duration) -> Waited {
        if self.lane.reporter.outbox().is_own_thread() {
            return Waited::Interrupted;
        }
        let deadline = moment_after(timeout);
        self.close_window();
        let captioned = match self.lane.mailbox.wait_idle(deadline) {
            Waited::Idle => self.lane.sessions.wait_idle(deadline),
            other => other,
        };
        match self.lane.reporter.outbox().wait_idle(deadline) {
            Waited::Idle => captioned,
            other => other,
        }
    }

    /// Drops everything in flight and wakes whoever waits, until [`stop_flush`](Self::stop_flush).
    /// When it returns, nothing of what was before will be reported any more, unless a listener does
    /// not return from what it was being told.
    pub fn start_flush(&self) {
        self.begin_flush();
        self.lane.reporter.outbox().flush();
    }

    fn begin_flush(&self) {
        // The mailbox first: nothing new may be stamped with the session's next epoch.
        let dropped = self.lane.mailbox.start_flush();
        self.lane.sessions.start_flush();
        self.lane.reporter.reset();
        self.lane.flushed(dropped);
    }

    /// Begins anew after [`start_flush`](Self::start_flush).
    pub fn stop_flush(&self) {
        self.lane.sessions.stop_flush();
        self.lane.mailbox.stop_flush();
        self.lane.mailbox.send_control(Command::Reset);
    }

    /// Changes what the next windows are asked.
    pub fn set_ask(&self, ask: Ask) {
        if self.lane.sessions.set_ask(ask) {
            self.lane.reporter.lose();
        }
    }

    /// Changes what the model is shown from now on. With other masks everything in flight is
    /// dropped and what was said is forgotten: no frame that was prepared under the old ones
    /// reaches the model once this has returned.
    pub fn set_rules(&self, rules: Rules) {
        let masks_differ = {
            let mut current = self.lane.rules.lock().unwrap();
            if rules.revision < current.revision {
                return;
            }
            let differ = current.masks != rules.masks;
            self.lane.reporter.set_budget(rules.latency_budget);
            *current = rules;
            differ
        };
        if masks_differ {
            self.restart();
        }
    }

    /// Forgets what was said, what is in flight and the windows being filled, and goes on with the
    /// next frame.
    pub fn restart(&self) {
        // The mailbox first: a frame that comes in between is thrown away by its epoch, and none
        // of the next epoch joins a window from before.
        let dropped = self.lane.mailbox.restart(Command::Restart);
        self.lane.sessions.restart();
        self.lane.reporter.reset();
        self.lane.flushed(dropped);
        self.lane.reporter.outbox().flush();
    }

    /// Begins to go over to another model: windows go to it once it is loaded, from the next
    /// boundary of windows on, and `listener` hears what comes of them. What was given to the model
    /// before is answered first.
    pub fn change_model(&self, engine: &Arc<Engine>, listener: Listener) {
        self.begin_change(engine, listener, Manner::InOrder);
    }

    /// The same with the next frame, once the other model is loaded: the one before has failed, and
    /// what it was given is given up.
    pub fn fail_over(&self, engine: &Arc<Engine>, listener: Listener) {
        self.begin_change(engine, listener, Manner::AtOnce);
    }

    fn begin_change(&self, engine: &Arc<Engine>, listener: Listener, manner: Manner) {
        let outlet = self.lane.reporter.outlet_of(listener);
        self.lane.sessions.begin_change(engine, outlet, manner);
    }

    /// Stays with the model that there is.
    pub fn keep_model(&self) {
        self.lane.sessions.stay();
    }

    /// Stops waiting for the answers of models before the current one that are silent for
    /// `patience` (zero waits for ever) or cannot be used.
    pub fn give_up_lost(&self, patience: Duration) {
        self.lane.sessions.give_up_lost(patience);
    }

    /// Changes the drop policy.
    pub fn set_policy(&self, policy: DropPolicy) {
        *self.lane.policy.lock().unwrap() = policy;
        self.lane.sessions.set_policy(policy);
    }

    /// Changes the name of the stream in prompts.
    pub fn set_stream(&self, stream: &str) {
        self.lane.sessions.set_stream(stream);
    }

    /// Complete windows that wait for the model.
    pub fn queued(&self) -> usize {
        self.lane.sessions.queued()
    }

    /// Number of the epoch: each flush and restart begins one, and drops what is in flight of those
    /// before.
    pub fn epoch(&self) -> u64 {
        self.lane.sessions.current().epoch()
    }

    /// What the next windows get of what was asked for.
    pub fn rung(&self) -> Rung {
        self.lane.reporter.rung().1
    }

    /// Numbers since the start.
    pub fn counters(&self) -> &Counters {
        &self.lane.counters
    }
}

/// The moment that comes after a time, however long it is.
pub fn moment_after(timeout: Duration) -> Instant {
    /// No stream goes on for longer.
    const FOR_EVER: Duration = Duration::from_secs(100 * 365 * 86_400);
    let now = Instant::now();
    now.checked_add(timeout).unwrap_or_else(|| now + FOR_EVER)
}

impl Drop for Captioner {
    fn drop(&mut self) {
        self.begin_flush();
        self.lane.mailbox.close();
        // The prepare thread may wait for room there.
        self.lane.reporter.outbox().close();
        if let Some(thread) = self.thread.take()
            && thread.thread().id() != std::thread::current().id()
        {
            // A panic in it was caught and reported there.
            let _ = thread.join();
        }
        self.lane.reporter.outbox().end();
    }
}
