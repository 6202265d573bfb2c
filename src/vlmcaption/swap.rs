// SPDX-License-Identifier: MPL-2.0

//! Another model while the video plays: opened and loaded in the background, then taken over
//! between two windows.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use gst::prelude::*;
use gst::subclass::prelude::*;

use super::imp::{CAT, Model, VlmCaption};
use super::model::Choice;
use super::output::Origin;
use super::properties;
use super::stats::Loading;
use crate::caption::Report;
use crate::caption::engine::{Engine, Listener};

/// Several properties may be set one after another: a change begins this long after the last.
const SETTLE: Duration = Duration::from_millis(100);

/// What has become of a model that was asked for.
#[derive(Default)]
pub(super) struct Fate {
    arrived: AtomicBool,
    refused: AtomicBool,
    /// Another one was asked for since.
    unwanted: AtomicBool,
}

impl VlmCaption {
    /// A property that chooses the model was set while the element runs.
    pub(super) fn model_changed(&self) {
        *self.swap_at.lock().unwrap() = Some(Instant::now() + SETTLE);
        self.wake_minder();
    }

    /// Begins a change of the model when it is time; time until then.
    pub(super) fn begin_swap(&self, now: Instant) -> Option<Duration> {
        {
            let mut at = self.swap_at.lock().unwrap();
            let due = (*at)?;
            if now < due {
                return Some(due - now);
            }
            *at = None;
        }
        // Reading a model's configuration takes a while, and the minder has other things to mind.
        let element = self.obj().clone();
        let thread = std::thread::Builder::new().name("vlmcaption-swap".into());
        if let Err(error) = thread.spawn(move || element.imp().swap()) {
            self.refuse_model(None, &format!("cannot start a thread: {error}"));
        }
        None
    }

    fn swap(&self) {
        let (choice, source) = {
            let settings = self.settings.lock().unwrap();
            (settings.choice.clone(), settings.choice.source())
        };
        let Some(captioner) = self.captioner() else {
            return;
        };
        let source = match source {
            Ok(source) => source,
            Err(reason) => return self.refuse_model(Some(&choice), &reason),
        };
        let in_use = self
            .model
            .lock()
            .unwrap()
            .as_ref()
            .map(|m| m.source.clone());
        if in_use.as_ref() == Some(&source) {
            self.forget_coming();
            captioner.keep_model();
            return;
        }
        let engine = match Engine::acquire(&source) {
            Ok(engine) => engine,
            Err(error) => return self.refuse_model(Some(&choice), &error.to_string()),
        };
        // Reading took a while: who asked for yet another model has that begun.
        if self.settings.lock().unwrap().choice != choice {
            return;
        }
        gst::info!(CAT, imp = self, "going over to {source:?}");
        for note in engine.notes() {
            gst::element_imp_warning!(self, gst::LibraryError::Settings, ("{note}"));
        }
        let origin = Origin::new(&engine, &source);
        let model = Model {
            engine: engine.clone(),
            source,
            choice,
            origin,
        };
        let fate = Arc::new(Fate::default());
        self.forget_coming();
        *self.coming.lock().unwrap() = Some(fate.clone());
        captioner.change_model(&engine, self.newcomer(model, fate.clone()));
        // It may have been known to be useless before it was there.
        if fate.refused.load(Ordering::Acquire) {
            captioner.keep_model();
        }
    }

    /// The model that was to come is not wanted any more: what it does is not told.
    pub(super) fn forget_coming(&self) {
        let fate = self.coming.lock().unwrap().take();
        if let Some(fate) = fate
            && !fate.arrived.load(Ordering::Acquire)
        {
            fate.unwanted.store(true, Ordering::Release);
            self.end_loading(Loading::Idle, gst::ProgressType::Canceled);
        }
    }

    /// Hears of a model that is to come, and then of what it does.
    fn newcomer(&self, model: Model, fate: Arc<Fate>) -> Listener {
        let weak = self.obj().downgrade();
        // The engine's sessions hold this, so this must not hold the engine.
        let engine = Arc::downgrade(&model.engine);
        let Model {
            source,
            choice,
            origin,
            ..
        } = model;
        Arc::new(move |report| {
            let Some(element) = weak.upgrade() else {
                return;
            };
            let this = element.imp();
            match report {
                Report::ChangedOver => {
                    fate.arrived.store(true, Ordering::Release);
                    if let Some(engine) = engine.upgrade() {
                        this.install(Model {
                            engine,
                            source: source.clone(),
                            choice: choice.clone(),
                            origin: origin.clone(),
                        });
                    }
                }
                Report::Loading(_) | Report::Loaded { .. }
                    if fate.unwanted.load(Ordering::Acquire) => {}
                Report::LoadFailed(_) if fate.unwanted.load(Ordering::Acquire) => {}
                Report::LoadFailed(reason) if !fate.arrived.load(Ordering::Acquire) => {
                    if fate.refused.swap(true, Ordering::AcqRel) {
                        return;
                    }
                    this.end_loading(Loading::Idle, gst::ProgressType::Error);
                    this.refuse_model(Some(&choice), &reason);
                    if let Some(captioner) = this.captioner() {
                        captioner.keep_model();
                    }
                }
                report => this.report(report, &origin),
            }
        })
    }

    /// Another model takes over.
    pub(super) fn install(&self, model: Model) {
        gst::info!(CAT, imp = self, "the model is now {}", model.origin.model);
        {
            let mut origin = self.origin.lock().unwrap();
            *origin = Origin {
                stream_id: std::mem::take(&mut origin.stream_id),
                ..model.origin.clone()
            };
        }
        let before = self.model.lock().unwrap().replace(model);
        // May join an engine's thread, so no lock is held.
        drop(before);
    }

    /// A model cannot be used: the one before stays, and so do its properties.
    fn refuse_model(&self, asked: Option<&Choice>, reason: &str) {
        let kept = self
            .model
            .lock()
            .unwrap()
            .as_ref()
            .map(|m| m.choice.clone());
        let mut reverted = Vec::new();
        if let (Some(asked), Some(kept)) = (asked, kept) {
            let mut settings = self.settings.lock().unwrap();
            // Something else may have been asked for since.
            if settings.choice == *asked {
                let before = settings.clone();
                settings.choice = kept;
                reverted = properties::differing(&before, &settings);
            }
        }
        for name in reverted {
            self.obj().notify(name);
        }
        gst::element_imp_warning!(
            self,
            gst::ResourceError::Failed,
            ("{reason}; the model before stays")
        );
    }
}
