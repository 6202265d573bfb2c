// SPDX-License-Identifier: MPL-2.0

//! A caption: what was answered, about which frames, and what it cost.

use std::sync::Arc;
use std::time::Duration;

use super::evidence::Evidence;
use super::window_info::WindowInfo;
use crate::caption::frames::window::FrameTime;
use crate::caption::questions::alarm::{Observation, Watch};
use crate::caption::questions::question::Question;
use crate::vlm::generate::{Drafts, StopReason};

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
    /// The same for each of its kind's
    /// [choices](crate::caption::questions::question::Kind::choices); empty where it is `None`.
    pub probabilities: Vec<f64>,
    /// Number of the window since the stream began, from 1; dropped windows have numbers too.
    pub sequence: u64,
    /// The frames it is about, in order of time.
    pub frames: Vec<FrameTime>,
    /// [`Ask::hash`](crate::caption::questions::prompt::Ask::hash) of what was asked.
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
    /// Tokens that were drafted from the last answer, and how many of them were said.
    pub drafts: Drafts,
    /// Why the answer ended.
    pub stop_reason: StopReason,
    /// From the moment the window was complete to the moment its turn came.
    pub queue_wait: Duration,
    /// From that turn to the first token.
    pub ttft: Duration,
    /// From that turn to the last token.
    pub total: Duration,
    /// What it was made of, if [that was asked for](crate::caption::questions::prompt::Ask).
    pub evidence: Option<Arc<Evidence>>,
    /// How it stands to the captions before.
    pub window_info: WindowInfo,
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
