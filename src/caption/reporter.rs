// SPDX-License-Identifier: MPL-2.0

//! Between a model's thread and the element: each caption is compared with those before it
//! and with how late it may be.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::engine::Listener;
use super::ladder::{Ladder, Rung, Step};
use super::repeats::Repeats;
use super::{Caption, Report};

/// Hears the reports of one session and completes the captions among them.
pub(super) struct Reporter {
    element: Listener,
    said: Mutex<Said>,
    load: Mutex<Overload>,
    lost: AtomicU64,
}

/// What was said last.
#[derive(Default)]
struct Said {
    repeats: Repeats,
    /// Scene of the last caption.
    scene: Option<u64>,
    /// The window that began it, if with a cut.
    cut: Option<u64>,
}

/// Whether captions come in time.
struct Overload {
    ladder: Ladder,
    budget: Duration,
    /// When the model was ready: windows from before say nothing about its speed.
    ready: Option<Instant>,
    /// The window that was counted last: of several answers about it the first counts.
    sequence: u64,
    /// The largest step that the user was told of.
    told: Step,
}

impl Reporter {
    pub(super) fn new(element: Listener, ladder: Ladder, budget: Duration) -> Arc<Self> {
        Arc::new(Self {
            element,
            said: Mutex::default(),
            load: Mutex::new(Overload {
                ladder,
                budget,
                ready: None,
                sequence: 0,
                told: Step::None,
            }),
            lost: AtomicU64::new(0),
        })
    }

    /// What a session reports to.
    pub(super) fn listener(self: &Arc<Self>) -> Listener {
        self.listener_of(self.element.clone())
    }

    /// What a session of another model reports to; `element` hears of it.
    pub(super) fn listener_of(self: &Arc<Self>, element: Listener) -> Listener {
        let reporter = self.clone();
        Arc::new(move |report| reporter.pass_on(report, &element))
    }

    /// Passes a report on to the element; no lock is held then.
    pub(super) fn report(&self, report: Report) {
        self.pass_on(report, &self.element);
    }

    fn pass_on(&self, mut report: Report, element: &Listener) {
        let mut overload = None;
        match &mut report {
            Report::Caption(caption) => {
                self.complete(caption);
                overload = self.load.lock().unwrap().observe(caption, Instant::now());
            }
            Report::Loaded { .. } => self.load.lock().unwrap().ready = Some(Instant::now()),
            Report::Failed { .. } | Report::Unasked | Report::ChangedOver => self.lose(),
            _ => {}
        }
        element(report);
        if let Some(step) = overload {
            element(Report::Overload(step));
        }
    }

    /// Another model gets the next windows: nothing is known of its speed.
    pub(super) fn change_model(&self, ladder: Ladder) {
        let mut load = self.load.lock().unwrap();
        load.ladder = ladder;
        load.ready = Some(Instant::now());
    }

    /// The rung for the next windows, and its number.
    pub(super) fn rung(&self) -> (usize, Rung) {
        let load = self.load.lock().unwrap();
        (load.ladder.level(), load.ladder.rung())
    }

    /// Changes how late captions may be.
    pub(super) fn set_budget(&self, budget: Duration) {
        let mut load = self.load.lock().unwrap();
        load.budget = budget;
        if budget.is_zero() {
            let level = load.ladder.level();
            load.ladder.observe(level, Duration::ZERO, budget);
        }
    }

    /// Forgets what was said.
    pub(super) fn reset(&self) {
        *self.said.lock().unwrap() = Said::default();
        self.lose();
    }

    /// The last window that the model was given is no measure for the next: it failed, or another
    /// question is asked.
    pub(super) fn lose(&self) {
        self.lost.fetch_add(1, Ordering::Relaxed);
    }

    /// Raised by every [`lose`](Self::lose).
    pub(super) fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    fn complete(&self, caption: &mut Caption) {
        let start = caption.start();
        let mut said = self.said.lock().unwrap();
        let note = &mut caption.note;
        if said.scene.is_some_and(|scene| scene != note.scene) {
            said.cut = Some(caption.sequence);
            said.repeats.reset();
        }
        said.scene = Some(note.scene);
        note.scene_cut = said.cut == Some(caption.sequence);
        note.repeat = said.repeats.say(&caption.prompt_hash, &caption.text, start);
    }
}

impl Overload {
    /// Takes note of a caption that is handed on at `now`; a step that the user is to be told of.
    fn observe(&mut self, caption: &Caption, now: Instant) -> Option<Step> {
        let note = &caption.note;
        let (level, since) = (note.level?, note.since?);
        let waited_for_model = self.ready.is_some_and(|ready| since < ready);
        if caption.sequence == self.sequence || waited_for_model {
            return None;
        }
        self.sequence = caption.sequence;
        let latency = now.saturating_duration_since(since);
        self.ladder.observe(level, latency, self.budget);
        let step = self.ladder.rung().step;
        let first = self.told == Step::None && step > Step::None;
        let last = self.told < Step::Skip && step == Step::Skip;
        if first || last {
            self.told = step;
        }
        (first || last).then_some(step)
    }
}
