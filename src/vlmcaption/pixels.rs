// SPDX-License-Identifier: MPL-2.0

//! A video buffer becomes an RGB picture, on the prepare thread.

use std::sync::{Arc, Mutex};

use gst_video::{
    VideoConverter, VideoFormat, VideoFrame, VideoFrameRef, VideoInfo, VideoInterlaceMode,
    VideoMeta,
};

use super::layout;
use super::view::{self, Part};
use crate::caption::picture::Picture;
use crate::vlm::image::RgbImage;

/// Converts buffers of one caps after another; keeps the converter while the caps stay the same.
#[derive(Default)]
pub(super) struct Reader {
    converter: Mutex<Option<Converter>>,
}

/// Reads frames of one size.
struct Converter {
    caps: gst::Caps,
    /// As the caps say.
    stream: VideoInfo,
    /// Of the frames in the buffers: larger than the caps' where a crop is left to the sink.
    size: (u32, u32),
    /// Lines of the frame for each line in a buffer: 2 where that holds one field.
    spread: u32,
    from: VideoInfo,
    to: VideoInfo,
    converter: VideoConverter,
}

impl Reader {
    /// What a viewer sees of the frame in `buffer`, at its native size. A field gives a frame whose
    /// lines are there twice.
    ///
    /// # Errors
    /// A sentence that says which format or memory cannot be read, and the element that helps.
    pub fn read(
        self: &Arc<Self>,
        buffer: &gst::Buffer,
        caps: &gst::Caps,
    ) -> Result<Picture, String> {
        let meta = buffer.iter_meta::<VideoMeta>().min_by_key(|meta| meta.id());
        let meta = meta.as_deref();
        let crop = view::crop(buffer);
        // The caps have the size after a crop, the meta has the frame's.
        let whole = crop.and(meta).map(|meta| (meta.width(), meta.height()));
        let fits = |converter: &Converter| {
            converter.caps == *caps && converter.size == whole.unwrap_or(converter.caps_size())
        };
        let mut slot = self.converter.lock().unwrap();
        let converter = match slot.take().filter(fits) {
            Some(converter) => converter,
            None => Converter::new(caps, whole)?,
        };
        let picture = converter.picture(buffer, meta, crop);
        *slot = Some(converter);
        picture
    }
}

impl Converter {
    /// `size` is that of the frames in the buffers, if it is not the caps'.
    fn new(caps: &gst::Caps, size: Option<(u32, u32)>) -> Result<Self, String> {
        let fail = |error: glib::BoolError| unreadable(caps, error.message.as_ref());
        let stream = VideoInfo::from_caps(caps).map_err(fail)?;
        let size = size.unwrap_or((stream.width(), stream.height()));
        let (spread, mode) = match stream.interlace_mode() {
            VideoInterlaceMode::Alternate | VideoInterlaceMode::Fields => {
                (2, VideoInterlaceMode::Progressive)
            }
            mode => (1, mode),
        };
        let lines = size.1.div_ceil(spread);
        let colorimetry = stream.colorimetry();
        let from = VideoInfo::builder(stream.format(), size.0, lines)
            .fps(stream.fps())
            .interlace_mode(mode)
            .colorimetry(&colorimetry)
            .chroma_site(stream.chroma_site());
        let to = VideoInfo::builder(VideoFormat::Rgb, size.0, lines)
            .fps(stream.fps())
            .interlace_mode(mode);
        let (from, to) = (from.build().map_err(fail)?, to.build().map_err(fail)?);
        let converter = VideoConverter::new(&from, &to, None).map_err(fail)?;
        Ok(Self {
            caps: caps.clone(),
            stream,
            size,
            spread,
            from,
            to,
            converter,
        })
    }

    fn caps_size(&self) -> (u32, u32) {
        (self.stream.width(), self.stream.height())
    }

