// SPDX-License-Identifier: MPL-2.0

//! `config.json` and `generation_config.json`, checked; keys keep their published names.
//!
//! Reads what transformers writes, from 4.49 to 5.x. Whatever the arithmetic relies on is checked here,
//! so nothing downstream checks again.

mod checks;
mod decoder;
mod defaults;
mod generation;
pub(crate) mod internvl;
mod quantization;
mod qwen;
pub(crate) mod qwen25vl;
pub(crate) mod qwen3vl;

use super::error::Error;
use super::json::Document;
use crate::backend::spec::Spec;
pub(crate) use checks::model_type;
pub(crate) use generation::generation_defaults;
pub(crate) use qwen::QwenConfig;

/// The sizes that a `config.json` of any family says; `file` is what messages call it.
///
/// # Errors
/// [`Error::Config`] with file, key and what would be right, [`Error::Family`].
pub fn spec(file: String, bytes: &[u8]) -> Result<Spec, Error> {
    let config = Document::parse(file, bytes)?;
    match model_type(&config)? {
        "qwen3_vl" => Ok(qwen3vl::read(&config)?.spec),
        "qwen2_5_vl" => Ok(qwen25vl::read(&config)?.qwen.spec),
        "internvl" | "internvl_chat" => Ok(internvl::read(&config)?.spec),
        other => Err(Error::Family(other.to_owned())),
    }
}
