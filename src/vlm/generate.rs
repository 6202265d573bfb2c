// SPDX-License-Identifier: MPL-2.0

//! Prefill, decode loop, KV budget.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::sampling::{Sampler, Sampling};
use super::tokenizer::{TextStream, Tokenizer};
use super::{Error, Prompt, PromptRun};
use crate::backend::{self, Cancel, Next, Position, Program, Segment, SequenceId, VisualTokens};

/// What a checkpoint's `generation_config.json` says; the element's properties go before it.
#[derive(Debug, Clone, PartialEq)]
pub struct GenerationDefaults {
    /// Every token that ends an answer.
    pub eos: Vec<u32>,
    /// Penalty on tokens that are already there; 1.0 for none.
    pub repetition_penalty: f32,
}

/// How an answer is made.
#[derive(Debug, Clone, PartialEq)]
pub struct GenerateOptions {
    /// Upper bound of the answer's tokens.
    pub max_tokens: usize,
    /// How a token is chosen.
    pub sampling: Sampling,
    /// Tokens that end the answer and are not part of it.
    pub eos: Vec<u32>,
    /// Texts that end the answer and are not part of it.
    pub stop: Vec<String>,
}

/// Why an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopReason {
    /// The model said so.
    Eos,
    /// One of the stop texts came.
    StopText,
    /// `max_tokens` was reached: the text may be cut.
    MaxTokens,
    /// The context is full: the text may be cut.
    Context,
}

/// An answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Generated {
    /// Its text, without special tokens, leading and trailing white space.
    pub text: String,
    /// Rows of the prompt.
    pub tokens_in: usize,
    /// Tokens generated, the one that ended it included.
    pub tokens_out: usize,
    /// Why it ended.
    pub stop_reason: StopReason,
    /// From the call to the first token: the prefill.
    pub ttft: Duration,
    /// From the call to the end.
    pub total: Duration,
}

/// Answers a prompt in a sequence of its own.
///
/// `visuals[i]` stands for [`PromptRun::Visual(i)`](super::PromptRun). `on_text` hears each piece
/// of text as it becomes certain: whole characters only, nothing that a stop text may begin with.
/// The pieces together are [`Generated::text`].
///
/// # Errors
/// [`Error::Backend`] with [`Context`](crate::backend::Error::Context) if the prompt leaves no room
/// for one token, with [`Cancelled`](crate::backend::Error::Cancelled) if `cancel` was raised.
/// [`Error::Logits`] if the program gives no finite logit. The sequence is closed in any case.
pub fn generate(
    program: &mut dyn Program,
    tokenizer: &Tokenizer,
    prompt: &Prompt,
    visuals: &[Arc<VisualTokens>],
    options: &GenerateOptions,
    cancel: &Cancel,
    on_text: &mut dyn FnMut(&str),
) -> Result<Generated, Error> {
    let started = Instant::now();
    let n_rows = prompt.n_rows();
    let context = program.limits().context;
    if n_rows + 1 > context {
        return Err(Error::Backend(backend::Error::Context {
            needed: n_rows + 1,
            context,
        }));
    }
    let mut sampler = Sampler::new(&options.sampling);
    let segments = segments(prompt, visuals, &mut sampler)?;
    cancel.check()?;

    let mut sequence = Sequence::open(program)?;
    let mut text = Answer::new(tokenizer, &options.stop, on_text);
    let mut next = sequence.extend(&segments, &prompt.positions, cancel)?;
    let mut ttft = Duration::ZERO;
    let mut tokens_out = 0;
    let stop_reason = loop {
        if tokens_out == options.max_tokens {
            break StopReason::MaxTokens;
        }
        let token = match next {
            Next::Logits(logits) => sampler.choose(logits)?,
            Next::Token(token) => token,
        };
        if tokens_out == 0 {
            ttft = started.elapsed();
        }
        tokens_out += 1;
        if options.eos.contains(&token) {
            break StopReason::Eos;
        }
        if text.push(token)? == Stop::Found {
            break StopReason::StopText;
        }
        if tokens_out == options.max_tokens {
            break StopReason::MaxTokens;
        }
        if n_rows + tokens_out > context {
            break StopReason::Context;
        }
        cancel.check()?;
        // The prompt fits the context, whose rows are counted in far less than 32 bits.
        let position = prompt.next_position + (tokens_out - 1) as u32;
        next = sequence.extend(&[Segment::Tokens(&[token])], &[[position; 3]], cancel)?;
    };
    let (text, stop_reason) = text.finish(stop_reason)?;
    Ok(Generated {
        text,
        tokens_in: n_rows,
        tokens_out,
        stop_reason,
        ttft,
        total: started.elapsed(),
    })
}

