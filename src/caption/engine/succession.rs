// SPDX-License-Identifier: MPL-2.0

//! What is to be done when the backend that answers fails, is late or does not get ready, or when one
//! that is preferred to it can be used. It is told what is seen of each backend, and when; it has no
//! thread and no clock of its own.

use std::time::{Duration, Instant};

use super::breakers::Breakers;
use super::standing::Standing;

/// How long the backend that is to answer may take to get ready before another one that is ready
/// answers instead, where no latency budget says.
const GETS_READY: Duration = Duration::from_secs(5);

/// One that does not answer, and is looked at for longer than this, is not gone over to.
const IS_SEEN: Duration = Duration::from_secs(1);

/// What is seen of a backend that is open.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Seen {
    /// How it stands.
    pub standing: Standing,
    /// How long it has been at the turn that it makes, or at being looked at.
    pub longest_turn: Duration,
    /// How long nothing has been heard of it in that turn.
    pub silence: Duration,
}

/// How long the one that answers may take; zero is as long as it likes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Patience {
    /// For an answer.
    pub budget: Duration,
    /// For a sign of life.
    pub silence: Duration,
}

/// What is to be done. Backends are numbers, by the order in which they are preferred.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Act {
    /// This one, which is ready, takes over.
    GoOver {
        /// Which.
        to: usize,
        /// With the next frame; else between two windows, when all before is answered.
        at_once: bool,
        /// Why.
        because: Because,
    },
    /// The one that answers stays: what was to take over cannot.
    Stay,
    /// This one is opened anew.
    Open(usize),
    /// This one, which does not answer, cannot be made ready for this reason.
    Tell(usize, String),
    /// This one is not needed any more.
    Drop(usize),
}

/// Why another backend takes over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Because {
    /// That which answered has failed, in these words.
    Failed(usize, String),
    /// That which was to answer was not ready after this time.
    NotReady(usize, Duration),
    /// It is preferred, and can be used.
    Usable,
}

/// The backends of an element, and which of them answers.
#[derive(Debug)]
pub struct Succession {
    breakers: Breakers,
    members: Vec<Member>,
    pending: Option<Pending>,
    /// One that answers until another can, and is not to be used after that.
    leaving: Option<usize>,
}

/// One of them.
#[derive(Debug, Clone, Default)]
struct Member {
    /// How it stood when it was looked at last.
    before: Standing,
    /// Since when it has been open and not ready.
    starting: Option<Instant>,
    /// That it has failed is known to the user.
    is_told: bool,
}

/// One that is to take over.
#[derive(Debug)]
struct Pending {
    to: usize,
    at_once: bool,
}

/// What is seen of all; `None` of one that is not open.
type All<'a> = &'a [Option<Seen>];

impl Patience {
    /// Why it is over.
    fn end(&self, seen: &Seen) -> Option<String> {
        let over = |most: Duration, time: Duration| !most.is_zero() && time > most;
        let (budget, silence) = (self.budget.as_millis(), self.silence.as_millis());
        if over(self.budget, seen.longest_turn) {
            Some(format!(
                "an answer takes longer than latency-budget ({budget} ms)"
            ))
        } else if over(self.silence, seen.silence) {
            Some(format!(
                "nothing is heard of it for longer than model-timeout ({silence} ms)"
            ))
        } else {
            None
        }
    }
}

impl Succession {
    /// `current` of these answers; those that could not be opened are left alone for a while.
    pub fn new(are_open: &[bool], current: usize, now: Instant) -> Self {
        let mut breakers = Breakers::new(are_open.len(), current);
        for which in (0..are_open.len()).filter(|which| !are_open[*which]) {
            breakers.failed(which, now);
        }
        Self {
            breakers,
            members: vec![Member::default(); are_open.len()],
            pending: None,
            leaving: None,
        }
    }

    /// The last of them is not named any more: it answers until another can.
    pub fn leave_last(&mut self) {
        self.leaving = self.members.len().checked_sub(1);
    }

    /// The one that answers.
    pub fn current(&self) -> usize {
        self.breakers.current()
    }

    /// The one that is to take over.
    pub fn pending(&self) -> Option<usize> {
        self.pending.as_ref().map(|pending| pending.to)
    }

