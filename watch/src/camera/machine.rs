// SPDX-License-Identifier: MPL-2.0

//! When a camera is opened, when it is given up and when it is tried again; no thread and no clock.

use std::time::Duration;

use crate::heard::Phase;

/// How patient one is. Times are since the start of the supervisor.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Policy {
    /// The longest time from opening to the first picture.
    pub connect: Duration,
    /// Pictures that do not come for this long mean that the connection is dead.
    pub stall: Duration,
    /// Shorter outages are not called offline.
    pub offline_after: Duration,
    /// The wait before the second try; it doubles with each one that fails.
    pub first_wait: Duration,
    pub longest_wait: Duration,
    /// A connection that lasted so long was a good one: waits begin anew.
    pub good: Duration,
    /// How long the end of a pipeline may take.
    pub teardown: Duration,
}

impl Policy {
    /// What is used.
    pub fn new(offline_after: Duration) -> Self {
        Self {
            connect: Duration::from_secs(20),
            stall: Duration::from_secs(5),
            offline_after,
            first_wait: Duration::from_secs(1),
            longest_wait: Duration::from_secs(30),
            good: Duration::from_secs(30),
            teardown: Duration::from_secs(5),
        }
    }
}

/// What is to be done now.
#[derive(Debug, Clone, PartialEq)]
pub enum Act {
    Nothing,
    Open,
    /// Close, for this reason.
    Close(String),
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Step {
    Open {
        since: Duration,
        alive: Option<Duration>,
    },
    Waiting {
        until: Duration,
    },
}

/// One camera's state.
#[derive(Debug)]
pub struct Machine {
    policy: Policy,
    step: Step,
    failures: u32,
    /// When pictures last came, in whichever connection.
    alive: Option<Duration>,
    born: Duration,
    reason: String,
    jitter: Jitter,
}

impl Machine {
    /// A camera that is opened at once. `seed` makes cameras that fail together try at different times.
    pub fn new(policy: Policy, seed: u64, now: Duration) -> Self {
        Self {
            policy,
            step: Step::Waiting { until: now },
            failures: 0,
            alive: None,
            born: now,
            reason: String::new(),
            jitter: Jitter(seed),
        }
    }

    /// A pipeline is there.
    pub fn opened(&mut self, now: Duration) {
        self.step = Step::Open {
            since: now,
            alive: None,
        };
    }

    /// A picture came.
    pub fn alive(&mut self, now: Duration) {
        if let Step::Open { since, alive } = &mut self.step {
            *alive = Some(now);
            self.alive = Some(now);
            if now.saturating_sub(*since) >= self.policy.good {
                self.failures = 0;
            }
        }
    }

    /// There is no pipeline any more, or there never was one.
    pub fn failed(&mut self, now: Duration, reason: &str) {
        reason.clone_into(&mut self.reason);
        let doubled = self
            .policy
            .first_wait
            .saturating_mul(1 << self.failures.min(16));
        let wait = doubled
            .min(self.policy.longest_wait)
            .mul_f64(self.jitter.factor());
        self.failures += 1;
        self.step = Step::Waiting { until: now + wait };
    }

    /// What is to be done now.
    pub fn act(&self, now: Duration) -> Act {
        match self.step {
            Step::Waiting { until } if now >= until => Act::Open,
            Step::Waiting { .. } => Act::Nothing,
            Step::Open { since, alive: None } if now >= since + self.policy.connect => {
                Act::Close(format!(
                    "no picture within {} s of connecting",
                    self.policy.connect.as_secs()
                ))
            }
            Step::Open {
                alive: Some(alive), ..
            } if now >= alive + self.policy.stall => Act::Close(format!(
                "pictures stopped coming {} s ago",
                self.policy.stall.as_secs()
            )),
            Step::Open { .. } => Act::Nothing,
        }
    }

