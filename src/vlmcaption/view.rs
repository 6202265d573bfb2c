// SPDX-License-Identifier: MPL-2.0

//! What of a frame a viewer sees: the part that a crop leaves, one of two views, and what a sink is
//! asked to lay over it.

use gst_video::{
    VideoAffineTransformationMeta, VideoCropMeta, VideoFormat, VideoFrame, VideoInfo,
    VideoMultiviewFlags, VideoMultiviewMode, VideoOverlayCompositionMeta,
};

use super::layout::SLACK;
use crate::vlm::image::RgbImage;

/// A part of a frame, in pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Part {
    pub x: u32,
    pub y: u32,
    pub width: u32,
    pub height: u32,
}

impl Part {
    /// All of a frame.
    pub fn whole(width: u32, height: u32) -> Self {
        Self {
            x: 0,
            y: 0,
            width,
            height,
        }
    }

    /// What a crop leaves of it; `None` if that is nothing.
    pub fn cropped(self, (x, y, width, height): (u32, u32, u32, u32)) -> Option<Self> {
        let within = |start: u32, length: u32, side: u32| {
            let end = start.saturating_add(length).min(side);
            (end > start).then(|| end - start)
        };
        Some(Self {
            x: self.x + x,
            y: self.y + y,
            width: within(x, width, self.width)?,
            height: within(y, height, self.height)?,
        })
    }

    /// The first of two views that are packed into it. Packings that mix the views pixel by pixel
    /// stay as they are.
    pub fn first_view(self, mode: VideoMultiviewMode) -> Self {
        match mode {
            VideoMultiviewMode::SideBySide | VideoMultiviewMode::SideBySideQuincunx => Self {
                width: self.width.div_ceil(2),
                ..self
            },
            VideoMultiviewMode::TopBottom => Self {
                height: self.height.div_ceil(2),
                ..self
            },
            _ => self,
        }
    }
}

/// Width of a pixel to its height on the screen.
pub(super) fn pixel_aspect(info: &VideoInfo) -> (u32, u32) {
    let side = |n: i32| u32::try_from(n).unwrap_or(0);
    let (across, down) = (side(info.par().numer()), side(info.par().denom()));
    let halved = info
        .multiview_flags()
        .contains(VideoMultiviewFlags::HALF_ASPECT);
    match info.multiview_mode() {
        VideoMultiviewMode::SideBySide | VideoMultiviewMode::SideBySideQuincunx if halved => {
            (across.saturating_mul(2), down)
        }
        VideoMultiviewMode::TopBottom if halved => (across, down.saturating_mul(2)),
        _ => (across, down),
    }
}

/// The crop that a buffer carries.
pub(super) fn crop(buffer: &gst::BufferRef) -> Option<(u32, u32, u32, u32)> {
    buffer.meta::<VideoCropMeta>().map(|meta| meta.rect())
}

/// Whether a sink is asked to turn or mirror the frame in ways that are not followed here.
pub(super) fn is_transformed(buffer: &gst::BufferRef) -> bool {
    const AS_IT_IS: [[f32; 4]; 4] = [
        [1.0, 0.0, 0.0, 0.0],
        [0.0, 1.0, 0.0, 0.0],
        [0.0, 0.0, 1.0, 0.0],
        [0.0, 0.0, 0.0, 1.0],
    ];
    buffer
        .iter_meta::<VideoAffineTransformationMeta>()
        .any(|meta| *meta.matrix() != AS_IT_IS)
}

