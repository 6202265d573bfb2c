// SPDX-License-Identifier: MPL-2.0

//! One element's way from sampled frames to captions: its prepare thread, its windows, its session.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::engine::Engine;
use super::handover::Sessions;
use super::inquiry::{FLUSHED, Inquiry};
use super::ladder::{Ladder, Rung};
use super::mailbox::{DropPolicy, Mailbox, Sent, Waited};
use super::outbox::Listener;
use super::picture::Picture;
use super::prepare::Preparer;
use super::prompt::Ask;
use super::reporter::Reporter;
use super::rules::Rules;
use super::sampler::Rate;
use super::session::SessionOptions;
use super::window::FrameTime;
use super::{DropReason, Report};
use crate::vlm::PixelBudget;

/// Samples that may wait for the prepare thread; each holds a buffer of the stream's pool.
const MAX_SAMPLES: usize = 2;
/// Buffers that are kept for their pixels at most: those that wait, and the one being read.
pub const MAX_KEPT: u32 = MAX_SAMPLES as u32 + 1;

/// Gives what a viewer sees of a sampled frame, at its native size; called on the prepare thread.
pub type ReadPixels = Box<dyn FnOnce() -> Result<Picture, String> + Send>;

/// A frame that the sampler chose.
pub struct Sample {
    /// When.
    pub time: FrameTime,
    /// Number of the timeline that this is on; with another one windows and what is compared by
    /// time begin anew.
    pub timeline: u64,
    /// Running time of the last detection upstream, up to this frame.
    pub detection: Option<Duration>,
    /// How to get at the pixels; the buffer is free again once it is called or dropped.
    pub read: ReadPixels,
}

/// What stays the same from READY to NULL.
#[derive(Debug, Clone)]
pub struct Options {
    /// Samples per second.
    pub sample_rate: Rate,
    /// Frames of a window.
    pub window: usize,
    /// Frames from window to window.
    pub stride: usize,
    /// Pixels of a frame.
    pub budget: PixelBudget,
    /// What the model is not shown, to begin with.
    pub rules: Rules,
    /// The session's part.
    pub session: SessionOptions,
}

/// Numbers since the captioner began.
#[derive(Debug, Default)]
pub struct Counters {
    /// Frames that were read and resized.
    pub frames: AtomicU64,
    /// Frames dropped because preparing was too slow.
    pub dropped_frames: AtomicU64,
    /// Windows that became complete.
    pub windows: AtomicU64,
    /// Windows dropped because the model was busy.
    pub dropped_windows: AtomicU64,
    /// Windows that were skipped because captions came too late.
    pub skipped_windows: AtomicU64,
    /// Windows that were kept from the model: nothing moved, or nothing was detected.
    pub gated_windows: AtomicU64,
}

/// Frames in, captions out, for one element.
pub struct Captioner {
    inner: Arc<Inner>,
    thread: Option<JoinHandle<()>>,
}

/// What the captioner and its prepare thread share.
pub(super) struct Inner {
    pub(super) session: Sessions,
    pub(super) mailbox: Mailbox<Command>,
    policy: Mutex<DropPolicy>,
    pub(super) rules: Mutex<Rules>,
    pub(super) counters: Counters,
    pub(super) reporter: Arc<Reporter>,
}

impl Inner {
    pub(super) fn new(
        engine: &Arc<Engine>,
        options: &Options,
        listener: Listener,
    ) -> std::io::Result<Self> {
        let patch = engine.checkpoint().vlm.temporal_patch_size();
        let ladder = Ladder::new(options.window, patch);
        let reporter = Reporter::start(listener, ladder, options.rules.latency_budget)?;
        Ok(Self {
            session: Sessions::new(engine.session(options.session.clone(), reporter.outlet())),
            mailbox: Mailbox::new(MAX_SAMPLES),
            policy: Mutex::new(options.session.policy),
            rules: Mutex::new(options.rules.clone()),
            counters: Counters::default(),
            reporter,
        })
    }

