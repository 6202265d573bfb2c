// SPDX-License-Identifier: MPL-2.0

//! Pixels to patch rows: target sizes, antialiased resize, merge-block order.

use fast_image_resize::images::{TypedImage, TypedImageRef};
use fast_image_resize::pixels::U8x3;
use fast_image_resize::{FilterType, ResizeAlg, ResizeOptions, Resizer};

use super::Error;
use super::grid::Geometry;
use crate::backend::GridThw;

/// The largest ratio of the sides that the reference processors take.
const MAX_ASPECT_RATIO: f64 = 200.0;

/// An RGB picture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RgbImage {
    /// Pixels in a row.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// `[height, width, 3]`, row-major, 0..=255, no padding.
    pub pixels: Vec<u8>,
}

impl RgbImage {
    /// Resizes to `width` x `height` as torchvision's bicubic does for bytes (a = -0.5, widened when
    /// it shrinks, so that nothing aliases; the reference processors resize so).
    ///
    /// Columns first, then rows: between the two passes values are cut to 0..=255, so the order
    /// shows at hard edges. Pillow 13 swaps it for some shapes and differs there.
    ///
    /// # Errors
    /// [`Error::Grid`] if either picture is empty, too large, or `pixels` is not `[height, width,
    /// 3]`.
    pub fn resize(&self, width: usize, height: usize) -> Result<RgbImage, Error> {
        if (width, height) == (self.width, self.height) {
            return Ok(self.clone());
        }
        let refuse = |reason: &dyn std::fmt::Display| {
            Error::Grid(format!(
                "a {}x{} frame cannot be resized to {width}x{height}: {reason}",
                self.width, self.height
            ))
        };
        let side = |n: usize| {
            u32::try_from(n)
                .ok()
                .filter(|&n| n > 0)
                .ok_or_else(|| refuse(&"sides must be 1..=4294967295 pixels"))
        };
        let (from_width, from_height) = (side(self.width)?, side(self.height)?);
        let (to_width, to_height) = (side(width)?, side(height)?);
        let options =
            ResizeOptions::new().resize_alg(ResizeAlg::Convolution(FilterType::CatmullRom));
        let mut resizer = Resizer::new();
        // By pixel type: `Resizer::resize` would compile the convolutions of all thirteen into this crate.
        let mut pass = |from: &[u8], (from_width, from_height), (to_width, to_height)| {
            let source = TypedImageRef::<U8x3>::from_buffer(from_width, from_height, from)
                .map_err(|e| refuse(&e))?;
            let mut pixels = vec![0; to_width as usize * to_height as usize * 3];
            let mut target = TypedImage::<U8x3>::from_buffer(to_width, to_height, &mut pixels)
                .map_err(|e| refuse(&e))?;
            resizer
                .resize_typed(&source, &mut target, &options)
                .map_err(|e| refuse(&e))?;
            Ok::<_, Error>(pixels)
        };
        let columns = pass(
            &self.pixels,
            (from_width, from_height),
            (to_width, from_height),
        )?;
        let pixels = pass(&columns, (to_width, from_height), (to_width, to_height))?;
        Ok(RgbImage {
            width,
            height,
            pixels,
        })
    }
}

