// SPDX-License-Identifier: MPL-2.0

//! What the streaming thread knows of the stream: reset by flush and stop.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::detections::Detections;
use super::settings::Fixed;
use crate::caption::sampler::{Rate, Sampler};
use crate::caption::timeline::{Step, Timeline};
use crate::caption::window::{FrameTime, WallClock};

/// Buffers that are no samples; the next one without any of these is due in their place. What a
/// decoder made up for lost data, what `videorate` repeats, and what no viewer is shown.
const UNFIT: gst::BufferFlags = gst::BufferFlags::CORRUPTED
    .union(gst::BufferFlags::GAP)
    .union(gst::BufferFlags::DECODE_ONLY);
const NOT_TIME: &str =
    "the stream is not in time format; captions need timestamps (`appsrc format=time`)";
const NO_TIMESTAMPS: &str = "buffers have no timestamps; captions need them: let the source make \
                             them (`appsrc do-timestamp=true`, and so every other source), or put \
                             `rawvideoparse framerate=25/1` behind a file of raw frames";
const STANDS_STILL: &str = "timestamps stand still; captions need such that go on: let the source \
                            make them (`appsrc do-timestamp=true`, and so every other source)";
const BACKWARDS: &str = "the stream is played backwards, which is not captioned; play it forwards";

/// State of the video stream.
#[derive(Debug, Default)]
pub(super) struct Stream {
    sampler: Option<Sampler>,
    timeline: Option<Timeline>,
    segment: Option<gst::FormattedSegment<gst::ClockTime>>,
    caps: Option<gst::Caps>,
    /// Whether upstream is live, as it said when it was asked last.
    pub liveness: Liveness,
    /// It was asked since that may have changed.
    pub liveness_asked: bool,
    /// What does not change while the element runs.
    pub fixed: Fixed,
    /// Which detections upstream count.
    pub detections: Detections,
    /// Running time of the last buffer with one.
    detection: Option<Duration>,
    /// The stream cannot be sampled, and a complaint was made.
    complained: bool,
}

/// Whether upstream is live.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Liveness {
    /// It was not asked, or did not say: not everything was linked yet, say.
    #[default]
    Unknown,
    /// It is.
    Live,
    /// It is not: a file, say.
    NotLive,
}

impl Liveness {
    /// A stream that does not say counts as live.
    pub fn may_be_live(self) -> bool {
        self != Liveness::NotLive
    }
}

/// What a buffer means for captions.
#[derive(Debug, Default)]
pub(super) struct Arrival {
    /// Running time, for ages.
    pub running_time: Option<Duration>,
    /// Number of the timeline that begins with it.
    pub timeline: Option<u64>,
    /// Where it begins and ends on the text pad's timeline.
    pub span: Option<(gst::ClockTime, gst::ClockTime)>,
    /// Set if the sampler chose it.
    pub sample: Option<Sampled>,
    /// It was due, and its decoder marks it as damaged.
    pub corrupted: bool,
    /// Set once if the stream cannot be sampled, with the reason.
    pub complaint: Option<&'static str>,
    /// Set once if it can be sampled again.
    pub recovered: bool,
}

/// A buffer that is to be looked at.
#[derive(Debug)]
pub(super) struct Sampled {
    pub time: FrameTime,
    /// Number of the timeline that this is on.
    pub timeline: u64,
    /// To read it by.
    pub caps: gst::Caps,
    /// Running time of the last detection, on this buffer or one before it.
    pub detection: Option<Duration>,
}

impl Stream {
    /// `window` is the number of samples of one.
    pub fn new(rate: Rate, window: usize) -> Self {
        Self {
            sampler: Some(Sampler::new(rate)),
            timeline: Some(Timeline::new(rate.span(window as u64))),
            ..Self::default()
        }
    }

    /// Forgets positions, not caps.
    pub fn flush(&mut self) {
        self.segment = None;
        self.detection = None;
        if let Some(sampler) = &mut self.sampler {
            sampler.reset();
        }
        if let Some(timeline) = &mut self.timeline {
            timeline.flush();
        }
    }

    pub fn set_caps(&mut self, caps: &gst::CapsRef) {
        let side = |name| {
            let side = caps.structure(0).and_then(|s| s.get::<i32>(name).ok());
            side.and_then(|side| u32::try_from(side).ok()).unwrap_or(0)
        };
        self.detections.set_size(side("width"), side("height"));
        self.caps = Some(caps.to_owned());
    }

