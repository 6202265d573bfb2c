// SPDX-License-Identifier: MPL-2.0

//! What the element tests share: registering the plugin, feeding frames, collecting what comes out.

#![allow(dead_code, reason = "each test file uses its own part")]

pub mod camera;
pub mod clips;
pub mod cost;
pub mod records;

use std::io::Write;
use std::sync::{Arc, Mutex, Once};
use std::time::Duration;

use gst::prelude::*;

/// Long enough for a loaded machine, short enough to notice a hang.
pub const PATIENCE: gst::ClockTime = gst::ClockTime::from_seconds(60);

/// Makes GStreamer and the element known to this process.
pub fn init() {
    static INIT: Once = Once::new();
    INIT.call_once(|| {
        gst::init().unwrap();
        gstvlmcaption::plugin_register_static().unwrap();
    });
}

/// A script for `backend=mock`, in a file that lives as long as the value.
pub fn script(json: &str) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(json.as_bytes()).unwrap();
    file
}

/// Plays a pipeline to its end, once `prepare` has seen it: all that it posted. An error is a panic.
pub fn play(description: &str, prepare: impl FnOnce(&gst::Pipeline)) -> Vec<gst::Message> {
    init();
    let pipeline = gst::parse::launch(description).unwrap();
    let pipeline = pipeline.downcast::<gst::Pipeline>().unwrap();
    prepare(&pipeline);
    pipeline.set_state(gst::State::Playing).unwrap();
    play_out(&pipeline, PATIENCE)
}

/// All that a pipeline posts until its end, after which it is stopped. An error is a panic.
pub fn play_out(pipeline: &gst::Pipeline, patience: gst::ClockTime) -> Vec<gst::Message> {
    let bus = pipeline.bus().unwrap();
    let mut messages = Vec::new();
    loop {
        let message = bus.timed_pop(patience).expect("no end in time");
        if let gst::MessageView::Error(error) = message.view() {
            panic!("{} ({:?})", error.error(), error.debug());
        }
        let end = message.type_() == gst::MessageType::Eos;
        messages.push(message);
        if end {
            break;
        }
    }
    pipeline.set_state(gst::State::Null).unwrap();
    messages
}

/// A pipeline `appsrc ! vlmcaption ! appsink` and what it produced.
pub struct Run {
    pub pipeline: gst::Pipeline,
    pub src: gst_app::AppSrc,
    pub element: gst::Element,
    pub buffers: Arc<Mutex<Vec<gst::Buffer>>>,
    /// Elements that name the same script share one mock, so each run has its own.
    script: tempfile::NamedTempFile,
}

impl Run {
    /// In PLAYING, with the element's properties set from strings as `gst-launch-1.0` would.
    pub fn start(properties: &[(&str, &str)], caps: &str) -> Self {
        let run = Self::new(properties, caps);
        run.pipeline.set_state(gst::State::Playing).unwrap();
        run
    }

