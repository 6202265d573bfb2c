// SPDX-License-Identifier: MPL-2.0

//! The property `privacy-masks`: structures with `x`, `y`, `width` and `height` become masks.

use crate::caption::mask::Mask;

/// The masks that an array of structures describes.
///
/// # Errors
/// A sentence that says which mask is wrong, why, and how one is written.
pub(super) fn parse(masks: &[glib::SendValue]) -> Result<Vec<Mask>, String> {
    let parsed = masks.iter().enumerate().map(|(i, mask)| {
        one(mask).map_err(|reason| {
            format!(
                "privacy-masks: mask {}: {reason}; write \
                 privacy-masks='<\"mask,x=0.0,y=0.0,width=0.5,height=0.25\">'",
                i + 1
            )
        })
    });
    parsed.collect()
}

fn one(mask: &glib::SendValue) -> Result<Mask, String> {
    let Ok(Some(mask)) = mask.get::<Option<gst::Structure>>() else {
        return Err("it is no structure".into());
    };
    const NAMES: [&str; 4] = ["x", "y", "width", "height"];
    if let Some(name) = mask.fields().find(|name| !NAMES.contains(&name.as_str())) {
        return Err(format!("there is no field {name:?}"));
    }
    let [x, y, width, height] = NAMES.map(|name| number(&mask, name));
    Mask::new(x?, y?, width?, height?)
}

/// A field as a number, however its number was written.
fn number(mask: &gst::StructureRef, name: &str) -> Result<f64, String> {
    let value = mask
        .value(name)
        .map_err(|_| format!("the field {name:?} is missing"))?;
    let fraction = |f: gst::Fraction| f64::from(f.numer()) / f64::from(f.denom());
    None.or_else(|| value.get::<f64>().ok())
        .or_else(|| value.get::<f32>().ok().map(f64::from))
        .or_else(|| value.get::<i32>().ok().map(f64::from))
        .or_else(|| value.get::<gst::Fraction>().ok().map(fraction))
        .ok_or_else(|| format!("the field {name:?} is no number"))
}

#[cfg(test)]
mod tests {
    use gst::prelude::*;
    use gst_video::prelude::*;

    use super::*;

    fn masks(texts: &[&str]) -> Result<Vec<Mask>, String> {
        gst::init().unwrap();
        let structures = texts.iter().map(|text| {
            let structure: gst::Structure = text.parse().unwrap();
            structure.to_send_value()
        });
        parse(&structures.collect::<Vec<_>>())
    }

    #[test]
    fn numbers_may_be_written_in_any_way() {
        let masks = masks(&[
            "mask,x=0,y=0.25,width=1/2,height=0.5",
            "m,x=(float)0.5,y=0,width=0.5,height=1",
        ]);
        let masks = masks.unwrap();
        assert_eq!(masks[0].rectangle(), [0.0, 0.25, 0.5, 0.5]);
        assert_eq!(masks[1].rectangle(), [0.5, 0.0, 0.5, 1.0]);
    }

    #[test]
    fn a_malformed_mask_is_refused_with_its_number_and_an_example() {
        let good = "mask,x=0,y=0,width=1,height=1";
        for (bad, why) in [
            ("mask,x=0,y=0,width=1", "\"height\" is missing"),
            ("mask,x=0,y=0,width=1,height=1,h=1", "no field \"h\""),
            ("mask,x=left,y=0,width=1,height=1", "\"x\" is no number"),
            ("mask,x=0.5,y=0,width=1,height=1", "reach out of the frame"),
        ] {
            let refused = masks(&[good, bad]).unwrap_err();
            assert!(
                refused.contains("mask 2") && refused.contains(why),
                "{refused}"
            );
            assert!(refused.contains("privacy-masks='<"), "{refused}");
        }
    }

    #[test]
    fn what_is_no_structure_is_refused() {
        gst::init().unwrap();
        assert!(
            parse(&["mask".to_send_value()])
                .unwrap_err()
                .contains("no structure")
        );
    }

    /// Camera formats share colour between pixels: none of what is under a mask may tint the rest.
    #[test]
    fn colour_under_a_mask_does_not_reach_the_pixels_beside_it() {
        gst::init().unwrap();
        let formats = ["I420", "NV12", "YUY2", "Y41B", "YUV9", "RGB"];
        // At odd numbers of chroma lines the converter makes up the last lines of a field.
        let shapes = [
            ("progressive", 101, 57),
            ("progressive", 64, 48),
            ("progressive", 97, 98),
            ("interleaved", 101, 64),
            ("interleaved", 64, 48),
            ("fields", 101, 64),
            ("fields", 97, 98),
        ];
        for format in formats {
            for (mode, width, height) in shapes {
                let caps: gst::Caps = format!(
                    "video/x-raw,format={format},width={width},height={height},\
                     framerate=25/1,interlace-mode={mode},colorimetry=bt709"
                )
                .parse()
                .unwrap();
                let image = red_on_grey(&caps, width / 2, height / 2);
                let mask = Mask::new(0.5, 0.5, 0.5, 0.5).unwrap();
                let mut masked = image;
                mask.paint(&mut masked);
                let tinted = masked
                    .pixels
                    .chunks(3)
                    .any(|p| p.iter().max().unwrap() - p.iter().min().unwrap() > 2);
                assert!(!tinted, "{format} {mode} {width}x{height}");
            }
        }
    }

    /// A grey frame whose right lower quarter, from `left` and `top` on, is red; read as the
    /// element reads it.
    fn red_on_grey(caps: &gst::Caps, left: usize, top: usize) -> crate::vlm::image::RgbImage {
        let info = gst_video::VideoInfo::from_caps(caps).unwrap();
        let is_field = info.interlace_mode() == gst_video::VideoInterlaceMode::Fields;
        // A field is drawn as a frame of its lines.
        let (info, top) = if is_field {
            let lines = info.height().div_ceil(2);
            let field = gst_video::VideoInfo::builder(info.format(), info.width(), lines);
            (field.build().unwrap(), top / 2)
        } else {
            (info, top)
        };
        let buffer = gst::Buffer::with_size(info.size()).unwrap();
        let mut frame = gst_video::VideoFrame::from_buffer_writable(buffer, &info).unwrap();
        let (grey, red) = ([128u8, 128, 128], [81u8, 90, 240]);
        let is_rgb = info.is_rgb();
        for component in 0..3u32 {
            let format = info.format_info();
            let (w_sub, h_sub) = (
                format.w_sub()[component as usize],
                format.h_sub()[component as usize],
            );
            let plane = format.plane()[component as usize];
            let (pixel_stride, offset) = (
                format.pixel_stride()[component as usize] as usize,
                format.poffset()[component as usize] as usize,
            );
            let (columns, rows) = (frame.comp_width(component), frame.comp_height(component));
            let stride = frame.plane_stride()[plane as usize] as usize;
            let red = if is_rgb { [255, 0, 0] } else { red }[component as usize];
            let data = frame.plane_data_mut(plane).unwrap();
            for y in 0..rows as usize {
                for x in 0..columns as usize {
                    // A shared sample is red if any of its pixels is.
                    let inside = ((x + 1) << w_sub) > left && ((y + 1) << h_sub) > top;
                    let value = if inside {
                        red
                    } else {
                        grey[component as usize]
                    };
                    data[y * stride + x * pixel_stride + offset] = value;
                }
            }
        }
        let buffer = frame.into_buffer();
        let reader = std::sync::Arc::new(crate::vlmcaption::pixels::Reader::default());
        reader.read(&buffer, caps).unwrap().image
    }
}
