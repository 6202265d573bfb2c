// SPDX-License-Identifier: MPL-2.0

//! Frames in, captions out: sampling, windows, and the threads that keep a model busy without
//! ever making a camera wait.
//!
//! ```text
//! streaming thread      prepare thread (one per element)      engine thread (one per model)
//!  Sampler ──Sample──►   read, resize, Windower ──Pair──────►  vision net
//!          mailbox                              ──Window────►  prompt, prefill, decode
//!                                                                  │
//!  element ◄── reporting thread (one per element) ◄── Report ◄─────┘
//! ```

pub mod alarm;
pub mod captioner;
pub mod engine;
pub mod gate;
mod handover;
pub mod inquiry;
pub mod ladder;
pub mod mailbox;
pub mod mask;
mod motion;
pub mod note;
pub mod outbox;
mod pairs;
pub mod panic;
pub mod picture;
mod prepare;
pub mod prompt;
pub mod question;
pub mod repeats;
mod reporter;
pub mod rules;
pub mod sampler;
mod scene;
mod schedule;
mod seat;
pub mod session;
pub mod source;
pub mod timeline;
mod watched;
pub mod window;
mod worker;

use std::sync::Arc;
use std::time::Duration;

use crate::vlm::generate::StopReason;
use alarm::{Observation, Watch};
use gate::Gated;
use ladder::Step;
use note::Note;
use question::Question;
use window::FrameTime;

/// What a model answered to one question about one window.
#[derive(Debug, Clone, PartialEq)]
pub struct Caption {
    /// What was asked.
    pub question: Arc<Question>,
    /// The text: of a yes-no question or a choice one of its answers, of a count the number.
    pub text: String,
    /// How likely the answer is among all that have its form, 0..=1; `None` for texts, and from
    /// backends that do not tell.
    pub probability: Option<f64>,
    /// The same for each of [`Kind::choices`](question::Kind::choices); empty where it is `None`.
    pub probabilities: Vec<f64>,
    /// Number of the window since the stream began, from 1; dropped windows have numbers too.
    pub sequence: u64,
    /// The frames it is about, in order of time.
    pub frames: Vec<FrameTime>,
    /// [`Ask::hash`](prompt::Ask::hash) of what was asked.
    pub prompt_hash: String,
    /// Rows of the prompt.
    pub tokens_in: usize,
    /// Of these, rows that were there already: from another question about the window, from the
    /// beginning that prompts have in common, or computed while the window filled.
    pub reused: usize,
    /// Pairs that an earlier window or question was about too, so that they were not encoded again;
    /// said by the first answer about a window.
    pub reused_pairs: usize,
    /// Tokens of the answer.
    pub tokens_out: usize,
    /// Why the answer ended.
    pub stop_reason: StopReason,
    /// From the moment the window was complete to the moment its turn came.
    pub queue_wait: Duration,
    /// From that turn to the first token.
    pub ttft: Duration,
    /// From that turn to the last token.
    pub total: Duration,
    /// How it stands to the captions before.
    pub note: Note,
}

impl Caption {
    /// PTS of the first frame.
    pub fn start(&self) -> Duration {
        self.frames.first().map_or(Duration::ZERO, |f| f.pts)
    }

    /// PTS of the last frame.
    pub fn end(&self) -> Duration {
        self.frames.last().map_or(Duration::ZERO, |f| f.pts)
    }

    /// What the question's rule sees in the answer; `None` without a rule.
    ///
    /// An answer without a probability counts as certain.
    pub fn observation(&self) -> Option<Observation> {
        let rule = self.question.rule.as_ref()?;
        let value = match rule.watch {
            Watch::Number => self.text.parse().ok()?,
            Watch::Answer(index) => match self.probabilities.get(index) {
                Some(probability) => *probability,
                None => {
                    let watched = self.question.kind.choices().get(index)?;
                    f64::from(u8::from(*watched == self.text))
                }
            },
        };
        Some(Observation {
            first: *self.frames.first()?,
            last: *self.frames.last()?,
            value,
            sequence: self.sequence,
        })
    }
}

/// Why frames or windows got no caption.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DropReason {
    /// The model was busy and the drop policy chose this window.
    Busy,
    /// Frames came faster than they could be converted and resized.
    Prepare,
    /// Captions came later than the latency budget, at the lowest rungs of the
    /// [ladder](ladder::Ladder).
    Overload,
}

/// What the element hears from the threads below it.
#[derive(Debug, Clone, PartialEq)]
pub enum Report {
    /// Weights are being read; 0.0..=1.0.
    Loading(f32),
    /// The model is ready.
    Loaded {
        /// How long reading took.
        took: Duration,
        /// What is worth a line in a log.
        remark: Option<String>,
    },
    /// The model cannot be used; no caption will come until [`Loaded`](Self::Loaded). It is tried
    /// again by itself.
    LoadFailed(String),
    /// Windows from now on go to the model that this was told of, and no longer to the one before.
    ChangedOver,
    /// The device failed again and again: the model is loaded anew. What was in flight is lost.
    Restarting,
    /// The text of a window so far.
    Partial {
        /// Number of the window.
        sequence: u64,
        /// Id of the question.
        prompt_id: String,
        /// All text up to now.
        text: String,
    },
    /// A window held more than the model does: the caption is about its last frames.
    Cut {
        /// Frames that were left.
        frames: usize,
        /// Frames of the window.
        of: usize,
        /// Rows of the prompt with those frames.
        tokens: usize,
    },
    /// A question about a window was answered.
    Caption(Box<Caption>),
    /// One of several questions about a window was not answered; the others were.
    QuestionFailed {
        /// Its id.
        id: String,
        /// Why, and what to do.
        reason: String,
    },
    /// What became of an [`Inquiry`](inquiry::Inquiry).
    Answer {
        /// Its number.
        id: u64,
        /// The answer, or why there is none.
        answer: Result<Box<Caption>, String>,
    },
    /// A window could not be captioned: no question was answered.
    Failed {
        /// Its frames, if it came to be a window.
        frames: Vec<FrameTime>,
        /// Why, and what to do.
        reason: String,
    },
    /// Captions come too late: less is asked of the model from now on. Told once for the first step
    /// and once for the last, [`Step::Skip`].
    Overload(Step),
    /// No question was due when the turn of a window came.
    Unasked,
    /// A window was kept from the model, as the rules ask for.
    Gated {
        /// Why.
        why: Gated,
        /// The frames.
        frames: Vec<FrameTime>,
    },
    /// Frames or windows were dropped.
    Dropped {
        /// Why.
        reason: DropReason,
        /// Of [`DropReason::Prepare`] frames, else windows.
        count: u64,
    },
}
