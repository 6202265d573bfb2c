// SPDX-License-Identifier: MPL-2.0

//! What a session is charged for a turn: the time that it took, but not what the machine held it up.
//!
//! Sessions take turns by the time that they have had. A processor that decodes sixteen videos beside the
//! model stops a turn here and there for many times as long as it needs, and whoever was on just then would
//! go without for as many turns. So a turn is charged with twice what turns of its kind took of late at most.
//! One that has really become longer is charged in full after some turns.

use std::time::Duration;

use super::turn::Work;

/// The most a turn is charged, in times of what is typical.
const AT_MOST: f64 = 2.0;
/// How much of what is typical the last turn decides: less if it was longer, for that may be the machine.
const LONGER: f64 = 0.2;
const SHORTER: f64 = 0.75;

/// What turns of a session are charged, by kind: a pair, a window, an inquiry.
#[derive(Debug, Default)]
pub(crate) struct Charges {
    typical_s: [Option<f64>; 3],
}

impl Charges {
    /// Seconds that a turn which took `took` is charged.
    pub(crate) fn charge(&mut self, work: &Work, took: Duration) -> f64 {
        let kind = match work {
            Work::Pair { .. } => 0,
            Work::Window { .. } => 1,
            Work::Inquiry { .. } => 2,
        };
        charge(&mut self.typical_s[kind], took.as_secs_f64())
    }
}

fn charge(typical_s: &mut Option<f64>, took_s: f64) -> f64 {
    let typical = typical_s.unwrap_or(took_s);
    let charged = took_s.min(AT_MOST * typical);
    let last = if charged > typical { LONGER } else { SHORTER };
    *typical_s = Some(typical + last * (charged - typical));
    charged
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Turns of sixteen sessions, each a turn of whoever was charged least; most by fewest.
    fn spread(charge: impl Fn(&mut Option<f64>, f64) -> f64) -> f64 {
        let mut sessions = [(0.0_f64, None, 0_u32); 16];
        let mut random = 1_u64;
        for turn in 0..16 * 85 {
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            // One turn in ten is held up for ten times its length.
            let took = if (random >> 33).is_multiple_of(10) {
                0.11
            } else {
                0.01
            };
            let least = sessions.iter_mut().min_by(|a, b| a.0.total_cmp(&b.0));
            let (used, typical, turns) = least.unwrap();
            *used += charge(typical, took);
            // Nothing is typical yet of the first ones.
            *turns += u32::from(turn >= 16 * 10);
        }
        let turns = sessions.iter().map(|(.., turns)| *turns);
        f64::from(turns.clone().max().unwrap()) / f64::from(turns.min().unwrap())
    }

    #[test]
    fn a_machine_that_holds_up_turns_takes_no_captions_from_whoever_is_on() {
        let even = spread(charge);
        assert!(even <= 1.2, "{even}");
        let by_time_alone = spread(|_, took| took);
        assert!(by_time_alone > 1.3, "nothing to mend: {by_time_alone}");
    }

    #[test]
    fn a_turn_that_has_become_longer_is_charged_in_full_after_some() {
        let mut typical = None;
        for _ in 0..10 {
            assert_eq!(charge(&mut typical, 0.01).to_bits(), 0.01_f64.to_bits());
        }
        let charged: Vec<f64> = (0..14).map(|_| charge(&mut typical, 0.1)).collect();
        assert!(charged[0] < 0.021, "{charged:?}");
        assert!((charged[13] - 0.1).abs() < 1e-9, "{charged:?}");
        assert!((charge(&mut typical, 0.001) - 0.001).abs() < 1e-9);
    }
}