    /// Looks at all of them; what is to be done. `has_arrived` says whether the one that was to take
    /// over has.
    pub fn look(
        &mut self,
        now: Instant,
        patience: Patience,
        has_arrived: bool,
        all: All<'_>,
    ) -> Vec<Act> {
        let mut acts = Vec::new();
        self.see_pending(has_arrived, all, &mut acts);
        self.see_starting(now, all, &mut acts);
        let current = self.current();
        if let Some(reason) = self.trouble(patience, all) {
            if !self.breakers.is_stuck() {
                self.breakers.failed(current, now);
            }
            self.leave(Because::Failed(current, reason), all, &mut acts);
        } else if self.breakers.is_stuck() {
            let reason = self.members[current].before.last_failure.clone();
            self.leave(Because::Failed(current, reason), all, &mut acts);
        } else if self.pending.is_none() {
            self.improve(now, patience.budget, all, &mut acts);
        }
        if self.pending.is_none() {
            acts.extend(self.breakers.take_due(now).map(Act::Open));
        }
        acts
    }

    /// One that was to be opened anew was, or could not be.
    pub fn opened(&mut self, which: usize, is_open: bool, now: Instant) {
        self.members[which] = Member {
            is_told: true,
            ..Member::default()
        };
        match is_open {
            true => self.breakers.tried(which),
            false => self.breakers.failed(which, now),
        }
    }

    /// Whether the one that is to take over has, or cannot.
    fn see_pending(&mut self, has_arrived: bool, all: All<'_>, acts: &mut Vec<Act>) {
        let Some(Pending { to, .. }) = self.pending else {
            return;
        };
        if has_arrived {
            self.pending = None;
            let before = self.current();
            self.breakers.go_over(to);
            self.members[to].before = standing(all, to);
            let is_leaving = self.leaving == Some(before);
            // What has failed is opened anew when it is tried again.
            if self.breakers.has_failed(before) || is_leaving {
                acts.push(Act::Drop(before));
            }
            if is_leaving {
                self.breakers.remove(before);
            }
        } else if standing(all, to).failure.is_some() {
            self.pending = None;
            acts.push(Act::Stay);
        }
    }

    /// How far those are that are not ready. One that is open and cannot be made ready is tried again
    /// and again by its engine.
    fn see_starting(&mut self, now: Instant, all: All<'_>, acts: &mut Vec<Act>) {
        let current = self.current();
        for (which, seen) in all.iter().enumerate() {
            let standing = seen.as_ref().map(|seen| &seen.standing);
            let failure = standing.and_then(|standing| standing.failure.as_ref());
            let is_ready = standing.is_some_and(|standing| standing.is_ready);
            let is_starting = standing.is_some() && !is_ready && failure.is_none();
            let member = &mut self.members[which];
            member.starting = is_starting.then(|| member.starting.unwrap_or(now));
            match failure {
                // Of the one that answers it is told when another takes over.
                Some(reason) if which != current && !member.is_told => {
                    member.is_told = true;
                    acts.push(Act::Tell(which, reason.clone()));
                }
                _ if is_ready => member.is_told = false,
                _ => {}
            }
        }
    }

    /// What is wrong with the one that answers.
    fn trouble(&mut self, patience: Patience, all: All<'_>) -> Option<String> {
        let current = self.current();
        let seen = all.get(current)?.as_ref()?;
        let now = &seen.standing;
        let member = &mut self.members[current];
        let before = std::mem::replace(&mut member.before, now.clone());
        if let Some(reason) = &now.failure {
            member.before.last_failure.clone_from(reason);
            return Some(reason.clone());
        }
        if now.n_failed > before.n_failed {
            return Some(now.last_failure.clone());
        }
        if let Some(reason) = patience.end(seen) {
            member.before.last_failure.clone_from(&reason);
            return Some(reason);
        }
        for _ in before.n_answered..now.n_answered {
            self.breakers.answered();
        }
        None
    }

    /// Another one takes over at once, if one is ready.
    fn leave(&mut self, because: Because, all: All<'_>, acts: &mut Vec<Act>) {
        match self.pending {
            // It waits for the window that will not be answered.
            Some(Pending { to, at_once: false }) => self.go_over(to, true, because, acts),
            Some(_) => {}
            None => {
                let other = self.ready(all).find(|to| *to != self.current());
                if let Some(to) = other {
                    self.go_over(to, true, because, acts);
                }
            }
        }
    }

