// SPDX-License-Identifier: MPL-2.0

//! One element's sessions while it goes over from one model to another.
//!
//! ```text
//! before   [A: answers what it was given, then is given up]
//! current  [B: gets the new windows; its answers wait until A's have been told]
//! next     [C: loading]
//! ```

use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

use super::Report;
use super::engine::Engine;
use super::inquiry::Asked;
use super::mailbox::{DropPolicy, Sent, Waited};
use super::pairs::Coming;
use super::prompt::Ask;
use super::reporter::Outlet;
use super::schedule::Job;
use super::session::Session;
use super::window::Pair;
use crate::vlm::Checkpoint;

/// The sessions of one element; all but one of them only while a model is exchanged.
pub(super) struct Sessions(Arc<Mutex<Places>>);

struct Places {
    current: Arc<Session>,
    /// Takes over once its model is loaded, at the next boundary of windows.
    next: Option<Next>,
    /// Still have windows to answer; the oldest first.
    before: Vec<Arc<Session>>,
}

struct Next {
    session: Arc<Session>,
    outlet: Outlet,
}

impl Places {
    fn all(&self) -> Vec<Arc<Session>> {
        let before = self.before.iter().cloned();
        before.chain([self.current.clone()]).collect()
    }

    /// Takes those out that `is_done` names, and lets the first of the others answer.
    fn remove(&mut self, is_done: impl Fn(&Session) -> bool) -> Vec<Arc<Session>> {
        let before = std::mem::take(&mut self.before);
        let (done, rest) = before.into_iter().partition(|session| is_done(session));
        self.before = rest;
        self.before.first().unwrap_or(&self.current).release();
        done
    }
}

impl Sessions {
    /// One session.
    pub fn new(session: Session) -> Self {
        Self(Arc::new(Mutex::new(Places {
            current: Arc::new(session),
            next: None,
            before: Vec::new(),
        })))
    }

    /// Begins to go over to another model: [`change_over`](Self::change_over) does it once the
    /// model is loaded. Another one that was to come is forgotten.
    pub fn prepare(&self, engine: &Arc<Engine>, outlet: Outlet) {
        let session = Arc::new(self.current().heir(engine, outlet.clone()));
        let next = Next { session, outlet };
        let before = self.0.lock().unwrap().next.replace(next);
        // May join an engine's thread, so no lock is held.
        drop(before);
    }

    /// Forgets the model that was to come.
    pub fn stay(&self) {
        let next = self.0.lock().unwrap().next.take();
        drop(next);
    }

    /// Goes over to the model that was to come, if it is loaded: windows from now on are for it.
    /// What its checkpoint says, if so.
    pub fn change_over(&self) -> Option<Arc<Checkpoint>> {
        let (old, new) = {
            let mut places = self.0.lock().unwrap();
            let new = places.next.take_if(|next| next.session.is_ready())?;
            new.session.inherit(&places.current);
            let old = std::mem::replace(&mut places.current, new.session.clone());
            places.before.push(old.clone());
            (old, new)
        };
        new.outlet.put(Report::ChangedOver);
        let (weak, id) = (Arc::downgrade(&self.0), Arc::as_ptr(&old) as usize);
        old.retire(Box::new(move || give_up(&weak, id)));
        Some(new.session.checkpoint())
    }

    /// Gives sessions up that will not answer any more: their devices are silent for `patience`, or
    /// their models cannot be used.
    pub fn give_up_lost(&self, patience: Duration) {
        let lost = {
            let mut places = self.0.lock().unwrap();
            if places.before.is_empty() {
                return;
            }
            places.remove(|session| session.is_lost(patience))
        };
        drop(lost);
    }

    fn current(&self) -> Arc<Session> {
        self.0.lock().unwrap().current.clone()
    }

    /// [`Session::offer_pairs`]
    pub fn offer_pairs(&self, pairs: &[Arc<Pair>], of: Option<Coming>, epoch: u64) {
        self.current().offer_pairs(pairs, of, epoch);
    }

    /// [`Session::submit`]
    pub fn submit(&self, job: Job, epoch: u64) -> Sent<Job> {
        self.current().submit(job, epoch)
    }

    /// [`Session::inquire`]
    pub fn inquire(&self, asked: Asked, epoch: u64) -> Result<(), String> {
        self.current().inquire(asked, epoch)
    }

    /// [`Session::epoch`]
    pub fn epoch(&self) -> u64 {
        self.current().epoch()
    }

    /// [`Session::set_ask`]
    pub fn set_ask(&self, ask: Ask) -> bool {
        self.0.lock().unwrap().current.set_ask(ask)
    }

    /// [`Session::set_policy`]
    pub fn set_policy(&self, policy: DropPolicy) {
        let places = self.0.lock().unwrap();
        for session in places.all() {
            session.set_policy(policy);
        }
    }

    /// [`Session::set_stream`]
    pub fn set_stream(&self, stream: &str) {
        self.0.lock().unwrap().current.set_stream(stream);
    }

    /// [`Session::queued`], all together.
    pub fn queued(&self) -> usize {
        let all = self.0.lock().unwrap().all();
        all.iter().map(|session| session.queued()).sum()
    }

    /// [`Session::start_flush`]: nothing is left for the sessions before the current one.
    pub fn start_flush(&self) {
        self.forget(Session::start_flush);
    }

    /// [`Session::stop_flush`]
    pub fn stop_flush(&self) {
        self.current().stop_flush();
    }

    /// [`Session::restart`]: nothing is left for the sessions before the current one.
    pub fn restart(&self) {
        self.forget(Session::restart);
    }

    fn forget(&self, begin: impl Fn(&Session)) {
        let before = {
            let mut places = self.0.lock().unwrap();
            places.all().iter().for_each(|session| begin(session));
            let before = std::mem::take(&mut places.before);
            places.current.release();
            before
        };
        // May join an engine's thread, so no lock is held.
        drop(before);
    }

    /// [`Session::wait_idle`], all of them.
    pub fn wait_idle(&self, deadline: Instant) -> Waited {
        let all = self.0.lock().unwrap().all();
        // What becomes of the last one counts: one before it may be given up.
        all.iter()
            .fold(Waited::Idle, |_, session| session.wait_idle(deadline))
    }
}

/// A session has told all its answers: the next in line may tell its own.
fn give_up(places: &Weak<Mutex<Places>>, id: usize) {
    let done = places.upgrade().map(|places| {
        let mut places = places.lock().unwrap();
        places.remove(|session| std::ptr::from_ref(session) as usize == id)
    });
    // May be the last reference to an engine, on its own thread, so no lock is held.
    drop(done);
}
