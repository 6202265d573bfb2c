// SPDX-License-Identifier: MPL-2.0

//! The questions of one window, asked one after the other.

use std::sync::Arc;
use std::time::Duration;

use openai_client::{Blame, Client, Metered, Piece, Problem, Retry, ServerTraits};

use super::known::Known;
use super::picture::{Picture, picture};
use super::probing::Sending;
use super::question::prepare;
use crate::caption::engine::answerer::Server;
use crate::caption::engine::asked::{Asked, Stop, tell_failed};
use crate::caption::engine::identity::{Identity, Sent};
use crate::caption::engine::standing::Fault;
use crate::caption::questions::question::Question;
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
}

/// Counts what was sent.
pub(super) struct Bill {
    identity: Arc<Identity>,
    /// What is counted already.
    counted: Metered,
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
                    if question.id == main.id {
                        let assistant = answer.text.clone();
                        exchange = Some(vlm::Turn { user, assistant });
                    }
                    let caption = asked.caption(question, answer, &picture.frames, &timing, before);
                    tell(WindowReport::Caption(Box::new(caption)));
                }
                Err(Refusal::Question(reason)) => failed.push((question, reason)),
                Err(Refusal::Server(reason)) => return Err(Stop::Failed(reason)),
                Err(Refusal::Cancelled) => return Err(Stop::Cancelled),
            }
        }
        tell_failed(failed, n_answered, tell).map_err(Stop::Failed)?;
        Ok(exchange)
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
        let prepared = prepare(asked.context, question, picture, &self.traits);
        let mut partial = String::new();
        let mut on = |piece: Piece<'_>| {
            asked.cancel.alive();
            if let Piece::Text(piece) = piece {
                partial.push_str(piece);
                asked.partial(question, partial.trim(), tell);
            }
        };
        asked.cancel.alive();
        let answer = self.client.chat(&prepared.request, &RETRY, &wire, &mut on);
        self.bill.count(&self.client, picture.frames.len());
        let answer = answer.map_err(|error| self.refusal(&error))?;
        let generated = prepared.read(question, &answer);
        let generated = generated.map_err(Refusal::Question)?;
        Ok((generated, prepared.text))
    }

    fn refusal(&mut self, error: &openai_client::Error) -> Refusal {
        let reason = error.to_string();
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
