// SPDX-License-Identifier: MPL-2.0

//! Which frames of a stream are looked at: by time, never by counting frames.

use std::time::Duration;

const NANOS: u128 = 1_000_000_000;
/// Sources round their timestamps: a raw 30 fps parser stamps frame 30 at 0.999999990 s.
const MAX_EARLY: Duration = Duration::from_millis(1);

/// Samples per second, as a fraction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    numer: u32,
    denom: u32,
}

impl Rate {
    /// `numer / denom` samples per second; `None` unless both are positive.
    pub fn new(numer: i32, denom: i32) -> Option<Self> {
        let (numer, denom) = (u32::try_from(numer).ok()?, u32::try_from(denom).ok()?);
        (numer > 0 && denom > 0).then_some(Self { numer, denom })
    }

    /// Time from one mark to the next.
    pub fn period(&self) -> Duration {
        self.span(1)
    }

    /// Time of `n` marks.
    pub fn span(&self, n: u64) -> Duration {
        let nanos = u128::from(n) * u128::from(self.denom) * NANOS / u128::from(self.numer);
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    /// Marks at or before `time`, the one at zero not counted.
    fn marks(&self, time: Duration) -> u128 {
        time.as_nanos() * u128::from(self.numer) / (u128::from(self.denom) * NANOS)
    }
}

/// Takes the first frame at or after each multiple of the sampling period, in stream time.
///
/// A frame counts as due from 1 ms, or a quarter of its duration if that is less, before the mark.
/// The first frame after a reset is always due.
#[derive(Debug, Clone)]
pub struct Sampler {
    rate: Rate,
    last_mark: Option<u128>,
}

impl Sampler {
    /// A sampler that has seen nothing.
    pub fn new(rate: Rate) -> Self {
        Self {
            rate,
            last_mark: None,
        }
    }

    /// Whether the frame at `stream_time` is to be looked at; remembers that it was.
    pub fn take(&mut self, stream_time: Duration, duration: Option<Duration>) -> bool {
        let due = self.is_due(stream_time, duration);
        if due {
            self.last_mark = Some(self.mark(stream_time, duration));
        }
        due
    }

    /// Whether the frame at `stream_time` would be looked at.
    pub fn is_due(&self, stream_time: Duration, duration: Option<Duration>) -> bool {
        let mark = self.mark(stream_time, duration);
        self.last_mark.is_none_or(|last| mark > last)
    }

    /// Number of the last multiple of the period at or before a frame.
    fn mark(&self, stream_time: Duration, duration: Option<Duration>) -> u128 {
        let early = duration.map_or(MAX_EARLY, |d| MAX_EARLY.min(d / 4));
        self.rate.marks(stream_time.saturating_add(early))
    }