    fn picture(
        &self,
        buffer: &gst::Buffer,
        meta: Option<&VideoMeta>,
        crop: Option<(u32, u32, u32, u32)>,
    ) -> Result<Picture, String> {
        if view::is_transformed(buffer) {
            return Err(
                "frames are to be turned or mirrored by the sink (GstVideoAffineTransformationMeta); \
                 put videoflip or gltransformation before vlmcaption"
                    .into(),
            );
        }
        let part = Part::whole(self.size.0, self.size.1);
        let part = match crop {
            None => part,
            Some(crop) => part.cropped(crop).ok_or_else(|| {
                unreadable(
                    &self.caps,
                    &format!("the crop {crop:?} leaves nothing of them"),
                )
            })?,
        };
        let part = part.first_view(self.stream.multiview_mode());
        let image = self.convert(buffer, meta, part)?;
        Ok(Picture {
            image: view::lay_over(image, buffer)?,
            pixel_aspect: view::pixel_aspect(&self.stream),
        })
    }

    /// A part of the frame in RGB.
    fn convert(
        &self,
        buffer: &gst::Buffer,
        meta: Option<&VideoMeta>,
        part: Part,
    ) -> Result<RgbImage, String> {
        let map = buffer.map_readable().map_err(|_| {
            format!(
                "a frame of {} cannot be mapped; if it lives on a GPU, put the element that \
                 downloads it before vlmcaption (gldownload, vapostproc, cudadownload, …)",
                self.caps
            )
        })?;
        // Of several frames in one buffer (views, fields) the first is read.
        let copied = layout::copied(&map, &self.from, meta);
        let copied = copied.map_err(|what| misdescribed(&self.caps, &what))?;
        drop(map);
        let frame = VideoFrameRef::from_buffer_ref_readable(&copied, &self.from);
        let frame = frame.map_err(|_| self.no_memory())?;
        let space = gst::Buffer::from_mut_slice(vec![0; self.to.size() + layout::SLACK]);
        let mut rgb =
            VideoFrame::from_buffer_writable(space, &self.to).map_err(|_| self.no_memory())?;
        self.converter
            .frame_ref(&frame, &mut rgb.as_mut_video_frame_ref());
        let stride = self.to.stride()[0].unsigned_abs() as usize;
        let data = rgb.plane_data(0).map_err(|e| e.to_string())?;
        let (left, width) = (part.x as usize * 3, part.width as usize * 3);
        let mut pixels = Vec::with_capacity(width * part.height as usize);
        for y in part.y..part.y + part.height {
            let start = (y / self.spread) as usize * stride + left;
            pixels.extend_from_slice(&data[start..start + width]);
        }
        Ok(RgbImage {
            width: part.width as usize,
            height: part.height as usize,
            pixels,
        })
    }

    fn no_memory(&self) -> String {
        format!(
            "no memory for a {}x{} frame",
            self.to.width(),
            self.to.height()
        )
    }
}

/// The memory that frames of these caps are in, if it is not the host's.
fn device_memory(caps: &gst::Caps) -> Option<String> {
    let features = caps.features(0)?;
    let memory = features
        .iter()
        .find(|feature| feature.starts_with("memory:"))?;
    (memory != "memory:SystemMemory").then(|| memory.to_string())
}

/// Frames of these caps cannot be read at all.
fn unreadable(caps: &gst::Caps, why: &str) -> String {
    match device_memory(caps) {
        Some(memory) => format!(
            "frames in {memory} cannot be read ({why}); put the element that downloads them before \
             vlmcaption (gldownload, vapostproc, cudadownload, …)"
        ),
        None => {
            format!("frames of {caps} cannot be read ({why}); put videoconvert before vlmcaption")
        }
    }
}

/// A buffer is other than its caps say.
fn misdescribed(caps: &gst::Caps, what: &str) -> String {
    match device_memory(caps) {
        Some(_) => unreadable(caps, what),
        None => format!(
            "{what}; the element before vlmcaption sends other frames than its caps say: correct \
             its format, width and height, or the strides and offsets of its GstVideoMeta"
        ),
    }
}

#[cfg(test)]
mod tests;
