// SPDX-License-Identifier: MPL-2.0

//! Hands the video of a camera to its ring as it comes, not decoded.

use std::sync::Arc;

use gst::prelude::*;

use crate::time::Millis;
use crate::video::format::{Codec, Format};
use crate::video::ring::{Coming, Ring};

use super::elements::says;

/// Adds a branch to `tee` that feeds the ring with whole pictures, each with its length before it as MP4
/// has them.
pub fn tap(
    pipeline: &gst::Pipeline,
    tee: &gst::Element,
    codec: Codec,
    ring: &Arc<Ring>,
) -> Result<(), String> {
    let (media, stream) = match codec {
        Codec::H264 => ("video/x-h264", "avc"),
        Codec::H265 => ("video/x-h265", "hvc1"),
    };
    let caps = gst::Caps::builder(media)
        .field("stream-format", stream)
        .field("alignment", "au")
        .build();
    let sink = gst_app::AppSink::builder()
        .caps(&caps)
        .sync(false)
        .async_(false)
        .enable_last_sample(false)
        .build();
    ring.begin();
    let ring = ring.clone();
    let take = move |sink: &gst_app::AppSink| {
        let sample = sink.pull_sample().map_err(|_| gst::FlowError::Eos)?;
        // A picture that cannot be understood is missing, and the captions go on.
        if let Some((format, coming)) = understood(&sample, codec) {
            ring.push(format, coming);
        }
        Ok(gst::FlowSuccess::Ok)
    };
    let callbacks = gst_app::AppSinkCallbacks::builder().new_sample(take);
    sink.set_callbacks(callbacks.build());
    pipeline.add(&sink).map_err(says)?;
    tee.link(&sink).map_err(says)?;
    sink.sync_state_with_parent().map_err(says)
}

fn understood(sample: &gst::Sample, codec: Codec) -> Option<(Format, Coming)> {
    let fields = sample.caps()?.structure(0)?;
    let config = fields.get::<gst::Buffer>("codec_data").ok()?;
    let side = |name: &str| u16::try_from(fields.get::<i32>(name).ok()?).ok();
    let format = Format {
        codec,
        config: config.map_readable().ok()?.to_vec(),
        width: side("width")?,
        height: side("height")?,
    };
    let buffer = sample.buffer()?;
    let pts = i64::try_from(buffer.pts()?.nseconds()).ok()?;
    let coming = Coming {
        key: !buffer.flags().contains(gst::BufferFlags::DELTA_UNIT),
        pts,
        at: Millis::now(),
        data: buffer.map_readable().ok()?.as_slice().into(),
    };
    Some((format, coming))
}
