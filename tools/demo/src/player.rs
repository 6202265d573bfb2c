// SPDX-License-Identifier: MPL-2.0

//! The pipeline: a feeder thread draws the street in real time, the bus says what was seen.

use std::thread;
use std::time::Duration;

use gst::prelude::*;
use gst_app::AppSrc;
use world::Street;

use crate::options::Options;
use crate::report::{Caption, Report};

const FRAMES_PER_SECOND: u64 = 30;

/// Declared by the source, so that sinks do not call a frame late that was drawn on time.
const SOURCE_LATENCY: gst::ClockTime = gst::ClockTime::from_mseconds(50);

/// How long a pipeline may take to finish after the last frame.
const PATIENCE: gst::ClockTime = gst::ClockTime::from_seconds(60);

/// Shows the street and prints the captions.
///
/// # Errors
/// A sentence about what is missing, what failed, or how few captions came.
pub fn play(options: &Options) -> Result<(), String> {
    gst::init().map_err(|error| error.to_string())?;
    if gst::ElementFactory::find("vlmcaption").is_none() {
        return Err(
            "GStreamer does not find `vlmcaption`: GST_PLUGIN_PATH has to name the folder \
                    with libgstvlmcaption.so; `cargo xtask demo` does all that"
                .into(),
        );
    }
    let has = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    if options.show && !has("DISPLAY") && !has("WAYLAND_DISPLAY") {
        return Err("--show needs a display, and there is none here".into());
    }
    let street = Street::new(options.seed, options.seconds);
    let pipeline = build(options)?;
    let source = pipeline
        .by_name("street")
        .and_then(|element| element.downcast::<AppSrc>().ok())
        .ok_or("the pipeline has no source")?;

    introduce(options);
    let outcome = thread::scope(|scope| {
        let playing = pipeline.set_state(gst::State::Playing);
        let patience = match playing {
            Ok(_) => PATIENCE + gst::ClockTime::from_seconds(options.seconds as u64),
            // The reason is on the bus already.
            Err(_) => gst::ClockTime::SECOND,
        };
        if playing.is_ok() {
            scope.spawn(|| feed(&street, &pipeline, &source, options));
        }
        let outcome = watch(&pipeline, &street, options, patience);
        // Wakes the feeder, which would otherwise draw the rest of the street.
        let stopped = pipeline.set_state(gst::State::Null);
        outcome.and_then(|report| stopped.map(|_| report).map_err(|error| error.to_string()))
    })?;
    if outcome.captions() == 0 {
        return Err("no caption came".into());
    }
    outcome.sum_or_fail(options.expect)
}

impl Report<'_> {
    /// Prints the sum, and holds it against what was expected.
    fn sum_or_fail(&self, expect: usize) -> Result<(), String> {
        self.sum();
        if self.right() < expect {
            return Err(format!("at least {expect} captions should have been right"));
        }
        Ok(())
    }
}

/// Width and height of the picture; a window wants a larger one.
fn size(options: &Options) -> (usize, usize) {
    if options.show { (640, 480) } else { (320, 240) }
}

fn build(options: &Options) -> Result<gst::Pipeline, String> {
    let (width, height) = size(options);
    let source = format!(
        "appsrc name=street is-live=true format=time min-latency={} caps=video/x-raw,format=RGB,\
         width={width},height={height},framerate={FRAMES_PER_SECOND}/1",
        SOURCE_LATENCY.nseconds()
    );
    let rest = if options.show {
        "captioner.text_src ! overlay.text_sink \
         captioner.src ! queue ! videoconvert ! overlay.video_sink \
         textoverlay name=overlay wait-text=false font-desc=\"Sans 12\" ! videoconvert \
         ! autovideosink"
    } else {
        "captioner.src ! fakesink sync=true"
    };
    let line = format!("{source} ! vlmcaption name=captioner window=2 {rest}");
    let pipeline = gst::parse::launch(&line)
        .map_err(|error| format!("the pipeline cannot be built: {error}\n  {line}"))?
        .downcast::<gst::Pipeline>()
        .map_err(|_| "the pipeline is none")?;
    if let (Some(model), Some(captioner)) = (&options.model, pipeline.by_name("captioner")) {
        captioner.set_property("model", model);
    }
    Ok(pipeline)
}

fn introduce(options: &Options) {
    let model = options
        .model
        .as_deref()
        .unwrap_or("the built-in demo model");
    println!(
        "A street of shapes, live for {} seconds. vlmcaption takes one frame a second, shows them\n\
         in pairs to {model}, and says what it sees.\n",
        options.seconds
    );
}

/// Draws frame after frame when its time has come, then ends the stream.
fn feed(street: &Street, pipeline: &gst::Pipeline, source: &AppSrc, options: &Options) {
    let (width, height) = size(options);
    let duration = gst::ClockTime::SECOND / FRAMES_PER_SECOND;
    for index in 0..options.seconds as u64 * FRAMES_PER_SECOND {
        let pts = gst::ClockTime::SECOND.mul_div_round(index, FRAMES_PER_SECOND);
        let (Some(pts), true) = (pts, pipeline.current_state() != gst::State::Null) else {
            return;
        };
        let seconds = index as f64 / FRAMES_PER_SECOND as f64;
        let frame = street.draw(seconds, width, height).into_rgb();
        let mut buffer = gst::Buffer::from_slice(frame);
        // A buffer that was just made has no other owner.
        if let Some(buffer) = buffer.get_mut() {
            buffer.set_pts(pts);
            buffer.set_duration(duration);
        }
        let now = pipeline.current_running_time().unwrap_or_default();
        thread::sleep(pts.saturating_sub(now).into());
        if source.push_buffer(buffer).is_err() {
            return;
        }
    }
    // An error here means that the pipeline has stopped already.
    let _ = source.end_of_stream();
}

/// Prints what comes over the bus until the stream ends.
fn watch<'a>(
    pipeline: &gst::Pipeline,
    street: &'a Street,
    options: &Options,
    patience: gst::ClockTime,
) -> Result<Report<'a>, String> {
    let bus = pipeline.bus().ok_or("the pipeline has no bus")?;
    let mut report = Report::new(street, options.model.is_none());
    let deadline = std::time::Instant::now() + Duration::from(patience);
    loop {
        let left = deadline.saturating_duration_since(std::time::Instant::now());
        let Some(message) = bus.timed_pop(gst::ClockTime::try_from(left).ok()) else {
            return Err("the pipeline does not end".into());
        };
        match message.view() {
            gst::MessageView::Eos(_) => return Ok(report),
            gst::MessageView::Error(error) => {
                let details = error.debug().unwrap_or_default();
                return Err(format!("{}\n{details}", error.error()));
            }
            gst::MessageView::Warning(warning) => {
                println!("warning: {}", warning.error());
                println!("{}", warning.debug().unwrap_or_default());
            }
            gst::MessageView::Progress(progress) if options.model.is_some() => {
                println!("{}", progress.get().2);
            }
            gst::MessageView::Element(_) => {
                if let Some(caption) = caption_in(&message, pipeline) {
                    report.caption(&caption);
                }
            }
            _ => {}
        }
    }
}

/// The caption that a message carries, if it is one about a caption.
fn caption_in(message: &gst::Message, pipeline: &gst::Pipeline) -> Option<Caption> {
    let structure = message.structure()?;
    if structure.name() != "vlmcaption/caption" {
        return None;
    }
    let end = structure.get("end").ok()?;
    Some(Caption {
        text: structure.get("text").ok()?,
        start: structure.get("start").ok()?,
        end,
        delay: pipeline
            .current_running_time()
            .map(|now| now.saturating_sub(end)),
    })
}
