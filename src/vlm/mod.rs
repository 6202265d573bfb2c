// SPDX-License-Identifier: MPL-2.0

//! What a model family is: everything about a vision-language model that no device needs to know.
//!
//! A [`Vlm`] says how large a frame becomes, how it is cut into patches, what the prompt is and at
//! which positions its rows stand. A [`Program`] does the arithmetic;
//! [`generate`](generate::generate) drives it.

mod answer;
pub mod chat;
mod choice;
pub mod compiled;
pub mod config;
mod count;
pub mod files;
pub mod generate;
pub mod grammar;
pub mod grid;
pub mod hub;
pub mod image;
pub mod interview;
mod json;
mod json_answer;
pub mod models;
pub mod mrope;
pub mod preprocessor;
pub mod quote;
pub mod sampling;
pub mod tiles;
pub mod tokenizer;

use std::sync::Arc;

use crate::backend::spec::Spec;
use crate::backend::{Cancel, GridThw, Patches, Position, Program, cpu};
use files::ModelFiles;
use generate::GenerationDefaults;
use image::RgbImage;
use tokenizer::Tokenizer;

/// Whether pixels are one still image or a part of a video: templates and pixel budgets differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VisualKind {
    /// One frame, given as an image.
    Image,
    /// Frames of a video, `temporal_patch_size` to a temporal patch.
    Video,
}

/// What a compiled model takes, beside what its checkpoint says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FrameBounds {
    /// Upper bound of an image's area, in pixels.
    pub max_pixels: Option<usize>,
    /// The one width and height there is.
    pub exact: Option<(usize, usize)>,
}

/// How many pixels a frame may become; what is unset comes from the checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct PixelBudget {
    /// Upper bound of the area of an image, in pixels.
    pub max_pixels: Option<usize>,
    /// Part of the image budget that a video frame gets, 0..=1.
    pub video_ratio: Option<f64>,
    /// Width and height that every frame becomes, its shape given up: what a model that was compiled
    /// for one size takes.
    pub exact: Option<(usize, usize)>,
}

impl PixelBudget {
    /// Keeps to what the model takes.
    pub fn limit(&mut self, bounds: FrameBounds) {
        if let Some(most) = bounds.max_pixels {
            self.max_pixels = Some(self.max_pixels.map_or(most, |max| max.min(most)));
        }
        self.exact = bounds.exact;
    }
}

/// One temporal patch (or image) of a prompt, in the order of time.
#[derive(Debug, Clone, PartialEq)]
pub struct VisualInput {
    /// Size in patches, `t` 1.
    pub grid: GridThw,
    /// Seconds since the first frame of the window, one per frame of the patch; an odd tail names
    /// its repeated frame's time twice. Not read for images.
    pub seconds: Vec<f64>,
}

/// An earlier exchange, given as context.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Turn {
    /// What was asked.
    pub user: String,
    /// What was answered.
    pub assistant: String,
}

/// What a prompt is made of.
#[derive(Debug, Clone, PartialEq)]
pub struct PromptRequest<'a> {
    /// System prompt; `None` leaves it to the chat template.
    pub system: Option<&'a str>,
    /// Earlier exchanges, oldest first, text only.
    pub history: &'a [Turn],
    /// What is asked about the pixels.
    pub text: &'a str,
    /// Image or video.
    pub kind: VisualKind,
    /// The pixels: exactly one for an image, at least one for a video, none for a text prompt
    /// (then `kind` is not read).
    pub visuals: &'a [VisualInput],
}

/// One run of rows of a prompt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PromptRun {
    /// Text tokens.
    Tokens(Vec<u32>),
    /// The visual tokens of `visuals[index]` of the request.
    Visual(usize),
}

/// A prompt, ready for a [`Program`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prompt {
    /// Rows in order.
    pub runs: Vec<PromptRun>,
    /// One position per row.
    pub positions: Vec<Position>,
    /// Number of the first token of the answer on all three axes.
    pub next_position: u32,
    /// The token that stands for visual tokens in the text; the repetition penalty counts it, as
    /// transformers does.
    pub placeholder: Option<u32>,
}