/// The prompt's runs as the program takes them; the sampler notes the tokens.
fn segments<'a>(
    prompt: &'a Prompt,
    visuals: &'a [Arc<VisualTokens>],
    sampler: &mut Sampler,
) -> Result<Vec<Segment<'a>>, Error> {
    let mut segments = Vec::with_capacity(prompt.runs.len());
    for run in &prompt.runs {
        segments.push(match run {
            PromptRun::Tokens(ids) => {
                sampler.observe(ids);
                Segment::Tokens(ids)
            }
            PromptRun::Visual(index) => {
                let tokens = visuals.get(*index).ok_or_else(|| {
                    Error::Grid(format!(
                        "the prompt stands for {} temporal patches or more, got {}",
                        index + 1,
                        visuals.len()
                    ))
                })?;
                sampler.observe(prompt.placeholder.as_slice());
                Segment::Visual(tokens)
            }
        });
    }
    Ok(segments)
}

/// A sequence that is closed whatever happens.
struct Sequence<'a> {
    program: &'a mut dyn Program,
    id: SequenceId,
}

impl<'a> Sequence<'a> {
    fn open(program: &'a mut dyn Program) -> Result<Self, Error> {
        let id = program.open()?;
        Ok(Self { program, id })
    }

    fn extend(
        &mut self,
        segments: &[Segment<'_>],
        positions: &[Position],
        cancel: &Cancel,
    ) -> Result<Next<'_>, Error> {
        Ok(self.program.extend(self.id, segments, positions, cancel)?)
    }
}

impl Drop for Sequence<'_> {
    fn drop(&mut self) {
        self.program.close(self.id);
    }
}

/// Whether a stop text has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stop {
    NotYet,
    Found,
}

/// The text of an answer while it grows.
struct Answer<'a> {
    stream: TextStream<'a>,
    stop: &'a [String],
    on_text: &'a mut dyn FnMut(&str),
    /// What was told.
    text: String,
    /// What was decoded but may still turn out to be the beginning of a stop text, or white space
    /// at the end.
    pending: String,
}

impl<'a> Answer<'a> {
    fn new(tokenizer: &'a Tokenizer, stop: &'a [String], on_text: &'a mut dyn FnMut(&str)) -> Self {
        Self {
            stream: tokenizer.stream(),
            stop,
            on_text,
            text: String::new(),
            pending: String::new(),
        }
    }

    fn push(&mut self, token: u32) -> Result<Stop, Error> {
        let piece = self.stream.push(token)?;
        Ok(self.take(&piece))
    }

    fn take(&mut self, piece: &str) -> Stop {
        if piece.is_empty() {
            return Stop::NotYet;
        }
        self.pending.push_str(piece);
        if let Some(at) = first_stop(&self.pending, self.stop) {
            self.pending.truncate(at);
            return Stop::Found;
        }
        self.tell(self.pending.len() - begun_stop(&self.pending, self.stop));
        Stop::NotYet
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
    fn finish(mut self, mut reason: StopReason) -> Result<(String, StopReason), Error> {
        let rest = self.stream.finish()?;
        let rest = match reason {
            StopReason::StopText => "",
            StopReason::Eos => rest.as_str(),
            StopReason::MaxTokens | StopReason::Context => {
                rest.trim_end_matches(char::REPLACEMENT_CHARACTER)
            }
        };
        if self.take(rest) == Stop::Found {
            reason = StopReason::StopText;
        }
        self.tell(self.pending.len());
        Ok((self.text, reason))
    }
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
