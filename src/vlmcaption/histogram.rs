// SPDX-License-Identifier: MPL-2.0

//! Percentiles of times that a streaming thread may record: no lock, no allocation.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::output::nanos;

/// Buckets to each doubling: a percentile is at most 1/16 above the truth.
const STEPS: u64 = 16;
const STEP_BITS: u32 = STEPS.ilog2();
/// Up to 2^42 ns, more than an hour; what is longer counts as that.
const MAX_BITS: u32 = 42;
const N_BUCKETS: usize = (MAX_BITS - STEP_BITS + 1) as usize * STEPS as usize;

/// How often times were how long.
pub(super) struct Histogram {
    buckets: [AtomicU64; N_BUCKETS],
    max: AtomicU64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self {
            buckets: [const { AtomicU64::new(0) }; N_BUCKETS],
            max: AtomicU64::new(0),
        }
    }
}

impl Histogram {
    pub fn record(&self, time: Duration) {
        let nanos = nanos(time);
        self.buckets[bucket(nanos)].fetch_add(1, Ordering::Relaxed);
        self.max.fetch_max(nanos, Ordering::Relaxed);
    }

    pub fn count(&self) -> u64 {
        let counts = self.buckets.iter().map(|b| b.load(Ordering::Relaxed));
        counts.sum()
    }

    /// The longest, ns.
    pub fn max(&self) -> u64 {
        self.max.load(Ordering::Relaxed)
    }

    /// The time, ns, that `percent` of 100 did not exceed: by at most a sixteenth too long, never
    /// longer than the longest. 0 without times.
    pub fn percentile(&self, percent: u64) -> u64 {
        let counts = self.buckets.each_ref().map(|b| b.load(Ordering::Relaxed));
        let wanted = (counts.iter().sum::<u64>() * percent).div_ceil(100).max(1);
        let mut seen = 0;
        for (i, count) in counts.iter().enumerate() {
            seen += count;
            if seen >= wanted {
                return end(i).min(self.max());
            }
        }
        self.max()
    }
}

/// The bucket of a time: one for each ns up to [`STEPS`], then [`STEPS`] to each doubling.
fn bucket(nanos: u64) -> usize {
    let bucket = if nanos < STEPS {
        nanos
    } else {
        let shift = nanos.ilog2() - STEP_BITS;
        u64::from(shift + 1) * STEPS + ((nanos >> shift) - STEPS)
    };
    // A bucket that does not fit a usize is beyond the last one too.
    usize::try_from(bucket).map_or(N_BUCKETS - 1, |bucket| bucket.min(N_BUCKETS - 1))
}

/// The longest time of a bucket, ns.
fn end(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    if bucket < STEPS {
        return bucket;
    }
    let shift = bucket / STEPS - 1;
    ((bucket % STEPS + STEPS + 1) << shift) - 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_bucket_ends_less_than_a_sixteenth_above_its_times(nanos in 0u64..1 << MAX_BITS) {
            let end = end(bucket(nanos));
            prop_assert!(end >= nanos);
            prop_assert!(end - nanos <= nanos / STEPS, "{nanos} is told as {end}");
        }
    }

    #[test]
    fn percentiles_are_of_what_was_recorded() {
        let histogram = Histogram::default();
        assert_eq!((histogram.percentile(99), histogram.count()), (0, 0));
        for ms in 1..=100 {
            histogram.record(Duration::from_millis(ms));
        }
        for percent in [1, 50, 95, 99] {
            let truth = percent * 1_000_000;
            let told = histogram.percentile(percent);
            assert!((truth..=truth + truth / STEPS).contains(&told), "{told}");
        }
        assert_eq!(histogram.percentile(100), 100_000_000);
        assert_eq!((histogram.max(), histogram.count()), (100_000_000, 100));
        histogram.record(Duration::from_secs(100_000));
        assert_eq!(histogram.max(), 100_000_000_000_000);
    }
}
