// SPDX-License-Identifier: MPL-2.0

//! When pictures are decoded. RTP says when each is shown; where some are shown later than they come
//! (B-frames) the time of decoding has to be told as well, and grow from one picture to the next.

/// The most pictures that the standards let a stream hold back.
const MOST: usize = 16;

/// Gives each picture of a stream its time of decoding: of the times at which the last few are shown the
/// smallest, so that no picture is shown before it is decoded. How many is learnt from the stream.
#[derive(Debug, Default)]
pub struct Order {
    /// In order, the smallest first.
    shown: Vec<i64>,
    held: usize,
    last: Option<i64>,
}

/// A time of decoding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decoded {
    pub dts: i64,
    /// Pictures are held back longer than was thought: the times so far were too late.
    pub learnt: bool,
}

impl Order {
    /// The time of decoding of the next picture, which is shown at `pts`; both in the same unit.
    pub fn next(&mut self, pts: i64) -> Decoded {
        let learnt = self.last.is_some_and(|last| pts <= last) && self.held < MOST;
        self.held += usize::from(learnt);
        let at = self.shown.partition_point(|shown| *shown <= pts);
        self.shown.insert(at, pts);
        if self.shown.len() > self.held + 1 {
            self.shown.remove(0);
        }
        let smallest = self.shown.first().copied().unwrap_or(pts);
        let dts = self.last.map_or(smallest, |last| smallest.max(last + 1));
        self.last = Some(dts);
        Decoded { dts, learnt }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn without_b_frames_pictures_are_decoded_when_they_are_shown() {
        let mut order = Order::default();
        for n in 0..100 {
            assert_eq!(order.next(40 * n).dts, 40 * n);
        }
    }

    #[test]
    fn with_b_frames_decoding_is_even_and_never_late() {
        // I0 P3 B1 B2 P6 B4 B5 …, in the order of the stream.
        let shown = (0..50).flat_map(|n| [3 * n + 3, 3 * n + 1, 3 * n + 2]);
        let mut order = Order::default();
        let pairs: Vec<(i64, i64)> = std::iter::once(0)
            .chain(shown)
            .map(|n| (40 * n, order.next(40 * n).dts))
            .collect();
        for pair in pairs[6..].windows(2) {
            assert_eq!(pair[1].1 - pair[0].1, 40, "{pairs:?}");
            assert!(pair[0].1 <= pair[0].0, "{pairs:?}");
        }
    }

    proptest! {
        #[test]
        fn times_of_decoding_grow_whatever_comes(shown in proptest::collection::vec(0_i64..1_000, 0..60)) {
            let mut order = Order::default();
            let given: Vec<i64> = shown.into_iter().map(|pts| order.next(pts).dts).collect();
            prop_assert!(given.windows(2).all(|pair| pair[0] < pair[1]), "{given:?}");
        }
    }
}
