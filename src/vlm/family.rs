// SPDX-License-Identifier: MPL-2.0

//! What a model family does: pixels and text to rows and positions.

use super::error::Error;
use super::image::RgbImage;
use super::prompt::{Prompt, PromptRequest, VisualKind};
use crate::backend::{GridThw, Patches};

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
