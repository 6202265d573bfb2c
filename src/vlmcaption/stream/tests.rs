// SPDX-License-Identifier: MPL-2.0

//! Buffers with any timestamps: what is sampled of them, and which captions they may carry.

use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::caption::Caption;
use crate::caption::prompt::Ask;
use crate::caption::question::Question;
use crate::caption::window_info::WindowInfo;
use crate::vlm::generate::{Drafts, StopReason};
use crate::vlmcaption::Attach;
use crate::vlmcaption::board::{Ageing, Board};
use crate::vlmcaption::output::Origin;

const SECOND: u64 = 1_000_000_000;
const FRAME: u64 = SECOND / 25;
/// Samples of a window, at one a second.
const WINDOW: usize = 4;

/// A stream with its board; captions come some buffers after their frames.
struct Camera {
    stream: Stream,
    board: Board,
    in_flight: Vec<(usize, Caption)>,
    n_buffers: usize,
    delay: usize,
    complaints: Vec<&'static str>,
}

/// What became of a buffer.
struct Went {
    running_time: Option<u64>,
    sampled: bool,
    fields: gst::Structure,
}

impl Camera {
    fn new(delay: usize) -> Self {
        gst::init().unwrap();
        let mut stream = Stream::new(Rate::new(1, 1).unwrap(), WINDOW);
        let caps = gst::Caps::builder("video/x-raw").build();
        stream.set_caps(&caps);
        let segment = gst::FormattedSegment::<gst::ClockTime>::new();
        stream.set_segment(segment.as_ref());
        let mut board = Board::default();
        board.set_questions(&Ask::plain("?"));
        Self {
            stream,
            board,
            in_flight: Vec::new(),
            n_buffers: 0,
            delay,
            complaints: Vec::new(),
        }
    }

    fn push(&mut self, pts: Option<u64>) -> Went {
        let mut buffer = gst::Buffer::new();
        {
            let buffer = buffer.get_mut().unwrap();
            buffer.set_pts(pts.map(gst::ClockTime::from_nseconds));
            buffer.set_duration(gst::ClockTime::from_nseconds(FRAME));
        }
        let arrival = self.stream.arrive(&buffer);
        if let Some(number) = arrival.timeline {
            self.board.begin_timeline(number);
        }
        self.complaints.extend(arrival.complaint);
        self.n_buffers += 1;
        let sampled = arrival.sample.is_some();
        if let Some(sample) = arrival.sample {
            let due = self.n_buffers + self.delay;
            self.in_flight.push((due, caption(&sample)));
        }
        let now = self.n_buffers;
        for (_, caption) in self.in_flight.extract_if(.., |(due, _)| *due <= now) {
            self.board.post(&caption, &Origin::default());
        }
        let ageing = Ageing {
            stride: Duration::from_secs(WINDOW as u64),
            hold: Duration::from_secs(30),
        };
        let fields = self
            .board
            .fields(arrival.running_time, Attach::Latest, ageing)
            .unwrap();
        Went {
            running_time: arrival.running_time.map(|time| time.as_nanos() as u64),
            sampled,
            fields,
        }
    }
}

fn caption(sample: &Sampled) -> Caption {
    Caption {
        question: Arc::new(Question::plain("?")),
        text: "A red circle.".into(),
        probability: None,
        probabilities: Vec::new(),
        sequence: 1,
        frames: vec![sample.time],
        prompt_hash: "0".into(),
        evidence: None,
        tokens_in: 1,
        reused: 0,
        reused_pairs: 0,
        drafts: Drafts::default(),
        tokens_out: 1,
        stop_reason: StopReason::Eos,
        queue_wait: Duration::ZERO,
        ttft: Duration::ZERO,
        total: Duration::ZERO,
        window_info: WindowInfo {
            timeline: sample.timeline,
            ..WindowInfo::default()
        },
    }
}

/// What a camera may do to its timestamps.
#[derive(Debug, Clone)]
enum Twist {
    /// Frames in order from here on.
    Play(u64),
    /// Time goes on at another place, before or after.
    Jump(u64),
    /// One frame far away.
    Outlier(u64),
    /// The same time again and again.
    Freeze(u64),
    /// No time.
    Blank(u64),
    /// A few frames again and again.
    Circle { frames: u64, rounds: u64 },
}

