// SPDX-License-Identifier: MPL-2.0

//! What an answer is to be like, and what comes of it.

use std::time::{Duration, Instant};

use super::error::Error;
use super::grammar::Schema;
use super::prompt::Prompt;
use super::sampling::Sampling;
use crate::backend::{self, Cancel};

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

impl StopReason {
    /// The word for it in captions and records.
    pub fn name(self) -> &'static str {
        match self {
            StopReason::Eos => "eos",
            StopReason::StopText => "stop",
            StopReason::MaxTokens => "length",
            StopReason::Context => "context",
            StopReason::Complete => "complete",
        }
    }
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
    /// These tokens in order, where the answer is one sequence of them: not of a choice, which is
    /// decided by probabilities, and not of a program that chooses by itself in a form.
    pub tokens: Vec<u32>,
    /// How likely each of `tokens` was among all, if
    /// [that was asked for](super::interview::Interview::keep_likelihoods) and the program gives
    /// logits; else empty.
    pub likelihoods: Vec<f64>,
    /// Tokens that were drafted, and how many of them the model said.
    pub drafts: Drafts,
    /// Why it ended.
    pub stop_reason: StopReason,
    /// How likely it is among all answers of its form, 0..=1; `None` for texts, and from a program
    /// that gives tokens and no logits.
    pub probability: Option<f64>,
    /// Of a choice: how likely each is, in their order; empty where `probability` is `None`.
    pub probabilities: Vec<f64>,
    /// Of a choice: what it was decided by, if that was asked for as for `likelihoods`.
    pub branches: Vec<Branch>,
    /// From the call to the first token: the prefill.
    pub ttft: Duration,
    /// From the call to the end.
    pub total: Duration,
}

/// Tokens after which a choice can be no other.
#[derive(Debug, Clone, PartialEq)]
pub struct Branch {
    /// Number of the choice.
    pub choice: usize,
    /// The tokens.
    pub tokens: Vec<u32>,
    /// How likely they are among all branches.
    pub share: f64,
}

/// Drafts of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Drafts {
    /// Tokens that were drafted and verified.
    pub drafted: usize,
    /// Of these, tokens that the model would have said itself.
    pub accepted: usize,
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

/// One answer while it is made.
pub(super) struct Request<'a> {
    pub prompt: &'a Prompt,
    pub options: &'a GenerateOptions,
    pub cancel: &'a Cancel,
    pub started: Instant,
}

impl Request<'_> {
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
            tokens: Vec::new(),
            likelihoods: Vec::new(),
            drafts: Drafts::default(),
            stop_reason,
            probability: None,
            probabilities: Vec::new(),
            branches: Vec::new(),
            ttft: Duration::ZERO,
            total: self.started.elapsed(),
        }
    }
}
