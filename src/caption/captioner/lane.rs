// SPDX-License-Identifier: MPL-2.0

//! What goes from an element to its prepare thread, and what both share.

use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::handover::Sessions;
use crate::caption::engine::Engine;
use crate::caption::engine::session::{Session, SessionOptions};
use crate::caption::frames::ladder::Ladder;
use crate::caption::frames::picture::Picture;
use crate::caption::frames::rules::Rules;
use crate::caption::frames::sampler::Rate;
use crate::caption::frames::window::FrameTime;
use crate::caption::mailbox::{DropPolicy, Mailbox};
use crate::caption::questions::inquiry::{FLUSHED, Inquiry};
use crate::caption::reports::outbox::Listener;
use crate::caption::reports::report::InquiryReport;
use crate::caption::reports::reporter::Reporter;
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
    /// Whether frames are kept until their window is answered: for
    /// [evidence](crate::caption::reports::evidence).
    pub keeps_frames: bool,
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

/// What the captioner and its prepare thread share.
pub(crate) struct Lane {
    pub(crate) sessions: Sessions,
    pub(crate) mailbox: Mailbox<Command>,
    pub(crate) policy: Mutex<DropPolicy>,
    pub(crate) rules: Mutex<Rules>,
    pub(crate) counters: Counters,
    pub(crate) reporter: Arc<Reporter>,
}

impl Lane {
    pub(crate) fn new(
        engine: &Arc<Engine>,
        options: &Options,
        listener: Listener,
    ) -> std::io::Result<Self> {
        let patch = engine.processor().temporal_patch_size();
        let ladder = Ladder::new(options.window, patch);
        let reporter = Reporter::start(listener, ladder, options.rules.latency_budget)?;
        let session = Session::begin(engine, options.session.clone(), reporter.outlet());
        Ok(Self {
            sessions: Sessions::new(session),
            mailbox: Mailbox::new(MAX_SAMPLES),
            policy: Mutex::new(options.session.policy),
            rules: Mutex::new(options.rules.clone()),
            counters: Counters::default(),
            reporter,
        })
    }

    /// Commands were dropped: whoever asked something is told.
    pub(crate) fn flushed(&self, commands: Vec<Command>) {
        for command in commands {
            if let Command::Inquire(_, inquiry) = command {
                self.unanswered(&inquiry, FLUSHED.into());
            }
        }
    }

    pub(crate) fn unanswered(&self, inquiry: &Inquiry, reason: String) {
        self.reporter.report(InquiryReport {
            id: inquiry.id,
            answer: Err(reason),
        });
    }
}

/// Each command carries the session's epoch of when it was sent.
pub(crate) enum Command {
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
