// SPDX-License-Identifier: MPL-2.0

//! Several backends: the clock's thread looks at them, and another one takes over when that is decided.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::failover::{Failover, Member, Step};
use super::log::CAT;
use super::model::Choice;
use super::output::Origin;
use super::post;
use super::report;
use super::run::Run;
use super::shared::{Life, Model, Shared};
use crate::caption::captioner::Captioner;
use crate::caption::engine::Engine;
use crate::caption::outbox::Listener;
use crate::caption::source::Source;
use crate::caption::succession::Patience;
use crate::caption::{ModelReport, Report};

/// How often the backends are looked at.
const PAUSE: Duration = Duration::from_millis(100);

/// Looks at the backends, if there are several; time until they are to be looked at again.
pub(super) fn watch(
    element: &gst::Element,
    shared: &Arc<Shared>,
    run: &Arc<Run>,
) -> Option<Duration> {
    let patience = {
        let settings = shared.settings();
        Patience {
            budget: settings.latency_budget(),
            silence: settings.model_timeout(),
        }
    };
    let now = Instant::now();
    let (steps, left) = {
        let mut life = shared.life();
        let left = follow(&mut life, now);
        (life.failover.as_mut()?.look(now, patience), left)
    };
    drop(left);
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

/// Another one answers than the backends know of; what is not needed any more.
fn follow(life: &mut Life, now: Instant) -> Vec<Member> {
    let Some(Model { source, engine, .. }) = &life.model else {
        return Vec::new();
    };
    let is_elsewhere = |failover: &mut Failover| failover.is_elsewhere(source);
    let Some(failover) = life.failover.take_if(is_elsewhere) else {
        return Vec::new();
    };
    let (failover, left) = failover.beside_it((source.clone(), engine.clone()), now);
    life.failover = Some(failover);
    left
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
            Step::Tell(text) => post::warning(self.element, gst::ResourceError::Failed, &text),
            Step::Drop(engine) => self.let_go(engine),
            Step::Open(which, source) => self.open(which, &source),
            Step::GoOver {
                source,
                engine,
                at_once,
                because,
                has_arrived,
            } => {
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

    /// Opens one that has failed before.
    fn open(&self, which: usize, source: &Source) {
        let engine = Engine::acquire(source);
        if let Err(error) = &engine {
            gst::debug!(CAT, obj = self.element, "{source:?} again: {error}");
        }
        let left = {
            let (mut life, now) = (self.shared.life(), Instant::now());
            match life.failover.as_mut() {
                Some(failover) => failover.opened(which, source, engine.ok(), now),
                None => engine.ok(),
            }
        };
        left.into_iter().for_each(|engine| self.let_go(engine));
    }

    /// Drops an engine, which may wait for a device that does not return. What it has sent is kept.
    fn let_go(&self, engine: Arc<Engine>) {
        self.shared.life().remember(engine.identity());
        drop(std::thread::spawn(move || drop(engine)));
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
                if let (Some(shared), Some(engine)) = (shared.upgrade(), weak.upgrade()) {
                    arrive(&shared, engine, &source, &choice, &origin, &because);
                }
                // Not before it is installed: who looks at the backends must find it there.
                has_arrived.store(true, Ordering::Release);
            }
            Report::Model(ModelReport::Loaded { notices, .. })
                if !has_arrived.load(Ordering::Acquire) =>
            {
                if let Some(element) = shared.upgrade().and_then(|shared| shared.element()) {
                    report::post_notices(&element, &notices);
                }
            }
            // Of one that does not answer yet it is told where all of them are looked at.
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
    let is_another = shared.install(Model {
        engine,
        source: source.clone(),
        choice: choice.clone(),
        origin: origin.clone(),
    });
    // It was to take over between two windows, and then at once.
    if !is_another {
        return;
    }
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
