// SPDX-License-Identifier: MPL-2.0

//! Frames, windows and captions that were dropped: counted by reason, told once a second.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// A `vlmcaption/dropped` message is posted at most this often for each reason.
const DROPPED_INTERVAL: Duration = Duration::from_secs(1);

/// What was dropped and not yet told of, by reason.
#[derive(Default)]
pub(super) struct Drops(BTreeMap<&'static str, Pending>);

#[derive(Default)]
struct Pending {
    count: u64,
    posted: Option<Instant>,
}

impl Drops {
    pub fn add(&mut self, reason: &'static str, count: u64) {
        self.0.entry(reason).or_default().count += count;
    }

    /// Takes the reasons and counts of which it is time to tell.
    pub fn due(&mut self, now: Instant) -> Vec<(&'static str, u64)> {
        let mut due = Vec::new();
        for (reason, pending) in &mut self.0 {
            if pending.count > 0 && pending.next().is_none_or(|next| next <= now) {
                due.push((*reason, std::mem::take(&mut pending.count)));
                pending.posted = Some(now);
            }
        }
        due
    }

    /// Takes all reasons and counts.
    pub fn all(&mut self) -> Vec<(&'static str, u64)> {
        let all = std::mem::take(&mut self.0).into_iter();
        all.filter(|(_, pending)| pending.count > 0)
            .map(|(reason, pending)| (reason, pending.count))
            .collect()
    }

    /// When something is to be told next.
    pub fn next(&self) -> Option<Instant> {
        let waiting = self.0.values().filter(|pending| pending.count > 0);
        waiting.filter_map(Pending::next).min()
    }
}

impl Pending {
    fn next(&self) -> Option<Instant> {
        self.posted.map(|posted| posted + DROPPED_INTERVAL)
    }
}

/// The message `vlmcaption/dropped`.
pub(super) fn structure(&(reason, count): &(&'static str, u64)) -> gst::Structure {
    gst::Structure::builder("vlmcaption/dropped")
        .field("reason", reason)
        .field("count", count)
        .build()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_burst_of_drops_the_first_and_the_rest_are_told_and_none_is_lost() {
        let mut drops = Drops::default();
        let start = Instant::now();
        drops.add("busy", 1);
        assert_eq!(drops.due(start), [("busy", 1)]);
        for _ in 0..5 {
            drops.add("busy", 1);
            assert_eq!(drops.due(start), []);
        }
        drops.add("prepare", 2);
        assert_eq!(drops.due(start), [("prepare", 2)], "a reason of its own");
        assert_eq!(drops.next(), Some(start + DROPPED_INTERVAL));
        assert_eq!(drops.due(start + DROPPED_INTERVAL), [("busy", 5)]);
        assert_eq!(drops.next(), None);
        drops.add("busy", 3);
        assert_eq!(drops.all(), [("busy", 3)]);
    }
}
