// SPDX-License-Identifier: MPL-2.0

//! What the text stream says next, given how far the video has come: no pad, no thread, no clock.
//!
//! ```text
//! what must come first      cues whose time has come      silence up to the video      the end
//! (stream-start, caps,  ──►                          ──►                           ──►
//!  segments)
//! ```

use std::collections::VecDeque;

use super::cue::{self, Begin, Text};
use crate::vlmcaption::enums::TextGaps;

/// Captions that may wait for a slow reader; beyond, the oldest are dropped.
const MAX_QUEUED: usize = 64;
/// Longest silence that an empty buffer stands for, with [`TextGaps::Buffer`].
const FILLER: gst::ClockTime = gst::ClockTime::from_mseconds(500);

/// One thing to push.
#[derive(Debug)]
pub(super) enum Item {
    Event(gst::Event),
    Buffer(gst::Buffer),
}

/// The text stream.
#[derive(Debug, Default)]
pub(super) struct Feed {
    /// There is a pad to push from.
    is_open: bool,
    stream_start: Option<gst::Event>,
    /// The video's.
    segment: Option<gst::Event>,
    eos: Option<gst::Event>,
    /// Whether stream-start is pushed or in `first`.
    begun: bool,
    /// Events that go before everything else.
    first: VecDeque<gst::Event>,
    /// With the end of the video when they came.
    cues: VecDeque<(Text, Option<gst::ClockTime>)>,
    pub gaps: TextGaps,
    /// End of what was said, in the segment's time; its begin if that is played backwards.
    position: Option<gst::ClockTime>,
    /// Where the video was when its reader came; what was over by then is not said.
    joined: Option<gst::ClockTime>,
    video: Option<Span>,
    /// Number of the timeline that the video is on.
    timeline: u64,
    /// EOS or SEGMENT_DONE, once all is said.
    end: Option<gst::Event>,
    /// EOS was said.
    ended: bool,
    reader: Peer,
    /// The user knows that the reader refuses.
    told: bool,
    pub n_dropped: u64,
}

/// The video that was pushed: the last buffer's begin, and the end of all.
#[derive(Debug, Clone, Copy)]
struct Span {
    begin: gst::ClockTime,
    end: gst::ClockTime,
}

/// How the reader takes what is pushed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Peer {
    #[default]
    Reading,
    /// Flushes, or was not there: the next cue is tried.
    Flushing,
    /// Has said that it takes no more.
    Refusing,
}

/// The stream as the video has it.
impl Feed {
    /// A new stream; the text stream gets an id of its own.
    pub fn stream_start(&mut self, event: gst::Event) {
        self.stream_start = Some(event);
        (self.eos, self.end, self.ended) = (None, None, false);
        (self.reader, self.told) = (Peer::Reading, false);
        self.first.clear();
        self.begun = false;
        self.begin();
    }

    /// The video's segment: the text stream has the same times.
    pub fn segment(&mut self, event: gst::Event) {
        self.segment = Some(event.clone());
        (self.position, self.joined, self.video) = (None, None, None);
        for (_, came) in &mut self.cues {
            *came = None;
        }
        if self.is_backwards() {
            self.drop_cues();
        }
        if !self.is_open {
            return;
        }
        self.begin();
        // What was not pushed of the segment before is no loss, but for its end if it was begun.
        let is_segment = |event: &gst::Event| event.type_() == gst::EventType::Segment;
        let done = self.segment_done();
        match self.first.iter().position(is_segment) {
            Some(unsaid) => self.first.truncate(unsaid),
            None => self.first.extend(done),
        }
        self.first.push_back(event);
    }

    /// The video has come this far.
    pub fn advance(&mut self, begin: gst::ClockTime, end: gst::ClockTime) {
        // A buffer without a duration still moves the text stream past its first instant.
        let end = end.max(begin.saturating_add(gst::ClockTime::NSECOND));
        if self.is_open {
            let first = if self.is_backwards() { end } else { begin };
            self.position.get_or_insert(first);
        }
        let end = self.video.map_or(end, |video| video.end.max(end));
        self.video = Some(Span { begin, end });
    }

    /// Time went back: the text stream goes on where the video does.
    pub fn begin_timeline(&mut self, number: u64) {
        self.timeline = number;
        (self.position, self.joined, self.video) = (None, None, None);
        for (_, came) in &mut self.cues {
            *came = None;
        }
    }

