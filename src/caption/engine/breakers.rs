// SPDX-License-Identifier: MPL-2.0

//! Which of several backends answers: the most preferred one that works. A circuit breaker for each,
//! without a thread or a clock.
//!
//! ```text
//!            fails                     its wait is over
//!   Closed ─────────► Open (waits) ───────────────────► Trying (half-open)
//!      ▲               ▲                                 │    │
//!      │               └── fails, waits twice as long ───┘    │
//!      └───────────────────────── is open again ──────────────┘
//! ```

use std::time::{Duration, Instant};

/// How long a backend that failed is left alone, at first and at most.
const FIRST_WAIT: Duration = Duration::from_secs(5);
const LONGEST_WAIT: Duration = Duration::from_secs(300);

/// Windows that a backend has to answer before its next failure counts as a first one.
const PROOF: u32 = 8;

/// The backends in the order in which they are preferred, and which of them answers.
#[derive(Debug)]
pub struct Breakers {
    all: Vec<Breaker>,
    current: usize,
}

#[derive(Debug, Clone, Copy)]
struct Breaker {
    state: State,
    /// How long it is left alone when it fails.
    wait: Duration,
    /// Windows that it answered since it was closed.
    n_answered: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Closed,
    Open {
        until: Instant,
    },
    Trying,
    /// It is not named any more.
    Gone,
}

impl Breaker {
    /// The next time it is left alone for twice as long.
    fn lengthen(&mut self) {
        self.wait = (self.wait * 2).min(LONGEST_WAIT);
    }
}

impl Breakers {
    /// `n` backends, of which `current` answers.
    pub fn new(n: usize, current: usize) -> Self {
        let breaker = Breaker {
            state: State::Closed,
            wait: FIRST_WAIT,
            n_answered: 0,
        };
        Self {
            all: vec![breaker; n],
            current,
        }
    }

    /// The one that answers.
    pub fn current(&self) -> usize {
        self.current
    }

    /// Whether the one that answers is known to fail: there was none to go over to.
    pub fn is_stuck(&self) -> bool {
        self.all[self.current].state != State::Closed
    }

    /// One cannot be used: it is left alone for a while, twice as long as it was left alone before unless
    /// it has worked since.
    pub fn failed(&mut self, which: usize, now: Instant) {
        let breaker = &mut self.all[which];
        if breaker.n_answered >= PROOF {
            breaker.wait = FIRST_WAIT;
        }
        breaker.state = State::Open {
            until: now + breaker.wait,
        };
        breaker.n_answered = 0;
        // The one that answers may have to go on: it is not left alone yet.
        if which != self.current {
            breaker.lengthen();
        }
    }

    /// One that was tried is open, and takes over once it is ready.
    pub fn tried(&mut self, which: usize) {
        self.all[which].state = State::Closed;
    }

    /// It is not to be used again.
    pub fn remove(&mut self, which: usize) {
        self.all[which].state = State::Gone;
    }

    /// Whether this one has not failed since it was opened.
    pub fn is_closed(&self, which: usize) -> bool {
        self.all[which].state == State::Closed
    }

    /// The one that answers has answered a window.
    pub fn answered(&mut self) {
        let breaker = &mut self.all[self.current];
        breaker.state = State::Closed;
        breaker.n_answered = breaker.n_answered.saturating_add(1);
    }

    /// It answers from now on.
    pub fn go_over(&mut self, to: usize) {
        if self.is_stuck() && to != self.current {
            self.all[self.current].lengthen();
        }
        self.current = to;
        self.all[to].state = State::Closed;
    }

    /// One that is to be tried again, to take over if it is preferred, or to be ready when it is needed.
    /// It is being tried from now on.
    pub fn take_due(&mut self, now: Instant) -> Option<usize> {
        if self
            .all
            .iter()
            .any(|breaker| breaker.state == State::Trying)
        {
            return None;
        }
        let due =
            |which: &usize| matches!(self.all[*which].state, State::Open { until } if until <= now);
        let mut others = (0..self.all.len()).filter(|which| *which != self.current);
        let which = others.find(due)?;
        self.all[which].state = State::Trying;
        Some(which)
    }