    /// A new segment; whether the stream jumps there, so that windows must not span it.
    pub fn set_segment(&mut self, segment: &gst::Segment) -> bool {
        let segment = segment.downcast_ref::<gst::ClockTime>().cloned();
        let jumps = self.segment.is_some();
        if jumps && let Some(sampler) = &mut self.sampler {
            sampler.reset();
        }
        if jumps && let Some(timeline) = &mut self.timeline {
            timeline.jump();
        }
        self.segment = segment;
        jumps
    }

    /// Places a buffer on the clocks and asks the sampler.
    pub fn arrive(&mut self, buffer: &gst::BufferRef) -> Arrival {
        let mut arrival = Arrival::default();
        let found = self.place(buffer, &mut arrival);
        match found {
            Err(complaint) => arrival.complaint = self.complain(complaint),
            Ok(()) => arrival.recovered = std::mem::take(&mut self.complained),
        }
        arrival
    }

    /// Fills `arrival` in, as far as the stream can be sampled.
    fn place(
        &mut self,
        buffer: &gst::BufferRef,
        arrival: &mut Arrival,
    ) -> Result<(), &'static str> {
        let segment = self.segment.as_ref().ok_or(NOT_TIME)?;
        let pts = buffer.pts().ok_or(NO_TIMESTAMPS)?;
        let duration = buffer.duration();
        let end = pts.saturating_add(duration.unwrap_or(gst::ClockTime::ZERO));
        arrival.span = Some((pts, end));
        arrival.running_time = segment.to_running_time(pts).map(Duration::from);
        if segment.rate() < 0.0 {
            return Err(BACKWARDS);
        }
        let (Some(running_time), Some(stream_time), Some(caps)) = (
            arrival.running_time,
            segment.to_stream_time(pts),
            self.caps.as_ref(),
        ) else {
            return Ok(());
        };
        let (Some(sampler), Some(timeline)) = (&mut self.sampler, &mut self.timeline) else {
            return Ok(());
        };
        let (at, lasts) = (stream_time.into(), duration.map(Duration::from));
        let step = timeline.step(running_time, lasts);
        if step == Step::Back {
            arrival.timeline = Some(timeline.number());
            self.detection = None;
            sampler.reset();
        }
        if self.detections.found(buffer) {
            self.detection = Some(running_time);
        }
        match step {
            Step::Still => return Err(STANDS_STILL),
            Step::Ahead => return Ok(()),
            Step::Follows | Step::Back => {}
        }
        if buffer.flags().intersects(UNFIT) {
            arrival.corrupted =
                buffer.flags().contains(gst::BufferFlags::CORRUPTED) && sampler.is_due(at, lasts);
            return Ok(());
        }
        if sampler.take(at, lasts) {
            let (wallclock, clock) = wallclock(buffer);
            arrival.sample = Some(Sampled {
                time: FrameTime {
                    pts: pts.into(),
                    running_time,
                    wallclock,
                    clock,
                },
                timeline: timeline.number(),
                caps: caps.clone(),
                detection: self.detection,
            });
        }
        Ok(())
    }

    /// Running time of the latest buffer.
    pub fn position(&self) -> Option<Duration> {
        self.timeline.as_ref().and_then(Timeline::latest)
    }

    /// There is nothing until `end`.
    pub fn skip(&mut self, end: gst::ClockTime) {
        let segment = self.segment.as_ref();
        let until = segment.and_then(|segment| segment.to_running_time(end));
        if let (Some(until), Some(timeline)) = (until, &mut self.timeline) {
            timeline.skip(until.into());
        }
    }

    fn complain(&mut self, what: &'static str) -> Option<&'static str> {
        (!std::mem::replace(&mut self.complained, true)).then_some(what)
    }
}

/// When a frame was captured, by the sender's clock where RTP gives it, or else when it arrived;
/// since the Unix epoch.
fn wallclock(buffer: &gst::BufferRef) -> (Duration, WallClock) {
    /// From 1900, where NTP begins to count, to 1970.
    const NTP_TO_UNIX: Duration = Duration::from_secs(2_208_988_800);
    let sent = buffer
        .iter_meta::<gst::ReferenceTimestampMeta>()
        .find_map(|meta| {
            let time = Duration::from(meta.timestamp());
            match meta.reference().structure(0)?.name().as_str() {
                "timestamp/x-ntp" => time.checked_sub(NTP_TO_UNIX),
                "timestamp/x-unix" => Some(time),
                _ => None,
            }
        });
    match sent {
        Some(time) => (time, WallClock::Ntp),
        None => {
            let now = SystemTime::now().duration_since(UNIX_EPOCH);
            (now.unwrap_or_default(), WallClock::System)
        }
    }
}

#[cfg(test)]
mod tests;