/// Width and height that a frame is resized to: multiples of `factor`, the area between
/// `min_pixels` and `max_pixels`, the aspect ratio kept as well as that allows.
///
/// Follows `smart_resize` of `Qwen2VLImageProcessor`, Python's rounding (half to even) included.
///
/// # Errors
/// [`Error::Grid`] if a side is 0 or one side is more than 200 times the other.
pub fn smart_resize(
    width: usize,
    height: usize,
    factor: usize,
    min_pixels: usize,
    max_pixels: usize,
) -> Result<(usize, usize), Error> {
    if width == 0 || height == 0 {
        return Err(Error::Grid(format!(
            "a frame of {width}x{height} pixels is empty"
        )));
    }
    let (w, h, f) = (width as f64, height as f64, factor as f64);
    if w.max(h) / w.min(h) > MAX_ASPECT_RATIO {
        return Err(Error::Grid(format!(
            "a frame of {width}x{height} pixels is too long and thin: one side may be at most \
             {MAX_ASPECT_RATIO} times the other; crop it first"
        )));
    }
    let near = |side: f64| (side / f).round_ties_even() * f;
    let area = near(w) * near(h);
    let (to_width, to_height) = if area > max_pixels as f64 {
        let beta = (h * w / max_pixels as f64).sqrt();
        let shrink = |side: f64| ((side / beta / f).floor() * f).max(f);
        (shrink(w), shrink(h))
    } else if area < min_pixels as f64 {
        let beta = (min_pixels as f64 / (h * w)).sqrt();
        let grow = |side: f64| (side * beta / f).ceil() * f;
        (grow(w), grow(h))
    } else {
        (near(w), near(h))
    };
    Ok((to_width as usize, to_height as usize))
}