impl Prompt {
    /// Rows in all: prompt tokens, visual tokens counted one by one.
    pub fn n_rows(&self) -> usize {
        self.positions.len()
    }
}

/// A model family with one checkpoint's numbers: pixels and text to rows and positions.
pub trait Vlm: Send + Sync {
    /// Frames that make one temporal patch: 2 for Qwen, 1 for InternVL.
    fn temporal_patch_size(&self) -> usize;

    /// Width and height that a `width` x `height` frame is resized to; of an image that becomes
    /// several tiles, those of its tiles one below the other.
    ///
    /// # Errors
    /// [`Error::Grid`] if the shape cannot be shown to the model (an aspect ratio above 200).
    fn target_size(
        &self,
        width: usize,
        height: usize,
        kind: VisualKind,
        budget: PixelBudget,
    ) -> Result<(usize, usize), Error>;

    /// A frame as [`patches`](Self::patches) takes it: resized to
    /// [`target_size`](Self::target_size), or cut into tiles.
    ///
    /// # Errors
    /// [`Error::Grid`] if the frame cannot be resized to that, or has no such size.
    fn fit(
        &self,
        frame: &RgbImage,
        kind: VisualKind,
        budget: PixelBudget,
    ) -> Result<RgbImage, Error> {
        let (width, height) = self.target_size(frame.width, frame.height, kind, budget)?;
        frame.resize(width, height)
    }

    /// Cuts 1 to `temporal_patch_size` frames of one size into patch rows; a short patch repeats
    /// its last frame.
    ///
    /// # Errors
    /// [`Error::Grid`] if a side is not a multiple of `patch_size * merge_size` pixels or the
    /// frames differ in size.
    fn patches(&self, frames: &[RgbImage]) -> Result<Patches, Error>;

    /// Visual tokens of a grid.
    fn n_visual_tokens(&self, grid: GridThw) -> usize;

    /// Renders the chat template and counts out rows and positions.
    fn prompt(&self, request: &PromptRequest<'_>) -> Result<Prompt, Error>;
}

/// A checkpoint that was opened and checked, its weights not yet read.
pub struct Checkpoint {
    /// What to call it in captions: the folder's name, or `demo`.
    pub name: String,
    /// The family, as `config.json` names it.
    pub model_type: String,
    /// The family's ways.
    pub vlm: Arc<dyn Vlm>,
    /// Text to tokens and back.
    pub tokenizer: Arc<Tokenizer>,
    /// What `generation_config.json` says.
    pub defaults: GenerationDefaults,
    /// What a compiled model takes of frames.
    pub bounds: FrameBounds,
    pub(crate) cpu: Spec,
    pub(crate) files: ModelFiles,
}

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
        models::open(files)
    }

    /// Reads the weights twice over, to compare int8 with f32: see [`cpu::load_compared`].
    ///
    /// # Errors
    /// Those of the weight files.
    pub fn load_compared(
        &self,
        threads: Option<usize>,
        cancel: &Cancel,
    ) -> Result<(Box<dyn Program>, cpu::Ledger), Error> {
        let weights = self.files.weights()?;
        let mut ignore = |_| ();
        Ok(cpu::load_compared(
            &self.cpu,
            &weights,
            threads,
            &mut ignore,
            cancel,
        )?)
    }

    /// Reads the weights and readies the host's cores; `progress` hears 0.0..=1.0.
    pub fn load_cpu(
        &self,
        options: &cpu::Options,
        progress: &mut dyn FnMut(f32),
        cancel: &Cancel,
    ) -> Result<Box<dyn Program>, Error> {
        Ok(cpu::load(
            &self.cpu,
            &self.files.weights()?,
            options,
            progress,
            cancel,
        )?)
    }
}

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
