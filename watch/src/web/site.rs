// SPDX-License-Identifier: MPL-2.0

//! What every request has at hand: the cameras, the store, the users.

use std::sync::{Arc, Mutex};

use tokio::sync::{Semaphore, broadcast};

use crate::accounts::{Accounts, User};
use crate::hub::{Hub, Notice};
use crate::store::Error;
use crate::store::files::Layout;
use crate::store::keeper::Status;
use crate::store::reader::Reader;
use crate::time::Millis;

use super::limit::Limiter;
use super::proof::Proof;

/// Notices that a slow browser may be behind; then it is told everything anew.
const BEHIND: usize = 256;

/// How many look at video at the same time.
pub const MOST_VIEWERS: usize = 8;

/// What every request has at hand.
pub struct Site {
    pub hub: Arc<Hub>,
    pub store: Arc<Mutex<Status>>,
    pub limiter: Mutex<Limiter>,
    pub notices: broadcast::Sender<Notice>,
    /// The places of those who look at video.
    pub viewers: Arc<Semaphore>,
    layout: Layout,
    /// Two, so that a search holds up no picture.
    readers: [Mutex<Reader>; 2],
    accounts: Mutex<Accounts>,
    /// For log-ins alone, one at a time: a hash takes 19 MiB and its time, and sessions do not wait for it.
    hashing: Mutex<Accounts>,
}

impl Site {
    /// Of a running program.
    pub fn new(
        hub: Arc<Hub>,
        store: Arc<Mutex<Status>>,
        layout: &Layout,
    ) -> Result<Arc<Self>, Error> {
        let (notices, _) = broadcast::channel(BEHIND);
        let sender = notices.clone();
        // Nobody listening is no fault.
        hub.listen(Box::new(move |notice| drop(sender.send(notice.clone()))));
        Ok(Arc::new(Self {
            hub,
            store,
            limiter: Mutex::default(),
            notices,
            viewers: Arc::new(Semaphore::new(MOST_VIEWERS)),
            layout: layout.clone(),
            readers: std::array::from_fn(|_| Mutex::new(Reader::new(layout.clone()))),
            accounts: Mutex::new(Accounts::open(layout)?),
            hashing: Mutex::new(Accounts::open(layout)?),
        }))
    }

    /// Where the store is.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Reads of the store.
    pub fn read<T>(&self, ask: impl FnOnce(&mut Reader) -> Result<T, Error>) -> Result<T, Error> {
        tokio::task::block_in_place(|| {
            let [first, second] = &self.readers;
            let free = first.try_lock().ok();
            ask(&mut free.unwrap_or_else(|| second.lock().unwrap()))
        })
    }

    /// Asks of sessions.
    pub fn sessions<T>(&self, ask: impl FnOnce(&Accounts) -> Result<T, Error>) -> Result<T, Error> {
        tokio::task::block_in_place(|| ask(&self.accounts.lock().unwrap()))
    }

    /// Asks what takes a hash.
    pub fn passwords<T>(
        &self,
        ask: impl FnOnce(&Accounts) -> Result<T, Error>,
    ) -> Result<T, Error> {
        tokio::task::block_in_place(|| ask(&self.hashing.lock().unwrap()))
    }

    /// The user of whatever somebody shows, as long as it holds.
    pub fn user(&self, proof: &Proof) -> Option<User> {
        let found = self.sessions(|accounts| match proof {
            Proof::Session(token) => accounts.session(token, Millis::now()),
            // One for metrics is for nothing else.
            Proof::Token(token) => {
                let found = accounts.token(token, Millis::now())?;
                Ok(found.filter(|(_, metrics)| !metrics).map(|(user, _)| user))
            }
            Proof::Proxy(name) => accounts.user(name),
        });
        found.ok().flatten()
    }
}