    /// Forgets what was seen: after a flush, a new segment, a restart.
    pub fn reset(&mut self) {
        self.last_mark = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sampled(rate: Rate, times: impl IntoIterator<Item = u64>, duration: u64) -> Vec<u64> {
        let mut sampler = Sampler::new(rate);
        times
            .into_iter()
            .filter(|t| {
                sampler.take(
                    Duration::from_nanos(*t),
                    Some(Duration::from_nanos(duration)),
                )
            })
            .collect()
    }

    #[test]
    fn thirty_frames_a_second_give_one_a_second() {
        let times: Vec<u64> = (0..121).map(|n| n * 1_000_000_000 / 30).collect();
        let rate = Rate::new(1, 1).unwrap();
        let want = [
            0,
            1_000_000_000,
            2_000_000_000,
            3_000_000_000,
            4_000_000_000,
        ];
        assert_eq!(sampled(rate, times, 33_333_333), want);
    }

    #[test]
    fn a_frame_stamped_a_hair_early_is_due() {
        let times: Vec<u64> = (0..61).map(|n| n * 33_333_333).collect();
        assert_eq!(
            sampled(Rate::new(1, 1).unwrap(), times, 33_333_333),
            [0, 999_999_990, 1_999_999_980]
        );
    }

    #[test]
    fn a_gap_takes_the_next_frame_once() {
        let times = [0, 400_000_000, 5_300_000_000, 5_900_000_000, 6_100_000_000];
        assert_eq!(
            sampled(Rate::new(1, 1).unwrap(), times, 0),
            [0, 5_300_000_000, 6_100_000_000]
        );
    }

    #[test]
    fn five_a_second_and_one_in_five_seconds() {
        let times: Vec<u64> = (0..310).map(|n| n * 1001 * 1_000_000 / 60).collect();
        let five = sampled(Rate::new(5, 1).unwrap(), times.iter().copied(), 16_683_333);
        assert_eq!(five.len(), 26);
        let slow = sampled(Rate::new(1, 5).unwrap(), times.iter().copied(), 16_683_333);
        assert_eq!(slow.len(), 2);
        assert!(slow[1] >= 4_999_000_000 && slow[1] < 5_016_700_000);
    }

    #[test]
    fn rates_of_nothing_are_refused() {
        assert_eq!(Rate::new(0, 1), None);
        assert_eq!(Rate::new(1, 0), None);
        assert_eq!(Rate::new(-1, 1), None);
    }

    /// The definition, frame by frame: the first frame of all, and for each mark after it the first
    /// frame that is due for that mark.
    fn by_definition(numer: u128, denom: u128, frames: &[(u64, u64)]) -> Vec<u64> {
        let period = denom * 1_000_000_000;
        // Times are multiplied with the numerator instead of dividing the period by it.
        let reach = |&(at, duration): &(u64, u64)| {
            let early = u128::min(1_000_000_000, u128::from(duration) * 250) / 1000;
            (u128::from(at) + early) * numer
        };
        let Some(end) = frames.iter().map(reach).max() else {
            return Vec::new();
        };
        let after_first = reach(&frames[0]) / period + 1;
        let mut sampled = vec![0];
        for mark in after_first..=end / period {
            let due = |frame| reach(frame) >= mark * period;
            sampled.extend(frames.iter().position(due));
        }
        sampled.dedup();
        sampled.iter().map(|&n| frames[n].0).collect()
    }

    /// Frames of a stream: at a constant rate with timestamps rounded down, or with any steps, gaps
    /// of minutes among them; durations known or not.
    fn frames() -> impl proptest::strategy::Strategy<Value = Vec<(u64, u64)>> {
        use proptest::prelude::*;
        let rates = prop::sample::select(vec![(5, 1), (25, 1), (30, 1), (60_000, 1001), (1, 3)]);
        let constant = (rates, 0..100_000u64, 1..400u64, any::<bool>()).prop_map(
            |((numer, denom), first, n, rounded)| {
                let at = |n: u64| (u128::from(n) * denom * 1_000_000_000 / numer) as u64;
                let step = at(1);
                (first..first + n)
                    .map(|i| if rounded { i * step } else { at(i) })
                    .map(|at| (at, step))
                    .collect::<Vec<_>>()
            },
        );
        let step = prop_oneof![
            8 => 1..80_000_000u64,
            1 => 900_000_000..1_100_000_000u64,
            1 => 1..200_000_000_000u64,
        ];
        let any_steps = (
            0..1_000_000_000_000u64,
            prop::collection::vec((step, any::<bool>()), 1..300),
        )
            .prop_map(|(mut at, steps)| {
                steps
                    .into_iter()
                    .map(|(step, known)| {
                        at += step;
                        (at, if known { step } else { 0 })
                    })
                    .collect()
            });
        prop_oneof![constant, any_steps]
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig::with_cases(500))]

        #[test]
        fn samples_are_those_of_the_definition(
            numer in 1..6i32,
            denom in 1..6i32,
            frames in frames(),
        ) {
            let mut sampler = Sampler::new(Rate::new(numer, denom).unwrap());
            let taken: Vec<u64> = frames
                .iter()
                .filter(|(at, duration)| {
                    let duration = Duration::from_nanos(*duration);
                    sampler.take(Duration::from_nanos(*at), Some(duration))
                })
                .map(|(at, _)| *at)
                .collect();
            let want = by_definition(numer as u128, denom as u128, &frames);
            proptest::prop_assert_eq!(taken, want);
        }
    }
}
