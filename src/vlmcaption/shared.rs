// SPDX-License-Identifier: MPL-2.0

//! What the element's threads share.
//!
//! Three mutexes by lifetime, to be locked in this order: `settings` (always), `life` (what there is in
//! which state: a model from READY, a run from PAUSED), and that of a [`Run`] (from PAUSED, in part reset
//! by a flush). The text pad, the timer and the converter of pixels have one each below these, which
//! lock nothing else. None is held across a push, an event, a query, a message, a signal or a wait.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use super::failover::Failover;
use super::keeper::Keeper;
use super::log::CAT;
use super::model::Choice;
use super::output::Origin;
use super::run::{Numbered, Run, Running};
use super::settings::Settings;
use super::tally::{Surroundings, Tally};
use super::text::TextOutput;
use crate::caption::captioner::Captioner;
use crate::caption::engine::Engine;
use crate::caption::engine::identity::{Identity, Sent};
use crate::caption::source::Source;

/// What belongs to the element, whatever its state.
pub(super) struct Shared {
    pub sinkpad: gst::Pad,
    pub srcpad: gst::Pad,
    pub text: Arc<TextOutput>,
    element: glib::WeakRef<gst::Element>,
    settings: Mutex<Settings>,
    life: Mutex<Life>,
}

/// What there is in which state.
#[derive(Default)]
pub(super) struct Life {
    pub textpad: Option<gst::Pad>,
    /// From READY on.
    pub model: Option<Model>,
    /// The backends, if several are named; from READY on.
    pub failover: Option<Failover>,
    /// From PAUSED on.
    pub running: Option<Running>,
    /// What outlives a run.
    pub numbered: Numbered,
    /// Statistics of the run before, while there is none.
    pub last_stats: Option<gst::Structure>,
    /// Servers that were asked before the one in use, or beside it.
    asked: Vec<Arc<Identity>>,
}

/// The engine in use and what it was asked for.
pub(super) struct Model {
    pub engine: Arc<Engine>,
    pub source: Source,
    pub choice: Choice,
    /// What its captions say of it; the stream is not in it.
    pub origin: Origin,
}

impl Life {
    /// Keeps the counts of a model that is given up, if it was sent anything.
    pub fn remember(&mut self, model: &Arc<Identity>) {
        let known = self.asked.iter().any(|known| Arc::ptr_eq(known, model));
        if !known && model.traffic().now() != Sent::default() {
            self.asked.push(model.clone());
        }
    }

    /// What was sent to servers since the element began, by host and port.
    fn sent(&self) -> BTreeMap<String, Sent> {
        let current = self.model.iter().map(|model| &model.origin.model);
        let others = self.failover.iter().flat_map(Failover::identities);
        let mut all: Vec<&Arc<Identity>> = Vec::new();
        for model in self.asked.iter().chain(current).chain(others) {
            if !all.iter().any(|known| Arc::ptr_eq(known, model)) {
                all.push(model);
            }
        }
        let mut sent = BTreeMap::new();
        for model in all {
            let to: &mut Sent = sent.entry(model.destination().to_owned()).or_default();
            *to = [*to, model.traffic().now()].into_iter().sum();
        }
        sent.retain(|_, sent| *sent != Sent::default());
        sent
    }
}

impl Shared {
    pub fn new(sinkpad: gst::Pad, srcpad: gst::Pad, settings: Settings) -> Self {
        Self {
            sinkpad,
            srcpad,
            text: Arc::default(),
            element: glib::WeakRef::new(),
            settings: Mutex::new(settings),
            life: Mutex::default(),
        }
    }

    /// Whom all this belongs to.
    pub fn set_element(&self, element: &gst::Element) {
        self.element.set(Some(element));
    }

    /// The element, unless it is gone.
    pub fn element(&self) -> Option<gst::Element> {
        self.element.upgrade()
    }

    pub fn settings(&self) -> MutexGuard<'_, Settings> {
        self.settings.lock().unwrap()
    }

    pub fn life(&self) -> MutexGuard<'_, Life> {
        self.life.lock().unwrap()
    }

    pub fn textpad(&self) -> Option<gst::Pad> {
        self.life().textpad.clone()
    }

    pub fn run(&self) -> Option<Arc<Run>> {
        let life = self.life();
        life.running.as_ref().map(|running| running.run.clone())
    }

    pub fn captioner(&self) -> Option<Arc<Captioner>> {
        let life = self.life();
        life.running
            .as_ref()
            .map(|running| running.captioner.clone())
    }

    pub fn engine(&self) -> Option<Arc<Engine>> {
        let life = self.life();
        life.model.as_ref().map(|model| model.engine.clone())
    }

    /// Another model takes over; whether it is another engine.
    pub fn install(&self, model: Model) -> bool {
        gst::info!(CAT, "the model is now {}", model.origin.model.name());
        let engine = model.engine.clone();
        let before = {
            let mut life = self.life();
            let before = life.model.replace(model);
            if let Some(before) = &before {
                life.remember(&before.origin.model);
            }
            before
        };
        // May join an engine's thread, so no lock is held.
        before.is_none_or(|before| !Arc::ptr_eq(&before.engine, &engine))
    }

    /// The numbers of this run, or those of the last one if the element does not run.
    pub fn stats(&self, name: &str) -> gst::Structure {
        if let Some(run) = self.run() {
            return self.stats_of(&run, self.captioner().as_deref(), name);
        }
        let last = self.life().last_stats.clone();
        last.unwrap_or_else(|| {
            let around = self.surroundings(None);
            let mut fields = Tally::new().structure(name, &around, None);
            fields.set("uptime", 0u64);
            fields
        })
    }

    /// The numbers of a run.
    pub fn stats_of(&self, run: &Run, captioner: Option<&Captioner>, name: &str) -> gst::Structure {
        let around = self.surroundings(Some(run));
        run.tally.structure(name, &around, captioner)
    }

    /// What statistics tell of beside counts.
    fn surroundings(&self, run: Option<&Run>) -> Surroundings {
        let (model, sent) = {
            let life = self.life();
            let model = life.model.as_ref();
            let model = model.map(|model| (model.engine.clone(), model.origin.clone()));
            (model, life.sent())
        };
        let (engine, origin) = model.unzip();
        let mut around = Surroundings {
            dropped_text: self.text.n_dropped(),
            last_error: None,
            sent,
            health: engine.map(|engine| engine.health()).unwrap_or_default(),
            evidence: run
                .and_then(|run| run.keeper.as_ref())
                .map(Keeper::counts)
                .unwrap_or_default(),
            origin: origin.unwrap_or_default(),
        };
        if let Some(run) = run {
            let state = run.state();
            around.last_error = state.last_error();
            around.origin.stream_id = state.stream_id().to_owned();
        }
        around
    }
}