    pub fn new(properties: &[(&str, &str)], caps: &str) -> Self {
        init();
        let element = gst::ElementFactory::make("vlmcaption").build().unwrap();
        let script = script(r#"[{"text": "Mock caption {n}."}]"#);
        if properties.contains(&("backend", "mock")) {
            element.set_property("model", script.path().to_str());
        }
        for (name, value) in properties {
            element.set_property_from_str(name, value);
        }
        let src = gst_app::AppSrc::builder()
            .caps(&caps.parse().unwrap())
            .format(gst::Format::Time)
            .block(true)
            .build();
        let buffers = Arc::new(Mutex::new(Vec::new()));
        let collected = buffers.clone();
        let sink = gst_app::AppSink::builder().sync(false).build();
        sink.set_callbacks(
            gst_app::AppSinkCallbacks::builder()
                .new_sample(move |sink| {
                    let sample = sink.pull_sample().map_err(|_| gst::FlowError::Eos)?;
                    collected
                        .lock()
                        .unwrap()
                        .push(sample.buffer_owned().unwrap());
                    Ok(gst::FlowSuccess::Ok)
                })
                .build(),
        );
        let pipeline = gst::Pipeline::new();
        pipeline
            .add_many([src.upcast_ref(), &element, sink.upcast_ref()])
            .unwrap();
        gst::Element::link_many([src.upcast_ref(), &element, sink.upcast_ref()]).unwrap();
        Self {
            pipeline,
            src,
            element,
            buffers,
            script,
        }
    }

    /// Pushes one gray frame.
    pub fn push(
        &self,
        pts: Duration,
        duration: Option<Duration>,
    ) -> Result<gst::FlowSuccess, gst::FlowError> {
        let caps = self.src.caps().unwrap();
        let info = gst_video::VideoInfo::from_caps(&caps).unwrap();
        let mut buffer = gst::Buffer::with_size(info.size()).unwrap();
        {
            let buffer = buffer.get_mut().unwrap();
            buffer.map_writable().unwrap().fill(128);
            buffer.set_pts(clock(pts));
            buffer.set_duration(duration.map(clock));
        }
        self.src.push_buffer(buffer)
    }

    /// Pushes `n` frames at a rate, from zero.
    pub fn push_frames(&self, n: u64, fps: u64) {
        for i in 0..n {
            let at = |i| Duration::from_nanos(i * 1_000_000_000 / fps);
            self.push(at(i), Some(at(i + 1) - at(i))).unwrap();
        }
    }

    /// Ends the stream and gives all messages up to EOS.
    pub fn finish(&self) -> Vec<gst::Message> {
        self.src.end_of_stream().unwrap();
        self.messages_until(|message| message.type_() == gst::MessageType::Eos)
    }

    /// All messages up to the first that `last` accepts; an error message is a failure.
    pub fn messages_until(&self, last: impl Fn(&gst::Message) -> bool) -> Vec<gst::Message> {
        let bus = self.pipeline.bus().unwrap();
        let mut messages = Vec::new();
        loop {
            let message = bus.timed_pop(PATIENCE).expect("no message in time");
            if let gst::MessageView::Error(error) = message.view() {
                panic!("{} ({:?})", error.error(), error.debug());
            }
            let done = last(&message);
            messages.push(message);
            if done {
                return messages;
            }
        }
    }

    /// Waits for the next caption.
    pub fn next_caption(&self) -> gst::Structure {
        let messages = self.messages_until(|message| named(message, "vlmcaption/caption"));
        messages.last().unwrap().structure().unwrap().to_owned()
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        let _ = self.pipeline.set_state(gst::State::Null);
    }
}

/// Whether this is the element message with that name.
pub fn named(message: &gst::Message, name: &str) -> bool {
    message.type_() == gst::MessageType::Element
        && message
            .structure()
            .is_some_and(|structure| structure.name() == name)
}

/// The captions among messages.
pub fn captions(messages: &[gst::Message]) -> Vec<gst::Structure> {
    messages
        .iter()
        .filter(|message| named(message, "vlmcaption/caption"))
        .filter_map(|message| message.structure().map(ToOwned::to_owned))
        .collect()
}

/// Texts of the warnings among messages.
pub fn warnings(messages: &[gst::Message]) -> Vec<String> {
    messages
        .iter()
        .filter_map(|message| match message.view() {
            gst::MessageView::Warning(warning) => Some(warning.error().to_string()),
            _ => None,
        })
        .collect()
}

/// `pts-list` of a caption, ns.
pub fn pts_list(caption: &gst::StructureRef) -> Vec<u64> {
    let list = caption.get::<gst::Array>("pts-list").unwrap();
    list.iter().map(|value| value.get().unwrap()).collect()
}

/// The meta's fields of a buffer.
pub fn meta(buffer: &gst::BufferRef) -> Option<gst::Structure> {
    gst::meta::CustomMeta::from_buffer(buffer, gstvlmcaption::vlmcaption::META_NAME)
        .ok()
        .map(|meta| meta.structure().to_owned())
}

pub fn clock(time: Duration) -> gst::ClockTime {
    gst::ClockTime::from_nseconds(time.as_nanos() as u64)
}
