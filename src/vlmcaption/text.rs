// SPDX-License-Identifier: MPL-2.0

//! The text pad: a timed stream of its own, pushed from its own task, so that whoever reads it
//! slowly never holds the video back.
//!
//! While there is nothing to say the task sends GAP events that follow the video: `textoverlay`
//! with its default `wait-text=true` holds every frame until the text stream has passed it.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex};

use gst::prelude::*;

/// Captions that may wait for a slow reader; beyond, the oldest are dropped.
const MAX_QUEUED: usize = 64;

/// A caption for the text pad.
#[derive(Debug, Clone)]
pub(super) struct Text {
    pub text: String,
    /// When it begins; `None` puts it where the text stream is.
    pub pts: Option<gst::ClockTime>,
    pub duration: gst::ClockTime,
}

/// What the other threads hand to the pad's task.
#[derive(Debug, Default)]
pub(super) struct TextOutput {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// The task must return.
    stopped: bool,
    stream_start: Option<gst::Event>,
    segment: Option<gst::Segment>,
    /// Sticky events that changed since they were pushed.
    pending: VecDeque<gst::Event>,
    caps_sent: bool,
    texts: VecDeque<Text>,
    /// End of what was said, in the segment's time.
    position: Option<gst::ClockTime>,
    /// End of the video that was pushed.
    video_end: Option<gst::ClockTime>,
    eos: Option<gst::Event>,
    n_dropped: u64,
}

/// One thing for the task to do.
enum Item {
    Event(gst::Event),
    Text(gst::Buffer),
    Eos(gst::Event),
}

impl TextOutput {
    /// A new stream; the text stream gets an id of its own.
    pub fn stream_start(&self, event: gst::Event) {
        self.change(|state| {
            state.pending.push_back(event.clone());
            state.stream_start = Some(event);
            state.caps_sent = false;
            state.eos = None;
        });
    }

    /// The video's segment: the text stream has the same times.
    pub fn segment(&self, segment: &gst::Segment) {
        self.change(|state| {
            state.segment = Some(segment.clone());
            state.pending.push_back(gst::event::Segment::new(segment));
            state.position = None;
            state.video_end = None;
        });
    }

    /// The video has come this far.
    pub fn advance(&self, begin: gst::ClockTime, end: gst::ClockTime) {
        self.change(|state| {
            state.position.get_or_insert(begin);
            // A buffer without a duration still moves the text stream past its first instant.
            let end = end.max(begin + gst::ClockTime::NSECOND);
            state.video_end = state.video_end.max(Some(end));
        });
    }

    pub fn push(&self, text: Text) {
        self.change(|state| {
            if state.texts.len() >= MAX_QUEUED {
                state.texts.pop_front();
                state.n_dropped += 1;
            }
            state.texts.push_back(text);
        });
    }

    /// Ends the text stream once all is said.
    pub fn eos(&self, event: gst::Event) {
        self.change(|state| state.eos = Some(event));
    }

    /// Captions that were dropped because the reader was too slow.
    pub fn n_dropped(&self) -> u64 {
        self.state.lock().unwrap().n_dropped
    }

    /// Wakes the task and makes it return, or lets it run again.
    pub fn set_stopped(&self, stopped: bool) {
        self.change(|state| state.stopped = stopped);
    }

    /// Forgets what was to be said, and where the stream is.
    pub fn flush(&self) {
        self.change(|state| {
            state.texts.clear();
            state.pending.clear();
            state.segment = None;
            state.position = None;
            state.video_end = None;
            state.eos = None;
        });
    }

    /// Forgets the stream altogether.
    pub fn reset(&self) {
        self.change(|state| {
            *state = State {
                stopped: state.stopped,
                ..State::default()
            }
        });
    }