    /// What people are told, and why.
    pub fn phase(&self, now: Duration) -> (Phase, &str) {
        let quiet = now.saturating_sub(self.alive.unwrap_or(self.born));
        let open_and_alive = matches!(self.step, Step::Open { alive: Some(_), .. });
        if open_and_alive && quiet < self.policy.stall {
            (Phase::Live, "")
        } else if quiet >= self.policy.offline_after {
            let why = if self.reason.is_empty() {
                "no picture"
            } else {
                &self.reason
            };
            (Phase::Offline, why)
        } else if self.alive.is_none() {
            (Phase::Connecting, &self.reason)
        } else {
            (Phase::Stalled, &self.reason)
        }
    }
}

/// Random factors from 0.75 to 1.25 (splitmix64).
#[derive(Debug)]
struct Jitter(u64);

impl Jitter {
    fn factor(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let part = ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 53) as f64;
        0.75 + 0.5 * part
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn s(seconds: f64) -> Duration {
        Duration::from_secs_f64(seconds)
    }

    fn machine() -> Machine {
        Machine::new(Policy::new(s(30.0)), 7, s(0.0))
    }

    /// The time until the next try.
    fn wait(machine: &Machine, from: f64) -> f64 {
        (0..100_000)
            .map(|n| f64::from(n) / 100.0)
            .find(|t| machine.act(s(from + t)) == Act::Open)
            .unwrap()
    }

    #[test]
    fn waits_double_up_to_half_a_minute_with_a_quarter_of_jitter() {
        let mut machine = machine();
        assert_eq!(machine.act(s(0.0)), Act::Open);
        let mut waits = Vec::new();
        for n in 0..8 {
            let now = 100.0 * f64::from(n);
            machine.failed(s(now), "no route");
            waits.push(wait(&machine, now));
        }
        for (wait, middle) in waits
            .iter()
            .zip([1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0])
        {
            assert!((0.74 * middle..=1.26 * middle).contains(wait), "{waits:?}");
        }
        assert!(waits[5] != waits[6], "no jitter: {waits:?}");
    }

    #[test]
    fn cameras_that_fail_together_are_not_tried_together() {
        let wait_of = |seed| {
            let mut machine = Machine::new(Policy::new(s(30.0)), seed, s(0.0));
            machine.failed(s(0.0), "");
            wait(&machine, 0.0)
        };
        assert_ne!(wait_of(1), wait_of(2));
    }

    #[test]
    fn a_short_outage_is_stalled_and_a_long_one_offline_with_its_reason() {
        let mut machine = machine();
        machine.opened(s(0.0));
        assert_eq!(machine.phase(s(1.0)).0, Phase::Connecting);
        machine.alive(s(2.0));
        assert_eq!(machine.phase(s(3.0)).0, Phase::Live);
        assert_eq!(machine.act(s(6.9)), Act::Nothing);
        assert!(matches!(machine.act(s(7.0)), Act::Close(_)));
        machine.failed(s(7.0), "no route");
        assert_eq!(machine.phase(s(20.0)).0, Phase::Stalled);
        assert_eq!(machine.phase(s(32.0)), (Phase::Offline, "no route"));
        machine.opened(s(33.0));
        assert_eq!(machine.phase(s(33.0)).0, Phase::Offline);
        machine.alive(s(34.0));
        assert_eq!(machine.phase(s(34.0)).0, Phase::Live);
    }

    #[test]
    fn a_camera_that_never_shows_anything_is_given_up_and_tried_again() {
        let mut machine = machine();
        machine.opened(s(0.0));
        assert_eq!(machine.act(s(19.9)), Act::Nothing);
        assert!(matches!(machine.act(s(20.0)), Act::Close(reason) if reason.contains("20 s")));
    }

    #[test]
    fn only_a_connection_that_lasts_makes_waits_short_again() {
        let mut machine = machine();
        for n in 0..6 {
            machine.failed(s(f64::from(n)), "");
        }
        machine.opened(s(100.0));
        machine.alive(s(101.0));
        machine.failed(s(102.0), "");
        assert!(wait(&machine, 102.0) > 20.0);
        machine.opened(s(200.0));
        machine.alive(s(231.0));
        machine.failed(s(232.0), "");
        assert!(wait(&machine, 232.0) < 2.0);
    }
}
