// SPDX-License-Identifier: MPL-2.0

//! Prefill, decode loop, KV budget.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::answer::{Answer, Stop};
use super::grammar::Schema;
use super::interview::{Interview, Prefilled};
use super::sampling::{Sampler, Sampling};
use super::tokenizer::Tokenizer;
use super::{Error, Prompt};
use crate::backend::{self, Cancel, Next, Program, VisualTokens};

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
    /// The answer has the form that was asked for: nothing may follow.
    Complete,
}

/// An answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Generated {
    /// Its text, without special tokens, leading and trailing white space.
    pub text: String,
    /// Rows of the prompt.
    pub tokens_in: usize,
    /// Of these, rows that were there from an earlier question and not computed again.
    pub reused: usize,
    /// Tokens generated, the one that ended it included.
    pub tokens_out: usize,
    /// Why it ended.
    pub stop_reason: StopReason,
    /// How likely it is among all answers of its form, 0..=1; `None` for texts, and from a program
    /// that gives tokens and no logits.
    pub probability: Option<f64>,
    /// Of a choice: how likely each is, in their order; empty where `probability` is `None`.
    pub probabilities: Vec<f64>,
    /// From the call to the first token: the prefill.
    pub ttft: Duration,
    /// From the call to the end.
    pub total: Duration,
}

/// How an answer is to look.
#[derive(Debug, Clone, Copy)]
pub enum Form<'a> {
    /// Text, as the model says it.
    Text,
    /// One of these, decided by the probabilities of the tokens it may begin with.
    Choice(&'a [String]),
    /// A whole number from 0.
    Count,
    /// JSON that follows a schema.
    Json(&'a Schema),
}

/// Answers a prompt in a sequence of its own: [`Interview::answer`] of one question.
pub fn generate(
    program: &mut dyn Program,
    tokenizer: &Tokenizer,
    prompt: &Prompt,
    visuals: &[Arc<VisualTokens>],
    options: &GenerateOptions,
    cancel: &Cancel,
    on_text: &mut dyn FnMut(&str),
) -> Result<Generated, Error> {
    let mut interview = Interview::new(program, tokenizer, visuals);
    interview.answer(prompt, Form::Text, options, cancel, on_text)
}

/// One answer while it is made.
pub(super) struct Asked<'a> {
    pub prompt: &'a Prompt,
    pub options: &'a GenerateOptions,
    pub cancel: &'a Cancel,
    pub started: Instant,
}

impl Asked<'_> {
    /// Position of the answer's token `index`.
    pub fn position(&self, index: usize) -> u32 {
        // The prompt fits the context, whose rows are counted in far less than 32 bits.
        self.prompt.next_position + index as u32
    }

    /// The context of `context` rows has no room for the answer.
    pub fn full(&self, context: usize) -> Error {
        Error::Backend(backend::Error::Context {
            needed: context + 1,
            context,
        })
    }

    /// A result, up to what only some forms say.
    pub fn generated(&self, text: String, stop_reason: StopReason) -> Generated {
        Generated {
            text,
            tokens_in: self.prompt.n_rows(),
            reused: 0,
            tokens_out: 0,
            stop_reason,
            probability: None,
            probabilities: Vec::new(),
            ttft: Duration::ZERO,
            total: self.started.elapsed(),
        }
    }
}

impl Interview<'_> {
    /// Answers a prompt; the next one may follow.
    ///
    /// `on_text` hears each piece of [`Form::Text`] as it becomes certain: whole characters only, nothing
    /// that a stop text may begin with. The pieces together are [`Generated::text`].
    ///
    /// # Errors
    /// [`Error::Backend`] with [`Context`](crate::backend::Error::Context) if the prompt leaves no
    /// room for one token, with [`Cancelled`](crate::backend::Error::Cancelled) if `cancel` was
    /// raised. [`Error::Logits`] if the program gives no finite logit, [`Error::Answer`] if the
    /// answer does not have its form.
    pub fn answer(
        &mut self,
        prompt: &Prompt,
        form: Form<'_>,
        options: &GenerateOptions,
        cancel: &Cancel,
        on_text: &mut dyn FnMut(&str),
    ) -> Result<Generated, Error> {
        let asked = Asked {
            prompt,
            options,
            cancel,
            started: Instant::now(),
        };
        let mut generated = match form {
            Form::Text => self.text(&asked, on_text)?,
            Form::Choice(choices) => self.choice(&asked, choices)?,
            Form::Count => self.count(&asked)?,
            Form::Json(schema) => self.json(&asked, schema)?,
        };
        generated.total = asked.started.elapsed();
        Ok(generated)
    }

    /// Whatever the model says.
    pub(super) fn text(
        &mut self,
        asked: &Asked<'_>,
        on_text: &mut dyn FnMut(&str),
    ) -> Result<Generated, Error> {
        let Asked {
            prompt,
            options,
            cancel,
            started,
        } = *asked;
        let context = self.context();
        let mut sampler = Sampler::new(&options.sampling);
        let mut text = Answer::new(self.tokenizer, &options.stop, on_text);
        let Prefilled { mut next, reused } = self.prefill(prompt, &mut sampler, cancel)?;
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
            if prompt.n_rows() + tokens_out > context {
                break StopReason::Context;
            }
            next = self.step(token, asked.position(tokens_out - 1), cancel)?;
        };
        let (text, stop_reason) = text.finish(stop_reason)?;
        Ok(Generated {
            reused,
            tokens_out,
            ttft,
            ..asked.generated(text, stop_reason)
        })
    }
}

#[cfg(test)]
mod tests;
