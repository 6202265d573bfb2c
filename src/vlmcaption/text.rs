// SPDX-License-Identifier: MPL-2.0

//! The text pad: a timed stream of its own, pushed from its own task, so that whoever reads it
//! slowly never holds the video back.
//!
//! While there is nothing to say the task says so, as far as the video has come: `textoverlay` with
//! its default `wait-text=true` holds every frame until the text stream has passed it.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use gst::prelude::*;

use super::TextGaps;

/// Captions that may wait for a slow reader; beyond, the oldest are dropped.
const MAX_QUEUED: usize = 64;
/// Longest silence that an empty buffer stands for, with [`TextGaps::Buffer`].
const FILLER: gst::ClockTime = gst::ClockTime::from_mseconds(500);

/// A caption for the text pad.
#[derive(Debug, Clone)]
pub(super) struct Text {
    pub text: String,
    pub begin: Begin,
    pub duration: gst::ClockTime,
}

/// When a cue begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Begin {
    /// With the first of its frames, even if the text stream has passed it since.
    Window {
        pts: gst::ClockTime,
        running_time: Duration,
    },
    /// Where the video is, after the cue before it.
    Arrival,
    /// The same; while it waits for the end of the cue before it a newer one takes its place.
    Live,
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
    /// With the end of the video when they came.
    texts: VecDeque<(Text, Option<gst::ClockTime>)>,
    gaps: TextGaps,
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
            for (_, came) in &mut state.texts {
                *came = None;
            }
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

    /// Says `text` when its time has come; a text without a word is not said.
    pub fn push(&self, text: Text) {
        let Some(clean) = clean(&text.text) else {
            return;
        };
        let text = Text {
            text: clean,
            ..text
        };
        self.change(|state| {
            let waits = |(waiting, _): &(Text, _)| waiting.begin == Begin::Live;
            if text.begin == Begin::Live && state.texts.back().is_some_and(waits) {
                state.texts.pop_back();
                state.n_dropped += 1;
            }
            if state.texts.len() >= MAX_QUEUED {
                state.texts.pop_front();
                state.n_dropped += 1;
            }
            let came = state.video_end;
            state.texts.push_back((text, came));
        });
    }

    /// How silence is said.
    pub fn set_gaps(&self, gaps: TextGaps) {
        self.change(|state| state.gaps = gaps);
    }

    /// Ends the text stream once all is said.
    pub fn eos(&self, event: gst::Event) {
        self.change(|state| state.eos = Some(event));
    }

    /// Captions that were not said: the reader was too slow, or a newer one came before its turn.
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
                gaps: state.gaps,
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

    /// Another reader was linked: a task that ended with the one before begins again.
    pub fn reconfigure(self: &Arc<Self>, pad: &gst::Pad) -> bool {
        let ended = pad.task_state() == gst::TaskState::Paused;
        if !ended || self.state.lock().unwrap().stopped {
            return true;
        }
        self.start(pad).is_ok()
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
        if let Some((text, came)) = self.texts.front()
            && self.is_due(text)
        {
            let (pts, duration) = self.times(segment, text, *came);
            if let Some(gap) = self.gap_to(pts, gst::ClockTime::NSECOND) {
                return Some(gap);
            }
            let (text, _) = self.texts.pop_front()?;
            self.position = self.position.max(Some(pts + duration));
            return Some(Item::Text(buffer(text.text, pts, duration)));
        }
        let least = match self.gaps {
            TextGaps::Buffer if self.eos.is_none() => FILLER,
            _ => gst::ClockTime::NSECOND,
        };
        if let Some(gap) = self.video_end.and_then(|end| self.gap_to(end, least)) {
            return Some(gap);
        }
        self.eos.take().map(Item::Eos)
    }

    /// A cue that begins where the video is waits for the end of the one before.
    fn is_due(&self, text: &Text) -> bool {
        matches!(text.begin, Begin::Window { .. })
            || (self.position.is_some() && self.position <= self.video_end)
            || self.eos.is_some()
    }

    /// PTS and duration of a cue that came when the video's end was at `came`.
    fn times(
        &self,
        segment: &gst::Segment,
        text: &Text,
        came: Option<gst::ClockTime>,
    ) -> (gst::ClockTime, gst::ClockTime) {
        let segment = segment.downcast_ref::<gst::ClockTime>();
        let start = segment.and_then(|segment| segment.start());
        let now = self.position.max(came).or(start).unwrap_or_default();
        if let Begin::Window { pts, running_time } = text.begin {
            let running_time = gst::ClockTime::try_from(running_time).ok();
            let Some(segment) = segment else {
                return (pts, text.duration);
            };
            if segment.to_running_time(pts) == running_time {
                return (pts, text.duration);
            }
            // Of an earlier segment: at the same time if this one has it, else now.
            let same = running_time.and_then(|time| segment.position_from_running_time(time));
            return (same.unwrap_or(now), text.duration);
        }
        // One that had to wait ends as if it had not, so that a late caption does not make all
        // that follow it late.
        let end = came.map(|came| came + text.duration);
        let left = end.map_or(text.duration, |end| end.saturating_sub(now));
        (now, left.clamp(text.duration / 2, text.duration))
    }

    /// Silence from where the text stream is to `end`, if that is at least `least`.
    fn gap_to(&mut self, end: gst::ClockTime, least: gst::ClockTime) -> Option<Item> {
        let position = self.position?;
        let duration = end.checked_sub(position).filter(|gap| *gap >= least)?;
        self.position = Some(end);
        Some(match self.gaps {
            TextGaps::Event => Item::Event(
                gst::event::Gap::builder(position)
                    .duration(duration)
                    .build(),
            ),
            TextGaps::Buffer => Item::Text(buffer(String::new(), position, duration)),
        })
    }
}

