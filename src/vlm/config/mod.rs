// SPDX-License-Identifier: MPL-2.0

//! `config.json` and `generation_config.json`, checked; keys keep their published names.
//!
//! Reads what transformers writes, from 4.49 to 5.x. Whatever the arithmetic relies on is checked here,
//! so nothing downstream checks again.

mod decoder;
mod defaults;
pub(crate) mod internvl;
mod quantization;
pub(crate) mod qwen25vl;
pub(crate) mod qwen3vl;

use super::Error;
use super::files::ModelFiles;
use super::generate::GenerationDefaults;
use super::json::{Document, Section};
use crate::backend::spec::{Spec, VisionSpec};

/// `config.json` of a Qwen with eyes, checked.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct QwenConfig {
    /// Sizes of tower and decoder.
    pub spec: Spec,
    /// Placeholder of an image's visual tokens.
    pub image_token_id: u32,
    /// Placeholder of a video's visual tokens.
    pub video_token_id: u32,
    /// Stands before each image, video or temporal patch.
    pub vision_start_token_id: u32,
    /// Stands after each image, video or temporal patch.
    pub vision_end_token_id: u32,
    /// `eos_token_id`, for checkpoints without `generation_config.json`.
    pub eos: Vec<u32>,
}

impl QwenConfig {
    /// Reads the special tokens beside the sizes; `text` is the section of the decoder.
    fn read(root: &Section<'_>, text: &Section<'_>, spec: Spec) -> Result<Self, Error> {
        let token = |key| check_token(root, key, root.token(key)?, spec.text.vocab_size);
        let config = Self {
            image_token_id: token("image_token_id")?,
            video_token_id: token("video_token_id")?,
            vision_start_token_id: token("vision_start_token_id")?,
            vision_end_token_id: token("vision_end_token_id")?,
            eos: eos(root, text)?,
            spec,
        };
        if config.image_token_id == config.video_token_id {
            return Err(root.complain(
                "video_token_id",
                "is also image_token_id; placeholders must differ",
            ));
        }
        Ok(config)
    }
}

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

/// The tokens that end an answer: the decoder's, else those of the whole model.
fn eos(root: &Section<'_>, text: &Section<'_>) -> Result<Vec<u32>, Error> {
    let eos = text.tokens("eos_token_id")?;
    if eos.is_empty() {
        root.tokens("eos_token_id")
    } else {
        Ok(eos)
    }
}

fn check_token(section: &Section<'_>, key: &str, id: u32, vocab_size: usize) -> Result<u32, Error> {
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
fn check_heads(
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
fn check_out(vision: &Section<'_>, tower: &VisionSpec, hidden_size: usize) -> Result<(), Error> {
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
fn channels(vision: &Section<'_>, key: &str) -> Result<usize, Error> {
    match vision.size_or(key, 3)? {
        3 => Ok(3),
        n => Err(vision.complain(key, format!("is {n}; want 3 (RGB)"))),
    }
}

/// Reads `generation_config.json`; without one, or without its `eos_token_id`, `fallback` ends
/// answers.
///
/// # Errors
/// [`Error::Config`] if nothing ends an answer, or a value is wrong.
pub(crate) fn generation_defaults(
    files: &ModelFiles,
    fallback: &[u32],
    vocab_size: usize,
) -> Result<GenerationDefaults, Error> {
    const FILE: &str = "generation_config.json";
    let document = Document::read(files, FILE)?;
    let (mut eos, mut repetition_penalty) = (Vec::new(), 1.0);
    if let Some(document) = &document {
        let root = document.root();
        eos = root.tokens("eos_token_id")?;
        for &id in &eos {
            check_token(&root, "eos_token_id", id, vocab_size)?;
        }
        repetition_penalty = root.positive_or("repetition_penalty", 1.0)? as f32;
    }
    if eos.is_empty() {
        eos = fallback.to_vec();
    }
    if eos.is_empty() {
        return Err(Error::Config {
            file: files.label(FILE),
            reason:
                "eos_token_id is missing, and config.json has none: nothing would end an answer"
                    .to_owned(),
        });
    }
    Ok(GenerationDefaults {
        eos,
        repetition_penalty,
    })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn eos_is_a_number_a_list_or_the_model_s_own() {
        let folder = tempfile::tempdir().unwrap();
        let files = ModelFiles::Folder(folder.path().to_owned());
        let written = |text: &str| {
            fs::write(folder.path().join("generation_config.json"), text).unwrap();
            generation_defaults(&files, &[5], 10)
        };
        let defaults = written(r#"{"eos_token_id": [7, 8], "repetition_penalty": 1.5}"#).unwrap();
        assert_eq!(
            (defaults.eos, defaults.repetition_penalty),
            (vec![7, 8], 1.5)
        );
        let defaults = written(r#"{"eos_token_id": 7}"#).unwrap();
        assert_eq!((defaults.eos, defaults.repetition_penalty), (vec![7], 1.0));
        assert_eq!(written("{}").unwrap().eos, [5]);
        let got = written(r#"{"eos_token_id": 10}"#).unwrap_err().to_string();
        assert!(got.contains("eos_token_id has 10"), "{got}");
        let got = written(r#"{"repetition_penalty": 0}"#)
            .unwrap_err()
            .to_string();
        assert!(got.contains("repetition_penalty is 0; want"), "{got}");

        fs::remove_file(folder.path().join("generation_config.json")).unwrap();
        assert_eq!(generation_defaults(&files, &[5], 10).unwrap().eos, [5]);
        let got = generation_defaults(&files, &[], 10)
            .unwrap_err()
            .to_string();
        assert!(got.contains("nothing would end an answer"), "{got}");
    }
}
