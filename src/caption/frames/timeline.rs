// SPDX-License-Identifier: MPL-2.0

//! Whether a stream's time goes on. A camera that boots, an RTP session that begins anew and a file
//! that is played in a loop take it back; a broken frame may be stamped with any time.
//!
//! ```text
//!  time                                    ┌ Ahead: the next frame decides
//!    │        x                            │
//!    │      x        x x       x x         x            Follows
//!    │    x        x         x          x x   x x   ◄── back in line: x was an outlier
//!    │  x        ▲                 
//!    └───────────┴ Back: another timeline begins ────► arrival
//! ```

use std::time::Duration;

/// Frames that come out of order go back by less.
const MAX_DISORDER: Duration = Duration::from_millis(250);
/// Gaps up to this are believed at once; what breaks a timestamp breaks it by more.
const MAX_GAP: Duration = Duration::from_secs(10);
/// Frames in a row without a later time than those before; more is no hiccup.
const MAX_STILL: u32 = 100;

/// How a frame's time follows from those before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Time goes on; a gap is nothing unusual.
    Follows,
    /// It jumps further ahead than a steady stream does: believed if the next frame is there too.
    Ahead,
    /// It goes back: another timeline begins with this frame.
    Back,
    /// It has stood still, or gone round in a small circle, for very many frames.
    Still,
}

/// The times of a stream so far.
#[derive(Debug, Clone)]
pub struct Timeline {
    /// Time of one; a step ahead that is longer than it and [`MAX_GAP`] is not believed at once.
    window: Duration,
    number: u64,
    /// Latest time, and when that frame ends.
    last: Option<(Duration, Duration)>,
    /// The last step was no such.
    steady: bool,
    /// Of a frame that nobody believed yet.
    ahead: Option<Duration>,
    n_still: u32,
}

impl Timeline {
    /// Without a frame; `window` is the time of one.
    pub fn new(window: Duration) -> Self {
        Self {
            window,
            number: 0,
            last: None,
            steady: false,
            ahead: None,
            n_still: 0,
        }
    }

    /// Raised whenever another timeline begins: times of different ones cannot be compared.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Latest time of a frame.
    pub fn latest(&self) -> Option<Duration> {
        self.last.map(|(time, _)| time)
    }

    /// Places the next frame.
    pub fn step(&mut self, time: Duration, duration: Option<Duration>) -> Step {
        let ends = time.saturating_add(duration.unwrap_or_default());
        let Some((last, end)) = self.last else {
            self.last = Some((time, ends));
            return Step::Follows;
        };
        let jumps = time > end.saturating_add(self.window.max(MAX_GAP));
        let max_back = self.window.min(MAX_DISORDER);
        let reaches = |at: Duration| time.saturating_add(max_back) >= at;
        let believed = self.ahead.take().is_some_and(reaches);
        if jumps && self.steady && !believed {
            self.ahead = Some(time);
            return Step::Ahead;
        }
        if !reaches(last) {
            *self = Self {
                number: self.number + 1,
                last: Some((time, ends)),
                ..Self::new(self.window)
            };
            return Step::Back;
        }
        if time <= last {
            self.n_still = self.n_still.saturating_add(1);
        } else {
            self.n_still = 0;
            self.steady = !jumps;
            self.last = Some((time, ends));
        }
        match self.n_still >= MAX_STILL {
            true => Step::Still,
            false => Step::Follows,
        }
    }

    /// There is nothing up to this time.
    pub fn skip(&mut self, until: Duration) {
        if let Some((_, end)) = &mut self.last {
            *end = until.max(*end);
        }
    }

    /// A new segment: the stream may go on anywhere later.
    pub fn jump(&mut self) {
        (self.steady, self.ahead) = (false, None);
    }

    /// After a flush any time may follow.
    pub fn flush(&mut self) {
        *self = Self {
            number: self.number,
            ..Self::new(self.window)
        };
    }
}

#[cfg(test)]
mod tests {
    use super::Step::{Ahead, Back, Follows};
    use super::*;

    /// Frames of 100 ms and windows of 2 s.
    fn steps(times_ms: &[u64]) -> Vec<Step> {
        let mut timeline = Timeline::new(Duration::from_secs(2));
        let frame = Some(Duration::from_millis(100));
        let step = |ms: &u64| timeline.step(Duration::from_millis(*ms), frame);
        times_ms.iter().map(step).collect()
    }

    #[test]
    fn a_camera_that_boots_begins_another_timeline() {
        let went = steps(&[90_000, 90_100, 0, 100]);
        assert_eq!(went, [Follows, Follows, Back, Follows]);
    }

    #[test]
    fn one_frame_far_ahead_is_left_out() {
        let went = steps(&[0, 100, 900_000_000, 200, 300]);
        assert_eq!(went, [Follows, Follows, Ahead, Follows, Follows]);
    }

    #[test]
    fn a_gap_is_believed_with_its_second_frame() {
        let went = steps(&[0, 100, 60_000, 60_100, 60_200]);
        assert_eq!(went, [Follows, Follows, Ahead, Follows, Follows]);
    }

    #[test]
    fn a_stream_of_few_frames_is_believed_at_once() {
        assert_eq!(steps(&[0, 60_000, 120_000, 180_000]), [Follows; 4]);
        assert_eq!(steps(&[0, 100, 200, 10_000]), [Follows; 4]);
    }

    #[test]
    fn frames_in_the_order_of_decoding_are_one_timeline() {
        assert_eq!(steps(&[0, 300, 100, 200, 600, 400, 500]), [Follows; 7]);
    }

    #[test]
    fn times_that_creep_back_begin_another_timeline() {
        let times: Vec<u64> = (0..10).map(|n| 10_000 - n * 100).collect();
        assert_eq!(steps(&times).iter().filter(|s| **s == Back).count(), 3);
    }

    #[test]
    fn times_that_stand_still_or_go_round_are_noticed_until_they_go_on() {
        for times in [[5_000; 5], [5_000, 5_050, 5_100, 5_150, 5_200]] {
            let mut times: Vec<u64> = times.into_iter().cycle().take(200).collect();
            times.extend([5_300, 5_400]);
            let went = steps(&times);
            assert_eq!(went[..100], [Follows; 100]);
            assert_eq!(went[105..200], [Step::Still; 95]);
            assert_eq!(went[200..], [Follows; 2]);
        }
    }

    #[test]
    fn a_segment_and_a_gap_event_may_lead_anywhere_ahead() {
        let second = Duration::from_secs(1);
        let mut timeline = Timeline::new(2 * second);
        for n in 0..3 {
            timeline.step(n * second, None);
        }
        timeline.skip(60 * second);
        assert_eq!(timeline.step(61 * second, None), Follows);
        timeline.step(62 * second, None);
        timeline.jump();
        assert_eq!(timeline.step(600 * second, None), Follows);
        timeline.flush();
        assert_eq!(timeline.step(second, None), Follows);
        assert_eq!(timeline.number(), 0);
    }
}