fn buffer(text: String, pts: gst::ClockTime, duration: gst::ClockTime) -> gst::Buffer {
    let mut buffer = gst::Buffer::from_slice(text.into_bytes());
    // Just made, so nobody else has it.
    if let Some(buffer) = buffer.get_mut() {
        buffer.set_pts(pts);
        buffer.set_duration(duration);
    }
    buffer
}

/// The text without what would end a cue in WebVTT and SRT, empty lines and their arrow; `None` if
/// nothing is left.
fn clean(text: &str) -> Option<String> {
    let lines: Vec<&str> = text
        .lines()
        .map(str::trim_end)
        .filter(|line| !line.is_empty())
        .collect();
    (!lines.is_empty()).then(|| lines.join("\n").replace("-->", "->"))
}

/// Caps of the text stream.
pub(super) fn text_caps() -> gst::Caps {
    gst::Caps::builder("text/x-raw")
        .field("format", "utf8")
        .build()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: gst::ClockTime = gst::ClockTime::SECOND;

    /// A pad's task that has pushed the sticky events and has seen video up to `end`.
    fn output(end: gst::ClockTime) -> TextOutput {
        gst::init().unwrap();
        let output = TextOutput::default();
        let segment = gst::FormattedSegment::<gst::ClockTime>::new();
        output.segment(segment.as_ref());
        for _ in ["caps", "segment"] {
            assert!(matches!(output.next(), Some(Item::Event(_))));
        }
        output.advance(gst::ClockTime::ZERO, end);
        output
    }

    fn say(output: &TextOutput, text: &str, begin: Begin) {
        output.push(Text {
            text: text.into(),
            begin,
            duration: 4 * SECOND,
        });
    }

    /// All there is to do now: text, begin and end in ms; no text for a gap.
    fn said(output: &TextOutput) -> Vec<(Option<String>, u64, u64)> {
        let mut state = output.state.lock().unwrap();
        let mut said = Vec::new();
        while let Some(item) = state.take() {
            let (text, begin, duration) = match item {
                Item::Text(buffer) => {
                    let bytes = buffer.map_readable().unwrap().to_vec();
                    let text = String::from_utf8(bytes).unwrap();
                    (Some(text), buffer.pts(), buffer.duration())
                }
                Item::Event(event) => {
                    let gst::EventView::Gap(gap) = event.view() else {
                        continue;
                    };
                    let (begin, duration) = gap.get();
                    (None, Some(begin), duration)
                }
                Item::Eos(_) => continue,
            };
            let begin = begin.unwrap();
            said.push((
                text,
                begin.mseconds(),
                (begin + duration.unwrap()).mseconds(),
            ));
        }
        said
    }

    fn cue(text: &str, begin: u64, end: u64) -> (Option<String>, u64, u64) {
        (Some(text.into()), begin, end)
    }

    #[test]
    fn a_caption_that_had_to_wait_ends_as_if_it_had_not() {
        let output = output(SECOND);
        say(&output, "a", Begin::Live);
        assert_eq!(said(&output), [(None, 0, 1000), cue("a", 1000, 5000)]);
        output.advance(4 * SECOND, 4 * SECOND);
        say(&output, "b", Begin::Live);
        assert_eq!(said(&output), [], "the cue before it is still shown");
        output.advance(5 * SECOND, 5 * SECOND + SECOND / 2);
        assert_eq!(said(&output), [cue("b", 5000, 8000)]);
        output.advance(8 * SECOND, 8 * SECOND);
        say(&output, "c", Begin::Live);
        assert_eq!(
            said(&output),
            [cue("c", 8000, 12000)],
            "and this one is not late"
        );
    }

    #[test]
    fn of_two_captions_that_wait_a_live_stream_shows_the_newer() {
        let output = output(SECOND);
        say(&output, "a", Begin::Live);
        said(&output);
        say(&output, "b", Begin::Live);
        say(&output, "c", Begin::Live);
        assert_eq!(output.n_dropped(), 1);
        output.advance(5 * SECOND, 6 * SECOND);
        assert_eq!(said(&output)[0], cue("c", 5000, 7000));
    }

    #[test]
    fn a_file_loses_none_of_the_captions_that_wait() {
        let output = output(SECOND);
        for text in ["a", "b", "c"] {
            say(&output, text, Begin::Arrival);
        }
        assert_eq!(said(&output).len(), 2, "a gap and the first");
        output.eos(gst::event::Eos::new());
        assert_eq!(said(&output), [cue("b", 5000, 7000), cue("c", 7000, 9000)]);
    }

    #[test]
    fn a_cue_of_an_earlier_segment_keeps_its_running_time() {
        let output = output(2 * SECOND);
        let mut segment = gst::FormattedSegment::<gst::ClockTime>::new();
        segment.set_start(100 * SECOND);
        segment.set_base(2 * SECOND);
        output.segment(segment.as_ref());
        output.advance(100 * SECOND, 103 * SECOND);
        let at = |second: u64| Begin::Window {
            pts: gst::ClockTime::from_seconds(second),
            running_time: Duration::from_secs(second),
        };
        say(&output, "in both", at(3));
        say(&output, "in the first alone", at(1));
        let texts: Vec<_> = said(&output)
            .into_iter()
            .filter(|s| s.0.is_some())
            .collect();
        let late = cue("in the first alone", 105_000, 109_000);
        assert_eq!(texts, [cue("in both", 101_000, 105_000), late]);
    }

    #[test]
    fn silence_by_buffers_is_said_in_halves_of_a_second() {
        let output = output(400 * gst::ClockTime::MSECOND);
        output.set_gaps(TextGaps::Buffer);
        assert_eq!(said(&output), []);
        output.advance(SECOND / 2, 600 * gst::ClockTime::MSECOND);
        assert_eq!(said(&output), [cue("", 0, 600)]);
        output.advance(SECOND / 2, 700 * gst::ClockTime::MSECOND);
        say(&output, "a", Begin::Live);
        assert_eq!(said(&output), [cue("", 600, 700), cue("a", 700, 4700)]);
        output.advance(SECOND, 4800 * gst::ClockTime::MSECOND);
        output.eos(gst::event::Eos::new());
        assert_eq!(said(&output), [cue("", 4700, 4800)]);
    }

    #[test]
    fn a_cue_has_no_empty_lines_no_arrow_and_never_no_text() {
        assert_eq!(clean("a \n\n\nb\n").unwrap(), "a\nb");
        assert_eq!(clean("Exit --> street.").unwrap(), "Exit -> street.");
        assert_eq!(clean(" \n\n"), None);
    }
}