    /// The one that answers does well, or is not ready yet.
    fn improve(&mut self, now: Instant, budget: Duration, all: All<'_>, acts: &mut Vec<Act>) {
        let current = self.current();
        let Some(best) = self.ready(all).next() else {
            return;
        };
        let patience = if budget.is_zero() { GETS_READY } else { budget };
        let starting = self.members[current].starting;
        let waited = starting.map(|since| now.saturating_duration_since(since));
        if best < current {
            self.go_over(best, false, Because::Usable, acts);
        } else if best > current && waited.is_some_and(|waited| waited >= patience) {
            self.go_over(best, true, Because::NotReady(current, patience), acts);
        }
    }

    /// Those that can answer, the most preferred first.
    fn ready(&self, all: All<'_>) -> impl Iterator<Item = usize> {
        (0..all.len()).filter(|which| {
            let is_ready = |seen: &Seen| {
                let is_seen = *which == self.current() || seen.longest_turn <= IS_SEEN;
                seen.standing.is_ready && seen.standing.failure.is_none() && is_seen
            };
            self.breakers.is_closed(*which) && all[*which].as_ref().is_some_and(is_ready)
        })
    }

    fn go_over(&mut self, to: usize, at_once: bool, because: Because, acts: &mut Vec<Act>) {
        self.pending = Some(Pending { to, at_once });
        acts.push(Act::GoOver {
            to,
            at_once,
            because,
        });
    }
}

fn standing(all: All<'_>, which: usize) -> Standing {
    let seen = all.get(which).and_then(Option::as_ref);
    seen.map(|seen| seen.standing.clone()).unwrap_or_default()
}

