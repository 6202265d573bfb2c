// SPDX-License-Identifier: MPL-2.0

//! A video buffer becomes an RGB picture, on the prepare thread.

use std::sync::{Arc, Mutex};

use crate::vlm::image::RgbImage;

/// Converts buffers of one caps after another; keeps the converter while the caps stay the same.
#[derive(Default)]
pub(super) struct Reader {
    converter: Mutex<Option<Converter>>,
}

struct Converter {
    caps: gst::Caps,
    from: gst_video::VideoInfo,
    to: gst_video::VideoInfo,
    converter: gst_video::VideoConverter,
}

impl Reader {
    /// The picture in `buffer`, at its native size.
    ///
    /// # Errors
    /// A sentence that says which format or memory cannot be read, and the element that helps.
    pub fn read(
        self: &Arc<Self>,
        buffer: &gst::Buffer,
        caps: &gst::Caps,
    ) -> Result<RgbImage, String> {
        let mut slot = self.converter.lock().unwrap();
        let converter = match slot.take().filter(|converter| converter.caps == *caps) {
            Some(converter) => converter,
            None => Converter::new(caps)?,
        };
        let image = converter.convert(buffer);
        *slot = Some(converter);
        image
    }
}

impl Converter {
    fn new(caps: &gst::Caps) -> Result<Self, String> {
        let unreadable = |why: &str| {
            let memory = caps
                .features(0)
                .map(ToString::to_string)
                .filter(|features| features != "memory:SystemMemory");
            match memory {
                Some(memory) => format!(
                    "frames in {memory} cannot be read ({why}); put the element that downloads \
                     them before vlmcaption (gldownload, vapostproc, cudadownload, …)"
                ),
                None => format!(
                    "frames of {caps} cannot be read ({why}); put videoconvert before vlmcaption"
                ),
            }
        };
        let from =
            gst_video::VideoInfo::from_caps(caps).map_err(|e| unreadable(e.message.as_ref()))?;
        let to =
            gst_video::VideoInfo::builder(gst_video::VideoFormat::Rgb, from.width(), from.height())
                .fps(from.fps())
                .par(from.par())
                .interlace_mode(from.interlace_mode())
                .build()
                .map_err(|e| unreadable(e.message.as_ref()))?;
        let converter = gst_video::VideoConverter::new(&from, &to, None)
            .map_err(|e| unreadable(e.message.as_ref()))?;
        Ok(Self {
            caps: caps.clone(),
            from,
            to,
            converter,
        })
    }

    fn convert(&self, buffer: &gst::Buffer) -> Result<RgbImage, String> {
        let frame = gst_video::VideoFrameRef::from_buffer_ref_readable(buffer, &self.from)
            .map_err(|_| {
                format!(
                    "a frame of {} cannot be mapped; if it lives on a GPU, put the element that \
                     downloads it before vlmcaption (gldownload, vapostproc, cudadownload, …)",
                    self.caps
                )
            })?;
        let size = gst::Buffer::with_size(self.to.size()).map_err(|_| self.no_memory())?;
        let mut rgb = gst_video::VideoFrame::from_buffer_writable(size, &self.to)
            .map_err(|_| self.no_memory())?;
        self.converter
            .frame_ref(&frame, &mut rgb.as_mut_video_frame_ref());
        let (width, height) = (self.to.width() as usize, self.to.height() as usize);
        let stride = self.to.stride()[0].unsigned_abs() as usize;
        let data = rgb.plane_data(0).map_err(|e| e.to_string())?;
        let mut pixels = Vec::with_capacity(width * height * 3);
        for row in data.chunks(stride).take(height) {
            pixels.extend_from_slice(&row[..width * 3]);
        }
        Ok(RgbImage {
            width,
            height,
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
