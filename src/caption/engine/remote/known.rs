// SPDX-License-Identifier: MPL-2.0

//! The servers of this process: one client for each, however many elements ask it, and what it was
//! found to take.

use std::collections::HashMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::{Duration, Instant};

use openai_client::{Client, Config, ConfigError, ServerTraits};

use super::probing;
use crate::backend::Cancel;

/// A server that this process asks.
pub(super) struct Known {
    client: Client,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    found: Option<Found>,
    /// Somebody finds it out.
    probing: bool,
    /// It wants to be left alone until then, in these words.
    busy: Option<(Instant, String)>,
}

/// What a server was found to take.
struct Found {
    traits: Arc<ServerTraits>,
    /// It was asked questions for it.
    asked: bool,
}

/// Whoever finds out what a server takes; the next one may try once this is dropped.
struct Probing<'a>(&'a Known);

impl Drop for Probing<'_> {
    fn drop(&mut self) {
        self.0.state().probing = false;
        self.0.changed.notify_all();
    }
}

impl Known {
    /// The server of a configuration.
    ///
    /// # Errors
    /// Files, certificates and proxies that cannot be used.
    pub(super) fn of(config: Config) -> Result<Arc<Self>, ConfigError> {
        static SERVERS: OnceLock<Mutex<HashMap<Config, Weak<Known>>>> = OnceLock::new();
        let servers = SERVERS.get_or_init(Mutex::default).lock();
        let mut servers = servers.unwrap_or_else(PoisonError::into_inner);
        servers.retain(|_, server| server.strong_count() > 0);
        if let Some(known) = servers.get(&config).and_then(Weak::upgrade) {
            return Ok(known);
        }
        let known = Arc::new(Self {
            client: Client::new(config.clone())?,
            state: Mutex::default(),
            changed: Condvar::new(),
        });
        servers.insert(config, Arc::downgrade(&known));
        Ok(known)
    }

    /// Its client, with a meter of the caller's own.
    pub(super) fn client(&self) -> Client {
        self.client.metered()
    }

    /// What it takes, by `client`; with `ask` also what only questions tell. Of several that want to
    /// know, one finds it out.
    ///
    /// # Errors
    /// Why it cannot be found out.
    pub(super) fn traits(
        self: &Arc<Self>,
        client: &Client,
        ask: bool,
        cancel: &Cancel,
    ) -> Result<Arc<ServerTraits>, String> {
        let _woken = cancel.on_cancel({
            let known = Arc::downgrade(self);
            move || {
                if let Some(known) = known.upgrade() {
                    // Nobody is between a look and a wait once this has the lock.
                    drop(known.state());
                    known.changed.notify_all();
                }
            }
        });
        let mut state = self.state();
        loop {
            if cancel.is_cancelled() {
                return Err("cancelled".into());
            }
            match &state.found {
                Some(found) if found.asked || !ask => return Ok(found.traits.clone()),
                _ if !state.probing => break,
                _ => {}
            }
            let waited = self.changed.wait(state);
            state = waited.unwrap_or_else(PoisonError::into_inner);
        }
        state.probing = true;
        drop(state);
        let _probing = Probing(self);
        let traits = Arc::new(probing::probe(client, ask, cancel)?);
        self.state().found = Some(Found {
            traits: traits.clone(),
            asked: ask,
        });
        Ok(traits)
    }

    /// It has failed: what it takes is found out anew.
    pub(super) fn forget(&self) {
        self.state().found = None;
    }

    /// It wants to be left alone.
    pub(super) fn leave_alone(&self, wait: Duration, reason: &str) {
        let until = Instant::now().checked_add(wait);
        self.state().busy = until.map(|until| (until, reason.to_owned()));
    }

    /// Why it is not to be asked now, if it has said so; a wait of at most `patience` is no reason.
    pub(super) fn busy(&self, patience: Duration) -> Option<String> {
        let mut state = self.state();
        let (until, reason) = state.busy.as_ref()?;
        let left = until.saturating_duration_since(Instant::now());
        if left <= patience {
            state.busy = None;
            return None;
        }
        Some(reason.clone())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
