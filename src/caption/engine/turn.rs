// SPDX-License-Identifier: MPL-2.0

//! What a turn on the device is about, and what it comes to.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use super::drafters::Drafters;
use crate::backend::Cancel;
use crate::caption::frames::window::{FrameTime, Pair, Window};
use crate::caption::questions::inquiry::Inquiry;
use crate::caption::questions::prompt::Ask;
use crate::caption::questions::question::{Kind, Question};
use crate::caption::reports::caption::Caption;
use crate::caption::reports::reporter::Outlet;
use crate::caption::reports::window_info::WindowInfo;
use crate::vlm::{self, Checkpoint, generate::GenerateOptions, sampling::Sampling};

/// A session's number that every flush raises: what was begun under another one is not reported. It
/// is changed under the engine's lock and read without it, so that a streaming thread never waits
/// there.
#[derive(Clone, Default)]
pub(crate) struct Epoch(Arc<AtomicU64>);

impl Epoch {
    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }

    pub(crate) fn set(&self, epoch: u64) {
        self.0.store(epoch, Ordering::Release);
    }
}

/// A window in the queue.
pub(crate) struct Job {
    pub(crate) sequence: u64,
    pub(crate) window: Window,
    pub(crate) window_info: WindowInfo,
    pub(crate) complete_since: Instant,
}

/// A question of the application's in the queue, with the frames that it is about.
pub(crate) struct InquiryJob {
    pub(crate) inquiry: Inquiry,
    /// `None` if a flush has taken them away.
    pub(crate) job: Option<Job>,
}

impl InquiryJob {
    pub(crate) fn new(inquiry: Inquiry, sequence: u64, window: Window) -> Self {
        Self {
            inquiry,
            job: Some(Job {
                sequence,
                window,
                window_info: WindowInfo::default(),
                complete_since: Instant::now(),
            }),
        }
    }
}

/// A turn on the device.
pub(crate) struct Turn {
    /// Number of the session.
    pub(crate) session: u64,
    /// The session's epoch when it began.
    pub(crate) epoch: u64,
    pub(crate) outlet: Outlet,
    /// Name of the element.
    pub(crate) element: Arc<str>,
    pub(crate) cancel: Cancel,
    pub(crate) work: Work,
}

/// What is done in a turn.
pub(crate) enum Work {
    Pair {
        pair: Arc<Pair>,
        /// The window that it is of, if its prompt may begin to be computed.
        ahead: Option<Box<Context>>,
    },
    Window {
        context: Box<Context>,
        /// Those of its questions that are due.
        questions: Vec<Arc<Question>>,
    },
    Inquiry {
        inquiry: Inquiry,
        /// `None` if a flush has taken it away.
        context: Option<Box<Context>>,
    },
}

/// A window and all that prompts about it are made of.
pub(crate) struct Context {
    pub(crate) job: Job,
    /// How it is asked; which questions is told apart from it.
    pub(crate) ask: Arc<Ask>,
    /// Name of the element.
    pub(crate) element: Arc<str>,
    pub(crate) stream: String,
    /// Earlier exchanges, the oldest first.
    pub(crate) history: Vec<vlm::Turn>,
    /// The caption before, for `{last}`.
    pub(crate) last: String,
    /// Of its session; `None` without drafts.
    pub(crate) drafters: Option<Drafters>,
}

impl Context {
    /// Upper bound of an answer's tokens.
    pub(crate) fn max_tokens(&self, question: &Question) -> usize {
        let asked = question.max_tokens.unwrap_or(self.ask.max_tokens);
        match question.kind {
            Kind::Caption => self.job.window_info.rung.max_tokens(asked),
            // Cut short, it would be another answer.
            _ => asked,
        }
    }

    pub(crate) fn options(&self, question: &Question, checkpoint: &Checkpoint) -> GenerateOptions {
        let defaults = &checkpoint.defaults;
        self.options_beside(question, defaults.repetition_penalty, defaults.eos.clone())
    }

    /// The same with what is not set as it is given.
    pub(crate) fn options_beside(
        &self,
        question: &Question,
        repetition_penalty: f32,
        eos: Vec<u32>,
    ) -> GenerateOptions {
        let ask = &self.ask;
        GenerateOptions {
            max_tokens: self.max_tokens(question),
            sampling: Sampling {
                temperature: ask.temperature,
                top_p: ask.top_p,
                top_k: ask.top_k,
                min_p: ask.min_p,
                repetition_penalty: ask.repetition_penalty.unwrap_or(repetition_penalty),
                seed: ask.seed,
            },
            eos,
            stop: ask.stop.clone(),
        }
    }
}

/// What a turn came to.
pub(crate) enum Outcome {
    Encoded,
    /// All has been told; the exchange is what later prompts may be given as context.
    Answered(Option<vlm::Turn>),
    /// Of an inquiry.
    Inquired(Result<Box<Caption>, String>),
    Failed {
        frames: Vec<FrameTime>,
        reason: String,
    },
    Cancelled,
}
