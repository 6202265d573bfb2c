// SPDX-License-Identifier: MPL-2.0

//! Prefill, decode loop, KV budget.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::answer::{Answer, Stop};
use super::choice::probabilities;
use super::error::Error;
use super::interview::{Interview, Prefilled};
use super::prompt::Prompt;
use super::request::Request;
pub use super::request::{Form, GenerateOptions, Generated, StopReason};
use super::sampling::Sampler;
use super::tokenizer::Tokenizer;
use crate::backend::{Cancel, Next, Program, VisualTokens};

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
        let request = Request {
            prompt,
            options,
            cancel,
            started: Instant::now(),
        };
        let mut generated = match form {
            Form::Text => self.text(&request, on_text)?,
            Form::Choice(choices) => self.choice(&request, choices)?,
            Form::Count => self.count(&request)?,
            Form::Json(schema) => self.json(&request, schema)?,
        };
        generated.total = request.started.elapsed();
        Ok(generated)
    }

    /// Whatever the model says.
    pub(super) fn text(
        &mut self,
        request: &Request<'_>,
        on_text: &mut dyn FnMut(&str),
    ) -> Result<Generated, Error> {
        let Request {
            prompt,
            options,
            cancel,
            started,
        } = *request;
        let context = self.context();
        let keeps_likelihoods = self.keeps_likelihoods();
        let mut sampler = Sampler::new(&options.sampling);
        let mut text = Answer::new(self.tokenizer, &options.stop, on_text);
        let Prefilled { mut next, reused } = self.prefill(prompt, &mut sampler, cancel)?;
        let mut ttft = Duration::ZERO;
        let (mut tokens, mut likelihoods) = (Vec::new(), Vec::new());
        let stop_reason = loop {
            if tokens.len() == options.max_tokens {
                break StopReason::MaxTokens;
            }
            let token = match next {
                Next::Logits(logits) => {
                    let token = sampler.choose(logits)?;
                    if keeps_likelihoods {
                        likelihoods.extend(probabilities(logits, &[token])?);
                    }
                    token
                }
                Next::Token(token) => token,
            };
            if tokens.is_empty() {
                ttft = started.elapsed();
            }
            tokens.push(token);
            let tokens_out = tokens.len();
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
            next = self.step(token, request.position(tokens_out - 1), cancel)?;
        };
        let (text, stop_reason) = text.finish(stop_reason)?;
        Ok(Generated {
            reused,
            tokens_out: tokens.len(),
            tokens,
            likelihoods,
            ttft,
            ..request.generated(text, stop_reason)
        })
    }
}

#[cfg(test)]
mod tests;
