// SPDX-License-Identifier: MPL-2.0

//! Prefill, decode loop, KV budget.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Instant;

use super::answer::{Answer, Stop};
use super::choice::probabilities;
use super::error::Error;
use super::interview::{Interview, Prefilled};
use super::prompt::Prompt;
use super::request::Request;
pub use super::request::{Drafts, Form, GenerateOptions, Generated, StopReason};
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
        if options.max_tokens == 0 {
            return Ok(request.generated(String::new(), StopReason::MaxTokens));
        }
        let (mut ttft, mut stop_reason) = (None, StopReason::MaxTokens);
        let (mut tokens, mut likelihoods) = (Vec::new(), Vec::new());
        let mut choose = |next: Next<'_>, sampler: &mut Sampler| {
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
            ttft.get_or_insert_with(|| started.elapsed());
            tokens.push(token);
            stop_reason = if options.eos.contains(&token) {
                StopReason::Eos
            } else if text.push(token)? == Stop::Found {
                StopReason::StopText
            } else if tokens.len() == options.max_tokens {
                StopReason::MaxTokens
            } else if prompt.n_rows() + tokens.len() > context {
                StopReason::Context
            } else {
                return Ok(ControlFlow::Continue(token));
            };
            Ok(ControlFlow::Break(token))
        };
        let Prefilled { next, reused } = self.prefill(prompt, &mut sampler, cancel)?;
        let drafts = match choose(next, &mut sampler)? {
            ControlFlow::Continue(first) => {
                self.decode(request, first, &mut |next| choose(next, &mut sampler))?
            }
            ControlFlow::Break(_) => Drafts::default(),
        };
        let (text, stop_reason) = text.finish(stop_reason)?;
        Ok(Generated {
            reused,
            tokens_out: tokens.len(),
            tokens,
            likelihoods,
            drafts,
            ttft: ttft.unwrap_or_default(),
            ..request.generated(text, stop_reason)
        })
    }
}

#[cfg(test)]
mod tests;
