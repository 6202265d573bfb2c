// SPDX-License-Identifier: MPL-2.0

//! What a prompt is made of, and what it becomes.

use crate::backend::{GridThw, Position};

/// Whether pixels are one still image or a part of a video: templates and pixel budgets differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VisualKind {
    /// One frame, given as an image.
    Image,
    /// Frames of a video, `temporal_patch_size` to a temporal patch.
    Video,
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

    /// Its text tokens.
    pub fn token_ids(&self) -> impl Iterator<Item = u32> {
        let tokens = self.runs.iter().filter_map(|run| match run {
            PromptRun::Tokens(ids) => Some(ids),
            PromptRun::Visual(_) => None,
        });
        tokens.flatten().copied()
    }
}
