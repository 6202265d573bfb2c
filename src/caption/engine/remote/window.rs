// SPDX-License-Identifier: MPL-2.0

//! The questions of one window, asked one after the other.

use std::sync::Arc;
use std::time::Duration;

use openai_client::{Answer, Blame, Client, Metered, Piece, Problem, Retry, ServerTraits};

use super::known::Known;
use super::picture::{Picture, picture};
use super::probing::Sending;
use super::question::{Prepared, prepare};
use crate::backend::Cancel;
use crate::caption::engine::answerer::Server;
use crate::caption::engine::asked::{Asked, Stop, tell_failed};
use crate::caption::engine::exhibit;
use crate::caption::engine::identity::{Identity, Sent};
use crate::caption::engine::standing::Fault;
use crate::caption::questions::question::Question;
use crate::caption::reports::evidence::Evidence;
use crate::caption::reports::report::{Notice, WindowReport};
use crate::vlm;
use crate::vlm::generate::Generated;

/// How often a question is asked again: soon, or as the server wishes. A window that waits longer than
/// this is better dropped.
const RETRY: Retry = Retry {
    attempts: 3,
    base: Duration::from_millis(200),
    cap: Duration::from_secs(1),
    patience: Duration::from_secs(10),
};

/// A server that was found to be there.
pub(super) struct OpenAi {
    pub(super) client: Client,
    pub(super) known: Arc<Known>,
    pub(super) traits: Arc<ServerTraits>,
    pub(super) sending: Sending,
    pub(super) max_images: Option<usize>,
    pub(super) notices: Vec<Notice>,
    pub(super) bill: Bill,
    pub(super) fault: Fault,
    pub(super) room: Room,
}

/// How many earlier exchanges the server's model has room for, as far as it has shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Room {
    most: usize,
    /// Windows that were answered with so many.
    n_answered: u32,
}

/// Counts what was sent.
pub(super) struct Bill {
    identity: Arc<Identity>,
    /// What is counted already.
    counted: Metered,
}

/// Windows after which one exchange more is tried.
const TRIES_MORE: u32 = 16;

impl Default for Room {
    fn default() -> Self {
        Self {
            most: usize::MAX,
            n_answered: 0,
        }
    }
}

impl Room {
    /// How many of so many exchanges are left out, the oldest.
    fn forget(&self, n_history: usize) -> usize {
        n_history.saturating_sub(self.most)
    }

    /// A question without the `forgotten` of so many exchanges was refused: how many are to be left out,
    /// if it is too long and there are more.
    fn less(
        &mut self,
        error: &openai_client::Error,
        forgotten: usize,
        n_history: usize,
    ) -> Option<usize> {
        let is_too_long = matches!(error.problem, Problem::ContextLength { .. });
        if !is_too_long || forgotten == n_history {
            return None;
        }
        // Each refusal costs a request with all frames: few of them.
        let forget = (forgotten * 2).clamp(1, n_history);
        *self = Self {
            most: n_history - forget,
            n_answered: 0,
        };
        Some(forget)
    }

    /// A window was answered. Others may be shorter, so that more has room again.
    fn answered(&mut self) {
        self.n_answered += 1;
        if self.n_answered >= TRIES_MORE {
            *self = Self {
                most: self.most.saturating_add(1),
                n_answered: 0,
            };
        }
    }
}

/// Why a question was not answered.
enum Refusal {
    Cancelled,
    /// The server cannot answer the next one either.
    Server(String),
    /// This question alone.
    Question(String),
}

impl Bill {
    pub(super) fn new(identity: Arc<Identity>) -> Self {
        Self {
            identity,
            counted: Metered::default(),
        }
    }

    /// Counts what has been sent since the last time, with so many frames to a question.
    pub(super) fn count(&mut self, client: &Client, n_frames: usize) {
        let now = client.meter().now();
        let before = std::mem::replace(&mut self.counted, now);
        self.identity.traffic().add(Sent {
            bytes: now.traffic.sent - before.traffic.sent,
            received_bytes: now.traffic.received - before.traffic.received,
            frames: (now.questions - before.questions) * n_frames as u64,
            requests: now.calls - before.calls,
        });
    }
}

impl Server for OpenAi {
    fn notices(&self) -> Vec<Notice> {
        self.notices.clone()
    }

