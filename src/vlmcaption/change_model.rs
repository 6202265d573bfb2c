// SPDX-License-Identifier: MPL-2.0

//! Goes over to another model on a thread of its own, and listens to it until it has arrived.

use std::sync::{Arc, Weak};
use std::time::Instant;

use gst::prelude::*;

use super::failover::Failover;
use super::log::CAT;
use super::model::Choice;
use super::output::Origin;
use super::post;
use super::properties;
use super::report;
use super::run::{Loading, Run};
use super::shared::{Life, Model, Shared};
use super::sources::sources;
use super::swap::Candidate;
use crate::caption::ModelReport::{ChangedOver, Failed, Loaded, Loading as Progress};
use crate::caption::Report;
use crate::caption::captioner::Captioner;
use crate::caption::engine::Engine;
use crate::caption::outbox::Listener;
use crate::caption::panic::caught;
use crate::caption::source::Source;

/// A change of the model.
pub(super) struct ModelChange {
    element: gst::Element,
    shared: Arc<Shared>,
}

impl ModelChange {
    /// Begins one. Reading a model's configuration takes a while, so it is done on another thread.
    pub fn begin(element: &gst::Element, shared: &Arc<Shared>) {
        let change = Self {
            element: element.clone(),
            shared: shared.clone(),
        };
        let thread = std::thread::Builder::new().name("vlmcaption-swap".into());
        if let Err(error) = thread.spawn(move || change.make()) {
            let reason = format!("cannot start a thread: {error}");
            refuse(element, shared, None, &reason);
        }
    }

    fn make(&self) {
        self.attempt(|choice| {
            let (Some(captioner), Some(run)) = (self.shared.captioner(), self.shared.run()) else {
                return Ok(());
            };
            self.change_to(choice, &captioner, &run)
        });
    }

    /// A model at which the change fails or panics is refused.
    fn attempt(&self, change: impl FnOnce(&Choice) -> Result<(), String>) {
        let choice = self.shared.settings().choice.clone();
        let changed = caught("the change of the model", || change(&choice));
        if let Err(reason) = changed.and_then(|changed| changed) {
            refuse(&self.element, &self.shared, Some(&choice), &reason);
        }
    }

    fn change_to(
        &self,
        choice: &Choice,
        captioner: &Captioner,
        run: &Arc<Run>,
    ) -> Result<(), String> {
        let mut sources = {
            let settings = self.shared.settings().clone();
            sources(&settings)?
        };
        if sources.len() > 1 || self.shared.life().failover.is_some() {
            return self.change_all(choice, sources, captioner, run);
        }
        let source = sources.remove(0);
        let in_use = |life: &Life| life.model.as_ref().map(|m| m.source == source);
        if in_use(&self.shared.life()) == Some(true) {
            forget_coming(&self.element, run);
            captioner.keep_model();
            return Ok(());
        }
        let engine = Engine::acquire(&source).map_err(|error| error.to_string())?;
        // Reading took a while: who asked for yet another model has that begun.
        if self.shared.settings().choice != *choice {
            return Ok(());
        }
        gst::info!(CAT, obj = self.element, "going over to {source:?}");
        for note in engine.notes() {
            post::warning(&self.element, gst::LibraryError::Settings, note);
        }
        let candidate = Arc::new(Candidate::default());
        let newcomer = Newcomer {
            shared: Arc::downgrade(&self.shared),
            run: run.clone(),
            // The engine's sessions hold this, so this must not hold the engine.
            engine: Arc::downgrade(&engine),
            origin: Origin::new(&engine, &source),
            source,
            choice: choice.clone(),
            candidate: candidate.clone(),
        };
        forget_coming(&self.element, run);
        run.state().swap.expect(candidate.clone());
        captioner.change_model(&engine, newcomer.listener());
        // It may have been known to be useless before it was there.
        if candidate.is_refused() {
            captioner.keep_model();
        }
        Ok(())
    }

    /// Several backends, now or before: what answers goes on until one of them can that is preferred to it.
    fn change_all(
        &self,
        choice: &Choice,
        sources: Vec<Source>,
        captioner: &Captioner,
        run: &Run,
    ) -> Result<(), String> {
        let opened = sources.iter().map(|source| self.open(source));
        let opened: Vec<Result<Arc<Engine>, String>> = opened.collect();
        let reasons: Vec<&String> = opened.iter().filter_map(|one| one.as_ref().err()).collect();
        if reasons.len() == opened.len() {
            let reasons: Vec<String> = reasons.into_iter().cloned().collect();
            return Err(reasons.join("; "));
        }
        if self.shared.settings().choice != *choice {
            return Ok(());
        }
        for reason in reasons {
            let text = format!("{reason}; another backend answers");
            post::warning(&self.element, gst::ResourceError::NotFound, &text);
        }
        // Nobody begins to go over to one of those before.
        let before = self.shared.life().failover.take();
        forget_coming(&self.element, run);
        captioner.keep_model();
        gst::info!(CAT, obj = self.element, "the backends are now {sources:?}");
        let backends = sources.into_iter().zip(opened.into_iter().map(Result::ok));
        let mut life = self.shared.life();
        let known = before.iter().flat_map(Failover::identities);
        known.for_each(|model| life.remember(model));
        if let Some(model) = &mut life.model {
            model.choice = choice.clone();
            let in_use = (model.source.clone(), model.engine.clone());
            let failover = Failover::beside(backends.collect(), in_use, Instant::now());
            life.failover = Some(failover);
        }
        drop(life);
        // May join an engine's thread, so no lock is held.
        drop(before);
        Ok(())
    }

