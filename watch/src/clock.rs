// SPDX-License-Identifier: MPL-2.0

//! Whether the machine's clock was set while the program ran: times before and after do not fit together
//! then, which people want to know who look for something.

use std::time::Duration;

use crate::time::Millis;

/// What a clock that is kept right by small steps does is not worth a word.
const LEAST: i64 = 30_000;

/// Compares the clock that shows the time with the one that only goes on.
#[derive(Debug)]
pub struct Steps {
    ahead: i64,
}

impl Steps {
    /// From now on.
    pub fn new(wall: Millis, gone: Duration) -> Self {
        Self {
            ahead: ahead(wall, gone),
        }
    }

    /// In words, if the clock was set since the last look.
    pub fn look(&mut self, wall: Millis, gone: Duration) -> Option<String> {
        let step = ahead(wall, gone) - self.ahead;
        if step.abs() < LEAST {
            return None;
        }
        self.ahead += step;
        let by = spelled(step.unsigned_abs() / 1_000);
        Some(if step < 0 {
            format!(
                "The clock of this machine was set back by {by}, to {wall}: what was kept before and what comes now has the same times."
            )
        } else {
            format!(
                "The clock of this machine was set forward by {by}, to {wall}, or the machine slept: nothing was kept of the time between."
            )
        })
    }
}

/// By how much the one is ahead of the other.
fn ahead(wall: Millis, gone: Duration) -> i64 {
    wall.0 - i64::try_from(gone.as_millis()).unwrap_or(i64::MAX)
}

fn spelled(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} days", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_clock_that_is_set_is_told_once_and_one_that_drifts_is_not() {
        let start = Millis::parse("2026-11-29T12:00:00Z").unwrap();
        let mut steps = Steps::new(start, s(100));
        // A second wrong each minute, kept right by small steps.
        for n in 0..20 {
            assert_eq!(steps.look(start.plus(s(61 * n)), s(100 + 60 * n)), None);
        }
        let mut steps = Steps::new(start, s(0));
        let back = steps
            .look(start.plus(s(60)).minus(s(7_200)), s(60))
            .unwrap();
        assert!(
            back.contains("set back by 2 h, to 2026-11-29T10:01:00"),
            "{back}"
        );
        assert_eq!(steps.look(start.plus(s(61)).minus(s(7_200)), s(61)), None);
        let forward = steps.look(start.plus(s(70)), s(70)).unwrap();
        assert!(forward.contains("forward by 2 h"), "{forward}");
    }
}