    /// SEGMENT_DONE or EOS: comes once all is said.
    pub fn end(&mut self, event: gst::Event) {
        if event.type_() == gst::EventType::Eos {
            self.eos = Some(event.clone());
        }
        if self.is_open {
            self.begin();
            let before = self.segment_done();
            self.first.extend(before);
            self.end = Some(event);
        }
    }

    /// Forgets what was to be said, and where the stream is.
    pub fn flush(&mut self) {
        self.cues.clear();
        self.first.retain(|event| {
            matches!(
                event.type_(),
                gst::EventType::StreamStart | gst::EventType::Caps
            )
        });
        (self.segment, self.position) = (None, None);
        (self.joined, self.video) = (None, None);
        (self.eos, self.end, self.ended) = (None, None, false);
        self.reader = Peer::Reading;
    }

    /// Forgets the stream altogether.
    pub fn reset(&mut self) {
        *self = Self {
            is_open: self.is_open,
            gaps: self.gaps,
            ..Self::default()
        };
    }

    fn is_backwards(&self) -> bool {
        let segment = self.segment.as_ref().map(|event| event.view());
        matches!(segment, Some(gst::EventView::Segment(segment)) if segment.segment().rate() < 0.0)
    }

    /// A SEGMENT_DONE that was not pushed yet.
    fn segment_done(&mut self) -> Option<gst::Event> {
        let is_done = |event: &mut gst::Event| event.type_() == gst::EventType::SegmentDone;
        self.end.take_if(is_done)
    }
}

/// The pad and who reads it.
impl Feed {
    /// A pad is there: what it says begins where the video is now.
    pub fn open(&mut self) {
        self.is_open = true;
        self.cues.clear();
        self.told = false;
        self.renew();
    }

    /// The pad is gone.
    pub fn close(&mut self) {
        self.is_open = false;
        self.cues.clear();
        self.first.clear();
        self.end = None;
    }

    /// The reader is another one, or has changed its mind.
    pub fn reconfigure(&mut self) {
        if self.reader != Peer::Reading {
            self.renew();
        }
    }

    /// The reader has taken a buffer.
    pub fn taken(&mut self) {
        self.told = false;
    }

    /// The reader has not taken a buffer; whether the user is to be told.
    pub fn refused(&mut self, error: gst::FlowError) -> bool {
        self.reader = match error {
            gst::FlowError::NotLinked => return false,
            gst::FlowError::Flushing => Peer::Flushing,
            _ => Peer::Refusing,
        };
        let wrong = !matches!(error, gst::FlowError::Flushing | gst::FlowError::Eos);
        wrong && !std::mem::replace(&mut self.told, true)
    }

    /// Says all that a reader must know, and goes on where the video is.
    fn renew(&mut self) {
        self.reader = Peer::Reading;
        self.first.clear();
        (self.begun, self.ended) = (false, false);
        if self.stream_start.is_some() || self.segment.is_some() {
            self.begin();
        }
        self.first.extend(self.segment.as_ref().map(again));
        self.position = self.video.map(|video| match self.is_backwards() {
            true => video.end,
            false => video.begin,
        });
        self.joined = self.position;
        let eos = self.eos.clone();
        self.end = eos.or(self.end.take());
    }

    /// Sees to it that stream-start and caps go before what follows.
    fn begin(&mut self) {
        if !self.is_open || std::mem::replace(&mut self.begun, true) {
            return;
        }
        let start = self.stream_start.as_ref().map(again);
        self.first.push_back(start.unwrap_or_else(|| {
            gst::event::StreamStart::builder("vlmcaption/text")
                .flags(gst::StreamFlags::SPARSE)
                .build()
        }));
        self.first
            .push_back(gst::event::Caps::new(&cue::text_caps()));
    }
}

/// What is said.
impl Feed {
    /// Says `text` when its time has come; a text without a word is not said.
    pub fn push(&mut self, text: Text) {
        let Some(clean) = cue::clean(&text.text) else {
            return;
        };
        if !self.is_open {
            return;
        }
        let text = Text {
            text: clean,
            ..text
        };
        let waits = |(waiting, _): &(Text, _)| waiting.begin == Begin::Live;
        if text.begin == Begin::Live && self.cues.back().is_some_and(waits) {
            self.cues.pop_back();
            self.n_dropped += 1;
        }
        if self.cues.len() >= MAX_QUEUED {
            self.cues.pop_front();
            self.n_dropped += 1;
        }
        let came = self.video.map(|video| video.end);
        self.cues.push_back((text, came));
        if self.ended || self.reader == Peer::Refusing || self.is_backwards() {
            self.drop_cues();
        }
    }