    /// The engine of a backend: the one that was opened already, if it was.
    fn open(&self, source: &Source) -> Result<Arc<Engine>, String> {
        let known = {
            let life = self.shared.life();
            let model = life.model.as_ref().filter(|model| model.source == *source);
            let failover = life.failover.as_ref();
            let opened = || failover.and_then(|failover| failover.engine_of(source));
            model.map(|model| model.engine.clone()).or_else(opened)
        };
        let engine = known.map_or_else(|| Engine::acquire(source), Ok);
        engine.map_err(|error| error.to_string())
    }
}

/// The model that was to come is not wanted any more: what it does is not told.
pub(super) fn forget_coming(element: &gst::Element, run: &Run) {
    let forgotten = run.state().swap.forget();
    if forgotten {
        run.end_loading(element, Loading::Idle, gst::ProgressType::Canceled);
    }
}

/// Hears of a model that is to come, and then of what it does.
struct Newcomer {
    shared: Weak<Shared>,
    run: Arc<Run>,
    engine: Weak<Engine>,
    source: Source,
    choice: Choice,
    origin: Origin,
    candidate: Arc<Candidate>,
}

impl Newcomer {
    fn listener(self) -> Listener {
        Arc::new(move |report| self.hear(report))
    }

    fn hear(&self, report: Report) {
        match report {
            Report::Model(ChangedOver) => self.arrive(),
            Report::Model(Progress(_) | Loaded { .. } | Failed(_))
                if self.candidate.is_unwanted() => {}
            Report::Model(Failed(reason)) if !self.candidate.has_arrived() => self.fail(&reason),
            report => report::hear(&self.shared, &self.run, &self.origin, report),
        }
    }

    fn arrive(&self) {
        self.candidate.arrive();
        let (Some(shared), Some(engine)) = (self.shared.upgrade(), self.engine.upgrade()) else {
            return;
        };
        shared.install(Model {
            engine,
            source: self.source.clone(),
            choice: self.choice.clone(),
            origin: self.origin.clone(),
        });
    }

    fn fail(&self, reason: &str) {
        let Some(shared) = self.shared.upgrade() else {
            return;
        };
        let Some(element) = shared.element() else {
            return;
        };
        if !self.candidate.refuse() {
            return;
        }
        self.run
            .end_loading(&element, Loading::Idle, gst::ProgressType::Error);
        refuse(&element, &shared, Some(&self.choice), reason);
        if let Some(captioner) = shared.captioner() {
            captioner.keep_model();
        }
    }
}

/// A model cannot be used: the one before stays, and so do its properties.
fn refuse(element: &gst::Element, shared: &Shared, asked: Option<&Choice>, reason: &str) {
    let kept = {
        let life = shared.life();
        life.model.as_ref().map(|model| model.choice.clone())
    };
    let mut reverted = Vec::new();
    if let (Some(asked), Some(kept)) = (asked, kept) {
        let mut settings = shared.settings();
        // Something else may have been asked for since.
        if settings.choice == *asked {
            let before = settings.clone();
            settings.choice = kept;
            reverted = properties::differing(&before, &settings);
        }
    }
    for name in reverted {
        element.notify(name);
    }
    let text = format!("{reason}; the model before stays");
    post::warning(element, gst::ResourceError::Failed, &text);
}

#[cfg(test)]
mod tests {
    use gst::subclass::prelude::*;

    use super::*;

    #[test]
    fn a_panic_while_a_model_is_read_is_told_and_its_properties_go_back() {
        gst::init().unwrap();
        let element = gst::glib::Object::new::<super::super::VlmCaption>();
        let bus = gst::Bus::new();
        element.set_bus(Some(&bus));
        element.set_property_from_str("backend", "mock");
        element.set_state(gst::State::Ready).unwrap();
        element.set_property("model", "/a/model");
        let change = ModelChange {
            shared: element.imp().shared.clone(),
            element: element.clone().upcast(),
        };
        change.attempt(|_| panic!("a strange file"));
        let warning = bus.pop_filtered(&[gst::MessageType::Warning]).unwrap();
        let gst::MessageView::Warning(warning) = warning.view() else {
            unreachable!()
        };
        let text = warning.error().to_string();
        assert!(text.contains("a strange file"), "{text}");
        assert!(text.contains("the model before stays"), "{text}");
        assert_eq!(element.property::<Option<String>>("model"), None);
        element.set_state(gst::State::Null).unwrap();
    }
}
