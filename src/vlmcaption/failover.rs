// SPDX-License-Identifier: MPL-2.0

//! Several backends: what is known of each, and what is to be done when the one that answers fails or is
//! late, or one that is preferred to it can be tried again.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::caption::breakers::Breakers;
use crate::caption::engine::Engine;
use crate::caption::source::Source;
use crate::caption::standing::Standing;

/// The backends of an element that names several.
pub(super) struct Failover {
    breakers: Breakers,
    backends: Vec<Member>,
    pending: Option<Pending>,
}

/// One of them.
struct Member {
    source: Source,
    /// `None` while it is left alone.
    engine: Option<Arc<Engine>>,
    /// How it stood when it was looked at last.
    seen: Standing,
}

/// One that is to take over.
struct Pending {
    to: usize,
    has_arrived: Arc<AtomicBool>,
}

/// What is to be done without a lock.
pub(super) enum Step {
    /// This one takes over.
    GoOver {
        to: usize,
        engine: Arc<Engine>,
        at_once: bool,
        /// Who answered before, and what is to be said of that.
        because: String,
        has_arrived: Arc<AtomicBool>,
    },
    /// This one is opened anew.
    Open(usize),
    /// The one that answers stays.
    Stay,
    /// Not needed any more; dropping it may wait for a device.
    Drop(Arc<Engine>),
}

impl Failover {
    /// `current` of these answers; those that could not be opened have no engine.
    pub fn new(backends: Vec<(Source, Option<Arc<Engine>>)>, current: usize, now: Instant) -> Self {
        let mut breakers = Breakers::new(backends.len(), current);
        for (which, (_, engine)) in backends.iter().enumerate() {
            if engine.is_none() {
                breakers.failed(which, now);
            }
        }
        let member = |(source, engine): (Source, Option<Arc<Engine>>)| Member {
            source,
            seen: standing(engine.as_ref()),
            engine,
        };
        Self {
            breakers,
            backends: backends.into_iter().map(member).collect(),
            pending: None,
        }
    }

    /// The engine of a source that is opened.
    pub fn engine_of(&self, source: &Source) -> Option<Arc<Engine>> {
        let mut all = self.backends.iter();
        all.find(|member| member.source == *source)?.engine.clone()
    }

    /// Looks at all of them; what is to be done.
    pub fn look(&mut self, now: Instant, budget: Duration) -> Vec<Step> {
        let mut steps = Vec::new();
        self.see_pending(now, &mut steps);
        let current = self.breakers.current();
        let trouble = self.trouble(current, budget);
        let is_leaving = self.pending.is_some() && self.breakers.is_stuck();
        match trouble {
            Some(reason) if !is_leaving => self.leave(current, &reason, now, &mut steps),
            _ if self.pending.is_none() => {
                let due = self.breakers.take_due(now);
                steps.extend(due.map(Step::Open));
            }
            _ => {}
        }
        steps
    }

    /// Whether the one that is to take over has, or cannot.
    fn see_pending(&mut self, now: Instant, steps: &mut Vec<Step>) {
        let Some(Pending { to, has_arrived }) = &self.pending else {
            return;
        };
        let to = *to;
        if has_arrived.load(Ordering::Acquire) {
            self.pending = None;
            let before = self.breakers.current();
            self.breakers.go_over(to);
            self.backends[to].seen = standing(self.backends[to].engine.as_ref());
            // What has failed is opened anew when it is tried again.
            if self.breakers.has_failed(before) {
                steps.extend(self.backends[before].engine.take().map(Step::Drop));
            }
        } else if standing(self.backends[to].engine.as_ref())
            .failure
            .is_some()
        {
            self.give_pending_up(now, steps);
        }
    }

    /// The one that was to take over cannot.
    fn give_pending_up(&mut self, now: Instant, steps: &mut Vec<Step>) {
        let Some(Pending { to, .. }) = self.pending.take() else {
            return;
        };
        self.breakers.failed(to, now);
        steps.push(Step::Stay);
        steps.extend(self.backends[to].engine.take().map(Step::Drop));
        if self.breakers.is_stuck() {
            let current = self.breakers.current();
            let reason = self.backends[current].seen.last_failure.clone();
            self.choose(current, &reason, now, steps);
        }
    }

    /// What is wrong with the one that answers.
    fn trouble(&mut self, current: usize, budget: Duration) -> Option<String> {
        let member = &mut self.backends[current];
        let engine = member.engine.as_ref()?;
        let now = engine.standing();
        let before = std::mem::replace(&mut member.seen, now.clone());
        if now.n_failed > before.n_failed {
            return Some(now.last_failure);
        }
        if let Some(reason) = now.failure {
            member.seen.last_failure.clone_from(&reason);
            return Some(reason);
        }
        for _ in before.n_answered..now.n_answered {
            self.breakers.answered();
        }
        let is_late = !budget.is_zero() && engine.longest_turn() > budget;
        is_late.then(|| {
            let budget = budget.as_millis();
            format!("an answer takes longer than latency-budget ({budget} ms)")
        })
    }

    /// The one that answers has failed.
    fn leave(&mut self, current: usize, reason: &str, now: Instant, steps: &mut Vec<Step>) {
        if !self.breakers.is_stuck() {
            self.breakers.failed(current, now);
        }
        // One that is being tried takes over soon, or is given up for another.
        if self.pending.is_some() {
            return;
        }
        self.choose(current, reason, now, steps);
    }

    /// Another one takes over from `current`, if one has not failed.
    fn choose(&mut self, current: usize, reason: &str, now: Instant, steps: &mut Vec<Step>) {
        while let Some(to) = self.breakers.successor() {
            let usable = self.backends[to].engine.clone();
            let usable = usable.filter(|engine| engine.standing().failure.is_none());
            let Some(engine) = usable else {
                self.breakers.failed(to, now);
                continue;
            };
            let because = format!("{} has failed: {reason}", self.name(current));
            steps.push(self.go_over(to, engine, true, because));
            return;
        }
    }

    fn go_over(&mut self, to: usize, engine: Arc<Engine>, at_once: bool, because: String) -> Step {
        let has_arrived = Arc::new(AtomicBool::new(false));
        self.pending = Some(Pending {
            to,
            has_arrived: has_arrived.clone(),
        });
        Step::GoOver {
            to,
            engine,
            at_once,
            because,
            has_arrived,
        }
    }

    /// One that is tried again was opened; `None` if that failed.
    pub fn opened(&mut self, which: usize, engine: Option<Arc<Engine>>, now: Instant) -> Vec<Step> {
        let Some(engine) = engine else {
            self.breakers.failed(which, now);
            return Vec::new();
        };
        let before = self.backends[which].engine.replace(engine.clone());
        let mut steps: Vec<Step> = before.map(Step::Drop).into_iter().collect();
        let because = "it can be used again".to_owned();
        let at_once = self.breakers.is_stuck();
        steps.push(self.go_over(which, engine, at_once, because));
        steps
    }

    /// The source of one of them.
    pub fn source(&self, which: usize) -> Option<Source> {
        self.backends.get(which).map(|member| member.source.clone())
    }

    /// A backend as users name it, and where it is.
    fn name(&self, which: usize) -> String {
        let source = &self.backends[which].source;
        format!("backend {} ({})", source.backend(), source.device())
    }
}

fn standing(engine: Option<&Arc<Engine>>) -> Standing {
    engine.map(|engine| engine.standing()).unwrap_or_default()
}
