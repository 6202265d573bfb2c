// SPDX-License-Identifier: MPL-2.0

//! Steps of making a prompt that are the same in all families.

use crate::vlm::chat::{Message, Part};
use crate::vlm::quote::Quote;
use crate::vlm::tokenizer::Tokenizer;
use crate::vlm::{Error, PromptRequest, PromptRun, Turn, VisualKind};

/// A token as it is written in a prompt, and its id.
pub(super) struct SpecialToken {
    pub(super) id: u32,
    pub(super) text: String,
}

impl SpecialToken {
    /// The token that `config.json` names as `key`; the tokenizer must have it among its
    /// `added_tokens`.
    pub(super) fn find(tokenizer: &Tokenizer, key: &str, id: u32) -> Result<Self, Error> {
        let text = tokenizer.id_to_token(id).ok_or_else(|| {
            Error::Tokenizer(format!(
                "tokenizer.json has no token {id}, which config.json names as {key}; do the two \
                 files belong together?"
            ))
        })?;
        if !tokenizer.is_added(id) {
            return Err(Error::Tokenizer(format!(
                "token {id} of tokenizer.json is {text:?}, not one of its added_tokens, but \
                 config.json names it as {key}; do the two files belong together?"
            )));
        }
        Ok(Self { id, text })
    }

    /// The token that is written so; the tokenizer must have it among its `added_tokens`.
    pub(super) fn named(tokenizer: &Tokenizer, text: &str) -> Result<Self, Error> {
        match tokenizer.token_to_id(text) {
            Some(id) if tokenizer.is_added(id) => Ok(Self {
                id,
                text: text.to_owned(),
            }),
            _ => Err(Error::Tokenizer(format!(
                "tokenizer.json has no {text} among its added_tokens; is it this model's?"
            ))),
        }
    }
}

/// That an image prompt has one image.
pub(super) fn check_image(request: &PromptRequest<'_>) -> Result<(), Error> {
    if request.kind == VisualKind::Image && request.visuals.len() > 1 {
        return Err(Error::Grid(format!(
            "an image prompt takes one image, got {}",
            request.visuals.len()
        )));
    }
    Ok(())
}

/// The texts of a request, with what would become control tokens hidden.
pub(super) struct Quoted<'w> {
    system: Option<String>,
    history: Vec<Turn>,
    text: String,
    quote: Quote<'w>,
}

impl<'w> Quoted<'w> {
    /// Hides the tokenizer's special tokens, and `more` that the family's code looks for.
    pub fn new(request: &PromptRequest<'_>, tokenizer: &'w Tokenizer, more: &'w [&str]) -> Self {
        let turns = request.history.iter();
        let texts: Vec<&str> = turns
            .flat_map(|turn| [turn.user.as_str(), turn.assistant.as_str()])
            .chain(request.system)
            .chain([request.text])
            .collect();
        let reserved = tokenizer.added().chain(more.iter().copied());
        let quote = Quote::new(reserved, &texts);
        let hide = |text: &str| quote.hide(text).into_owned();
        let turn = |turn: &Turn| Turn {
            user: hide(&turn.user),
            assistant: hide(&turn.assistant),
        };
        Self {
            system: request.system.map(hide),
            history: request.history.iter().map(turn).collect(),
            text: hide(request.text),
            quote,
        }
    }

    /// The request with these texts.
    pub fn request<'a>(&'a self, request: &PromptRequest<'a>) -> PromptRequest<'a> {
        PromptRequest {
            system: self.system.as_deref(),
            history: &self.history,
            text: &self.text,
            ..request.clone()
        }
    }

    /// The tokens of what was rendered from them.
    pub fn encode(&self, tokenizer: &Tokenizer, rendered: &str) -> Result<Vec<u32>, Error> {
        tokenizer.encode_quoted(rendered, &self.quote)
    }
}

/// System prompt if given, earlier exchanges, then pixels and question.
pub(super) fn messages<'a>(request: &PromptRequest<'a>) -> Vec<Message<'a>> {
    let pixels = match request.kind {
        _ if request.visuals.is_empty() => None,
        VisualKind::Image => Some(Part::Image),
        VisualKind::Video => Some(Part::Video),
    };
    let parts = pixels.into_iter().chain([Part::Text(request.text)]);
    conversation(request.system, request, parts.collect())
}

/// `system` if given, earlier exchanges, then a question.
pub(super) fn conversation<'a>(
    system: Option<&'a str>,
    request: &PromptRequest<'a>,
    question: Vec<Part<'a>>,
) -> Vec<Message<'a>> {
    let text = |role, text| Message {
        role,
        parts: vec![Part::Text(text)],
    };
    let mut messages = Vec::with_capacity(2 + 2 * request.history.len());
    messages.extend(system.map(|system| text("system", system)));
    for turn in request.history {
        messages.push(text("user", &turn.user));
        messages.push(text("assistant", &turn.assistant));
    }
    messages.push(Message {
        role: "user",
        parts: question,
    });
    messages
}

/// That a rendered template has its placeholder as often as it must.
pub(super) fn count(rendered: &str, placeholder: &str, want: usize) -> Result<(), Error> {
    let got = rendered.matches(placeholder).count();
    if got == want {
        return Ok(());
    }
    Err(Error::Template(format!(
        "it put {got} of {placeholder} into the prompt, want {want}; does chat_template.jinja \
         belong to this checkpoint?"
    )))
}

/// Splits a prompt's tokens at the placeholders, one for each of the request's pixels.
pub(super) fn split(
    ids: &[u32],
    placeholder: u32,
    request: &PromptRequest<'_>,
) -> Result<Vec<PromptRun>, Error> {
    let n_placeholders = ids.iter().filter(|&&id| id == placeholder).count();
    if n_placeholders != request.visuals.len() {
        return Err(Error::Template(format!(
            "the prompt has {n_placeholders} placeholders for {} temporal patches",
            request.visuals.len()
        )));
    }
    let mut runs = Vec::with_capacity(2 * n_placeholders + 1);
    for (index, text) in ids.split(|&id| id == placeholder).enumerate() {
        if index > 0 {
            runs.push(PromptRun::Visual(index - 1));
        }
        if !text.is_empty() {
            runs.push(PromptRun::Tokens(text.to_vec()));
        }
    }
    Ok(runs)
}