#[cfg(test)]
mod campaign;

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const ENDLESS: Patience = Patience {
        budget: Duration::ZERO,
        silence: Duration::ZERO,
    };

    fn starting() -> Option<Seen> {
        Some(Seen::default())
    }

    fn ready() -> Option<Seen> {
        let mut seen = Seen::default();
        seen.standing.is_ready = true;
        Some(seen)
    }

    /// One whose windows were not answered so often.
    fn failed(n_failed: u64) -> Option<Seen> {
        let mut seen = ready()?;
        seen.standing.n_failed = n_failed;
        seen.standing.last_failure = "no answer".into();
        Some(seen)
    }

    fn lost() -> Option<Seen> {
        let mut seen = Seen::default();
        seen.standing.failure = Some("cannot connect".into());
        Some(seen)
    }

    fn over(to: usize, at_once: bool, because: Because) -> Act {
        Act::GoOver {
            to,
            at_once,
            because,
        }
    }

    #[test]
    fn one_that_does_not_get_ready_is_passed_over_and_taken_once_it_is() {
        for (budget, wait) in [(Duration::ZERO, GETS_READY), (SECOND, SECOND)] {
            let start = Instant::now();
            let mut succession = Succession::new(&[true; 3], 0, start);
            let all = [starting(), starting(), ready()];
            let patience = Patience { budget, ..ENDLESS };
            let mut look =
                |after, arrived, all: &[_]| succession.look(start + after, patience, arrived, all);
            assert_eq!(look(Duration::ZERO, false, &all), []);
            let early = wait - Duration::from_millis(1);
            assert_eq!(look(early, false, &all), []);
            let because = Because::NotReady(0, wait);
            assert_eq!(look(wait, false, &all), [over(2, true, because)]);
            // It is not dropped: it may still be made ready.
            assert_eq!(look(wait, true, &all), []);
            let all = [starting(), ready(), ready()];
            let act = over(1, false, Because::Usable);
            assert_eq!(look(wait, false, &all), [act]);
            assert_eq!(look(wait, true, &all), []);
            let act = over(0, false, Because::Usable);
            assert_eq!(
                look(60 * SECOND, false, &[ready(), ready(), ready()]),
                [act]
            );
        }
    }

    #[test]
    fn the_best_that_is_ready_takes_over_at_once_and_what_has_failed_is_dropped() {
        let start = Instant::now();
        let mut succession = Succession::new(&[true; 3], 0, start);
        let mut look =
            |after, arrived, all: &[_]| succession.look(start + after, ENDLESS, arrived, all);
        assert_eq!(look(SECOND, false, &[ready(), starting(), ready()]), []);
        let all = [failed(1), starting(), ready()];
        let because = Because::Failed(0, "no answer".into());
        assert_eq!(look(SECOND, false, &all), [over(2, true, because)]);
        assert_eq!(look(SECOND, true, &all), [Act::Drop(0)]);
        let all = [None, starting(), ready()];
        assert_eq!(look(5 * SECOND, false, &all), []);
        assert_eq!(look(6 * SECOND, false, &all), [Act::Open(0)]);
    }

    #[test]
    fn one_that_is_late_or_silent_has_failed_and_one_that_is_looked_at_for_long_is_not_gone_over_to()
     {
        let turn = |longest_turn, silence| {
            ready().map(|seen| Seen {
                longest_turn,
                silence,
                ..seen
            })
        };
        let patience = Patience {
            budget: 2 * SECOND,
            silence: SECOND,
        };
        for (late, word) in [
            (turn(3 * SECOND, SECOND / 2), "latency-budget (2000 ms)"),
            (turn(2 * SECOND, 2 * SECOND), "model-timeout (1000 ms)"),
        ] {
            let now = Instant::now();
            let mut succession = Succession::new(&[true; 3], 0, now);
            let stuck = turn(2 * SECOND, 2 * SECOND);
            let acts = succession.look(now, patience, false, &[late, stuck, ready()]);
            let [
                Act::GoOver {
                    to: 2,
                    at_once: true,
                    because: Because::Failed(0, reason),
                },
            ] = acts.as_slice()
            else {
                panic!("{acts:?}");
            };
            assert!(reason.contains(word), "{reason}");
        }
    }

    #[test]
    fn one_that_waits_for_the_next_window_takes_over_at_once_if_that_window_fails() {
        let now = Instant::now();
        let mut succession = Succession::new(&[true; 2], 1, now);
        let mut look = |all: &[_]| succession.look(now, ENDLESS, false, all);
        let act = over(0, false, Because::Usable);
        assert_eq!(look(&[ready(), ready()]), [act]);
        let because = Because::Failed(1, "no answer".into());
        assert_eq!(look(&[ready(), failed(1)]), [over(0, true, because)]);
        assert_eq!(look(&[ready(), failed(2)]), []);
        // And is given up if it fails itself.
        let acts = look(&[lost(), failed(2)]);
        let told = Act::Tell(0, "cannot connect".into());
        assert_eq!(acts, [Act::Stay, told]);
    }

    #[test]
    fn where_none_is_ready_the_one_that_failed_goes_on_until_one_is() {
        let now = Instant::now();
        let mut succession = Succession::new(&[true; 2], 0, now);
        let mut look = |all: &[_]| succession.look(now, ENDLESS, false, all);
        assert_eq!(look(&[failed(1), starting()]), []);
        let because = Because::Failed(0, "no answer".into());
        let act = over(1, true, because);
        assert_eq!(look(&[failed(1), ready()]), [act]);
    }

    #[test]
    fn one_that_is_not_named_any_more_answers_until_another_can_and_never_again() {
        let start = Instant::now();
        let mut succession = Succession::new(&[true; 3], 2, start);
        succession.leave_last();
        let mut look = |after, arrived, all: &[_]| {
            succession.look(start + after * SECOND, ENDLESS, arrived, all)
        };
        assert_eq!(look(0, false, &[starting(), starting(), ready()]), []);
        let act = over(1, false, Because::Usable);
        assert_eq!(look(60, false, &[starting(), ready(), ready()]), [act]);
        let all = [starting(), ready(), ready()];
        assert_eq!(look(60, true, &all), [Act::Drop(2)]);
        let acts = look(600, false, &[starting(), failed(1), None]);
        assert_eq!(acts, [], "it is not opened again");
    }

    #[test]
    fn one_that_cannot_be_made_ready_is_told_of_once() {
        let now = Instant::now();
        let mut succession = Succession::new(&[true; 2], 0, now);
        let mut look = |all: &[_]| succession.look(now, ENDLESS, false, all);
        let told = || Act::Tell(1, "cannot connect".into());
        assert_eq!(look(&[ready(), lost()]), [told()]);
        assert_eq!(look(&[ready(), lost()]), []);
        assert_eq!(look(&[ready(), ready()]), []);
        assert_eq!(look(&[ready(), lost()]), [told()]);
    }
}
