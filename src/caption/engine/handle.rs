// SPDX-License-Identifier: MPL-2.0

//! An engine as elements hold it.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::thread::JoinHandle;
use std::time::Duration;

use super::error::Error;
use super::identity::Identity;
use super::opened::Opened;
use super::run;
use super::shared::Shared;
use super::source::Source;
use super::standing::Standing;
use crate::backend::Health;
use crate::caption::frames::processor::FrameProcessor;

/// A model and the thread that owns it; it ends with the last reference.
pub struct Engine {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Engine {
    /// The engine for `source`: the one that runs already, or a new one, its weights being read in
    /// the background.
    ///
    /// # Errors
    /// What can be said of the model without reading its weights.
    pub fn acquire(source: &Source) -> Result<Arc<Self>, Error> {
        static ENGINES: OnceLock<Mutex<HashMap<Source, Weak<Engine>>>> = OnceLock::new();
        let engines = ENGINES.get_or_init(Mutex::default).lock();
        // A model at which the reading of its configuration panicked is not among them.
        let mut engines = engines.unwrap_or_else(PoisonError::into_inner);
        engines.retain(|_, engine| engine.strong_count() > 0);
        // A server has no device to take turns on: each element asks it on a thread of its own.
        let running = match source.is_shared() {
            true => engines.get(source).and_then(Weak::upgrade),
            false => None,
        };
        if let Some(engine) = running.filter(|engine| !engine.shared.schedule().has_ended()) {
            return Ok(engine);
        }
        let engine = Arc::new(Self::start(source.open()?)?);
        if source.is_shared() {
            engines.insert(source.clone(), Arc::downgrade(&engine));
        }
        Ok(engine)
    }

    /// An engine of its own.
    pub(crate) fn start(opened: Opened) -> Result<Self, Error> {
        let Opened {
            identity,
            processor,
            loader,
            longest_pause,
            notes,
        } = opened;
        let shared = Arc::new(Shared::new(identity, processor, notes));
        let thread = run::start(shared.clone(), loader, longest_pause).map_err(Error::Thread)?;
        Ok(Self {
            shared,
            thread: Some(thread),
        })
    }

    /// What answers, and what it was sent.
    pub fn identity(&self) -> &Arc<Identity> {
        &self.shared.identity
    }

    /// What is done to the frames that it is shown.
    pub fn processor(&self) -> &Arc<dyn FrameProcessor> {
        &self.shared.processor
    }

    /// What the user should know of the model, though it works.
    pub fn notes(&self) -> &[String] {
        &self.shared.notes
    }

    /// How the device fares, as it was at most a second of work ago.
    pub fn health(&self) -> Health {
        self.shared.health()
    }

    /// How it stands.
    pub fn standing(&self) -> Standing {
        self.shared.record.now()
    }

    /// It is one of several: while nobody uses it, it is looked whether it is still there, if that can be
    /// seen without a turn.
    pub fn stand_by(&self) {
        self.shared.stands_by.store(true, Ordering::Relaxed);
        self.shared.notify();
    }

    /// How long the turn has been made that began first of those that are being made.
    pub fn longest_turn(&self) -> Duration {
        self.shared.longest_turn()
    }

    /// How long nothing has been heard of the device, though it has work. The first call after a
    /// sign of life says zero, so this must be asked again and again.
    pub fn silence(&self) -> Duration {
        self.shared.silence()
    }

    /// What its sessions work on.
    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        /// A device that does not return is left alone after this: nobody can stop it, and a
        /// pipeline that is stopped must not wait for it.
        const PATIENCE: Duration = Duration::from_secs(2);
        self.shared.cancel.cancel();
        self.shared.schedule().quit();
        self.shared.notify();
        let Some(thread) = self.thread.take() else {
            return;
        };
        // What is done when a session has told all may have held the last reference: the thread
        // cannot wait for itself.
        if thread.thread().id() == std::thread::current().id() {
            return;
        }
        if self
            .shared
            .wait_until(PATIENCE, |schedule| schedule.has_ended())
        {
            // A panic in it was caught and reported there.
            let _ = thread.join();
        }
    }
}
