// SPDX-License-Identifier: MPL-2.0

//! Several backends: their engines, and what of them is to be opened, dropped or gone over to.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use crate::caption::engine::Engine;
use crate::caption::engine::identity::Identity;
use crate::caption::source::Source;
use crate::caption::succession::{Act, Because, Patience, Seen, Succession};

/// The backends of an element that names several.
pub(super) struct Failover {
    succession: Succession,
    /// Those that are named, and behind them one that was before, until another one answers.
    backends: Vec<Member>,
    n_named: usize,
    /// Whether the one that is to take over has.
    has_arrived: Arc<AtomicBool>,
}

/// One of them.
pub(super) struct Member {
    source: Source,
    /// `None` while it is left alone.
    engine: Option<Arc<Engine>>,
}

/// What is to be done without a lock.
pub(super) enum Step {
    /// This one takes over.
    GoOver {
        source: Source,
        engine: Arc<Engine>,
        at_once: bool,
        /// Who answered before, and what is to be said of that.
        because: String,
        has_arrived: Arc<AtomicBool>,
    },
    /// This one is opened anew.
    Open(usize, Source),
    /// The one that answers stays.
    Stay,
    /// One that does not answer cannot be used.
    Tell(String),
    /// Not needed any more; dropping it may wait for a device.
    Drop(Arc<Engine>),
}

impl Failover {
    /// `current` of these answers; those that could not be opened have no engine.
    pub fn new(backends: Vec<(Source, Option<Arc<Engine>>)>, current: usize, now: Instant) -> Self {
        let are_open: Vec<bool> = backends
            .iter()
            .map(|(_, engine)| engine.is_some())
            .collect();
        let engines = backends.iter().filter_map(|(_, engine)| engine.as_ref());
        engines.for_each(|engine| engine.stand_by());
        let member = |(source, engine)| Member { source, engine };
        Self {
            succession: Succession::new(&are_open, current, now),
            n_named: backends.len(),
            backends: backends.into_iter().map(member).collect(),
            has_arrived: Arc::default(),
        }
    }

    /// The same while `in_use` answers: if it is none of these, it does so until one of them can.
    pub fn beside(
        mut backends: Vec<(Source, Option<Arc<Engine>>)>,
        in_use: (Source, Arc<Engine>),
        now: Instant,
    ) -> Self {
        let known = backends.iter().position(|(source, _)| *source == in_use.0);
        if let Some(current) = known {
            backends[current].1 = Some(in_use.1);
            return Self::new(backends, current, now);
        }
        backends.push((in_use.0, Some(in_use.1)));
        let last = backends.len() - 1;
        let mut failover = Self::new(backends, last, now);
        failover.n_named = last;
        failover.succession.leave_last();
        failover
    }

    /// Whether another one answers than is known here: a change that was begun before these were set has
    /// come to its end.
    pub fn is_elsewhere(&self, in_use: &Source) -> bool {
        let current = &self.backends[self.succession.current()].source;
        self.succession.pending().is_none() && current != in_use
    }

    /// The same backends beside the one that answers, and an engine that is not needed any more; dropping
    /// it may wait for a device.
    pub fn beside_it(self, in_use: (Source, Arc<Engine>), now: Instant) -> (Self, Vec<Member>) {
        let mut backends = self.backends;
        let left = backends.split_off(self.n_named);
        let named = backends
            .into_iter()
            .map(|Member { source, engine }| (source, engine));
        (Self::beside(named.collect(), in_use, now), left)
    }

    /// The engine of a source that is opened.
    pub fn engine_of(&self, source: &Source) -> Option<Arc<Engine>> {
        let mut all = self.backends.iter();
        all.find(|member| member.source == *source)?.engine.clone()
    }

    /// What all that are open are, and have sent.
    pub fn identities(&self) -> impl Iterator<Item = &Arc<Identity>> {
        let engines = self
            .backends
            .iter()
            .filter_map(|member| member.engine.as_ref());
        engines.map(|engine| engine.identity())
    }

    /// Looks at all of them; what is to be done.
    pub fn look(&mut self, now: Instant, patience: Patience) -> Vec<Step> {
        let seen = |engine: &Arc<Engine>| Seen {
            standing: engine.standing(),
            longest_turn: engine.longest_turn(),
            silence: engine.silence(),
        };
        let engines = self.backends.iter().map(|member| member.engine.as_ref());
        let all: Vec<Option<Seen>> = engines.map(|engine| engine.map(seen)).collect();
        let has_arrived = self.has_arrived.load(Ordering::Acquire);
        let acts = self.succession.look(now, patience, has_arrived, &all);
        acts.into_iter().filter_map(|act| self.step(act)).collect()
    }

    fn step(&mut self, act: Act) -> Option<Step> {
        Some(match act {
            Act::GoOver {
                to,
                at_once,
                because,
            } => {
                self.has_arrived = Arc::default();
                Step::GoOver {
                    source: self.backends[to].source.clone(),
                    engine: self.backends[to].engine.clone()?,
                    at_once,
                    because: self.sentence(&because),
                    has_arrived: self.has_arrived.clone(),
                }
            }
            Act::Stay => Step::Stay,
            Act::Open(which) => Step::Open(which, self.backends[which].source.clone()),
            Act::Tell(which, reason) => Step::Tell(format!(
                "{} cannot be used: {reason}; another backend answers",
                self.name(which)
            )),
            Act::Drop(which) => Step::Drop(self.backends[which].engine.take()?),
        })
    }

    /// One that is tried again was opened; `None` if that failed. What is not needed any more.
    #[must_use]
    pub fn opened(
        &mut self,
        which: usize,
        source: &Source,
        engine: Option<Arc<Engine>>,
        now: Instant,
    ) -> Option<Arc<Engine>> {
        match self.backends.get_mut(which) {
            Some(member) if member.source == *source => {
                engine.iter().for_each(|engine| engine.stand_by());
                self.succession.opened(which, engine.is_some(), now);
                std::mem::replace(&mut member.engine, engine)
            }
            // Other backends have been set since.
            _ => engine,
        }
    }

    fn sentence(&self, because: &Because) -> String {
        match because {
            Because::Failed(which, reason) => format!("{} has failed: {reason}", self.name(*which)),
            Because::NotReady(which, after) => {
                let after = after.as_secs_f64();
                format!("{} is not ready after {after} s", self.name(*which))
            }
            Because::Usable => "it can be used".into(),
        }
    }

    /// A backend as users name it, and where it is.
    fn name(&self, which: usize) -> String {
        let source = &self.backends[which].source;
        format!("backend {} ({})", source.backend(), source.device())
    }
}
