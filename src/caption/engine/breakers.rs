// SPDX-License-Identifier: MPL-2.0

//! Which of several backends answers: the most preferred one that works. A circuit breaker for each,
//! without a thread or a clock.
//!
//! ```text
//!            fails                     its wait is over
//!   Closed ─────────► Open (waits) ───────────────────► Trying (half-open)
//!      ▲               ▲                                 │    │
//!      │               └── fails, waits twice as long ───┘    │
//!      └───────────────────────── can be used ────────────────┘
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
    Open { until: Instant },
    Trying,
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

    /// One cannot be used: it is left alone for a while, twice as long as the last time unless it has
    /// worked since.
    pub fn failed(&mut self, which: usize, now: Instant) {
        let breaker = &mut self.all[which];
        if breaker.n_answered >= PROOF {
            breaker.wait = FIRST_WAIT;
        }
        breaker.state = State::Open {
            until: now + breaker.wait,
        };
        breaker.wait = (breaker.wait * 2).min(LONGEST_WAIT);
        breaker.n_answered = 0;
    }

    /// The one that answers has answered a window.
    pub fn answered(&mut self) {
        let breaker = &mut self.all[self.current];
        breaker.state = State::Closed;
        breaker.n_answered = breaker.n_answered.saturating_add(1);
    }

    /// The one to go over to at once, since that which answers has failed: the most preferred of those
    /// that have not. `None` if all have.
    pub fn successor(&self) -> Option<usize> {
        let mut all = self.all.iter();
        all.position(|breaker| breaker.state == State::Closed)
            .filter(|next| *next != self.current)
    }

    /// It answers from now on.
    pub fn go_over(&mut self, to: usize) {
        self.current = to;
        self.all[to].state = State::Closed;
    }

    /// One that is to be tried again: a more preferred one than that which answers, or any if that has
    /// failed. It is being tried from now on.
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
        let which = self.candidates().find(due)?;
        self.all[which].state = State::Trying;
        Some(which)
    }

    /// Whether this one has failed and was not tried since.
    pub fn has_failed(&self, which: usize) -> bool {
        matches!(self.all[which].state, State::Open { .. })
    }

    fn candidates(&self) -> impl Iterator<Item = usize> + use<> {
        let (n, current, stuck) = (self.all.len(), self.current, self.is_stuck());
        (0..n).filter(move |which| *which < current || (stuck && *which != current))
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
        assert_eq!(breakers.successor(), Some(1));
        breakers.go_over(1);
        assert_eq!(
            breakers.take_due(start + 4 * SECOND),
            None,
            "it is left alone"
        );
        breakers.failed(1, start + SECOND);
        assert_eq!(breakers.successor(), Some(2));
        breakers.go_over(2);
        assert_eq!(breakers.take_due(start + 5 * SECOND), Some(0));
        assert_eq!(breakers.take_due(start + 9 * SECOND), None, "one at a time");
        breakers.go_over(0);
        assert_eq!(breakers.current(), 0);
        assert_eq!(
            breakers.take_due(start + 9 * SECOND),
            None,
            "none is preferred to it"
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
        assert_eq!(breakers.successor(), None);
        assert!(breakers.is_stuck());
        assert_eq!(breakers.take_due(now + 5 * SECOND), Some(0));
        breakers.failed(0, now + 5 * SECOND);
        assert_eq!(
            breakers.take_due(now + 6 * SECOND),
            Some(1),
            "a less preferred one, too"
        );
        breakers.go_over(1);
        assert!(!breakers.is_stuck());
        breakers.answered();
        assert_eq!(
            breakers.successor(),
            None,
            "it has not failed, and is the best there is"
        );
    }

    #[test]
    fn one_that_answers_after_all_is_not_given_up() {
        let (mut breakers, now) = (Breakers::new(1, 0), Instant::now());
        breakers.failed(0, now);
        assert!(breakers.is_stuck() && breakers.successor().is_none());
        breakers.answered();
        assert!(!breakers.is_stuck());
    }
}
