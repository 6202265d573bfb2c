// SPDX-License-Identifier: MPL-2.0

//! Keys that several families have, and what their values must be.

use crate::backend::spec::VisionSpec;
use crate::vlm::error::Error;
use crate::vlm::json::{Document, Section};

/// The family that `config.json` names.
pub(crate) fn model_type(config: &Document) -> Result<&str, Error> {
    let root = config.root();
    root.text("model_type")?.ok_or_else(|| {
        root.complain(
            "model_type",
            "is missing; is this the config.json of a vision-language model?",
        )
    })
}

/// The tokens that end an answer: the decoder's, else those of the whole model.
pub(super) fn eos(root: &Section<'_>, text: &Section<'_>) -> Result<Vec<u32>, Error> {
    let eos = text.tokens("eos_token_id")?;
    if eos.is_empty() {
        root.tokens("eos_token_id")
    } else {
        Ok(eos)
    }
}

pub(super) fn check_token(
    section: &Section<'_>,
    key: &str,
    id: u32,
    vocab_size: usize,
) -> Result<u32, Error> {
    if (id as usize) < vocab_size {
        Ok(id)
    } else {
        Err(section.complain(
            key,
            format!("has {id}, but text_config.vocab_size is {vocab_size}"),
        ))
    }
}

/// That a tower's rows can be shared out to its heads, each of whose halves has two axes.
pub(super) fn check_heads(
    vision: &Section<'_>,
    key: &str,
    num_heads: usize,
    hidden_size: usize,
) -> Result<(), Error> {
    if hidden_size.is_multiple_of(4 * num_heads) {
        return Ok(());
    }
    Err(vision.complain(
        key,
        format!(
            "is {num_heads}; want a divisor of hidden_size, {hidden_size}, that leaves a multiple \
             of 4 a head"
        ),
    ))
}

/// That visual tokens are as wide as the decoder's rows.
pub(super) fn check_out(
    vision: &Section<'_>,
    tower: &VisionSpec,
    hidden_size: usize,
) -> Result<(), Error> {
    if tower.out_hidden_size == hidden_size {
        return Ok(());
    }
    Err(vision.complain(
        "out_hidden_size",
        format!(
            "is {}, but text_config.hidden_size is {hidden_size}",
            tower.out_hidden_size
        ),
    ))
}

/// The channels of a pixel under `key`; only RGB is read.
pub(super) fn channels(vision: &Section<'_>, key: &str) -> Result<usize, Error> {
    match vision.size_or(key, 3)? {
        3 => Ok(3),
        n => Err(vision.complain(key, format!("is {n}; want 3 (RGB)"))),
    }
}
