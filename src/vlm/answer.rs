// SPDX-License-Identifier: MPL-2.0

//! The text of an answer while it grows: whole characters, no stop texts, no white space around, and
//! nothing of the reasoning that a model may begin with.

use super::Error;
use super::chat::{REASONING_CLOSES, REASONING_OPENS};
use super::request::StopReason;
use super::tokenizer::{TextStream, Tokenizer};

/// Whether a stop text has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stop {
    /// No.
    NotYet,
    /// Yes: the answer has ended.
    Found,
}

/// Whether an answer began with reasoning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reasoning {
    /// What has come may still be the beginning of its tag.
    Unknown,
    /// It goes on.
    Open,
    /// It did not, or has ended.
    Over,
}

/// The text of an answer while it grows.
pub(super) struct Answer<'a> {
    stream: TextStream<'a>,
    stop: &'a [String],
    on_text: &'a mut dyn FnMut(&str),
    /// What was told.
    text: String,
    /// What was decoded but may still turn out to be the beginning of a stop text, or white space
    /// at the end.
    pending: String,
    reasoning: Reasoning,
}

impl<'a> Answer<'a> {
    pub fn new(
        tokenizer: &'a Tokenizer,
        stop: &'a [String],
        on_text: &'a mut dyn FnMut(&str),
    ) -> Self {
        Self {
            stream: tokenizer.stream(),
            stop,
            on_text,
            text: String::new(),
            pending: String::new(),
            reasoning: Reasoning::Unknown,
        }
    }

    /// Takes a token, and tells what it makes certain.
    pub fn push(&mut self, token: u32) -> Result<Stop, Error> {
        let piece = self.stream.push(token)?;
        Ok(self.take(&piece))
    }

    fn take(&mut self, piece: &str) -> Stop {
        if piece.is_empty() {
            return Stop::NotYet;
        }
        self.pending.push_str(piece);
        let is_answer = self.is_answer();
        if self.reasoning == Reasoning::Open {
            return Stop::NotYet;
        }
        if let Some(at) = first_stop(&self.pending, self.stop) {
            self.pending.truncate(at);
            return Stop::Found;
        }
        if !is_answer {
            return Stop::NotYet;
        }
        self.tell(self.pending.len() - begun_stop(&self.pending, self.stop));
        Stop::NotYet
    }

    /// Whether what waits belongs to the answer; reasoning is dropped where it ends.
    fn is_answer(&mut self) -> bool {
        if self.reasoning == Reasoning::Unknown {
            let begun = self.pending.trim_start();
            if REASONING_OPENS.starts_with(begun) && begun != REASONING_OPENS {
                return false;
            }
            self.reasoning = match begun.starts_with(REASONING_OPENS) {
                true => Reasoning::Open,
                false => Reasoning::Over,
            };
        }
        if self.reasoning == Reasoning::Open
            && let Some(at) = self.pending.find(REASONING_CLOSES)
        {
            self.pending.drain(..at + REASONING_CLOSES.len());
            self.reasoning = Reasoning::Over;
        }
        self.reasoning == Reasoning::Over
    }

    /// Tells `pending[..end]`, less white space around the whole answer.
    fn tell(&mut self, end: usize) {
        if self.text.is_empty() {
            let blank = self.pending.len() - self.pending.trim_start().len();
            let blank = blank.min(end);
            self.pending.drain(..blank);
            return self.tell_trimmed(end - blank);
        }
        self.tell_trimmed(end);
    }

    fn tell_trimmed(&mut self, end: usize) {
        let end = self.pending[..end].trim_end().len();
        if end > 0 {
            (self.on_text)(&self.pending[..end]);
            self.text.push_str(&self.pending[..end]);
            self.pending.drain(..end);
        }
    }

    /// Tells what was held back. It may complete a stop text, so the reason may change. An
    /// unfinished character is left out where the answer was cut.
    pub fn finish(mut self, mut reason: StopReason) -> Result<(String, StopReason), Error> {
        let rest = self.stream.finish()?;
        let rest = match reason {
            StopReason::StopText => "",
            StopReason::Eos | StopReason::Complete => rest.as_str(),
            StopReason::MaxTokens | StopReason::Context => {
                rest.trim_end_matches(char::REPLACEMENT_CHARACTER)
            }
        };
        if self.take(rest) == Stop::Found {
            reason = StopReason::StopText;
        }
        // An answer that ends while it may still be the beginning of a tag is text, and not told yet.
        if self.reasoning == Reasoning::Open {
            return Err(unanswered());
        }
        self.tell(self.pending.len());
        Ok((self.text, reason))
    }
}

/// An answer without the reasoning that it began with.
///
/// # Errors
/// [`Error::Answer`] if there is nothing else.
pub(super) fn without_reasoning(text: &str) -> Result<&str, Error> {
    match text.trim_start().strip_prefix(REASONING_OPENS) {
        None => Ok(text),
        Some(rest) => match rest.split_once(REASONING_CLOSES) {
            Some((_, answer)) => Ok(answer.trim()),
            None => Err(unanswered()),
        },
    }
}

fn unanswered() -> Error {
    Error::Answer(
        "the model reasoned until max-tokens and gave no answer; use an Instruct model, or raise \
         max-tokens"
            .to_owned(),
    )
}

/// Where the first stop text begins.
fn first_stop(text: &str, stop: &[String]) -> Option<usize> {
    stop.iter()
        .filter(|stop| !stop.is_empty())
        .filter_map(|stop| text.find(stop.as_str()))
        .min()
}

/// Bytes at the end of `text` that a stop text may begin with.
fn begun_stop(text: &str, stop: &[String]) -> usize {
    stop.iter()
        .flat_map(|stop| {
            stop.char_indices()
                .map(|(at, _)| at)
                .filter(|&at| at > 0 && text.ends_with(&stop[..at]))
        })
        .max()
        .unwrap_or(0)
}