    /// Commands were dropped: whoever asked something is told.
    fn flushed(&self, commands: Vec<Command>) {
        for command in commands {
            if let Command::Inquire(_, inquiry) = command {
                self.unanswered(&inquiry, FLUSHED.into());
            }
        }
    }

    pub(super) fn unanswered(&self, inquiry: &Inquiry, reason: String) {
        self.reporter.report(Report::Answer {
            id: inquiry.id,
            answer: Err(reason),
        });
    }
}

/// Each command carries the session's epoch of when it was sent.
pub(super) enum Command {
    Sample(u64, Instant, Sample),
    /// The windows being filled end here.
    Close(u64),
    /// The stream has come to this PTS without a frame.
    Pass(u64, Duration),
    /// A question about the frames at hand.
    Inquire(u64, Inquiry),
    /// Forget everything: after a flush.
    Reset,
    /// Forget everything but the number of the last window.
    Restart,
}

impl Captioner {
    /// Begins; `listener` hears what comes of it, from other threads, until this is dropped.
    pub fn start(
        engine: &Arc<Engine>,
        options: Options,
        listener: Listener,
    ) -> std::io::Result<Self> {
        let inner = Arc::new(Inner::new(engine, &options, listener)?);
        let (vlm, bounds) = {
            let checkpoint = engine.checkpoint();
            (checkpoint.vlm.clone(), checkpoint.bounds)
        };
        let thread = {
            let inner = inner.clone();
            std::thread::Builder::new()
                .name("vlmcaption-prep".into())
                .spawn(move || Preparer::new(&inner, vlm, bounds, &options).run())?
        };
        Ok(Self {
            inner,
            thread: Some(thread),
        })
    }

    /// Hands a sampled frame over; never waits unless the policy is [`DropPolicy::Block`]. False
    /// at a flush.
    pub fn submit(&self, sample: Sample) -> bool {
        let policy = *self.inner.policy.lock().unwrap();
        // A hole inside a window is worse than a window that ends early, so it is the arriving
        // frame that gives way here, whichever windows give way later.
        let policy = if policy == DropPolicy::Block {
            policy
        } else {
            DropPolicy::Oldest
        };
        let epoch = self.inner.session.epoch();
        match self
            .inner
            .mailbox
            .send(Command::Sample(epoch, Instant::now(), sample), policy)
        {
            Sent::Queued => true,
            Sent::Flushing(_) => false,
            Sent::Replaced(command) | Sent::Refused(command) => {
                if let Command::Sample(..) = command {
                    self.inner
                        .counters
                        .dropped_frames
                        .fetch_add(1, Ordering::Relaxed);
                    self.inner.reporter.report(Report::Dropped {
                        reason: DropReason::Prepare,
                        count: 1,
                    });
                }
                true
            }
        }
    }

    /// Asks a question about the frames at hand: those of the window being filled, or else of the
    /// last one. Comes to a [`Report::Answer`], unless it is cancelled or this is dropped.
    pub fn inquire(&self, inquiry: Inquiry) {
        let epoch = self.inner.session.epoch();
        self.inner
            .mailbox
            .send_control(Command::Inquire(epoch, inquiry));
    }

    /// Ends the windows being filled: they are captioned with the frames they have.
    pub fn close_window(&self) {
        let epoch = self.inner.session.epoch();
        self.inner.mailbox.send_control(Command::Close(epoch));
    }

    /// The stream has come to this PTS without a frame: if that is longer after the last one than a
    /// window, the windows being filled end.
    pub fn pass(&self, pts: Duration) {
        let epoch = self.inner.session.epoch();
        self.inner.mailbox.send_control(Command::Pass(epoch, pts));
    }

    /// Ends the windows being filled and waits, at most `timeout`, until all is captioned and told; a
    /// listener that calls this waits for nothing.
    pub fn drain(&self, timeout: Duration) -> Waited {
        if self.inner.reporter.outbox().is_own_thread() {
            return Waited::Interrupted;
        }
        let deadline = moment_after(timeout);
        self.close_window();
        let captioned = match self.inner.mailbox.wait_idle(deadline) {
            Waited::Idle => self.inner.session.wait_idle(deadline),
            other => other,
        };
        match self.inner.reporter.outbox().wait_idle(deadline) {
            Waited::Idle => captioned,
            other => other,
        }
    }

