// SPDX-License-Identifier: MPL-2.0

//! What the element hears from the threads below it, by what it is about.

use std::time::Duration;

use super::caption::Caption;
use crate::caption::frames::gate::Gated;
use crate::caption::frames::ladder::Step;
use crate::caption::frames::window::FrameTime;

/// What the element hears.
#[derive(Debug, Clone, PartialEq)]
pub enum Report {
    /// Of a model.
    Model(ModelReport),
    /// Of a window.
    Window(WindowReport),
    /// Of a question that the application asked once.
    Inquiry(InquiryReport),
}

/// What becomes of a model.
#[derive(Debug, Clone, PartialEq)]
pub enum ModelReport {
    /// Weights are being read; 0.0..=1.0.
    Loading(f32),
    /// The model is ready.
    Loaded {
        /// How long reading took.
        took: Duration,
        /// What is worth a line in a log.
        remark: Option<String>,
        /// What the user should know before the first window is answered.
        notices: Vec<Notice>,
    },
    /// The model cannot be used; no caption will come until [`Loaded`](Self::Loaded). It is tried
    /// again by itself.
    Failed(String),
    /// Windows from now on go to the model that this was told of, and no longer to the one before.
    ChangedOver,
    /// The device failed again and again: the model is loaded anew. What was in flight is lost.
    Restarting,
}

/// What the user should know of a model that can be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// How things are.
    Info(String),
    /// Something is less than was asked for.
    Warning(String),
}

/// What becomes of windows and their frames.
#[derive(Debug, Clone, PartialEq)]
pub enum WindowReport {
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

/// What became of an [`Inquiry`](crate::caption::questions::inquiry::Inquiry).
#[derive(Debug, Clone, PartialEq)]
pub struct InquiryReport {
    /// Its number.
    pub id: u64,
    /// The answer, or why there is none.
    pub answer: Result<Box<Caption>, String>,
}

/// Why frames or windows got no caption.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DropReason {
    /// The model was busy and the drop policy chose this window.
    Busy,
    /// Frames came faster than they could be converted and resized.
    Prepare,
    /// Captions came later than the latency budget, at the lowest rungs of the
    /// [ladder](crate::caption::frames::ladder::Ladder).
    Overload,
}

impl WindowReport {
    /// Something failed that belongs to no window.
    pub(crate) fn failed(reason: String) -> Self {
        let frames = Vec::new();
        Self::Failed { frames, reason }
    }
}

impl From<ModelReport> for Report {
    fn from(report: ModelReport) -> Self {
        Self::Model(report)
    }
}

impl From<WindowReport> for Report {
    fn from(report: WindowReport) -> Self {
        Self::Window(report)
    }
}

impl From<InquiryReport> for Report {
    fn from(report: InquiryReport) -> Self {
        Self::Inquiry(report)
    }
}
