// SPDX-License-Identifier: MPL-2.0

//! Reads captions in Rust, from the buffers and from the bus; nothing of this crate is needed, only
//! the plugin where GStreamer finds it.
//!
//! ```sh
//! GST_PLUGIN_PATH=target/debug cargo run --example read_captions
//! ```

#![allow(clippy::print_stdout, reason = "an example talks on its output")]

use std::sync::atomic::{AtomicU64, Ordering};

use gst::prelude::*;

const PIPELINE: &str = "videotestsrc is-live=true num-buffers=180 ! video/x-raw,framerate=30/1 \
                        ! vlmcaption window=2 ! fakesink name=sink sync=true";

fn main() -> Result<(), Box<dyn std::error::Error>> {
    gst::init()?;
    let line = std::env::args().nth(1).unwrap_or_else(|| PIPELINE.into());
    let pipeline = gst::parse::launch(&line)?;
    let bin = pipeline
        .downcast_ref::<gst::Bin>()
        .ok_or("not a pipeline")?;
    let sink = bin.by_name("sink").ok_or("no element called sink")?;
    let pad = sink.static_pad("sink").ok_or("no sink pad")?;
    let last = AtomicU64::new(u64::MAX);
    pad.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
        if let Some(buffer) = info.buffer()
            && let Ok(meta) = gst::meta::CustomMeta::from_buffer(buffer, "GstVlmCaptionMeta")
            && let Some(second) = buffer.pts().map(gst::ClockTime::seconds)
            && last.swap(second, Ordering::Relaxed) != second
        {
            let caption = meta.structure();
            let field = |name| caption.get::<String>(name).unwrap_or_default();
            println!(
                "meta     {second} s: {}: {}",
                field("status"),
                field("text")
            );
        }
        gst::PadProbeReturn::Ok
    });
    pipeline.set_state(gst::State::Playing)?;
    let bus = pipeline.bus().ok_or("a pipeline without a bus")?;
    for message in bus.iter_timed(gst::ClockTime::NONE) {
        match message.view() {
            gst::MessageView::Eos(_) => break,
            gst::MessageView::Error(error) => return Err(error.error().into()),
            gst::MessageView::Element(element) => {
                let caption = element.structure();
                if let Some(caption) = caption.filter(|s| s.name() == "vlmcaption/caption") {
                    let seconds = |name| caption.get::<u64>(name).map(|ns| ns as f64 / 1e9);
                    let text: String = caption.get("text")?;
                    println!(
                        "message  {:.1} s - {:.1} s: {text}",
                        seconds("start")?,
                        seconds("end")?
                    );
                }
            }
            _ => {}
        }
    }
    pipeline.set_state(gst::State::Null)?;
    Ok(())
}
