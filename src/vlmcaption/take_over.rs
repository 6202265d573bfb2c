// SPDX-License-Identifier: MPL-2.0

//! Several backends: the clock's thread looks at them, and another one takes over when that is decided.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::failover::Step;
use super::log::CAT;
use super::model::Choice;
use super::output::Origin;
use super::post;
use super::report;
use super::run::Run;
use super::shared::{Model, Shared};
use crate::caption::captioner::Captioner;
use crate::caption::engine::Engine;
use crate::caption::outbox::Listener;
use crate::caption::source::Source;
use crate::caption::{ModelReport, Report};

/// How often the backends are looked at.
const PAUSE: Duration = Duration::from_millis(100);

/// Looks at the backends, if there are several; time until they are to be looked at again.
pub(super) fn watch(
    element: &gst::Element,
    shared: &Arc<Shared>,
    run: &Arc<Run>,
) -> Option<Duration> {
    let budget = shared.settings().latency_budget();
    let steps = {
        let mut life = shared.life();
        life.failover.as_mut()?.look(Instant::now(), budget)
    };
    let captioner = shared.captioner()?;
    let doing = Doing {
        element,
        shared,
        run,
        captioner: &captioner,
    };
    steps.into_iter().for_each(|step| doing.step(step));
    Some(PAUSE)
}

/// Does what was decided.
struct Doing<'a> {
    element: &'a gst::Element,
    shared: &'a Arc<Shared>,
    run: &'a Arc<Run>,
    captioner: &'a Captioner,
}

impl Doing<'_> {
    fn step(&self, step: Step) {
        match step {
            Step::Stay => self.captioner.keep_model(),
            // May wait for a device that does not return.
            Step::Drop(engine) => drop(std::thread::spawn(move || drop(engine))),
            Step::Open(which) => self.open(which),
            Step::GoOver {
                to,
                engine,
                at_once,
                because,
                has_arrived,
            } => {
                let Some(source) = self.source(to) else {
                    return;
                };
                gst::info!(
                    CAT,
                    obj = self.element,
                    "going over to {source:?}: {because}"
                );
                let listener = self.listener(&engine, source, because, has_arrived);
                match at_once {
                    true => self.captioner.fail_over(&engine, listener),
                    false => self.captioner.change_model(&engine, listener),
                }
            }
        }
    }

    fn source(&self, which: usize) -> Option<Source> {
        self.shared.life().failover.as_ref()?.source(which)
    }

    /// Opens one that has failed before.
    fn open(&self, which: usize) {
        let Some(source) = self.source(which) else {
            return;
        };
        let engine = Engine::acquire(&source);
        if let Err(error) = &engine {
            gst::debug!(CAT, obj = self.element, "{source:?} again: {error}");
        }
        let steps = {
            let mut life = self.shared.life();
            let failover = life.failover.as_mut();
            failover.map(|failover| failover.opened(which, engine.ok(), Instant::now()))
        };
        for step in steps.into_iter().flatten() {
            self.step(step);
        }
    }

    fn listener(
        &self,
        engine: &Arc<Engine>,
        source: Source,
        because: String,
        has_arrived: Arc<AtomicBool>,
    ) -> Listener {
        let (shared, run) = (Arc::downgrade(self.shared), self.run.clone());
        // The engine's sessions hold this, so this must not hold the engine.
        let weak = Arc::downgrade(engine);
        let origin = Origin::new(engine, &source);
        let choice = self.shared.settings().choice.clone();
        Arc::new(move |report| match report {
            Report::Model(ModelReport::ChangedOver) => {
                has_arrived.store(true, Ordering::Release);
                let (Some(shared), Some(engine)) = (shared.upgrade(), weak.upgrade()) else {
                    return;
                };
                arrive(&shared, engine, &source, &choice, &origin, &because);
            }
            Report::Model(ModelReport::Loaded { notices, .. })
                if !has_arrived.load(Ordering::Acquire) =>
            {
                if let Some(element) = shared.upgrade().and_then(|shared| shared.element()) {
                    report::post_notices(&element, &notices);
                }
            }
            // Of one that does not answer yet it is no matter whether it can.
            Report::Model(ModelReport::Loading(_) | ModelReport::Failed(_))
                if !has_arrived.load(Ordering::Acquire) => {}
            report => report::hear(&shared, &run, &origin, report),
        })
    }
}

/// Another backend answers from now on.
fn arrive(
    shared: &Arc<Shared>,
    engine: Arc<Engine>,
    source: &Source,
    choice: &Choice,
    origin: &Origin,
    because: &str,
) {
    let (backend, device, model) = (source.backend(), source.device(), origin.model.name());
    shared.install(Model {
        engine,
        source: source.clone(),
        choice: choice.clone(),
        origin: origin.clone(),
    });
    let Some(element) = shared.element() else {
        return;
    };
    let text = format!("backend {backend} ({device}) answers from now on: {because}");
    post::info(&element, gst::ResourceError::Failed, &text);
    let message = gst::Structure::builder("vlmcaption/backend")
        .field("backend", backend)
        .field("device", device)
        .field("model", model)
        .field("reason", because);
    post::structure(&element, message.build());
}
