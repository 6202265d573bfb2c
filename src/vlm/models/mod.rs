// SPDX-License-Identifier: MPL-2.0

//! One file a family: only what it does differently.

mod internvl;
mod prompt;
mod qwen;
mod qwen25vl;
mod qwen3vl;

use super::checkpoint::Checkpoint;
use super::config::model_type;
use super::error::Error;
use super::files::ModelFiles;
use super::json::Document;

impl Checkpoint {
    /// Reads everything but the weights: configuration, tokenizer, templates, the headers of the
    /// weight files. Takes milliseconds, so it can be done while the application waits.
    pub fn open(files: ModelFiles) -> Result<Self, Error> {
        let checkpoint = Self::open_compiled(files)?;
        checkpoint.files.check_weights()?;
        Ok(checkpoint)
    }

    /// The same for a folder without weights: they were compiled into a file of a device's.
    pub fn open_compiled(files: ModelFiles) -> Result<Self, Error> {
        open(files)
    }
}

/// Opens a checkpoint with the family that its `config.json` names; its weights are not looked at.
fn open(files: ModelFiles) -> Result<Checkpoint, Error> {
    files.check_place()?;
    let config = Document::require(&files, "config.json")?;
    match model_type(&config)? {
        "qwen3_vl" => qwen3vl::open(files, &config),
        "qwen2_5_vl" => qwen25vl::open(files, &config),
        "internvl_chat" | "internvl" => internvl::open(files, &config),
        other => Err(Error::Family(other.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;

    /// The demo's files, as a folder.
    fn unpack(folder: &Path) {
        let ModelFiles::Embedded(_, files) = ModelFiles::demo() else {
            panic!("the demo is embedded");
        };
        for file in files {
            fs::write(folder.join(file.name), file.bytes).unwrap();
        }
    }

    fn complaint(folder: &Path) -> String {
        let checkpoint = Checkpoint::open(ModelFiles::Folder(folder.to_owned()));
        checkpoint.err().unwrap().to_string()
    }

    #[test]
    fn a_folder_opens_like_the_embedded_files() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("my-model");
        fs::create_dir(&path).unwrap();
        unpack(&path);
        let checkpoint = open(ModelFiles::Folder(path)).unwrap();
        let demo = open(ModelFiles::demo()).unwrap();
        assert_eq!(checkpoint.name, "my-model");
        assert_eq!(checkpoint.cpu, demo.cpu);
        assert_eq!(checkpoint.defaults, demo.defaults);
        assert_eq!(demo.defaults.eos, [506]);
    }

    #[test]
    fn each_missing_file_is_named() {
        let folder = tempfile::tempdir().unwrap();
        for name in [
            "config.json",
            "tokenizer.json",
            "preprocessor_config.json",
            "chat_template.jinja",
            "model.safetensors",
        ] {
            unpack(folder.path());
            fs::remove_file(folder.path().join(name)).unwrap();
            let got = complaint(folder.path());
            assert!(got.contains(&format!("has no {name}")), "{got}");
        }
    }

    #[test]
    fn a_foreign_family_is_told_with_those_that_run() {
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("config.json");
        fs::write(&config, r#"{"model_type": "llava"}"#).unwrap();
        let got = complaint(folder.path());
        assert_eq!(
            got,
            "model type \"llava\" is not supported; this build runs qwen3_vl, qwen2_5_vl, \
             internvl_chat, internvl"
        );
        fs::write(&config, "{}").unwrap();
        let got = complaint(folder.path());
        assert!(got.contains("model_type is missing"), "{got}");
    }

    #[test]
    fn a_tokenizer_of_another_model_is_told() {
        let folder = tempfile::tempdir().unwrap();
        unpack(folder.path());
        let path = folder.path().join("config.json");
        let text = fs::read_to_string(&path).unwrap();
        fs::write(
            &path,
            text.replace("\"video_token_id\": 511", "\"video_token_id\": 400"),
        )
        .unwrap();
        let got = complaint(folder.path());
        assert!(
            got.contains("names it as video_token_id") && got.contains("token 400"),
            "{got}"
        );
        fs::write(
            &path,
            text.replace("\"vocab_size\": 512", "\"vocab_size\": 513"),
        )
        .unwrap();
        assert!(open(ModelFiles::Folder(folder.path().to_owned())).is_ok());
        let tokenizer = folder.path().join("tokenizer.json");
        let text = fs::read_to_string(&tokenizer).unwrap();
        let mut json: serde_json::Value = serde_json::from_str(&text).unwrap();
        json["model"]["vocab"]["zzzz"] = serde_json::json!(600);
        fs::write(&tokenizer, json.to_string()).unwrap();
        let got = complaint(folder.path());
        assert!(
            got.contains("has ids up to 600, but text_config.vocab_size"),
            "{got}"
        );
    }
}
