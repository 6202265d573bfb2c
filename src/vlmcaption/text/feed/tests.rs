// SPDX-License-Identifier: MPL-2.0

use std::time::Duration;

use super::*;

const SECOND: gst::ClockTime = gst::ClockTime::SECOND;

fn segment(start: gst::ClockTime, base: gst::ClockTime) -> gst::Event {
    let mut segment = gst::FormattedSegment::<gst::ClockTime>::new();
    segment.set_start(start);
    segment.set_base(base);
    gst::event::Segment::new(segment.as_ref())
}

/// A stream that has begun and has seen video up to `end`.
fn feed(end: gst::ClockTime) -> Feed {
    gst::init().unwrap();
    let mut feed = Feed::default();
    feed.open();
    feed.stream_start(gst::event::StreamStart::new("camera/text"));
    feed.segment(segment(gst::ClockTime::ZERO, gst::ClockTime::ZERO));
    assert_eq!(types(&mut feed), ["stream-start", "caps", "segment"]);
    feed.advance(gst::ClockTime::ZERO, end);
    feed
}

fn say(feed: &mut Feed, text: &str, begin: Begin) {
    feed.push(Text {
        text: text.into(),
        begin,
        duration: 4 * SECOND,
        timeline: 0,
    });
}

/// With its frames, at the same PTS and running time.
fn window(second: u64) -> Begin {
    Begin::Window {
        pts: gst::ClockTime::from_seconds(second),
        running_time: Duration::from_secs(second),
    }
}

fn all(feed: &mut Feed) -> Vec<Item> {
    std::iter::from_fn(|| feed.take()).collect()
}

/// What there is to do now: names of events, and `buffer`.
fn types(feed: &mut Feed) -> Vec<String> {
    let name = |item: &Item| match item {
        Item::Event(event) => event.type_().name().to_string(),
        Item::Buffer(_) => "buffer".into(),
    };
    all(feed).iter().map(name).collect()
}

