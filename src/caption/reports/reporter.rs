// SPDX-License-Identifier: MPL-2.0

//! Between a model's thread and the element: each caption is compared with those before it
//! and with how late it may be, then put aside for the element's reporting thread.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

use super::caption::Caption;
use super::outbox::{Listener, Outbox, Wake};
use super::repeats::Repeats;
use super::report::{ModelReport, Report, WindowReport};
use crate::caption::frames::ladder::{Ladder, Rung, Step};

/// Completes the captions of one element and has its listeners told of them and all else.
pub(crate) struct Reporter {
    element: Listener,
    outbox: Outbox,
    previous: Mutex<Previous>,
    load: Mutex<Overload>,
    lost: AtomicU64,
    restarts: AtomicU64,
}

/// What a session reports to.
#[derive(Clone)]
pub(crate) struct Outlet {
    reporter: Arc<Reporter>,
    element: Listener,
}

impl Outlet {
    /// Puts a report aside to be told; never waits, so it may be called with a lock held.
    pub(crate) fn put(&self, report: impl Into<Report>) {
        self.reporter.pass_on(report.into(), &self.element);
    }

    /// Whether the session's next turn may begin: else whoever hears its reports is far behind.
    pub(crate) fn has_room(&self) -> bool {
        self.reporter.outbox.has_room()
    }

    /// Has `waker` woken whenever there is room again.
    pub(crate) fn on_room(&self, waker: Weak<dyn Wake>) {
        self.reporter.outbox.on_room(waker);
    }
}

/// What was said last.
#[derive(Default)]
struct Previous {
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
    /// `element` hears of the first model.
    ///
    /// # Errors
    /// The system has no more threads.
    pub(crate) fn start(
        element: Listener,
        ladder: Ladder,
        budget: Duration,
    ) -> std::io::Result<Arc<Self>> {
        Ok(Arc::new(Self {
            element,
            outbox: Outbox::start()?,
            previous: Mutex::default(),
            load: Mutex::new(Overload {
                ladder,
                budget,
                ready: None,
                sequence: 0,
                told: Step::None,
            }),
            lost: AtomicU64::new(0),
            restarts: AtomicU64::new(0),
        }))
    }

    /// What a session reports to.
    pub(crate) fn outlet(self: &Arc<Self>) -> Outlet {
        self.outlet_of(self.element.clone())
    }

    /// What a session of another model reports to; `element` hears of it.
    pub(crate) fn outlet_of(self: &Arc<Self>, element: Listener) -> Outlet {
        Outlet {
            reporter: self.clone(),
            element,
        }
    }

    /// What waits to be told.
    pub(crate) fn outbox(&self) -> &Outbox {
        &self.outbox
    }

    /// Has the element told of something; never waits.
    pub(crate) fn report(&self, report: impl Into<Report>) {
        self.pass_on(report.into(), &self.element);
    }

    fn pass_on(&self, mut report: Report, element: &Listener) {
        let overload = match &mut report {
            Report::Model(report) => {
                self.note_model(report);
                None
            }
            Report::Window(report) => self.note_window(report),
            Report::Inquiry(_) => None,
        };
        self.outbox.put(report, element);
        if let Some(step) = overload {
            let report = WindowReport::Overload(step).into();
            self.outbox.put(report, element);
        }
    }

    fn note_model(&self, report: &ModelReport) {
        match report {
            ModelReport::Loaded { .. } => self.load.lock().unwrap().ready = Some(Instant::now()),
            ModelReport::ChangedOver => self.lose(),
            ModelReport::Restarting => {
                self.reset();
                self.restarts.fetch_add(1, Ordering::Relaxed);
            }
            ModelReport::Loading(_) | ModelReport::Failed(_) => {}
        }
    }

    /// Completes a caption; a step of the overload ladder that the user is to be told of.
    fn note_window(&self, report: &mut WindowReport) -> Option<Step> {
        match report {
            WindowReport::Caption(caption) => {
                self.complete(caption);
                self.load.lock().unwrap().observe(caption, Instant::now())
            }
            WindowReport::Failed { .. } | WindowReport::Unasked => {
                self.lose();
                None
            }
            _ => None,
        }
    }

    /// Another model gets the next windows: nothing is known of its speed.
    pub(crate) fn change_model(&self, ladder: Ladder) {
        let mut load = self.load.lock().unwrap();
        load.ladder = ladder;
        load.ready = Some(Instant::now());
    }

    /// The rung for the next windows, and its number.
    pub(crate) fn rung(&self) -> (usize, Rung) {
        let load = self.load.lock().unwrap();
        (load.ladder.level(), load.ladder.rung())
    }

    /// Changes how late captions may be.
    pub(crate) fn set_budget(&self, budget: Duration) {
        let mut load = self.load.lock().unwrap();
        load.budget = budget;
        if budget.is_zero() {
            let level = load.ladder.level();
            load.ladder.observe(level, Duration::ZERO, budget);
        }
    }

    /// Forgets what was previous.
    pub(crate) fn reset(&self) {
        *self.previous.lock().unwrap() = Previous::default();
        self.lose();
    }

    /// The last window that the model was given is no measure for the next: it failed, or another
    /// question is asked.
    pub(crate) fn lose(&self) {
        self.lost.fetch_add(1, Ordering::Relaxed);
    }

    /// Raised by every [`lose`](Self::lose).
    pub(crate) fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    /// Raised when a model is loaded anew: what it made of frames is gone.
    pub(crate) fn restarts(&self) -> u64 {
        self.restarts.load(Ordering::Relaxed)
    }

    fn complete(&self, caption: &mut Caption) {
        let start = caption.start();
        let mut previous = self.previous.lock().unwrap();
        let info = &mut caption.window_info;
        if previous.scene.is_some_and(|scene| scene != info.scene) {
            previous.cut = Some(caption.sequence);
            previous.repeats.reset();
        }
        previous.scene = Some(info.scene);
        info.scene_cut = previous.cut == Some(caption.sequence);
        info.repeat = previous
            .repeats
            .say(&caption.prompt_hash, &caption.text, start);
    }
}

impl Overload {
    /// Takes note of a caption that is handed on at `now`; a step that the user is to be told of.
    fn observe(&mut self, caption: &Caption, now: Instant) -> Option<Step> {
        let info = &caption.window_info;
        let (level, since) = (info.level?, info.since?);
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
