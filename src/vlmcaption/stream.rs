// SPDX-License-Identifier: MPL-2.0

//! What the streaming thread knows of the stream: reset by flush and stop.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::detections::Detections;
use super::settings::Fixed;
use crate::caption::sampler::{Rate, Sampler};
use crate::caption::window::{FrameTime, WallClock};

/// Buffers that are no samples; the next one without any of these is due in their place. What a
/// decoder made up for lost data, what `videorate` repeats, and what no viewer is shown.
const UNFIT: gst::BufferFlags = gst::BufferFlags::CORRUPTED
    .union(gst::BufferFlags::GAP)
    .union(gst::BufferFlags::DECODE_ONLY);

/// State of the video stream.
#[derive(Debug, Default)]
pub(super) struct Stream {
    sampler: Option<Sampler>,
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
    /// A stream of which nothing is known is taken for a live one.
    pub fn may_be_live(self) -> bool {
        self != Liveness::NotLive
    }
}

/// What a buffer means for captions.
#[derive(Debug, Default)]
pub(super) struct Arrival {
    /// Running time, for ages.
    pub running_time: Option<Duration>,
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
    /// To read it by.
    pub caps: gst::Caps,
    /// Running time of the last detection, on this buffer or one before it.
    pub detection: Option<Duration>,
}

impl Stream {
    pub fn new(rate: Rate) -> Self {
        Self {
            sampler: Some(Sampler::new(rate)),
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
        self.segment = segment;
        jumps
    }

    /// Places a buffer on the clocks and asks the sampler.
    pub fn arrive(&mut self, buffer: &gst::BufferRef) -> Arrival {
        let mut arrival = Arrival::default();
        let Some(segment) = &self.segment else {
            arrival.complaint = self.complain(
                "the stream is not in time format; captions need timestamps (`appsrc format=time`)",
            );
            return arrival;
        };
        let Some(pts) = buffer.pts() else {
            arrival.complaint = self.complain(
                "buffers have no timestamps; captions need them: let the source make them \
                 (`appsrc do-timestamp=true`, and so every other source), or put `rawvideoparse \
                 framerate=25/1` behind a file of raw frames",
            );
            return arrival;
        };
        arrival.recovered = std::mem::take(&mut self.complained);
        let duration = buffer.duration();
        arrival.span = Some((
            pts,
            pts.saturating_add(duration.unwrap_or(gst::ClockTime::ZERO)),
        ));
        let running = segment.to_running_time(pts);
        arrival.running_time = running.map(Duration::from);
        if self.detections.found(buffer) {
            self.detection = arrival.running_time.or(self.detection);
        }
        let (Some(running_time), Some(stream_time), Some(caps), Some(sampler)) = (
            arrival.running_time,
            segment.to_stream_time(pts),
            self.caps.as_ref(),
            self.sampler.as_mut(),
        ) else {
            return arrival;
        };
        let (at, lasts) = (stream_time.into(), duration.map(Duration::from));
        if buffer.flags().intersects(UNFIT) {
            arrival.corrupted =
                buffer.flags().contains(gst::BufferFlags::CORRUPTED) && sampler.is_due(at, lasts);
            return arrival;
        }
        if sampler.take(at, lasts) {
            let (wallclock, clock) = wallclock(buffer);
            let time = FrameTime {
                pts: pts.into(),
                running_time,
                wallclock,
                clock,
            };
            arrival.sample = Some(Sampled {
                time,
                caps: caps.clone(),
                detection: self.detection,
            });
        }
        arrival
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
