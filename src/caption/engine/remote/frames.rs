// SPDX-License-Identifier: MPL-2.0

//! Frames become JPEGs at the model's own grid, so that the server has nothing left to resize.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use jpeg_encoder::{ColorType, Encoder, SamplingFactor};

use crate::caption::frames::processor::FrameProcessor;
use crate::caption::frames::visual::{Jpeg, Visual};
use crate::vlm::image::{RgbImage, smart_resize};
use crate::vlm::{self, FrameBounds, PixelBudget, VisualKind, Vlm};

/// Area of an image where nothing says better.
const MAX_PIXELS: usize = 1 << 20;

/// Part of it that a frame of a video gets.
const VIDEO_RATIO: f64 = 0.25;

/// Pixels to which the sides of a frame are rounded: those of one visual token of Qwen3-VL, 16 to a
/// patch and 2 patches merged. Servers of other models resize by less than that.
const FACTOR: usize = 32;

/// The same of Qwen2-VL and Qwen2.5-VL, 14 to a patch.
pub(crate) const OLDER_FACTOR: usize = 28;

/// What sides of frames are multiples of: known once the server was asked.
#[derive(Debug)]
pub(crate) struct Grid(AtomicUsize);

impl Default for Grid {
    fn default() -> Self {
        Self(AtomicUsize::new(FACTOR))
    }
}

impl Grid {
    pub(crate) fn set(&self, factor: usize) {
        self.0.store(factor, Ordering::Relaxed);
    }

    fn get(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

/// Makes JPEGs of frames.
pub(crate) struct JpegProcessor {
    quality: u8,
    grid: Arc<Grid>,
    /// The family of the checkpoint that the server runs, where that is known.
    family: Option<Arc<dyn Vlm>>,
}

impl JpegProcessor {
    pub(crate) fn new(quality: u8, grid: Arc<Grid>, family: Option<Arc<dyn Vlm>>) -> Self {
        Self {
            quality,
            grid,
            family,
        }
    }
}

impl FrameProcessor for JpegProcessor {
    fn temporal_patch_size(&self) -> usize {
        1
    }

    fn limited(&self, mut budget: PixelBudget) -> PixelBudget {
        budget.limit(FrameBounds::default());
        budget
    }

    fn target_size(
        &self,
        width: usize,
        height: usize,
        kind: VisualKind,
        budget: PixelBudget,
    ) -> Result<(usize, usize), vlm::Error> {
        if let Some(family) = &self.family {
            return family.target_size(width, height, kind, budget);
        }
        let factor = self.grid.get();
        let ratio = match kind {
            VisualKind::Image => 1.0,
            VisualKind::Video => budget.video_ratio.unwrap_or(VIDEO_RATIO),
        };
        let most = budget.max_pixels.unwrap_or(MAX_PIXELS) as f64 * ratio;
        let least = factor * factor;
        smart_resize(width, height, factor, least, (most as usize).max(least))
    }

    fn fit(
        &self,
        frame: &RgbImage,
        kind: VisualKind,
        budget: PixelBudget,
    ) -> Result<RgbImage, vlm::Error> {
        let (width, height) = self.target_size(frame.width, frame.height, kind, budget)?;
        frame.resize(width, height)
    }

    fn show(&self, frames: &[RgbImage]) -> Result<Visual, vlm::Error> {
        let [frame] = frames else {
            return Err(vlm::Error::Grid("a JPEG is of one frame".into()));
        };
        Ok(Visual::Jpeg(Arc::new(jpeg(frame, self.quality)?)))
    }
}

/// A frame as JPEG, with half the colour resolution both ways: what photographs lose nothing by.
///
/// # Errors
/// The frame is empty or has a side above 65535 pixels.
pub(crate) fn jpeg(frame: &RgbImage, quality: u8) -> Result<Jpeg, vlm::Error> {
    let refuse = |reason: &dyn std::fmt::Display| {
        let (width, height) = (frame.width, frame.height);
        vlm::Error::Grid(format!("a {width}x{height} frame is no JPEG: {reason}"))
    };
    let side = |n: usize| u16::try_from(n).map_err(|error| refuse(&error));
    let (width, height) = (side(frame.width)?, side(frame.height)?);
    let mut bytes = Vec::new();
    let mut encoder = Encoder::new(&mut bytes, quality.clamp(1, 100));
    encoder.set_sampling_factor(SamplingFactor::R_4_2_0);
    let encoded = encoder.encode(&frame.pixels, width, height, ColorType::Rgb);
    encoded.map_err(|error| refuse(&error))?;
    Ok(Jpeg {
        width: frame.width,
        height: frame.height,
        bytes,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn processor() -> JpegProcessor {
        JpegProcessor::new(90, Arc::default(), None)
    }

    #[test]
    fn sides_are_multiples_of_a_visual_token_within_the_budget() {
        let budget = PixelBudget::default();
        let processor = processor();
        let size = |kind, budget| processor.target_size(1920, 1080, kind, budget).unwrap();
        assert_eq!(size(VisualKind::Video, budget), (672, 384));
        assert_eq!(size(VisualKind::Image, budget), (1344, 768));
        let less = PixelBudget {
            max_pixels: Some(65536),
            video_ratio: Some(1.0),
            ..budget
        };
        assert_eq!(size(VisualKind::Video, less), (320, 192));
        processor.grid.set(OLDER_FACTOR);
        let (width, height) = size(VisualKind::Video, budget);
        assert_eq!((width % 28, height % 28), (0, 0));
    }

    #[test]
    fn a_frame_becomes_a_jpeg_of_its_size() {
        let frame = RgbImage {
            width: 64,
            height: 32,
            pixels: vec![200; 64 * 32 * 3],
        };
        let Visual::Jpeg(jpeg) = processor().show(std::slice::from_ref(&frame)).unwrap() else {
            panic!("no JPEG");
        };
        assert_eq!((jpeg.width, jpeg.height), (64, 32));
        assert!(jpeg.bytes.starts_with(&[0xff, 0xd8]) && jpeg.bytes.ends_with(&[0xff, 0xd9]));
        let empty = RgbImage {
            width: 0,
            height: 0,
            pixels: Vec::new(),
        };
        assert!(processor().show(&[empty]).is_err());
    }
}
