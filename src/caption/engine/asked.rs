// SPDX-License-Identifier: MPL-2.0

//! Questions about a window, and what their answers become, whatever answers.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::shared::Shared;
use super::turn::{Context, Outcome, Turn, Work};
use crate::backend::Cancel;
use crate::caption::frames::window::FrameTime;
use crate::caption::questions::inquiry::FLUSHED;
use crate::caption::questions::question::Question;
use crate::caption::reports::caption::Caption;
use crate::caption::reports::report::WindowReport;
use crate::caption::reports::window_info::WindowInfo;
use crate::caption::trace::{self, Span, Stage};
use crate::vlm;
use crate::vlm::generate::Generated;

/// Questions about a window, to be answered in their order.
pub(crate) struct Asked<'a> {
    pub(crate) context: &'a Context,
    pub(crate) questions: &'a [Arc<Question>],
    pub(crate) cancel: &'a Cancel,
}

/// Why no question was answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Stop {
    /// Nobody waits for it any more.
    Cancelled,
    /// In the words of somebody who sets properties.
    Failed(String),
}

/// When a turn began, and how long its window had waited.
pub(crate) struct Timing {
    pub(crate) began: Instant,
    queue_wait: Duration,
}

/// Makes the turn of a window or of an inquiry; `answer` answers its questions.
pub(crate) fn answered(
    shared: &Shared,
    turn: &Turn,
    answer: impl FnOnce(&Asked<'_>, &mut dyn FnMut(WindowReport)) -> Result<Option<vlm::Turn>, Stop>,
) -> Outcome {
    let cancel = &turn.cancel;
    match &turn.work {
        Work::Pair { .. } => Outcome::Encoded,
        Work::Inquiry { inquiry, context } => {
            let Some(context) = context else {
                return Outcome::Inquired(Err(FLUSHED.into()));
            };
            let asked = Asked {
                context,
                questions: std::slice::from_ref(&inquiry.question),
                cancel,
            };
            let mut said = None;
            let mut tell = |report| {
                if let WindowReport::Caption(caption) = report {
                    said = Some(caption);
                }
            };
            let result = answer(&asked, &mut tell);
            Outcome::Inquired(match (result, said) {
                (Ok(_), Some(caption)) => Ok(caption),
                (Ok(_), None) | (Err(Stop::Cancelled), _) => Err(FLUSHED.into()),
                (Err(Stop::Failed(reason)), _) => Err(reason),
            })
        }
        Work::Window { context, questions } => {
            // Nobody waits for what a flush has overtaken; the cancel ends the turn.
            let mut tell = |report| shared.tell(turn, report);
            if questions.is_empty() {
                tell(WindowReport::Unasked);
                return Outcome::Answered(None);
            }
            let asked = Asked {
                context,
                questions,
                cancel,
            };
            match answer(&asked, &mut tell) {
                Ok(exchange) => Outcome::Answered(exchange),
                Err(Stop::Cancelled) => Outcome::Cancelled,
                Err(Stop::Failed(reason)) => Outcome::Failed {
                    frames: context.job.window.frames.clone(),
                    reason,
                },
            }
        }
    }
}

impl Asked<'_> {
    /// The turn begins.
    pub(crate) fn begin(&self) -> Timing {
        let (complete, began) = (self.context.job.complete_since, Instant::now());
        self.tell_span(Stage::Queue, "", 0, (complete, began));
        Timing {
            queue_wait: began.saturating_duration_since(complete),
            began,
        }
    }

    /// A piece of time has ended that went to this window.
    pub(crate) fn tell_span(
        &self,
        stage: Stage,
        question: &str,
        tokens: usize,
        (began, ended): (Instant, Instant),
    ) {
        trace::tell(&Span {
            stage,
            element: &self.context.element,
            window: self.context.job.sequence,
            question,
            tokens,
            began,
            ended,
        });
    }

    /// What an answer took that was begun at a time.
    fn tell_answer(&self, question: &Question, answer: &Generated, began: Instant) {
        let (first, last) = (began + answer.ttft, began + answer.total);
        let id = &question.id;
        self.tell_span(Stage::Prefill, id, answer.tokens_in, (began, first));
        self.tell_span(Stage::Decode, id, answer.tokens_out, (first, last));
    }

    /// An answer that was begun `before` after the turn's begin becomes a caption.
    pub(crate) fn caption(
        &self,
        question: &Arc<Question>,
        answer: Generated,
        frames: &[FrameTime],
        timing: &Timing,
        before: Duration,
    ) -> Caption {
        let context = self.context;
        self.tell_answer(question, &answer, timing.began + before);
        Caption {
            question: question.clone(),
            text: answer.text,
            probability: answer.probability,
            probabilities: answer.probabilities,
            sequence: context.job.sequence,
            frames: frames.to_vec(),
            prompt_hash: context.ask.hash(question),
            tokens_in: answer.tokens_in,
            reused: answer.reused,
            reused_pairs: 0,
            tokens_out: answer.tokens_out,
            drafts: answer.drafts,
            stop_reason: answer.stop_reason,
            queue_wait: timing.queue_wait,
            ttft: before + answer.ttft,
            total: before + answer.total,
            evidence: None,
            window_info: WindowInfo {
                max_tokens: context.max_tokens(question),
                ..context.job.window_info
            },
        }
    }

    /// Tells the text of an answer as it grows, if that is wanted.
    pub(crate) fn partial(
        &self,
        question: &Question,
        text: &str,
        tell: &mut dyn FnMut(WindowReport),
    ) {
        if self.context.ask.emit_partial {
            tell(WindowReport::Partial {
                sequence: self.context.job.sequence,
                prompt_id: question.id.clone(),
                text: text.to_owned(),
            });
        }
    }
}

/// Tells which questions were not answered.
///
/// # Errors
/// The last one's reason, if none was.
pub(crate) fn tell_failed<E: std::fmt::Display>(
    mut failed: Vec<(&Arc<Question>, E)>,
    n_answered: usize,
    tell: &mut dyn FnMut(WindowReport),
) -> Result<(), E> {
    if n_answered == 0
        && let Some((_, error)) = failed.pop()
    {
        return Err(error);
    }
    for (question, error) in failed {
        tell(WindowReport::QuestionFailed {
            id: question.id.clone(),
            reason: format!("question {}: {error}", question.id),
        });
    }
    Ok(())
}