    /// Whether this one has failed and was not tried since.
    pub fn has_failed(&self, which: usize) -> bool {
        matches!(self.all[which].state, State::Open { .. })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn the_most_preferred_that_works_answers_and_the_first_is_returned_to() {
        let (mut breakers, start) = (Breakers::new(3, 0), Instant::now());
        breakers.failed(0, start);
        breakers.go_over(1);
        assert_eq!(
            breakers.take_due(start + 4 * SECOND),
            None,
            "it is left alone"
        );
        breakers.failed(1, start + SECOND);
        breakers.go_over(2);
        assert_eq!(breakers.take_due(start + 5 * SECOND), Some(0));
        assert_eq!(breakers.take_due(start + 9 * SECOND), None, "one at a time");
        breakers.go_over(0);
        assert_eq!(breakers.current(), 0);
        assert_eq!(
            breakers.take_due(start + 9 * SECOND),
            Some(1),
            "it is to be ready when it is needed"
        );
    }

    #[test]
    fn one_that_fails_again_is_left_alone_for_longer_until_it_has_proved_itself() {
        let (mut breakers, mut now) = (Breakers::new(2, 0), Instant::now());
        let mut waits = Vec::new();
        for _ in 0..8 {
            breakers.failed(0, now);
            breakers.go_over(1);
            let failed = now;
            while breakers.take_due(now).is_none() {
                now += SECOND;
            }
            waits.push((now - failed).as_secs());
        }
        assert_eq!(waits, [5, 10, 20, 40, 80, 160, 300, 300]);
        breakers.go_over(0);
        for _ in 0..PROOF {
            breakers.answered();
        }
        breakers.failed(0, now);
        breakers.go_over(1);
        assert_eq!(breakers.take_due(now + 4 * SECOND), None);
        assert_eq!(breakers.take_due(now + 5 * SECOND), Some(0));
    }

    #[test]
    fn one_that_fails_within_its_proof_does_not_begin_at_the_first_wait() {
        let (mut breakers, now) = (Breakers::new(2, 0), Instant::now());
        breakers.failed(0, now);
        breakers.go_over(1);
        breakers.take_due(now + 5 * SECOND);
        breakers.go_over(0);
        breakers.answered();
        breakers.failed(0, now);
        breakers.go_over(1);
        assert_eq!(breakers.take_due(now + 9 * SECOND), None);
        assert_eq!(breakers.take_due(now + 10 * SECOND), Some(0));
    }

    #[test]
    fn where_all_have_failed_the_last_stays_and_any_other_is_tried() {
        let (mut breakers, now) = (Breakers::new(3, 0), Instant::now());
        for which in [0, 1] {
            breakers.failed(which, now);
            breakers.go_over(which + 1);
        }
        breakers.failed(2, now);
        assert!(breakers.is_stuck());
        assert_eq!(breakers.take_due(now + 5 * SECOND), Some(0));
        breakers.failed(0, now + 5 * SECOND);
        assert_eq!(breakers.take_due(now + 6 * SECOND), Some(1));
        breakers.go_over(1);
        assert!(!breakers.is_stuck());
    }

    #[test]
    fn one_that_goes_on_though_it_fails_is_not_left_alone_for_longer_and_longer() {
        let (mut breakers, now) = (Breakers::new(2, 1), Instant::now());
        for _ in 0..5 {
            breakers.failed(1, now);
            breakers.answered();
        }
        breakers.failed(1, now);
        breakers.go_over(0);
        breakers.failed(0, now);
        assert_eq!(breakers.take_due(now + 4 * SECOND), None);
        assert_eq!(breakers.take_due(now + 5 * SECOND), Some(1));
    }

    #[test]
    fn one_that_answers_after_all_is_not_given_up() {
        let (mut breakers, now) = (Breakers::new(1, 0), Instant::now());
        breakers.failed(0, now);
        assert!(breakers.is_stuck());
        breakers.answered();
        assert!(!breakers.is_stuck());
    }
}
