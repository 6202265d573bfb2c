// SPDX-License-Identifier: MPL-2.0

//! Why a checkpoint, an image or a prompt cannot be used.

/// Why a checkpoint, an image or a prompt cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file that the checkpoint must have is not there.
    #[error("{folder} has no {file}; is it a whole Hugging Face checkpoint?")]
    MissingFile {
        /// Where it was looked for.
        folder: String,
        /// Its name.
        file: String,
    },
    /// The place where a checkpoint should be is no folder.
    #[error("{place} {reason}")]
    NoFolder {
        /// Where it was looked for.
        place: String,
        /// What is there, and what would be right.
        reason: &'static str,
    },
    /// A file is still the pointer that git-lfs puts in its place.
    #[error("{file} is a git-lfs pointer, not the file; run `git lfs pull` in its folder")]
    LfsPointer {
        /// The file.
        file: String,
    },
    /// A file could not be read.
    #[error("{file}: {source}")]
    Io {
        /// The file.
        file: String,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A configuration file does not say what it must.
    #[error("{file}: {reason}")]
    Config {
        /// The file.
        file: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A compiled model without its configuration.
    #[error(
        "there is no config.json beside {model}, nor in a folder config there; set config to the \
         folder that llm_convert.py wrote with it"
    )]
    NoConfig {
        /// The compiled model.
        model: String,
    },
    /// A folder of axmodels without the configuration of its checkpoint.
    #[error(
        "there is no checkpoint's config.json with tokenizer.json (or vocab.json and merges.txt) in \
         {model}, in a folder there or beside it; set config to a folder with the checkpoint's files: `hf download <checkpoint> \
         --exclude '*.safetensors'` fetches them"
    )]
    NoCheckpoint {
        /// The folder of axmodels.
        model: String,
    },
    /// A family that is not implemented.
    #[error(
        "model type {0:?} is not supported; this build runs qwen3_vl, qwen2_5_vl, internvl_chat, internvl"
    )]
    Family(String),
    /// A model whose answers begin with its reasoning.
    #[error(
        "{model} reasons before it answers: its chat template opens {opening}, so captions would be \
         its thoughts and yes or no would be read from them; use the Instruct model of the same size"
    )]
    Reasoning {
        /// The model's name.
        model: String,
        /// What the template ends with.
        opening: &'static str,
    },
    /// The chat template could not be rendered.
    #[error("chat template: {0}")]
    Template(String),
    /// The tokenizer could not be read or used.
    #[error("tokenizer: {0}")]
    Tokenizer(String),
    /// Pixels that do not fit a grid.
    #[error("{0}")]
    Grid(String),
    /// The device program gave no number to choose a token by.
    #[error(
        "the model computed no number (NaN) to choose a token by: its files are damaged, or its \
         numbers are too large for the type they are held in; fetch it again, or choose another \
         precision"
    )]
    Logits,
    /// An answer that does not have the form that was asked for.
    #[error("{0}")]
    Answer(String),
    /// The device program failed.
    #[error(transparent)]
    Backend(#[from] crate::backend::Error),
}