/// Cuts 1 to `temporal_patch_size` RGB frames of one size into the rows the vision net reads.
///
/// The result is `[grid.n_patches(), 3 * T * P * P]`, raw 0..=255: rows in merge-block order (the
/// `merge_size` x `merge_size` patches of one visual token stand together), each row `[channel,
/// frame, y, x]`. A short patch repeats its last frame, so a still image fills all `T` frames.
/// Follows the `permute` of `Qwen2VLImageProcessor._preprocess`.
///
/// ```text
/// merge 2, a 2x4 grid of patches:   0 1 4 5
///                                   2 3 6 7
/// ```
///
/// # Errors
/// [`Error::Grid`] if a side is not a multiple of `patch_size * merge_size` pixels, the frames
/// differ in size, or their number is not 1..=`temporal_patch_size`.
pub fn patch_rows(frames: &[RgbImage], geometry: Geometry) -> Result<(GridThw, Vec<u8>), Error> {
    let Geometry {
        patch_size: side,
        temporal_patch_size: n_frames,
        merge_size: merge,
    } = geometry;
    let (Some(first), Some(last)) = (frames.first(), frames.last()) else {
        return Err(Error::Grid("a temporal patch needs a frame".to_owned()));
    };
    if frames.len() > n_frames {
        return Err(Error::Grid(format!(
            "a temporal patch has {n_frames} frames, got {}",
            frames.len()
        )));
    }
    let (width, height) = (first.width, first.height);
    for frame in frames {
        if (frame.width, frame.height) != (width, height)
            || frame.pixels.len() != width * height * 3
        {
            return Err(Error::Grid(format!(
                "frames of one temporal patch must have one size: {width}x{height} and {}x{} with \
                 {} bytes",
                frame.width,
                frame.height,
                frame.pixels.len()
            )));
        }
    }
    let grid = geometry.grid(width, height)?;
    let row_len = geometry.row_len();
    let mut rows = vec![0u8; grid.n_patches() * row_len];
    let blocks_across = grid.w / merge;
    for (row_idx, row) in rows.chunks_exact_mut(row_len).enumerate() {
        let (block, inside) = (row_idx / (merge * merge), row_idx % (merge * merge));
        let top = (block / blocks_across * merge + inside / merge) * side;
        let left = (block % blocks_across * merge + inside % merge) * side;
        for t in 0..n_frames {
            let frame = frames.get(t).unwrap_or(last);
            for y in 0..side {
                let start = ((top + y) * width + left) * 3;
                let line = &frame.pixels[start..start + side * 3];
                for channel in 0..3 {
                    let at = ((channel * n_frames + t) * side + y) * side;
                    for (to, from) in row[at..at + side]
                        .iter_mut()
                        .zip(line[channel..].iter().step_by(3))
                    {
                        *to = *from;
                    }
                }
            }
        }
    }
    Ok((grid, rows))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn image(width: usize, height: usize, pixel: impl Fn(usize, usize) -> [u8; 3]) -> RgbImage {
        let pixels = (0..height)
            .flat_map(|y| (0..width).map(move |x| (x, y)))
            .flat_map(|(x, y)| pixel(x, y))
            .collect();
        RgbImage {
            width,
            height,
            pixels,
        }
    }

    #[test]
    fn sizes_of_a_quarter_of_768x768() {
        let video = |width, height| smart_resize(width, height, 32, 16384, 147_456).unwrap();
        assert_eq!(video(1920, 1080), (512, 288));
        assert_eq!(video(768, 768), (384, 384));
        assert_eq!(video(640, 480), (416, 320));
        assert_eq!(video(480, 640), (320, 416));
    }

    #[test]
    fn one_pixel_grows_to_the_minimum() {
        assert_eq!(smart_resize(1, 1, 32, 65536, 589_824).unwrap(), (256, 256));
    }

    #[test]
    fn long_thin_frames_are_refused() {
        assert!(smart_resize(2000, 10, 32, 65536, 589_824).is_ok());
        let error = smart_resize(2001, 10, 32, 65536, 589_824).unwrap_err();
        assert!(error.to_string().contains("2001x10"), "{error}");
        assert!(smart_resize(0, 10, 32, 65536, 589_824).is_err());
    }

    proptest! {
        #[test]
        fn a_target_size_fits_grid_and_budget(
            width in 1usize..5000,
            height in 1usize..5000,
            max_tokens in 16usize..1024,
        ) {
            let (factor, min) = (32, 4 * 1024);
            let max = max_tokens * 1024;
            prop_assume!(width.max(height) <= 200 * width.min(height));
            let (w, h) = smart_resize(width, height, factor, min, max).unwrap();
            prop_assert!(w % factor == 0 && h % factor == 0 && w >= factor && h >= factor);
            // A side that would become 0 is kept at one token: only then the area may be larger.
            prop_assert!(w * h <= max || w == factor || h == factor, "{w}x{h}");
            prop_assert!(w * h >= min || w * h >= max / 4, "{w}x{h}");
            prop_assert_eq!(smart_resize(height, width, factor, min, max).unwrap(), (h, w));
        }
    }

    #[test]
    fn rows_stand_in_merge_block_order_and_repeat_the_last_frame() {
        let geometry = Geometry {
            patch_size: 1,
            temporal_patch_size: 2,
            merge_size: 2,
        };
        let frame = image(4, 2, |x, y| {
            let n = (10 * y + x) as u8;
            [n, 100 + n, 200 + n]
        });
        let (grid, rows) = patch_rows(&[frame], geometry).unwrap();
        assert_eq!(grid, GridThw { t: 1, h: 2, w: 4 });
        let first_channel: Vec<u8> = rows.chunks(6).map(|row| row[0]).collect();
        assert_eq!(first_channel, [0, 1, 10, 11, 2, 3, 12, 13]);
        assert_eq!(rows[..6], [0, 0, 100, 100, 200, 200]);
    }

    #[test]
    fn frames_that_do_not_belong_together_are_refused() {
        let geometry = Geometry {
            patch_size: 2,
            temporal_patch_size: 2,
            merge_size: 1,
        };
        let small = image(2, 2, |_, _| [0; 3]);
        let large = image(4, 2, |_, _| [0; 3]);
        let odd = image(3, 2, |_, _| [0; 3]);
        assert!(patch_rows(&[], geometry).is_err());
        assert!(patch_rows(&[small.clone(), large], geometry).is_err());
        assert!(patch_rows(&[odd], geometry).is_err());
        assert!(patch_rows(&vec![small; 3], geometry).is_err());
    }

    #[test]
    fn a_flat_picture_stays_flat_at_any_size() {
        let flat = image(7, 5, |_, _| [10, 128, 250]);
        for (width, height) in [(3, 3), (32, 64), (7, 5)] {
            let resized = flat.resize(width, height).unwrap();
            assert_eq!(resized, image(width, height, |_, _| [10, 128, 250]));
        }
        assert!(flat.resize(0, 4).is_err());
    }
}
