// SPDX-License-Identifier: MPL-2.0

//! What a caption was made of: kept with it for whoever asks why.

use std::sync::Arc;

use crate::backend::Arithmetic;
use crate::caption::frames::visual::Jpeg;
use crate::caption::frames::window::FrameTime;
use crate::vlm::generate::{GenerateOptions, Generated};
use crate::vlm::image::RgbImage;
use crate::vlm::{Prompt, Turn};

/// What a caption was made of.
#[derive(Debug, Clone, PartialEq)]
pub struct Evidence {
    /// All frames of the window, in order of time.
    pub frames: Vec<ShownFrame>,
    /// Frames at the beginning that the answer is not about, since the model holds no more.
    pub skipped: usize,
    /// Id of the stream.
    pub stream: String,
    /// The caption before.
    pub last: String,
    /// The template of the system prompt.
    pub system_template: String,
    /// The system prompt as it was given; empty if the chat template has its own.
    pub system: String,
    /// The question as it was asked.
    pub text: String,
    /// Earlier exchanges that could be given, the oldest first.
    pub history: Vec<Turn>,
    /// Of these, the oldest that were left out.
    pub forgotten: usize,
    /// The prompt; `None` of a server.
    pub prompt: Option<RenderedText>,
    /// How the answer was made.
    pub options: GenerateOptions,
    /// The answer as the model gave it.
    pub answer: Generated,
    /// Memory of the model's weights, bytes; `None` of a server.
    pub weight_bytes: Option<u64>,
    /// What the model computes in.
    pub arithmetic: Arithmetic,
}

/// A frame as a model was shown it.
#[derive(Debug, Clone, PartialEq)]
pub struct ShownFrame {
    /// When.
    pub time: FrameTime,
    /// What.
    pub picture: Shown,
}

/// The pixels of a frame, after masks, at the size that the model saw.
#[derive(Debug, Clone, PartialEq)]
pub enum Shown {
    /// As they were cut into patches.
    Rgb(Arc<RgbImage>),
    /// As a server was sent them.
    Jpeg(Arc<Jpeg>),
}

/// A prompt with its text.
#[derive(Debug, Clone, PartialEq)]
pub struct RenderedText {
    /// Tokens and places of visual tokens.
    pub prompt: Prompt,
    /// The same, written as the vocabulary writes it.
    pub text: String,
}

impl Shown {
    /// Width and height.
    pub fn size(&self) -> (usize, usize) {
        match self {
            Self::Rgb(image) => (image.width, image.height),
            Self::Jpeg(jpeg) => (jpeg.width, jpeg.height),
        }
    }
}
