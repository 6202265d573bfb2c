// SPDX-License-Identifier: MPL-2.0

//! Frames as files: PNG for those of a vision net, the JPEGs that were sent for those of a server.

use png::{BitDepth, ColorType, Compression, Decoder, Encoder};

use crate::caption::reports::evidence::Shown;
use crate::vlm::image::RgbImage;

/// A side that is longer is no frame that a model was shown.
const MAX_SIDE: u32 = 16_384;

/// How a frame's file is called, by its number in the window.
pub fn name(index: usize, shown: &Shown) -> String {
    let ending = match shown {
        Shown::Rgb(_) => "png",
        Shown::Jpeg(_) => "jpg",
    };
    format!("frame-{index:03}.{ending}")
}

/// The file of a frame.
///
/// # Errors
/// A frame that is empty, or has a side beyond 32 bits.
pub fn file(shown: &Shown) -> Result<Vec<u8>, String> {
    match shown {
        Shown::Jpeg(jpeg) => Ok(jpeg.bytes.clone()),
        Shown::Rgb(image) => png(image),
    }
}

/// A frame as PNG, without loss; fast rather than small.
///
/// # Errors
/// See [`file`].
pub fn png(image: &RgbImage) -> Result<Vec<u8>, String> {
    let side = |n: usize| u32::try_from(n).map_err(|error| error.to_string());
    let mut bytes = Vec::new();
    let mut encoder = Encoder::new(&mut bytes, side(image.width)?, side(image.height)?);
    encoder.set_color(ColorType::Rgb);
    encoder.set_depth(BitDepth::Eight);
    encoder.set_compression(Compression::Fast);
    let mut writer = encoder.write_header().map_err(|error| error.to_string())?;
    let written = writer.write_image_data(&image.pixels);
    written.map_err(|error| error.to_string())?;
    writer.finish().map_err(|error| error.to_string())?;
    Ok(bytes)
}

/// The frame of a PNG of ours: 8 bits of red, green and blue.
///
/// # Errors
/// It is none, or damaged.
pub fn read_png(bytes: &[u8]) -> Result<RgbImage, String> {
    let decoder = Decoder::new(std::io::Cursor::new(bytes));
    let mut reader = decoder.read_info().map_err(|error| error.to_string())?;
    let info = reader.info();
    let form = (info.color_type, info.bit_depth);
    if form != (ColorType::Rgb, BitDepth::Eight) {
        return Err(format!(
            "is a PNG of {form:?}, and records have RGB of 8 bits"
        ));
    }
    if info.width > MAX_SIDE || info.height > MAX_SIDE {
        return Err(format!("is {}x{} pixels", info.width, info.height));
    }
    let size = reader.output_buffer_size();
    let mut pixels = vec![0; size.ok_or("is too large")?];
    let frame = reader.next_frame(&mut pixels);
    let frame = frame.map_err(|error| error.to_string())?;
    pixels.truncate(frame.buffer_size());
    Ok(RgbImage {
        width: frame.width as usize,
        height: frame.height as usize,
        pixels,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_comes_back_pixel_by_pixel() {
        let (width, height) = (61, 47);
        let pixels = (0..width * height * 3).map(|i| (i * i % 251) as u8);
        let image = RgbImage {
            width,
            height,
            pixels: pixels.collect(),
        };
        assert_eq!(read_png(&png(&image).unwrap()), Ok(image));
    }

    #[test]
    fn what_is_no_frame_is_refused() {
        let empty = RgbImage {
            width: 0,
            height: 0,
            pixels: Vec::new(),
        };
        assert!(png(&empty).is_err());
        assert!(read_png(b"GIF89a").is_err());
        let image = RgbImage {
            width: 8,
            height: 8,
            pixels: vec![9; 192],
        };
        let whole = png(&image).unwrap();
        for cut in [0, 8, whole.len() / 2] {
            assert!(read_png(&whole[..cut]).is_err(), "{cut} bytes");
        }
    }
}