/// All there is to say now: text, begin and end in ms; no text for a gap.
fn said(feed: &mut Feed) -> Vec<(Option<String>, u64, u64)> {
    let mut said = Vec::new();
    for item in all(feed) {
        let (text, begin, duration) = match item {
            Item::Buffer(buffer) => {
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
        };
        let begin = begin.unwrap();
        let end = begin + duration.unwrap();
        said.push((text, begin.mseconds(), end.mseconds()));
    }
    said
}

fn cue(text: &str, begin: u64, end: u64) -> (Option<String>, u64, u64) {
    (Some(text.into()), begin, end)
}

#[test]
fn a_caption_that_had_to_wait_ends_as_if_it_had_not() {
    let mut feed = feed(SECOND);
    say(&mut feed, "a", Begin::Live);
    assert_eq!(said(&mut feed), [(None, 0, 1000), cue("a", 1000, 5000)]);
    feed.advance(4 * SECOND, 4 * SECOND);
    say(&mut feed, "b", Begin::Live);
    assert_eq!(said(&mut feed), [], "the cue before it is still shown");
    feed.advance(5 * SECOND, 5 * SECOND + SECOND / 2);
    assert_eq!(said(&mut feed), [cue("b", 5000, 8000)]);
    feed.advance(8 * SECOND, 8 * SECOND);
    say(&mut feed, "c", Begin::Live);
    assert_eq!(
        said(&mut feed),
        [cue("c", 8000, 12000)],
        "and this one is not late"
    );
}

#[test]
fn of_two_captions_that_wait_a_live_stream_shows_the_newer() {
    let mut feed = feed(SECOND);
    say(&mut feed, "a", Begin::Live);
    said(&mut feed);
    say(&mut feed, "b", Begin::Live);
    say(&mut feed, "c", Begin::Live);
    assert_eq!(feed.n_dropped, 1);
    feed.advance(5 * SECOND, 6 * SECOND);
    assert_eq!(said(&mut feed)[0], cue("c", 5000, 7000));
}

#[test]
fn a_file_loses_none_of_the_captions_that_wait() {
    let mut feed = feed(SECOND);
    for text in ["a", "b", "c"] {
        say(&mut feed, text, Begin::Arrival);
    }
    assert_eq!(said(&mut feed).len(), 2, "a gap and the first");
    feed.end(gst::event::Eos::new());
    assert_eq!(
        said(&mut feed),
        [cue("b", 5000, 7000), cue("c", 7000, 9000)]
    );
}

#[test]
fn a_cue_of_an_earlier_segment_keeps_its_running_time() {
    let mut feed = feed(2 * SECOND);
    let mut segment = gst::FormattedSegment::<gst::ClockTime>::new();
    segment.set_start(100 * SECOND);
    segment.set_base(2 * SECOND);
    feed.segment(gst::event::Segment::new(segment.as_ref()));
    feed.advance(100 * SECOND, 103 * SECOND);
    say(&mut feed, "in both", window(3));
    say(&mut feed, "in the first alone", window(1));
    let texts: Vec<_> = said(&mut feed)
        .into_iter()
        .filter(|s| s.0.is_some())
        .collect();
    let late = cue("in the first alone", 105_000, 109_000);
    assert_eq!(texts, [cue("in both", 101_000, 105_000), late]);
}

#[test]
fn silence_by_buffers_is_said_in_halves_of_a_second() {
    let mut feed = feed(400 * gst::ClockTime::MSECOND);
    feed.gaps = TextGaps::Buffer;
    assert_eq!(said(&mut feed), []);
    feed.advance(SECOND / 2, 600 * gst::ClockTime::MSECOND);
    assert_eq!(said(&mut feed), [cue("", 0, 600)]);
    feed.advance(SECOND / 2, 700 * gst::ClockTime::MSECOND);
    say(&mut feed, "a", Begin::Live);
    assert_eq!(said(&mut feed), [cue("", 600, 700), cue("a", 700, 4700)]);
    feed.advance(SECOND, 4800 * gst::ClockTime::MSECOND);
    feed.end(gst::event::Eos::new());
    assert_eq!(said(&mut feed), [cue("", 4700, 4800)]);
}

#[test]
fn a_stream_without_a_frame_ends() {
    gst::init().unwrap();
    let mut feed = Feed::default();
    feed.open();
    feed.end(gst::event::Eos::new());
    assert_eq!(types(&mut feed), ["stream-start", "caps", "eos"]);
}

#[test]
fn a_stream_that_ended_begins_again_with_another() {
    let mut feed = feed(SECOND);
    feed.end(gst::event::Eos::new());
    assert_eq!(types(&mut feed), ["gap", "eos"]);
    say(&mut feed, "late", Begin::Live);
    assert_eq!(types(&mut feed), [""; 0]);
    feed.stream_start(gst::event::StreamStart::new("other/text"));
    feed.segment(segment(gst::ClockTime::ZERO, gst::ClockTime::ZERO));
    feed.advance(gst::ClockTime::ZERO, SECOND);
    say(&mut feed, "a", Begin::Live);
    let want = ["stream-start", "caps", "segment", "gap", "buffer"];
    assert_eq!(types(&mut feed), want);
}

#[test]
fn a_reader_that_refuses_is_told_of_once_and_is_asked_again_when_it_changes() {
    for again in [Feed::reconfigure as fn(&mut Feed), |feed| {
        feed.stream_start(gst::event::StreamStart::new("other/text"));
        feed.segment(segment(gst::ClockTime::ZERO, gst::ClockTime::ZERO));
        feed.advance(90 * SECOND, 91 * SECOND);
    }] {
        let mut feed = feed(SECOND);
        assert!(feed.refused(gst::FlowError::NotNegotiated));
        assert!(!feed.refused(gst::FlowError::Error));
        say(&mut feed, "a", Begin::Live);
        feed.advance(90 * SECOND, 91 * SECOND);
        assert_eq!(types(&mut feed), [""; 0]);
        assert_eq!(feed.n_dropped, 1);
        again(&mut feed);
        say(&mut feed, "b", Begin::Live);
        assert_eq!(
            said(&mut feed),
            [(None, 90_000, 91_000), cue("b", 91_000, 95_000)]
        );
        feed.taken();
        assert!(feed.refused(gst::FlowError::Error), "another refusal");
        feed.end(gst::event::Eos::new());
        assert_eq!(types(&mut feed), ["eos"]);
    }
}

#[test]
fn a_reader_that_flushes_is_tried_with_the_next_cue() {
    let mut feed = feed(SECOND);
    assert!(!feed.refused(gst::FlowError::Flushing));
    feed.advance(2 * SECOND, 3 * SECOND);
    assert_eq!(types(&mut feed), [""; 0]);
    say(&mut feed, "a", Begin::Live);
    let want = ["stream-start", "caps", "segment", "gap", "buffer"];
    assert_eq!(types(&mut feed), want);
}

#[test]
fn a_pad_that_is_requested_again_begins_where_the_video_is() {
    let mut feed = feed(SECOND);
    feed.gaps = TextGaps::Buffer;
    say(&mut feed, "old", Begin::Arrival);
    feed.close();
    for second in 1..100 {
        feed.segment(segment(gst::ClockTime::ZERO, gst::ClockTime::ZERO));
        feed.advance(second * SECOND, (second + 1) * SECOND);
        say(&mut feed, "nobody listens", Begin::Arrival);
        assert!(feed.first.is_empty() && feed.cues.is_empty());
    }
    feed.open();
    assert_eq!(said(&mut feed), [cue("", 99_000, 100_000)]);
    feed.open();
    assert_eq!(
        types(&mut feed),
        ["stream-start", "caps", "segment", "buffer"]
    );
}

#[test]
fn a_reader_that_joins_is_told_nothing_that_was_over_by_then() {
    let mut feed = feed(98 * SECOND);
    said(&mut feed);
    feed.close();
    feed.advance(99 * SECOND, 100 * SECOND);
    feed.open();
    // Answers to windows that the video had passed when the reader came.
    say(&mut feed, "over", window(95));
    say(&mut feed, "going on", window(97));
    say(&mut feed, "after", window(99));
    let texts = said(&mut feed).into_iter();
    let texts: Vec<_> = texts.filter(|(text, ..)| text.is_some()).collect();
    assert_eq!(
        texts,
        [
            cue("going on", 99_000, 101_000),
            cue("after", 99_000, 103_000)
        ]
    );
}

#[test]
fn segments_that_nobody_takes_do_not_pile_up() {
    let mut feed = feed(SECOND);
    for n in 0..1000 {
        feed.end(gst::event::SegmentDone::new(SECOND));
        feed.segment(segment(gst::ClockTime::ZERO, n * SECOND));
        feed.advance(gst::ClockTime::ZERO, SECOND);
    }
    assert_eq!(types(&mut feed), ["segment-done", "segment", "gap"]);
}

#[test]
fn a_segment_is_done_once_all_of_it_is_said() {
    let mut feed = feed(SECOND);
    say(&mut feed, "a", Begin::Arrival);
    say(&mut feed, "b", Begin::Arrival);
    feed.end(gst::event::SegmentDone::new(SECOND));
    let want = ["gap", "buffer", "buffer", "segment-done"];
    assert_eq!(types(&mut feed), want);
    feed.end(gst::event::SegmentDone::new(SECOND));
    feed.end(gst::event::Eos::new());
    assert_eq!(types(&mut feed), ["segment-done", "eos"]);
}

#[test]
fn the_text_goes_back_with_the_video_and_waits_for_no_cue_of_before() {
    let mut feed = feed(SECOND);
    feed.advance(90 * SECOND, 91 * SECOND);
    said(&mut feed);
    feed.begin_timeline(1);
    say(&mut feed, "old", window(90));
    assert_eq!(said(&mut feed), []);
    feed.advance(3 * SECOND, 4 * SECOND);
    assert_eq!(said(&mut feed), [cue("old", 3000, 7000)]);
    feed.advance(7 * SECOND, 8 * SECOND);
    assert_eq!(said(&mut feed), [(None, 7000, 8000)]);
}

#[test]
fn backwards_the_text_is_silent_as_far_as_the_video_has_come() {
    let mut feed = feed(SECOND);
    said(&mut feed);
    let mut back = gst::FormattedSegment::<gst::ClockTime>::new();
    back.set_rate(-1.0);
    back.set_stop(10 * SECOND);
    feed.segment(gst::event::Segment::new(back.as_ref()));
    say(&mut feed, "a", Begin::Live);
    for second in [9, 8] {
        feed.advance(second * SECOND, (second + 1) * SECOND);
    }
    assert_eq!(said(&mut feed), [(None, 8000, 10_000)]);
    feed.advance(7 * SECOND, 8 * SECOND);
    assert_eq!(said(&mut feed), [(None, 7000, 8000)]);
}
