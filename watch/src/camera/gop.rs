// SPDX-License-Identifier: MPL-2.0

//! Which frames are decoded: keyframes alone cost a tenth, and are enough where they come as often as
//! the element samples.

use std::time::Duration;

use crate::config::file::Decode;

/// Keyframes that come at least this often are enough: the element samples once a second, and a
/// keyframe that is a little late is not a missed one.
const OFTEN: Duration = Duration::from_millis(1_200);
/// Keyframes that are measured before it is decided.
const MEASURED: u32 = 4;

/// What is known of the order of a stream's frames.
#[derive(Debug)]
pub struct Gop {
    asked: Decode,
    last_key: Option<Duration>,
    longest: Duration,
    n_keys: u32,
    /// Decided, and how.
    keyframes: Option<bool>,
}

impl Gop {
    /// Nothing is known yet.
    pub fn new(asked: Decode) -> Self {
        let keyframes = match asked {
            Decode::Auto => None,
            Decode::Keyframes => Some(true),
            Decode::All => Some(false),
        };
        Self {
            asked,
            last_key: None,
            longest: Duration::ZERO,
            n_keys: 0,
            keyframes,
        }
    }

    /// Whether this frame is to be decoded.
    pub fn wants(&mut self, is_key: bool, pts: Option<Duration>) -> bool {
        if is_key {
            self.measure(pts);
            return true;
        }
        if self.asked == Decode::Auto && self.is_late(pts) {
            // The camera has begun to leave out keyframes. Those between cannot be decoded before the
            // next one, so it is that from which all frames are.
            self.keyframes = Some(false);
            self.asked = Decode::All;
        }
        self.keyframes != Some(true)
    }

    /// Whether keyframes alone are decoded; unknown until some have come.
    pub fn keyframes_only(&self) -> Option<bool> {
        self.keyframes
    }

    /// The longest time from one keyframe to the next so far.
    pub fn longest(&self) -> Duration {
        self.longest
    }

    fn measure(&mut self, pts: Option<Duration>) {
        if let (Some(now), Some(last)) = (pts, self.last_key) {
            self.longest = self.longest.max(now.saturating_sub(last));
            self.n_keys += 1;
            if self.keyframes.is_none() && self.n_keys >= MEASURED {
                self.keyframes = Some(self.longest <= OFTEN);
            }
        }
        self.last_key = pts.or(self.last_key);
    }

    /// Whether the next keyframe is overdue.
    fn is_late(&self, pts: Option<Duration>) -> bool {
        let (Some(true), Some(now), Some(last)) = (self.keyframes, pts, self.last_key) else {
            return false;
        };
        now.saturating_sub(last) > 2 * OFTEN
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Which of the frames of `seconds` at 10 fps are decoded, with a keyframe each `gop` frames.
    fn decoded(gop: &mut Gop, from: u64, seconds: u64, every: u64) -> usize {
        let frames = from * 10..(from + seconds) * 10;
        frames
            .filter(|n| gop.wants(n % every == 0, Some(Duration::from_millis(100 * n))))
            .count()
    }

    #[test]
    fn keyframes_each_second_are_enough() {
        let mut gop = Gop::new(Decode::Auto);
        decoded(&mut gop, 0, 5, 10);
        assert_eq!(gop.keyframes_only(), Some(true));
        assert_eq!(decoded(&mut gop, 5, 10, 10), 10);
    }

    #[test]
    fn rare_keyframes_are_not() {
        let mut gop = Gop::new(Decode::Auto);
        decoded(&mut gop, 0, 20, 40);
        assert_eq!(gop.keyframes_only(), Some(false));
        assert_eq!(decoded(&mut gop, 20, 10, 40), 100);
        assert_eq!(gop.longest(), Duration::from_secs(4));
    }

    #[test]
    fn a_camera_that_begins_to_leave_out_keyframes_is_decoded_whole() {
        let mut gop = Gop::new(Decode::Auto);
        decoded(&mut gop, 0, 10, 10);
        assert_eq!(gop.keyframes_only(), Some(true));
        decoded(&mut gop, 10, 8, 80);
        assert_eq!(gop.keyframes_only(), Some(false));
    }

    #[test]
    fn what_was_asked_for_is_not_measured() {
        assert_eq!(decoded(&mut Gop::new(Decode::All), 0, 10, 10), 100);
        assert_eq!(decoded(&mut Gop::new(Decode::Keyframes), 0, 10, 50), 2);
    }
}