    /// The next thing to push, if there is one now.
    pub fn take(&mut self) -> Option<Item> {
        if !self.is_open {
            return None;
        }
        if self.reader == Peer::Refusing {
            self.drop_cues();
        }
        if self.reader == Peer::Flushing && self.due().is_some() {
            self.renew();
        }
        if let Some(event) = self.first.pop_front() {
            return Some(Item::Event(event));
        }
        if self.ended {
            self.drop_cues();
            return None;
        }
        let said = self.take_cue().or_else(|| self.take_silence());
        if said.is_some() {
            return said;
        }
        let end = self.end.take()?;
        self.ended = end.type_() == gst::EventType::Eos;
        Some(Item::Event(end))
    }

    fn take_cue(&mut self) -> Option<Item> {
        let (pts, duration) = self.next_cue()?;
        if let Some(gap) = self.silence_to(pts, gst::ClockTime::NSECOND) {
            return Some(gap);
        }
        let (text, _) = self.cues.pop_front()?;
        self.position = self.position.max(Some(pts.saturating_add(duration)));
        Some(Item::Buffer(cue::buffer(text.text, pts, duration)))
    }

    /// PTS and duration of the next cue, if its time has come, as far as the reader was there.
    fn next_cue(&mut self) -> Option<(gst::ClockTime, gst::ClockTime)> {
        let joined = self.joined.unwrap_or_default();
        loop {
            let (pts, duration) = self.due()?;
            let end = pts.saturating_add(duration);
            if pts >= joined || end > joined {
                let pts = pts.max(joined);
                return Some((pts, end.saturating_sub(pts)));
            }
            self.cues.pop_front();
        }
    }

    fn take_silence(&mut self) -> Option<Item> {
        let video = self.video?;
        if self.is_backwards() {
            let end = self.position.replace(video.begin)?;
            let duration = end.checked_sub(video.begin)?;
            return (duration > gst::ClockTime::ZERO).then(|| self.silence(video.begin, duration));
        }
        let least = match self.gaps {
            TextGaps::Buffer if self.end.is_none() => FILLER,
            _ => gst::ClockTime::NSECOND,
        };
        self.silence_to(video.end, least)
    }

    /// PTS and duration of the next cue, if its time has come: one that begins where the video is
    /// waits for the end of the one before.
    fn due(&self) -> Option<(gst::ClockTime, gst::ClockTime)> {
        let (text, came) = self.cues.front()?;
        let gst::EventView::Segment(segment) = self.segment.as_ref()?.view() else {
            return None;
        };
        let in_past = matches!(text.begin, Begin::Window { .. }) && text.timeline == self.timeline;
        let end = self.video.map(|video| video.end);
        let now = self.position.is_some() && self.position <= end;
        (in_past || now || self.end.is_some()).then(|| self.times(segment.segment(), text, *came))
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
            if text.timeline != self.timeline {
                return (now, text.duration);
            }
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
        let end = came.map(|came| came.saturating_add(text.duration));
        let left = end.map_or(text.duration, |end| end.saturating_sub(now));
        (now, left.clamp(text.duration / 2, text.duration))
    }

    /// Silence from where the text stream is to `end`, if that is at least `least`; nothing is said
    /// to a reader that does not read.
    fn silence_to(&mut self, end: gst::ClockTime, least: gst::ClockTime) -> Option<Item> {
        let position = self.position?;
        let duration = end.checked_sub(position).filter(|gap| *gap >= least)?;
        self.position = Some(end);
        (self.reader == Peer::Reading).then(|| self.silence(position, duration))
    }

    fn silence(&self, begin: gst::ClockTime, duration: gst::ClockTime) -> Item {
        match self.gaps {
            TextGaps::Event => {
                let gap = gst::event::Gap::builder(begin).duration(duration);
                Item::Event(gap.build())
            }
            TextGaps::Buffer => Item::Buffer(cue::buffer(String::new(), begin, duration)),
        }
    }

    fn drop_cues(&mut self) {
        self.n_dropped += self.cues.len() as u64;
        self.cues.clear();
    }
}

/// A copy: a pad drops a sticky event that it has pushed before.
fn again(event: &gst::Event) -> gst::Event {
    event.copy()
}

#[cfg(test)]
mod tests;
