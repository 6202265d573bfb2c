// SPDX-License-Identifier: MPL-2.0

//! State changes: a model from READY, a run from PAUSED.

use std::sync::Arc;
use std::time::Instant;

use gst::prelude::*;

use super::change_model::forget_coming;
use super::changes::{apply_ask, apply_detections};
use super::failover::Failover;
use super::keeper::{self, Keeper};
use super::log::CAT;
use super::output::Origin;
use super::post;
use super::report;
use super::round::round;
use super::run::{Loading, Run, Running};
use super::settings::Plan;
use super::shared::{Model, Shared};
use super::sources::sources;
use super::stream::Stream;
use super::timer::Timer;
use crate::caption::alarm::Ending;
use crate::caption::captioner::Captioner;
use crate::caption::engine::{Engine, Error};
use crate::caption::source::Source;

/// The element on its way from state to state.
pub(super) struct Lifecycle<'a> {
    pub element: &'a gst::Element,
    pub shared: &'a Arc<Shared>,
}

impl Lifecycle<'_> {
    /// NULL to READY: everything that can be known of the model without reading its weights.
    pub fn open(&self) -> Result<(), gst::StateChangeError> {
        let plan = self.plan()?;
        let (engine, _) = self.acquire(&plan)?;
        for note in engine.notes() {
            post::warning(self.element, gst::LibraryError::Settings, note);
        }
        if plan.demo {
            const DEMO: &str = "no model is named: the built-in demo model runs. It knows coloured \
                                shapes that move and the patterns of videotestsrc; for anything \
                                else set model=/path/to/a/Qwen3-VL/checkpoint";
            post::info(self.element, gst::LibraryError::Settings, DEMO);
        }
        Ok(())
    }

    /// READY to PAUSED: threads begin to wait for frames.
    pub fn start(&self) -> Result<(), gst::StateChangeError> {
        let plan = self.plan()?;
        let (engine, source) = self.acquire(&plan)?;
        let mut stream = Stream::new(plan.options.sample_rate, plan.options.window);
        stream.fixed = plan.fixed;
        let keeper = plan.evidence.as_ref();
        let keeper = keeper.map(|options| {
            let weak = Arc::downgrade(self.shared);
            let told = move |writing| {
                if let Some(element) = weak.upgrade().and_then(|shared| shared.element()) {
                    keeper::tell(&element, &writing);
                }
            };
            Keeper::start(options, Box::new(told))
        });
        let keeper = keeper.transpose().map_err(|error| self.no_thread(&error))?;
        let run = Arc::new(Run::new(stream, keeper));
        self.shared.text.reset();
        let origin = Origin::new(&engine, &source);
        let listener = report::listener(self.shared, run.clone(), origin);
        let captioner = Captioner::start(&engine, plan.options, listener);
        let captioner = Arc::new(captioner.map_err(|error| self.no_thread(&error))?);
        let (weak, failing) = (Arc::downgrade(self.shared), Arc::downgrade(self.shared));
        let timer = Timer::start(
            run.waker.clone(),
            move || round(&weak.upgrade()?),
            move |reason| {
                if let Some(element) = failing.upgrade().and_then(|shared| shared.element()) {
                    post::warning(&element, gst::ResourceError::Failed, reason);
                }
            },
        );
        let timer = timer.map_err(|error| self.no_thread(&error))?;
        self.hand_over(Running {
            timer,
            captioner,
            run,
        })
    }

    /// The run is there from now on, with what was set since it was planned.
    fn hand_over(&self, running: Running) -> Result<(), gst::StateChangeError> {
        let (captioner, run) = (running.captioner.clone(), running.run.clone());
        let live = {
            let settings = self.shared.settings();
            let mut life = self.shared.life();
            life.running = Some(running);
            life.last_stats = None;
            run.swap_numbered(&mut life.numbered);
            drop(life);
            apply_detections(&run, &settings);
            let live = settings.live();
            live.map(|(ask, rules)| (apply_ask(&run, &captioner, ask), rules))
        };
        let (over, rules) = live.map_err(|reason| {
            post::error(self.element, gst::LibraryError::Settings, &reason);
            gst::StateChangeError
        })?;
        captioner.set_rules(rules);
        run.post_events(self.element, over, None);
        Ok(())
    }

    /// PAUSED to READY, before the pads are deactivated: wakes a streaming thread that waits.
    pub fn interrupt(&self) {
        if let Some(captioner) = self.shared.captioner() {
            captioner.start_flush();
        }
    }

    /// PAUSED to READY: joins the threads, and forgets the stream.
    pub fn stop(&self) {
        let running = self.shared.life().running.take();
        if let Some(running) = running {
            self.end(running);
        }
        self.shared.text.reset();
    }

    fn end(&self, running: Running) {
        let Running {
            timer,
            captioner,
            run,
        } = running;
        // Each joins its thread, so no lock is held.
        drop(timer);
        drop(captioner);
        if let Some(keeper) = &run.keeper {
            keeper.end();
        }
        let element = self.element;
        forget_coming(element, &run);
        run.end_loading(element, Loading::Over, gst::ProgressType::Canceled);
        run.end_inquiries(element);
        run.end_events(element, Ending::Stop);
        run.count_text_drops(self.shared.text.n_dropped());
        run.post_last_drops(element);
        let stats = self
            .shared
            .stats_of(&run, None, "application/x-vlmcaption-stats");
        let mut life = self.shared.life();
        run.swap_numbered(&mut life.numbered);
        life.last_stats = Some(stats);
    }

    /// READY to NULL.
    pub fn close(&self) {
        let model = {
            let mut life = self.shared.life();
            let failover = life.failover.take();
            let model = life.model.take();
            if let Some(model) = &model {
                life.remember(&model.origin.model);
            }
            (model, failover)
        };
        // May join an engine's thread, so no lock is held.
        drop(model);
    }

    /// Begins anew with the next frame.
    pub fn reset(&self) {
        gst::info!(CAT, obj = self.element, "reset");
        if let Some(captioner) = self.shared.captioner() {
            captioner.restart();
            let epoch = captioner.epoch();
            gst::trace!(CAT, obj = self.element, "epoch {epoch} begins by a reset");
        }
        if let Some(run) = self.shared.run() {
            run.end_events(self.element, Ending::Reset);
            run.state().board.clear();
        }
    }

    fn plan(&self) -> Result<Plan, gst::StateChangeError> {
        let settings = self.shared.settings().clone();
        let name = self.element.name();
        let plan = sources(&settings).and_then(|sources| settings.plan(&name, sources));
        plan.map_err(|reason| {
            post::error(self.element, gst::LibraryError::Settings, &reason);
            gst::StateChangeError
        })
    }

    /// The engine that answers at first, and what it is of: the one in use if it still fits.
    fn acquire(&self, plan: &Plan) -> Result<(Arc<Engine>, Source), gst::StateChangeError> {
        let in_use = {
            let life = self.shared.life();
            let model = life.model.as_ref();
            let model = model.filter(|model| model.source == plan.sources[0]);
            model.map(|model| model.engine.clone())
        };
        let mut opened = Vec::new();
        for (which, source) in plan.sources.iter().enumerate() {
            let engine = match &in_use {
                Some(engine) if which == 0 => Ok(engine.clone()),
                _ => self.open_backend(source),
            };
            opened.push(engine.map_err(|error| error.to_string()));
        }
        let current = opened.iter().position(Result::is_ok);
        let first = current.and_then(|current| opened[current].as_ref().ok().cloned());
        let (Some(current), Some(engine)) = (current, first) else {
            let reasons: Vec<String> = opened.into_iter().filter_map(Result::err).collect();
            post::error(
                self.element,
                gst::ResourceError::NotFound,
                &reasons.join("; "),
            );
            return Err(gst::StateChangeError);
        };
        for reason in opened.iter().filter_map(|engine| engine.as_ref().err()) {
            let text = format!("{reason}; another backend answers");
            post::warning(self.element, gst::ResourceError::NotFound, &text);
        }
        let source = plan.sources[current].clone();
        let several = opened.len() > 1;
        let members = plan
            .sources
            .iter()
            .cloned()
            .zip(opened.into_iter().map(Result::ok));
        let failover = several.then(|| Failover::new(members.collect(), current, Instant::now()));
        let before = std::mem::replace(&mut self.shared.life().failover, failover);
        // May join an engine's thread, so no lock is held.
        drop(before);
        if !in_use.is_some_and(|in_use| Arc::ptr_eq(&in_use, &engine)) {
            self.shared.install(Model {
                engine: engine.clone(),
                source: source.clone(),
                choice: plan.choice.clone(),
                origin: Origin::new(&engine, &source),
            });
        }
        Ok((engine, source))
    }

    /// The engine of a backend: the one that was opened already, if it was.
    fn open_backend(&self, source: &Source) -> Result<Arc<Engine>, Error> {
        let known = {
            let life = self.shared.life();
            let failover = life.failover.as_ref();
            failover.and_then(|failover| failover.engine_of(source))
        };
        known.map_or_else(|| Engine::acquire(source), Ok)
    }

    fn no_thread(&self, error: &std::io::Error) -> gst::StateChangeError {
        let text = format!("cannot start a thread: {error}");
        post::error(self.element, gst::ResourceError::Failed, &text);
        gst::StateChangeError
    }
}