/// Lays over a picture what the buffer carries for a sink to lay over it.
///
/// # Errors
/// A sentence if an overlay cannot be drawn.
pub(super) fn lay_over(image: RgbImage, buffer: &gst::BufferRef) -> Result<RgbImage, String> {
    let mut overlays = buffer.iter_meta::<VideoOverlayCompositionMeta>().peekable();
    if overlays.peek().is_none() {
        return Ok(image);
    }
    let failed = |error: glib::BoolError| format!("an overlay cannot be drawn: {error}");
    let side = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    let info = VideoInfo::builder(VideoFormat::Rgb, side(image.width), side(image.height));
    let info = info.build().map_err(failed)?;
    let space = gst::Buffer::from_mut_slice(vec![0; info.size() + SLACK]);
    let mut frame = VideoFrame::from_buffer_writable(space, &info)
        .map_err(|_| format!("no memory for a {}x{} frame", info.width(), info.height()))?;
    let (row, stride) = (image.width * 3, info.stride()[0].unsigned_abs() as usize);
    let data = frame.plane_data_mut(0).map_err(failed)?;
    for (to, from) in data.chunks_mut(stride).zip(image.pixels.chunks(row)) {
        to[..row].copy_from_slice(from);
    }
    for overlay in overlays {
        let drawn = overlay
            .overlay_owned()
            .blend(&mut frame.as_mut_video_frame_ref());
        drawn.map_err(failed)?;
    }
    let mut image = image;
    let data = frame.plane_data(0).map_err(failed)?;
    for (to, from) in image.pixels.chunks_mut(row).zip(data.chunks(stride)) {
        to.copy_from_slice(&from[..row]);
    }
    Ok(image)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crop_that_reaches_out_of_the_frame_is_cut_and_an_empty_one_is_none() {
        let frame = Part::whole(100, 50);
        let part = |x, y, width, height| {
            Some(Part {
                x,
                y,
                width,
                height,
            })
        };
        assert_eq!(frame.cropped((10, 20, 30, 40)), part(10, 20, 30, 30));
        assert_eq!(frame.cropped((99, 49, u32::MAX, 9)), part(99, 49, 1, 1));
        assert_eq!(frame.cropped((100, 0, 1, 1)), None);
        assert_eq!(frame.cropped((u32::MAX, 0, u32::MAX, 1)), None);
        assert_eq!(frame.cropped((0, 0, 0, 50)), None);
    }

    #[test]
    fn of_two_packed_views_the_first_is_seen() {
        let frame = Part::whole(101, 51);
        let view = |mode| {
            let part = frame.first_view(mode);
            (part.width, part.height)
        };
        assert_eq!(view(VideoMultiviewMode::SideBySide), (51, 51));
        assert_eq!(view(VideoMultiviewMode::TopBottom), (101, 26));
        assert_eq!(view(VideoMultiviewMode::FrameByFrame), (101, 51));
        assert_eq!(view(VideoMultiviewMode::Mono), (101, 51));
    }

    #[test]
    fn views_of_half_the_width_get_it_back() {
        gst::init().unwrap();
        let aspect = |mode, flags| {
            let info = VideoInfo::builder(VideoFormat::Rgb, 64, 64)
                .par(gst::Fraction::new(4, 3))
                .multiview_mode(mode)
                .multiview_flags(flags);
            pixel_aspect(&info.build().unwrap())
        };
        let (whole, halved) = (
            VideoMultiviewFlags::empty(),
            VideoMultiviewFlags::HALF_ASPECT,
        );
        assert_eq!(aspect(VideoMultiviewMode::SideBySide, whole), (4, 3));
        assert_eq!(aspect(VideoMultiviewMode::SideBySide, halved), (8, 3));
        assert_eq!(aspect(VideoMultiviewMode::TopBottom, halved), (4, 6));
        assert_eq!(aspect(VideoMultiviewMode::Mono, halved), (4, 3));
    }

    #[test]
    fn a_frame_that_a_sink_turns_is_known_by_its_matrix() {
        gst::init().unwrap();
        let mut buffer = gst::Buffer::new();
        let edit = buffer.get_mut().unwrap();
        let meta = VideoAffineTransformationMeta::add(edit, None);
        let mut turned = *meta.matrix();
        turned[0][0] = -1.0;
        assert!(!is_transformed(&buffer));
        let edit = buffer.get_mut().unwrap();
        VideoAffineTransformationMeta::add(edit, Some(&turned));
        assert!(is_transformed(&buffer));
    }
}
