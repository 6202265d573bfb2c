// SPDX-License-Identifier: MPL-2.0

//! `generation_config.json`.

use super::checks::check_token;
use crate::vlm::error::Error;
use crate::vlm::files::ModelFiles;
use crate::vlm::json::Document;
use crate::vlm::request::GenerationDefaults;

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
