// SPDX-License-Identifier: MPL-2.0

//! How often somebody may guess: five failures in five minutes for an address and for a name, then one
//! a minute.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use crate::time::Millis;

const FAILURES: usize = 5;
const WITHIN: Duration = Duration::from_secs(300);
const THEN: Duration = Duration::from_secs(60);
/// Addresses and names that are remembered; when there are more, the oldest failures are forgotten.
const MOST: usize = 10_000;

/// The failures of late.
#[derive(Debug, Default)]
pub struct Limiter {
    failures: HashMap<String, VecDeque<Millis>>,
}

impl Limiter {
    /// How long to wait before the next try; nothing if it may be made now.
    pub fn wait(&self, keys: &[&str], now: Millis) -> Option<Duration> {
        keys.iter().filter_map(|key| self.wait_of(key, now)).max()
    }

    /// A try has failed.
    pub fn failed(&mut self, keys: &[&str], now: Millis) {
        if self.failures.len() >= MOST {
            self.failures
                .retain(|_, times| times.back().is_some_and(|last| last.plus(WITHIN) > now));
        }
        for key in keys {
            let times = self.failures.entry((*key).to_owned()).or_default();
            times.push_back(now);
            while times.len() > FAILURES {
                times.pop_front();
            }
        }
    }

    /// A try has succeeded.
    pub fn succeeded(&mut self, keys: &[&str]) {
        for key in keys {
            self.failures.remove(*key);
        }
    }

    fn wait_of(&self, key: &str, now: Millis) -> Option<Duration> {
        let times = self.failures.get(key)?;
        let recent = times.iter().filter(|time| time.plus(WITHIN) > now).count();
        let next = times.back()?.plus(THEN);
        let left = u64::try_from(next.0.saturating_sub(now.0))
            .ok()
            .filter(|left| *left > 0)?;
        (recent >= FAILURES).then(|| Duration::from_millis(left.min(60_000)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_five_failures_there_is_one_try_a_minute() {
        let mut limiter = Limiter::default();
        let at = |s: i64| Millis(1_000 * s);
        for n in 0..5 {
            assert_eq!(limiter.wait(&["1.2.3.4", "ann"], at(n)), None);
            limiter.failed(&["1.2.3.4", "ann"], at(n));
        }
        assert_eq!(
            limiter.wait(&["1.2.3.4", "bob"], at(5)),
            Some(Duration::from_secs(59))
        );
        assert_eq!(
            limiter.wait(&["5.6.7.8", "ann"], at(5)),
            Some(Duration::from_secs(59))
        );
        assert_eq!(limiter.wait(&["5.6.7.8", "bob"], at(5)), None);
        assert_eq!(limiter.wait(&["1.2.3.4"], at(64)), None);
        limiter.failed(&["1.2.3.4"], at(64));
        assert!(limiter.wait(&["1.2.3.4"], at(65)).is_some());
        limiter.succeeded(&["1.2.3.4"]);
        assert_eq!(limiter.wait(&["1.2.3.4"], at(65)), None);
    }
}
