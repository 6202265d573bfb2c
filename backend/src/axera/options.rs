// SPDX-License-Identifier: MPL-2.0

//! What the models do not say themselves.

/// How the vision model is shown pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Pixels {
    /// Rows of patches of two frames.
    Rows,
    /// A tile of one frame, cut into patches of this side.
    Tiles {
        /// Pixels.
        patch_size: usize,
    },
}

/// What the models do not say themselves.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Options {
    /// Number of the device, counted from 0.
    pub device: usize,
    /// Entries of the vocabulary, by the checkpoint's `config.json`.
    pub vocab_size: usize,
    /// Decoder layers, by the checkpoint's `config.json`.
    pub n_layers: usize,
    /// Deepstack features, by the checkpoint's `config.json`.
    pub n_deepstack: usize,
    /// Width and height that frames are resized to; the vision model must have been made for it.
    pub frame: (usize, usize),
    /// How the vision model is shown pixels.
    pub pixels: Pixels,
}
