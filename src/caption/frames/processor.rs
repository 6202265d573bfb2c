// SPDX-License-Identifier: MPL-2.0

//! How frames become what a model is shown: the size that it sees them at, and the form in which they
//! are handed over.

use std::sync::Arc;

use super::visual::Visual;
use crate::vlm::image::RgbImage;
use crate::vlm::{self, FrameBounds, PixelBudget, VisualKind, Vlm};

/// What is done to the frames of one model before they are shown to it.
pub trait FrameProcessor: Send + Sync {
    /// Frames that make one picture to the model: 2 for Qwen, 1 for InternVL and for servers.
    fn temporal_patch_size(&self) -> usize;

    /// The part of a budget that the model takes.
    fn limited(&self, budget: PixelBudget) -> PixelBudget;

    /// Width and height that a `width` x `height` frame is resized to.
    ///
    /// # Errors
    /// Those of [`Vlm::target_size`].
    fn target_size(
        &self,
        width: usize,
        height: usize,
        kind: VisualKind,
        budget: PixelBudget,
    ) -> Result<(usize, usize), vlm::Error>;

    /// A frame as [`show`](Self::show) takes it.
    ///
    /// # Errors
    /// Those of [`Vlm::fit`].
    fn fit(
        &self,
        frame: &RgbImage,
        kind: VisualKind,
        budget: PixelBudget,
    ) -> Result<RgbImage, vlm::Error>;

    /// Makes of 1 to `temporal_patch_size` frames what the model is shown.
    ///
    /// # Errors
    /// Those of [`Vlm::patches`], or of an encoder.
    fn show(&self, frames: &[RgbImage]) -> Result<Visual, vlm::Error>;
}

/// Frames for a vision net of this machine, as its family cuts them.
pub struct FamilyProcessor {
    vlm: Arc<dyn Vlm>,
    bounds: FrameBounds,
}

impl FamilyProcessor {
    /// For a family; `bounds` are those of the compiled model, if it is one.
    pub fn new(vlm: Arc<dyn Vlm>, bounds: FrameBounds) -> Self {
        Self { vlm, bounds }
    }
}

impl FrameProcessor for FamilyProcessor {
    fn temporal_patch_size(&self) -> usize {
        self.vlm.temporal_patch_size()
    }

    fn limited(&self, mut budget: PixelBudget) -> PixelBudget {
        budget.limit(self.bounds);
        budget
    }

    fn target_size(
        &self,
        width: usize,
        height: usize,
        kind: VisualKind,
        budget: PixelBudget,
    ) -> Result<(usize, usize), vlm::Error> {
        self.vlm.target_size(width, height, kind, budget)
    }

    fn fit(
        &self,
        frame: &RgbImage,
        kind: VisualKind,
        budget: PixelBudget,
    ) -> Result<RgbImage, vlm::Error> {
        self.vlm.fit(frame, kind, budget)
    }

    fn show(&self, frames: &[RgbImage]) -> Result<Visual, vlm::Error> {
        self.vlm.patches(frames).map(Visual::Pixels)
    }
}