    /// Drops everything in flight and wakes whoever waits, until [`stop_flush`](Self::stop_flush).
    /// When it returns, nothing of what was before will be reported any more, unless a listener does
    /// not return from what it was being told.
    pub fn start_flush(&self) {
        self.begin_flush();
        self.inner.reporter.outbox().flush();
    }

    fn begin_flush(&self) {
        // The mailbox first: nothing new may be stamped with the session's next epoch.
        let dropped = self.inner.mailbox.start_flush();
        self.inner.session.start_flush();
        self.inner.reporter.reset();
        self.inner.flushed(dropped);
    }

    /// Begins anew after [`start_flush`](Self::start_flush).
    pub fn stop_flush(&self) {
        self.inner.session.stop_flush();
        self.inner.mailbox.stop_flush();
        self.inner.mailbox.send_control(Command::Reset);
    }

    /// Changes what the next windows are asked.
    pub fn set_ask(&self, ask: Ask) {
        if self.inner.session.set_ask(ask) {
            self.inner.reporter.lose();
        }
    }

    /// Changes what the model is shown from now on. With other masks everything in flight is
    /// dropped and what was said is forgotten: no frame that was prepared under the old ones
    /// reaches the model once this has returned.
    pub fn set_rules(&self, rules: Rules) {
        let masks_differ = {
            let mut current = self.inner.rules.lock().unwrap();
            if rules.revision < current.revision {
                return;
            }
            let differ = current.masks != rules.masks;
            self.inner.reporter.set_budget(rules.latency_budget);
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
        let dropped = self.inner.mailbox.restart(Command::Restart);
        self.inner.session.restart();
        self.inner.reporter.reset();
        self.inner.flushed(dropped);
        self.inner.reporter.outbox().flush();
    }

    /// Begins to go over to another model: windows go to it once it is loaded, from the next
    /// boundary of windows on, and `listener` hears what comes of them. What was given to the model
    /// before is answered first.
    pub fn change_model(&self, engine: &Arc<Engine>, listener: Listener) {
        let outlet = self.inner.reporter.outlet_of(listener);
        self.inner.session.prepare(engine, outlet);
    }

    /// Stays with the model that there is.
    pub fn keep_model(&self) {
        self.inner.session.stay();
    }

    /// Stops waiting for the answers of models before the current one that are silent for
    /// `patience` (zero waits for ever) or cannot be used.
    pub fn give_up_lost(&self, patience: Duration) {
        self.inner.session.give_up_lost(patience);
    }

    /// Changes the drop policy.
    pub fn set_policy(&self, policy: DropPolicy) {
        *self.inner.policy.lock().unwrap() = policy;
        self.inner.session.set_policy(policy);
    }

    /// Changes the name of the stream in prompts.
    pub fn set_stream(&self, stream: &str) {
        self.inner.session.set_stream(stream);
    }

    /// Complete windows that wait for the model.
    pub fn queued(&self) -> usize {
        self.inner.session.queued()
    }

    /// Number of the epoch: each flush and restart begins one, and drops what is in flight of those before.
    pub fn epoch(&self) -> u64 {
        self.inner.session.epoch()
    }

    /// What the next windows get of what was asked for.
    pub fn rung(&self) -> Rung {
        self.inner.reporter.rung().1
    }

    /// Numbers since the start.
    pub fn counters(&self) -> &Counters {
        &self.inner.counters
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
        self.inner.mailbox.close();
        // The prepare thread may wait for room there.
        self.inner.reporter.outbox().close();
        if let Some(thread) = self.thread.take()
            && thread.thread().id() != std::thread::current().id()
        {
            // A panic in it was caught and reported there.
            let _ = thread.join();
        }
        self.inner.reporter.outbox().end();
    }
}
