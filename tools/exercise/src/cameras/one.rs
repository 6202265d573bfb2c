// SPDX-License-Identifier: MPL-2.0

//! One camera: its pipeline, what it says and what it counts.

use std::collections::BTreeMap;
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use gst::prelude::*;

use super::options::Options;

/// A caption or a failure of one camera.
pub struct Event {
    pub camera: usize,
    pub at: Instant,
    pub what: What,
}

pub enum What {
    Caption {
        text: String,
        age: f64,
        wait: f64,
        total: f64,
        truncated: bool,
    },
    Failed(String),
}

/// One camera.
pub struct Camera {
    pipeline: gst::Pipeline,
    /// Seconds between two buffers behind the captioner: the longest, and since when.
    gap: Arc<Mutex<Gap>>,
    errors: Arc<Mutex<Vec<Shown>>>,
    before: BTreeMap<&'static str, u64>,
}

/// Whether the buffers say `error` from here on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shown {
    pub at: Instant,
    pub is_error: bool,
}

#[derive(Default)]
struct Gap {
    last: Option<Instant>,
    longest: Duration,
}

/// Numbers of `stats` that are counted from the beginning of the measurement.
const COUNTED: [&str; 5] = [
    "windows",
    "captions",
    "dropped-windows",
    "failed",
    "dropped-frames",
];

impl Camera {
    /// Plays it; what it says goes to `events`.
    ///
    /// # Errors
    /// The pipeline cannot be made or does not start.
    pub fn start(
        number: usize,
        options: &Options,
        uri: Option<&str>,
        events: &Sender<Event>,
    ) -> Result<Self, String> {
        let source = match uri {
            Some(uri) => format!(
                "rtspsrc location={uri} latency=100 protocols=tcp ! rtph264depay ! h264parse \
                 ! avdec_h264 max-threads=1"
            ),
            None => format!(
                "videotestsrc is-live=true pattern={} ! \
                 video/x-raw,format=I420,width=640,height=360,framerate={}/1",
                options.pattern, options.fps
            ),
        };
        let model = match options.models.get(number % options.models.len().max(1)) {
            Some(model) => format!("model={model}"),
            None => String::new(),
        };
        let line = format!(
            "{source} ! vlmcaption name=c {model} {} ! fakesink sync=false",
            options.properties
        );
        let pipeline = gst::parse::launch(&line).map_err(|error| format!("{error}: {line}"))?;
        let pipeline = pipeline
            .downcast::<gst::Pipeline>()
            .map_err(|_| "no pipeline")?;
        let bus = pipeline.bus().ok_or("a pipeline without a bus")?;
        let events = events.clone();
        bus.set_sync_handler(move |_, message| {
            if let Some(what) = heard(message) {
                let at = Instant::now();
                let camera = number;
                let _ = events.send(Event { camera, at, what });
            }
            gst::BusSyncReply::Drop
        });
        let gap = Arc::new(Mutex::new(Gap::default()));
        let shared = gap.clone();
        let errors = Arc::new(Mutex::new(Vec::new()));
        let shown = errors.clone();
        let pad = pipeline
            .by_name("c")
            .and_then(|element| element.static_pad("src"));
        pad.ok_or("no source pad")?
            .add_probe(gst::PadProbeType::BUFFER, move |_, info| {
                if let Some(is_error) = info.buffer().and_then(|buffer| says_error(buffer)) {
                    note(&mut shown.lock().unwrap(), is_error);
                }
                let mut gap = shared.lock().unwrap();
                let now = Instant::now();
                if let Some(last) = gap.last.replace(now) {
                    gap.longest = gap.longest.max(now - last);
                }
                gst::PadProbeReturn::Ok
            });
        let started = pipeline.set_state(gst::State::Playing);
        started.map_err(|error| format!("camera {number}: {error}"))?;
        Ok(Self {
            pipeline,
            gap,
            errors,
            before: BTreeMap::new(),
        })
    }

    /// The captioner's own figures.
    pub fn stats(&self) -> Option<gst::Structure> {
        Some(self.pipeline.by_name("c")?.property("stats"))
    }

    fn numbers(&self) -> BTreeMap<&'static str, u64> {
        let stats = self.stats();
        let number = |name| stats.as_ref().and_then(|stats| stats.get::<u64>(name).ok());
        COUNTED.map(|name| (name, number(name).unwrap_or(0))).into()
    }

    /// Counts from now on.
    pub fn begin(&mut self) {
        self.before = self.numbers();
        self.forget_gap();
    }

    /// The longest time between two buffers is that from now on.
    pub fn forget_gap(&self) {
        self.gap.lock().unwrap().longest = Duration::ZERO;
    }

    /// The longest time between two buffers behind the captioner.
    pub fn longest_gap(&self) -> Duration {
        self.gap.lock().unwrap().longest
    }

    /// When its buffers began and ceased to say `error`.
    pub fn errors(&self) -> Vec<Shown> {
        self.errors.lock().unwrap().clone()
    }

    /// What was counted.
    pub fn counted(&self) -> BTreeMap<&'static str, u64> {
        let mut now = self.numbers();
        for (name, number) in &mut now {
            *number -= self.before.get(name).copied().unwrap_or(0).min(*number);
        }
        now
    }
}

impl Drop for Camera {
    fn drop(&mut self) {
        // The measurement is over, or could not begin; either way this is the end.
        let _ = self.pipeline.set_state(gst::State::Null);
    }
}

/// Whether the status of a buffer's caption is `error`; nothing if there is no caption on it.
fn says_error(buffer: &gst::BufferRef) -> Option<bool> {
    let caption = gst::meta::CustomMeta::from_buffer(buffer, "GstVlmCaptionMeta").ok()?;
    let status: &str = caption.structure().get("status").ok()?;
    Some(status == "error")
}

/// Adds what a buffer shows if it is something else than before.
fn note(errors: &mut Vec<Shown>, is_error: bool) {
    if errors
        .last()
        .map_or(is_error, |last| last.is_error != is_error)
    {
        let at = Instant::now();
        errors.push(Shown { at, is_error });
    }
}

/// What a message says that counts here.
fn heard(message: &gst::Message) -> Option<What> {
    match message.view() {
        gst::MessageView::Error(error) => Some(What::Failed(error.error().to_string())),
        gst::MessageView::Warning(warning) => Some(What::Failed(warning.error().to_string())),
        gst::MessageView::Element(element) => {
            let caption = element.structure()?;
            if caption.name() != "vlmcaption/caption" {
                return None;
            }
            let seconds = |name| caption.get::<u64>(name).unwrap_or(0) as f64 / 1e9;
            Some(What::Caption {
                text: caption.get("text").ok()?,
                age: seconds("age"),
                wait: seconds("queue-wait"),
                total: seconds("total"),
                truncated: caption.get("truncated").unwrap_or(false),
            })
        }
        _ => None,
    }
}