    /// Starts the pad's task.
    pub fn start(self: &Arc<Self>, pad: &gst::Pad) -> Result<(), gst::LoggableError> {
        self.change(|state| {
            state.stopped = false;
            // The pad is new to this stream: it needs the sticky events from the start.
            state.pending.clear();
            state.caps_sent = false;
            let segment = state.segment.as_ref().map(gst::event::Segment::new);
            state.pending.extend(state.stream_start.clone());
            state.pending.extend(segment);
        });
        let (output, weak) = (self.clone(), pad.downgrade());
        pad.start_task(move || {
            if let Some(pad) = weak.upgrade() {
                output.run(&pad);
            }
        })
        .map_err(|_| gst::loggable_error!(super::imp::CAT, "cannot start the text pad's task"))
    }

    /// Stops the pad's task; the caller has made sure that a push in it returns.
    pub fn stop(&self, pad: &gst::Pad) -> Result<(), gst::LoggableError> {
        self.set_stopped(true);
        pad.stop_task()
            .map_err(|_| gst::loggable_error!(super::imp::CAT, "cannot stop the text pad's task"))
    }

    /// One round of the task: says the next thing, or waits for one.
    fn run(&self, pad: &gst::Pad) {
        let Some(item) = self.next() else {
            // A task that returns without pausing would be called again at once.
            let _ = pad.pause_task();
            return;
        };
        let flow = match item {
            Item::Event(event) => {
                pad.push_event(event);
                return;
            }
            Item::Text(buffer) => {
                gst::trace!(super::imp::CAT, obj = pad, "pushing {buffer:?}");
                pad.push(buffer)
            }
            Item::Eos(event) => {
                pad.push_event(event);
                Err(gst::FlowError::Eos)
            }
        };
        match flow {
            Ok(_) | Err(gst::FlowError::NotLinked) => {}
            Err(error) => {
                gst::debug!(
                    super::imp::CAT,
                    obj = pad,
                    "text stream ends here: {error:?}"
                );
                let _ = pad.pause_task();
            }
        }
    }

    fn next(&self) -> Option<Item> {
        let mut state = self.state.lock().unwrap();
        loop {
            if state.stopped {
                return None;
            }
            if let Some(item) = state.take() {
                return Some(item);
            }
            state = self.changed.wait(state).unwrap();
        }
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state.lock().unwrap());
        self.changed.notify_all();
    }
}

impl State {
    fn take(&mut self) -> Option<Item> {
        if let Some(event) = self.pending.pop_front() {
            // The order of sticky events: stream-start, caps, segment.
            if event.type_() == gst::EventType::Segment && !self.caps_sent {
                self.caps_sent = true;
                self.pending.push_front(event);
                return Some(Item::Event(gst::event::Caps::new(&text_caps())));
            }
            return Some(Item::Event(event));
        }
        let segment = self.segment.as_ref()?;
        if let Some(text) = self.texts.pop_front() {
            let start = segment
                .downcast_ref::<gst::ClockTime>()
                .and_then(|segment| segment.start())
                .unwrap_or(gst::ClockTime::ZERO);
            let pts = text.pts.or(self.position).unwrap_or(start);
            let mut buffer = gst::Buffer::from_slice(text.text.into_bytes());
            // Just made, so nobody else has it.
            if let Some(buffer) = buffer.get_mut() {
                buffer.set_pts(pts);
                buffer.set_duration(text.duration);
            }
            self.position = self.position.max(Some(pts + text.duration));
            return Some(Item::Text(buffer));
        }
        if let (Some(position), Some(end)) = (self.position, self.video_end)
            && end > position
        {
            self.position = Some(end);
            let gap = gst::event::Gap::builder(position)
                .duration(end - position)
                .build();
            return Some(Item::Event(gap));
        }
        self.eos.take().map(Item::Eos)
    }
}

/// Caps of the text stream.
pub(super) fn text_caps() -> gst::Caps {
    gst::Caps::builder("text/x-raw")
        .field("format", "utf8")
        .build()
}
