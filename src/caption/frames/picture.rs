// SPDX-License-Identifier: MPL-2.0

//! A frame as it was read, and the shape of its pixels.

use crate::vlm::image::RgbImage;

/// A pixel that is longer than this is taken for a mistake in the caps.
const LONGEST: f64 = 16.0;

/// What a viewer sees of a frame, at its native size.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Picture {
    /// The pixels as the stream has them.
    pub image: RgbImage,
    /// Width of a pixel to its height on the screen.
    pub pixel_aspect: (u32, u32),
}

impl Picture {
    /// A picture of square pixels.
    pub fn square(image: RgbImage) -> Self {
        Self {
            image,
            pixel_aspect: (1, 1),
        }
    }

    /// The picture in square pixels, as it looks on a screen: the side that is too short is
    /// stretched, so that no detail is lost.
    ///
    /// # Errors
    /// A sentence that names the aspect ratio if no camera has such pixels.
    pub fn into_square(self) -> Result<RgbImage, String> {
        let Self {
            image,
            pixel_aspect: (across, down),
        } = self;
        if across == down {
            return Ok(image);
        }
        let aspect = f64::from(across) / f64::from(down);
        if !(1.0 / LONGEST..=LONGEST).contains(&aspect) {
            return Err(format!(
                "pixel-aspect-ratio={across}/{down} cannot be right; set that of the camera with \
                 capssetter before vlmcaption"
            ));
        }
        let stretched = |side: usize, by: f64| ((side as f64 * by).round() as usize).max(1);
        let (width, height) = if aspect > 1.0 {
            (stretched(image.width, aspect), image.height)
        } else {
            (image.width, stretched(image.height, 1.0 / aspect))
        };
        let square = image.resize(width, height);
        square.map_err(|error| error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picture(width: usize, height: usize, pixel_aspect: (u32, u32)) -> Picture {
        Picture {
            image: RgbImage {
                width,
                height,
                pixels: vec![7; width * height * 3],
            },
            pixel_aspect,
        }
    }

    #[test]
    fn pixels_become_square_and_none_is_lost() {
        for (size, aspect, want) in [
            ((704, 576), (16, 11), (1024, 576)),
            ((720, 480), (10, 11), (720, 528)),
            ((1440, 1080), (4, 3), (1920, 1080)),
            ((320, 240), (7, 7), (320, 240)),
            ((1, 1), (3, 4), (1, 1)),
        ] {
            let image = picture(size.0, size.1, aspect).into_square().unwrap();
            assert_eq!((image.width, image.height), want);
            assert_eq!(image.pixels, vec![7; want.0 * want.1 * 3]);
        }
    }

    #[test]
    fn pixels_of_no_camera_are_refused() {
        for aspect in [(1, 0), (0, 1), (1, 1000), (u32::MAX, 1)] {
            let refused = picture(4, 4, aspect).into_square().unwrap_err();
            assert!(refused.contains("pixel-aspect-ratio="), "{refused}");
        }
    }
}
