// SPDX-License-Identifier: MPL-2.0

//! One question as a server is asked it, and its answer as captions have it.

use openai_client::{Answer, ChatRequest, Finish, Form, Message, ServerTraits, Support, Verdict};
use serde_json::Value;

use super::picture::Picture;
use crate::caption::engine::prompts::variables;
use crate::caption::engine::turn::Context;
use crate::caption::questions::prompt::render;
use crate::caption::questions::question::{Kind, Question};
use crate::vlm;
use crate::vlm::generate::{Drafts, Generated, StopReason};

/// A question that can be asked.
pub(super) struct Prepared {
    pub(super) request: ChatRequest,
    form: Form,
    /// Its text, the variables replaced.
    pub(super) text: String,
}

/// A question about a window, in the form that the server holds answers to, without the `forget` oldest
/// exchanges.
pub(super) fn prepare(
    context: &Context,
    question: &Question,
    picture: &Picture,
    traits: &ServerTraits,
    forget: usize,
) -> Prepared {
    let variables = variables(context, &picture.frames);
    let system = render(&context.ask.system_prompt, &variables);
    let text = render(&question.text, &variables);
    let form = form(&question.kind);
    let asked = match hint(&form, traits) {
        Some(hint) => format!("{text}\n{hint}"),
        None => text.clone(),
    };
    // The pictures go before the question, so that a server computes them once for all questions.
    let mut messages = Vec::new();
    messages.extend((!system.is_empty()).then(|| Message::system(system)));
    for vlm::Turn { user, assistant } in &context.history[forget..] {
        messages.push(Message::user(user.as_str()));
        messages.push(Message::assistant(assistant.as_str()));
    }
    messages.push(Message::about(&picture.media, asked));
    let ask = &context.ask;
    let draws = question.kind == Kind::Caption && ask.temperature > 0.0;
    let mut request = ChatRequest {
        max_tokens: u32::try_from(context.max_tokens(question)).ok(),
        temperature: Some(if draws { ask.temperature } else { 0.0 }),
        // Servers that do not know a field refuse it, so what changes nothing is not sent.
        top_p: (draws && ask.top_p < 1.0).then_some(ask.top_p),
        top_k: u32::try_from(ask.top_k).ok().filter(|k| draws && *k > 0),
        min_p: (draws && ask.min_p > 0.0).then_some(ask.min_p),
        repetition_penalty: ask.repetition_penalty,
        seed: draws.then_some(ask.seed),
        stop: ask.stop.clone(),
        video_times: match traits.video_times {
            Support::Yes => picture.times.clone(),
            Support::No | Support::Unknown => None,
        },
        ..ChatRequest::new(messages)
    };
    form.apply(&mut request, traits);
    Prepared {
        request,
        form,
        text,
    }
}

fn form(kind: &Kind) -> Form {
    match kind {
        Kind::Caption => Form::Text,
        Kind::YesNo | Kind::Choice(_) => Form::Choice(kind.choices().to_vec()),
        Kind::Count => Form::Count,
        Kind::Json(schema) => Form::Json {
            name: "answer".into(),
            schema: schema.json().clone(),
        },
    }
}

/// What a model is told of the form of its answer, where the server does not hold it to that.
fn hint(form: &Form, traits: &ServerTraits) -> Option<String> {
    let (guides, schemas) = (traits.structured_outputs, traits.json_schema);
    match form {
        Form::Choice(options) if guides != Support::Yes => Some(format!(
            "Answer with one of these alone: {}.",
            options.join(", ")
        )),
        Form::Count if guides != Support::Yes => Some("Answer with a number alone.".into()),
        Form::Json { schema, .. } if schemas != Support::Yes => Some(format!(
            "Answer with JSON alone that follows this schema: {schema}"
        )),
        _ => None,
    }
}

impl Prepared {
    /// Reads an answer.
    ///
    /// # Errors
    /// It does not have the form that was asked for, or is none.
    pub(super) fn read(&self, question: &Question, answer: &Answer) -> Result<Generated, String> {
        if answer.finish == Finish::Filtered {
            return Err("the server's filter has taken the answer away".into());
        }
        if answer.text.trim().is_empty() {
            return Err(empty(answer));
        }
        let verdict = self.form.read(answer).map_err(|error| error.to_string())?;
        if let Kind::Json(schema) = &question.kind {
            let value: Value = serde_json::from_str(&verdict.text).unwrap_or_default();
            schema.validate(&value).map_err(|reason| {
                format!(
                    "the server's JSON does not follow the schema ({reason}); it may not hold answers \
                     to one, so say in the question what is wanted"
                )
            })?;
        }
        let stop_reason = match (&question.kind, &answer.finish) {
            (Kind::Caption, Finish::Length) => StopReason::MaxTokens,
            (Kind::Caption, _) => StopReason::Eos,
            _ => StopReason::Complete,
        };
        Ok(generated(verdict, answer, stop_reason))
    }
}

/// Why there is no text.
fn empty(answer: &Answer) -> String {
    match (&answer.finish, answer.reasoning.is_empty()) {
        (Finish::Length, false) => "the model reasoned until max-tokens and said nothing; raise \
                                    max-tokens, or turn reasoning off by extra-body, such as \
                                    {\"chat_template_kwargs\": {\"enable_thinking\": false}}"
            .into(),
        _ => "the server's answer has no text".into(),
    }
}

fn generated(verdict: Verdict, answer: &Answer, stop_reason: StopReason) -> Generated {
    let usage = answer.usage.unwrap_or_default();
    let count = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
    Generated {
        text: verdict.text,
        tokens_in: count(usage.prompt),
        reused: count(usage.cached),
        drafts: Drafts::default(),
        tokens_out: count(usage.completion),
        tokens: Vec::new(),
        likelihoods: Vec::new(),
        stop_reason,
        probability: verdict.probability,
        probabilities: verdict.probabilities,
        branches: Vec::new(),
        ttft: answer.effort.ttft,
        total: answer.effort.total,
    }
}