fn twists() -> impl Strategy<Value = Vec<Twist>> {
    let anywhere = || prop_oneof![0..20 * SECOND, 0..1000 * SECOND, any::<u64>()];
    let twist = prop_oneof![
        (1..200u64).prop_map(Twist::Play),
        anywhere().prop_map(Twist::Jump),
        anywhere().prop_map(Twist::Outlier),
        (1..150u64).prop_map(Twist::Freeze),
        (1..20u64).prop_map(Twist::Blank),
        (1..40u64, 1..10u64).prop_map(|(frames, rounds)| Twist::Circle { frames, rounds }),
    ];
    prop::collection::vec(twist, 1..12)
}

/// The timestamps, and the time that comes after the last.
fn timestamps(twists: &[Twist]) -> (Vec<Option<u64>>, u64) {
    let (mut at, mut times) = (0u64, Vec::new());
    for twist in twists {
        match *twist {
            Twist::Play(n) => times.extend((0..n).map(|_| {
                at = at.saturating_add(FRAME);
                Some(at)
            })),
            Twist::Jump(to) => at = to,
            Twist::Outlier(to) => times.push(Some(to)),
            Twist::Freeze(n) => times.extend((0..n).map(|_| Some(at))),
            Twist::Blank(n) => times.extend((0..n).map(|_| None)),
            Twist::Circle { frames, rounds } => times
                .extend((0..frames * rounds).map(|i| Some(at.saturating_add(i % frames * FRAME)))),
        }
    }
    // `GST_CLOCK_TIME_NONE` is no time, and there must be room for what follows.
    let last = u64::MAX / 2;
    let times = times.into_iter().map(|time| time.map(|t| t.min(last)));
    (times.collect(), at.min(last))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn no_buffer_carries_a_caption_of_its_future_and_sampling_always_recovers(
        twists in twists(),
        delay in 0..60usize,
        place in prop_oneof![Just(None), (0..2000 * SECOND).prop_map(Some)],
    ) {
        let mut camera = Camera::new(delay);
        let (times, at) = timestamps(&twists);
        for pts in times {
            let went = camera.push(pts);
            let Some(now) = went.running_time else { continue };
            match went.fields.get::<u64>("age") {
                // The text of a fresh caption has its times beside it.
                Ok(age) => {
                    let end = went.fields.get::<u64>("end").unwrap();
                    prop_assert!(end <= now, "of {end}, on {now}");
                    prop_assert_eq!(age, now - end);
                }
                Err(_) => prop_assert_eq!(went.fields.get::<&str>("text").unwrap(), ""),
            }
        }
        // From anywhere on, frames come in order.
        let start = place.unwrap_or(at);
        let window = WINDOW as u64 * SECOND / FRAME;
        let went = (0..window).map(|n| camera.push(Some(start + n * FRAME)));
        prop_assert!(went.filter(|went| went.sampled).count() >= 2);
    }
}

#[test]
fn a_camera_that_boots_is_sampled_at_once_and_its_old_captions_are_gone() {
    let mut camera = Camera::new(0);
    for n in 0..50 {
        camera.push(Some(90 * SECOND + n * FRAME));
    }
    let went = camera.push(Some(0));
    assert!(went.sampled);
    assert_eq!(went.fields.get::<u64>("age").unwrap(), 0, "its own");
    // Time comes to where the old captions were.
    let mut late = Camera::new(1);
    late.push(Some(90 * SECOND));
    late.push(Some(0));
    let went = late.push(Some(91 * SECOND));
    assert_eq!(went.fields.get::<u64>("end").unwrap(), 0);
}

#[test]
fn timestamps_that_stand_still_are_told_once() {
    let mut camera = Camera::new(0);
    for _ in 0..1000 {
        camera.push(Some(5 * SECOND));
    }
    assert_eq!(camera.complaints, [STANDS_STILL]);
}

#[test]
fn a_stream_that_is_played_backwards_is_not_sampled_and_says_so() {
    let mut camera = Camera::new(0);
    let mut segment = gst::FormattedSegment::<gst::ClockTime>::new();
    segment.set_rate(-1.0);
    segment.set_stop(gst::ClockTime::from_seconds(10));
    camera.stream.set_segment(segment.as_ref());
    for n in 0..250 {
        assert!(!camera.push(Some(10 * SECOND - (n + 1) * FRAME)).sampled);
    }
    assert_eq!(camera.complaints, [BACKWARDS]);
    let forwards = gst::FormattedSegment::<gst::ClockTime>::new();
    camera.stream.set_segment(forwards.as_ref());
    assert!(camera.push(Some(0)).sampled);
}
