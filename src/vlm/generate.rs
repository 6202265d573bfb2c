// SPDX-License-Identifier: MPL-2.0

//! Prefill, decode loop, KV budget.

use std::sync::Arc;
use std::time::Duration;

use super::sampling::Sampling;
use super::tokenizer::Tokenizer;
use super::{Error, Prompt};
use crate::backend::{Cancel, Program, VisualTokens};

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
/// of text as it becomes certain: whole characters only.
///
/// # Errors
/// [`Error::Backend`] with [`Context`](crate::backend::Error::Context) if the prompt leaves no room
/// for one token, with [`Cancelled`](crate::backend::Error::Cancelled) if `cancel` was raised.
pub fn generate(
    program: &mut dyn Program,
    tokenizer: &Tokenizer,
    prompt: &Prompt,
    visuals: &[Arc<VisualTokens>],
    options: &GenerateOptions,
    cancel: &Cancel,
    on_text: &mut dyn FnMut(&str),
) -> Result<Generated, Error> {
    let _ = (
        program, tokenizer, prompt, visuals, options, cancel, on_text,
    );
    unreachable!("written with the decode loop")
}
