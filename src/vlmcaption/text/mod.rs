// SPDX-License-Identifier: MPL-2.0

//! The text pad: a timed stream of its own, pushed from its own task, so that whoever reads it
//! slowly never holds the video back.
//!
//! While there is nothing to say the task says so, as far as the video has come: `textoverlay` with
//! its default `wait-text=true` holds every frame until the text stream has passed it.

mod cue;
mod feed;

use std::sync::{Arc, Condvar, Mutex};

use gst::prelude::*;

use super::enums::TextGaps;
use super::log::TEXT;
use super::post;
pub(super) use cue::{Begin, Text, text_caps};
use feed::{Feed, Item};

/// What the other threads hand to the pad's task.
#[derive(Debug, Default)]
pub(super) struct TextOutput {
    state: Mutex<TaskState>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct TaskState {
    /// The task must return.
    stopped: bool,
    feed: Feed,
}

/// What becomes of the video, which the text stream follows.
impl TextOutput {
    /// A new stream; the text stream gets an id of its own.
    pub fn stream_start(&self, event: gst::Event) {
        self.change(|feed| feed.stream_start(event));
    }

    /// The video's segment: the text stream has the same times.
    pub fn segment(&self, event: gst::Event) {
        self.change(|feed| feed.segment(event));
    }

    /// The video has come this far.
    pub fn advance(&self, begin: gst::ClockTime, end: gst::ClockTime) {
        self.change(|feed| feed.advance(begin, end));
    }

    /// The video's time went back.
    pub fn begin_timeline(&self, number: u64) {
        self.change(|feed| feed.begin_timeline(number));
    }

    /// Says `text` when its time has come.
    pub fn push(&self, text: Text) {
        self.change(|feed| feed.push(text));
    }

    /// How silence is said.
    pub fn set_gaps(&self, gaps: TextGaps) {
        self.change(|feed| feed.gaps = gaps);
    }

    /// Ends the segment or the stream once all is said.
    pub fn end(&self, event: gst::Event) {
        self.change(|feed| feed.end(event));
    }

    /// Captions that were not said: the reader was too slow, or a newer one came before its turn.
    pub fn n_dropped(&self) -> u64 {
        self.state.lock().unwrap().feed.n_dropped
    }

    /// Forgets what was to be said, and where the stream is.
    pub fn flush(&self) {
        self.change(Feed::flush);
    }

    /// Forgets the stream altogether.
    pub fn reset(&self) {
        self.change(Feed::reset);
    }
}

/// The pad's task.
impl TextOutput {
    /// The pad becomes active.
    pub fn open(self: &Arc<Self>, pad: &gst::Pad) -> Result<(), gst::LoggableError> {
        self.change(Feed::open);
        self.start(pad)
    }

    /// The pad becomes inactive; the caller has made sure that a push in it returns.
    pub fn close(&self, pad: &gst::Pad) -> Result<(), gst::LoggableError> {
        self.stop();
        let stopped = pad.stop_task();
        self.change(Feed::close);
        stopped.map_err(|_| gst::loggable_error!(TEXT, "cannot stop the text pad's task"))
    }

    /// Whoever reads the pad is another, or has changed its mind.
    pub fn reconfigure(&self) {
        self.change(Feed::reconfigure);
    }

    /// Lets the task run.
    pub fn start(self: &Arc<Self>, pad: &gst::Pad) -> Result<(), gst::LoggableError> {
        self.state.lock().unwrap().stopped = false;
        let (output, weak) = (self.clone(), pad.downgrade());
        pad.start_task(move || {
            if let Some(pad) = weak.upgrade() {
                output.run(&pad);
            }
        })
        .map_err(|_| gst::loggable_error!(TEXT, "cannot start the text pad's task"))
    }

    /// Wakes the task and makes it return.
    pub fn stop(&self) {
        self.state.lock().unwrap().stopped = true;
        self.changed.notify_all();
    }

    /// One round of the task: says the next thing, or waits for one.
    fn run(&self, pad: &gst::Pad) {
        match self.next() {
            // A task that returns without pausing would be called again at once.
            None => {
                let _ = pad.pause_task();
            }
            Some(Item::Event(event)) => {
                pad.push_event(event);
            }
            Some(Item::Buffer(buffer)) => {
                gst::trace!(TEXT, obj = pad, "pushing {buffer:?}");
                match pad.push(buffer) {
                    Ok(_) => self.state.lock().unwrap().feed.taken(),
                    Err(error) => self.refused(pad, error),
                }
            }
        }
    }

    /// The reader has not taken a buffer: the video flows on, and the user is told what it said.
    fn refused(&self, pad: &gst::Pad, error: gst::FlowError) {
        gst::debug!(TEXT, obj = pad, "not taken: {error:?}");
        let tell = self.state.lock().unwrap().feed.refused(error);
        let element = pad.parent().and_downcast::<gst::Element>();
        if let (true, Some(element)) = (tell, element) {
            let text = format!(
                "what reads text_src returned {}: it gets no more captions until it is linked \
                 anew or another stream begins; see its own messages, the video flows on",
                flow_name(error)
            );
            post::warning(&element, gst::StreamError::Failed, &text);
        }
    }

    fn next(&self) -> Option<Item> {
        let mut state = self.state.lock().unwrap();
        loop {
            if state.stopped {
                return None;
            }
            if let Some(item) = state.feed.take() {
                return Some(item);
            }
            state = self.changed.wait(state).unwrap();
        }
    }

    fn change(&self, change: impl FnOnce(&mut Feed)) {
        change(&mut self.state.lock().unwrap().feed);
        self.changed.notify_all();
    }
}

/// As GStreamer's logs have it.
fn flow_name(error: gst::FlowError) -> &'static str {
    match error {
        gst::FlowError::NotLinked => "not-linked",
        gst::FlowError::Flushing => "flushing",
        gst::FlowError::Eos => "eos",
        gst::FlowError::NotNegotiated => "not-negotiated",
        gst::FlowError::NotSupported => "not-supported",
        gst::FlowError::CustomError | gst::FlowError::CustomError1 => "custom-error",
        gst::FlowError::CustomError2 => "custom-error-2",
        _ => "error",
    }
}