    fn answer(
        &mut self,
        asked: &Asked<'_>,
        tell: &mut dyn FnMut(WindowReport),
    ) -> Result<Option<vlm::Turn>, Stop> {
        let timing = asked.begin();
        if let Some(reason) = self.known.busy(RETRY.patience) {
            self.fault = Fault::Busy;
            return Err(Stop::Failed(reason));
        }
        let window = &asked.context.job.window;
        let picture = picture(window, self.sending, self.max_images).map_err(Stop::Failed)?;
        let main = asked.context.ask.main();
        let (mut exchange, mut failed, mut n_answered) = (None, Vec::new(), 0);
        for question in asked.questions {
            let before = timing.began.elapsed();
            match self.ask(asked, question, &picture, tell) {
                Ok((answer, user)) => {
                    n_answered += 1;
                    let evidence = self.evidence(asked, question, (&user, &answer), &picture);
                    if question.id == main.id {
                        let assistant = answer.text.clone();
                        exchange = Some(vlm::Turn { user, assistant });
                    }
                    let frames = &picture.frames;
                    let mut caption = asked.caption(question, answer, frames, &timing, before);
                    caption.evidence = evidence;
                    tell(WindowReport::Caption(Box::new(caption)));
                }
                Err(Refusal::Question(reason)) => failed.push((question, reason)),
                Err(Refusal::Server(reason)) => return Err(Stop::Failed(reason)),
                Err(Refusal::Cancelled) => return Err(Stop::Cancelled),
            }
        }
        if exchange.is_some() {
            self.room.answered();
        }
        tell_failed(failed, n_answered, tell).map_err(Stop::Failed)?;
        Ok(exchange)
    }

    fn look(&mut self, cancel: &Cancel) -> Result<(), String> {
        let wire = openai_client::Cancel::default();
        let _woken = cancel.on_cancel({
            let wire = wire.clone();
            move || wire.cancel()
        });
        let looked = self.client.models(&wire);
        self.bill.count(&self.client, 0);
        match looked {
            Ok(_) => Ok(()),
            // It answers, and has no list or too much to do.
            Err(error) if error.says_no() => Ok(()),
            Err(error) => Err(error.to_string()),
        }
    }

    fn take_fault(&mut self) -> Fault {
        std::mem::take(&mut self.fault)
    }
}

impl OpenAi {
    /// Asks one question; its answer, and its text as it was asked.
    fn ask(
        &mut self,
        asked: &Asked<'_>,
        question: &Question,
        picture: &Picture,
        tell: &mut dyn FnMut(WindowReport),
    ) -> Result<(Generated, String), Refusal> {
        let wire = openai_client::Cancel::default();
        let _woken = asked.cancel.on_cancel({
            let wire = wire.clone();
            move || wire.cancel()
        });
        let n_history = asked.context.history.len();
        let mut forget = self.room.forget(n_history);
        loop {
            let prepared = prepare(asked.context, question, picture, &self.traits, forget);
            let answer = self.chat(asked, question, &prepared, &wire, tell);
            self.bill.count(&self.client, picture.frames.len());
            match answer {
                Ok(answer) => {
                    let generated = prepared.read(question, &answer);
                    let generated = generated.map_err(Refusal::Question)?;
                    return Ok((generated, prepared.text));
                }
                Err(error) => match self.room.less(&error, forget, n_history) {
                    Some(more) => forget = more,
                    None => return Err(self.refusal(&error, picture.frames.len())),
                },
            }
        }
    }

    /// What an answer was made of, if that is wanted. The question stands there as it was set: what a
    /// server is told of the form of its answer is not in it.
    fn evidence(
        &self,
        asked: &Asked<'_>,
        question: &Question,
        (text, answer): (&str, &Generated),
        picture: &Picture,
    ) -> Option<Arc<Evidence>> {
        let context = asked.context;
        if !context.ask.evidence {
            return None;
        }
        // Servers have defaults of their own.
        let options = context.options_beside(question, 1.0, Vec::new());
        let evidence = exhibit::evidence(context, &picture.frames, options, answer);
        Some(Arc::new(Evidence {
            // Frames of a window that is thinned are left out anywhere.
            skipped: 0,
            forgotten: self.room.forget(context.history.len()),
            text: text.to_owned(),
            ..evidence
        }))
    }

    /// Asks it in this form.
    fn chat(
        &self,
        asked: &Asked<'_>,
        question: &Question,
        prepared: &Prepared,
        wire: &openai_client::Cancel,
        tell: &mut dyn FnMut(WindowReport),
    ) -> Result<Answer, openai_client::Error> {
        let mut partial = String::new();
        let mut on = |piece: Piece<'_>| {
            asked.cancel.alive();
            if let Piece::Text(piece) = piece {
                partial.push_str(piece);
                asked.partial(question, partial.trim(), tell);
            }
        };
        asked.cancel.alive();
        self.client.chat(&prepared.request, &RETRY, wire, &mut on)
    }

    fn refusal(&mut self, error: &openai_client::Error, n_frames: usize) -> Refusal {
        let reason = match (&error.problem, self.traits.context) {
            (Problem::ContextLength { .. }, Some(context)) => format!(
                "{error}; it says that its model holds {context} tokens, and this window has \
                 {n_frames} frames"
            ),
            _ => error.to_string(),
        };
        match error.blame() {
            Blame::Caller => return Refusal::Cancelled,
            Blame::Request => return Refusal::Question(reason),
            Blame::Server => {}
        }
        match &error.problem {
            // It is there, and says that it has too much to do: it need not be looked at anew.
            Problem::RateLimited { .. } | Problem::Overloaded { .. } => {
                self.fault = Fault::Busy;
                if let Some(wait) = error.retry_after() {
                    self.known.leave_alone(wait, &reason);
                }
            }
            _ => self.fault = Fault::Broken,
        }
        Refusal::Server(reason)
    }
}
