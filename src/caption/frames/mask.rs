// SPDX-License-Identifier: MPL-2.0

//! Privacy masks: parts of the picture that no model sees.
//!
//! They are painted on the prepare thread, into the frame's own pixels at its native size, before
//! it is resized: a filter that ran first would carry what is under a mask past its edge. The video
//! that passes is another buffer and stays as it is.

use std::ops::Range;

use crate::vlm::image::RgbImage;

/// What a mask is painted with: the grey in the middle, which tells the model nothing.
const GREY: u8 = 128;

/// Pixels by which a mask is larger on each side than it was asked for. Camera formats share the
/// colour of neighbouring pixels (4:2:0, interlaced or not; 4:1:1), so what is under a mask tints
/// up to 7 pixels beside it once it is converted to RGB.
const BLEED: usize = 8;

/// Sums of fractions are rounded: 0.7 and 0.3 may be a hair more than 1.
const ROUNDING: f64 = 1e-6;

/// A rectangle, in fractions of the frame.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Mask {
    x: f64,
    y: f64,
    width: f64,
    height: f64,
}

impl Mask {
    /// A rectangle whose left upper corner is at `x`, `y`; all four are fractions 0..=1 of the
    /// frame's width and height as a viewer sees it.
    ///
    /// # Errors
    /// A sentence that names the number: the rectangle is empty or reaches out of the frame.
    pub fn new(x: f64, y: f64, width: f64, height: f64) -> Result<Self, String> {
        for (name, value) in [("x", x), ("y", y), ("width", width), ("height", height)] {
            if !(0.0..=1.0).contains(&value) {
                return Err(format!(
                    "{name}={value} is not in the frame: it is a fraction of it, 0.0 to 1.0"
                ));
            }
        }
        let sides = [("x", x, "width", width), ("y", y, "height", height)];
        for (name, start, side, length) in sides {
            if length == 0.0 {
                return Err(format!(
                    "{side}=0 hides nothing; give it a size or leave it out"
                ));
            }
            if start + length > 1.0 + ROUNDING {
                return Err(format!(
                    "{name}={start} and {side}={length} reach out of the frame: together they \
                     are at most 1.0"
                ));
            }
        }
        Ok(Self {
            x,
            y,
            width,
            height,
        })
    }

    /// Left edge, upper edge, width and height.
    pub fn rectangle(&self) -> [f64; 4] {
        [self.x, self.y, self.width, self.height]
    }

    /// Paints the rectangle over; edges are rounded outwards.
    pub fn paint(&self, image: &mut RgbImage) {
        let columns = pixels(self.x, self.width, image.width);
        let rows = pixels(self.y, self.height, image.height);
        for line in image
            .pixels
            .chunks_mut(image.width.max(1) * 3)
            .take(rows.end)
            .skip(rows.start)
        {
            line[columns.start * 3..columns.end * 3].fill(GREY);
        }
    }
}

/// The pixels of a side that a span of it touches, and those beside them that it tints.
fn pixels(start: f64, length: f64, side: usize) -> Range<usize> {
    let at = |fraction: f64| fraction * side as f64;
    let first = (at(start).floor() as usize).saturating_sub(BLEED);
    let end = (at(start + length).ceil() as usize).saturating_add(BLEED);
    first..end.min(side)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const WHITE: [u8; 3] = [255; 3];

    fn painted(width: usize, height: usize, mask: &Mask) -> RgbImage {
        let mut image = RgbImage {
            width,
            height,
            pixels: WHITE.repeat(width * height),
        };
        mask.paint(&mut image);
        image
    }

    fn is_hidden(image: &RgbImage, x: usize, y: usize) -> bool {
        let at = (y * image.width + x) * 3;
        let pixel = &image.pixels[at..at + 3];
        assert!(pixel == [GREY; 3] || pixel == WHITE, "{pixel:?}");
        pixel == [GREY; 3]
    }

    proptest! {
        #[test]
        fn every_pixel_a_mask_touches_is_hidden_and_nothing_far_from_it(
            (width, height) in (1usize..70, 1usize..70),
            (x, y) in (0.0..0.999, 0.0..0.999),
            (across, down) in (0.001..=1.0, 0.001..=1.0),
        ) {
            let (w, h) = ((1.0 - x) * across, (1.0 - y) * down);
            let image = painted(width, height, &Mask::new(x, y, w, h).unwrap());
            let bleed = BLEED as f64 + 1.0;
            let touches = |start: f64, length: f64, side: usize, at: usize, reach: f64| {
                let (from, to) = (start * side as f64, (start + length) * side as f64);
                at as f64 + 1.0 > from - reach && (at as f64) < to + reach
            };
            for row in 0..height {
                for column in 0..width {
                    let near = |reach| {
                        touches(x, w, width, column, reach) && touches(y, h, height, row, reach)
                    };
                    let hidden = is_hidden(&image, column, row);
                    prop_assert!(hidden || !near(-ROUNDING), "{column},{row} shows");
                    prop_assert!(!hidden || near(bleed), "{column},{row} is hidden");
                }
            }
        }
    }

    #[test]
    fn edges_between_pixels_are_rounded_outwards() {
        let image = painted(101, 51, &Mask::new(0.5, 0.0, 0.1, 1.0).unwrap());
        let hidden: Vec<usize> = (0..101).filter(|x| is_hidden(&image, *x, 25)).collect();
        // 50.5 to 60.6, so pixels 50 to 60, and the tinted ones beside.
        assert_eq!(hidden, (50 - BLEED..=60 + BLEED).collect::<Vec<_>>());
    }

    #[test]
    fn a_mask_of_the_whole_frame_leaves_nothing() {
        let image = painted(7, 3, &Mask::new(0.0, 0.0, 1.0, 1.0).unwrap());
        assert!(image.pixels.iter().all(|value| *value == GREY));
    }

    #[test]
    fn a_mask_out_of_the_frame_is_refused_by_name() {
        let refused = |x, y, w, h| Mask::new(x, y, w, h).unwrap_err();
        assert!(refused(-0.1, 0.0, 0.5, 0.5).contains("x=-0.1"));
        assert!(refused(0.0, 0.0, 0.5, 1.5).contains("height=1.5"));
        assert!(refused(f64::NAN, 0.0, 0.5, 0.5).contains("x=NaN"));
        assert!(refused(0.5, 0.0, 0.6, 0.5).contains("width=0.6"));
        assert!(refused(0.5, 0.0, 0.0, 0.5).contains("width=0"));
        assert!(Mask::new(0.7, 0.9, 0.3, 0.1).is_ok());
    }
}
