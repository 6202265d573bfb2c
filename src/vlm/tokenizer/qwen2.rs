// SPDX-License-Identifier: MPL-2.0

//! A Qwen2 tokenizer in the files of before `tokenizer.json`: `vocab.json`, `merges.txt` and the
//! added tokens, as OpenGVLab publishes its models.

use serde_json::{Value, json};

use crate::backend;
use crate::vlm::Error;
use crate::vlm::files::ModelFiles;
use crate::vlm::json::Document;

const CONFIG: &str = "tokenizer_config.json";
const VOCAB: &str = "vocab.json";
const MERGES: &str = "merges.txt";

/// How `Qwen2Tokenizer` cuts a text before its merges.
const PATTERN: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// The `tokenizer.json` that these files amount to; `None` if they are not there, or are another
/// class's.
///
/// # Errors
/// [`Error::Config`] for a file that does not say what it must, [`Error::Io`].
pub(super) fn assemble(files: &ModelFiles) -> Result<Option<Value>, Error> {
    let Some(config) = Document::read(files, CONFIG)? else {
        return Ok(None);
    };
    let class = config.root().text("tokenizer_class")?;
    let (Some(vocab), Some(merges)) = (files.read(VOCAB)?, files.read(MERGES)?) else {
        return Ok(None);
    };
    if !class.is_some_and(|class| class.starts_with("Qwen2Tokenizer")) {
        return Ok(None);
    }
    let damaged = |name, reason: String| Error::Config {
        file: files.label(name),
        reason: format!("{reason}; fetch the file again"),
    };
    let vocab: Value =
        backend::json::read(&vocab).map_err(|e| damaged(VOCAB, format!("not valid JSON ({e})")))?;
    let merges =
        std::str::from_utf8(&merges).map_err(|e| damaged(MERGES, format!("not UTF-8 ({e})")))?;
    let merges: Vec<&str> = merges
        .lines()
        .filter(|line| !line.starts_with("#version") && !line.is_empty())
        .collect();
    let level = json!({
        "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": false
    });
    Ok(Some(json!({
        "version": "1.0",
        "added_tokens": added_tokens(files, &config)?,
        "normalizer": {"type": "NFC"},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            {
                "type": "Split", "pattern": {"Regex": PATTERN}, "behavior": "Isolated",
                "invert": false
            },
            level
        ]},
        "post_processor": level,
        "decoder": level,
        "model": {
            "type": "BPE", "fuse_unk": false, "byte_fallback": false, "vocab": vocab,
            "merges": merges
        }
    })))
}

/// `added_tokens_decoder`, or the older `added_tokens.json`, by id.
fn added_tokens(files: &ModelFiles, config: &Document) -> Result<Vec<Value>, Error> {
    let mut tokens = Vec::new();
    match config.root().value("added_tokens_decoder") {
        Some(Value::Object(decoder)) => {
            for (id, token) in decoder {
                let id: u32 = id.parse().map_err(|_| {
                    config.root().complain(
                        "added_tokens_decoder",
                        format!("has the id {id}; want a number"),
                    )
                })?;
                let mut token = token.clone();
                token["id"] = json!(id);
                tokens.push((id, token));
            }
        }
        _ => {
            let Some(bytes) = files.read("added_tokens.json")? else {
                return Ok(Vec::new());
            };
            let ids: std::collections::BTreeMap<String, u32> = backend::json::read(&bytes)
                .map_err(|e| Error::Config {
                    file: files.label("added_tokens.json"),
                    reason: format!("want tokens and their ids ({e}); fetch the file again"),
                })?;
            tokens.extend(ids.into_iter().map(|(content, id)| {
                let token = json!({
                    "id": id, "content": content, "single_word": false, "lstrip": false,
                    "rstrip": false, "normalized": false, "special": true
                });
                (id, token)
            }));
        }
    }
    tokens.sort_by_key(|(id, _)| *id);
    Ok(tokens.into_iter().map(|(_, token)| token).collect())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;
    use crate::vlm::tokenizer::Tokenizer;

    const TEXTS: [&str; 5] = [
        "A red circle moves left.",
        "<|im_start|>user\n12:30 猫が走る 🙂 don't  \n\n x<|im_end|>",
        " \t 3.5 seconds",
        "e\u{301}té ½ <|vision_start|>",
        "",
    ];

    /// The demo's tokenizer in the older files, with added tokens in either place.
    fn unpack(folder: &Path, class: &str, in_config: bool) {
        let demo = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/demo");
        for name in [VOCAB, MERGES] {
            fs::copy(demo.join(name), folder.join(name)).unwrap();
        }
        let bytes = fs::read(demo.join("tokenizer.json")).unwrap();
        let whole: Value = serde_json::from_slice(&bytes).unwrap();
        let mut decoder = serde_json::Map::new();
        let mut ids = serde_json::Map::new();
        for token in whole["added_tokens"].as_array().unwrap() {
            let mut fields = token.as_object().unwrap().clone();
            let id = fields.remove("id").unwrap();
            ids.insert(token["content"].as_str().unwrap().to_owned(), id.clone());
            decoder.insert(id.to_string(), Value::Object(fields));
        }
        let mut config = json!({ "tokenizer_class": class });
        if in_config {
            config["added_tokens_decoder"] = Value::Object(decoder);
        } else {
            let ids = Value::Object(ids).to_string();
            fs::write(folder.join("added_tokens.json"), ids).unwrap();
        }
        fs::write(folder.join(CONFIG), config.to_string()).unwrap();
    }

    #[test]
    fn the_older_files_make_the_same_tokens() {
        let demo = Tokenizer::open(&ModelFiles::demo(), 512).unwrap();
        for in_config in [true, false] {
            let folder = tempfile::tempdir().unwrap();
            unpack(folder.path(), "Qwen2Tokenizer", in_config);
            let files = ModelFiles::Folder(folder.path().to_owned());
            let tokenizer = Tokenizer::open(&files, 512).unwrap();
            for text in TEXTS {
                let ids = demo.encode(text).unwrap();
                assert_eq!(tokenizer.encode(text).unwrap(), ids, "{text:?}");
                assert_eq!(tokenizer.decode(&ids).unwrap(), demo.decode(&ids).unwrap());
            }
            assert_eq!(tokenizer.n_ids(), 512);
            assert!(tokenizer.is_added(506) && !tokenizer.is_added(3));
        }
    }

    #[test]
    fn older_files_of_another_class_are_not_guessed_at() {
        let folder = tempfile::tempdir().unwrap();
        unpack(folder.path(), "GPT2Tokenizer", true);
        let files = ModelFiles::Folder(folder.path().to_owned());
        let got = Tokenizer::open(&files, 512).err().unwrap().to_string();
        assert!(got.contains("has no tokenizer.json"), "{got}");
    }

    #[test]
    fn damaged_older_files_are_named() {
        let folder = tempfile::tempdir().unwrap();
        unpack(folder.path(), "Qwen2TokenizerFast", true);
        fs::write(folder.path().join(VOCAB), "{").unwrap();
        let files = ModelFiles::Folder(folder.path().to_owned());
        let got = Tokenizer::open(&files, 512).err().unwrap().to_string();
        assert!(got.contains("vocab.json: not valid JSON"), "{got}");
    }
}
