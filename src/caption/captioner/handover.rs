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

use crate::caption::engine::Engine;
use crate::caption::engine::session::Session;
use crate::caption::frames::processor::FrameProcessor;
use crate::caption::mailbox::{DropPolicy, Waited};
use crate::caption::questions::prompt::Ask;
use crate::caption::reports::report::ModelReport;
use crate::caption::reports::reporter::Outlet;

/// The sessions of one element; all but one of them only while a model is exchanged.
pub(crate) struct Sessions(Arc<Mutex<Line>>);

/// The sessions in the order in which they answer.
struct Line {
    /// Still have windows to answer; the oldest first.
    before: Vec<Arc<Session>>,
    current: Arc<Session>,
    /// Takes over once its model is loaded, at the next boundary of windows.
    next: Option<Next>,
}

struct Next {
    session: Arc<Session>,
    outlet: Outlet,
    manner: Manner,
}

/// How a model gives way to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Manner {
    /// Between two windows, and what it was given it answers first.
    InOrder,
    /// With the next frame, and what it was given is given up: it has failed.
    AtOnce,
}

impl Line {
    fn all(&self) -> Vec<Arc<Session>> {
        let before = self.before.iter().cloned();
        before.chain([self.current.clone()]).collect()
    }

    /// Takes those out that `is_done` names, and lets the first of the others answer.
    fn remove(&mut self, is_done: impl Fn(&Session) -> bool) -> Vec<Arc<Session>> {
        let before = std::mem::take(&mut self.before);
        let (done, rest) = before.into_iter().partition(|session| is_done(session));
        self.before = rest;
        let first = self.before.first().unwrap_or(&self.current);
        first.change(|session| session.release());
        done
    }
}

impl Sessions {
    /// One session.
    pub(crate) fn new(session: Session) -> Self {
        Self(Arc::new(Mutex::new(Line {
            before: Vec::new(),
            current: Arc::new(session),
            next: None,
        })))
    }

    /// The one that gets the new windows.
    pub(crate) fn current(&self) -> Arc<Session> {
        self.0.lock().unwrap().current.clone()
    }

    /// Begins to go over to another model: [`change_over`](Self::change_over) does it once the
    /// model is loaded. Another one that was to come is forgotten.
    pub(crate) fn begin_change(&self, engine: &Arc<Engine>, outlet: Outlet, manner: Manner) {
        let Some(session) = self.current().successor(engine, outlet.clone()) else {
            return;
        };
        let session = Arc::new(session);
        let next = Next {
            session,
            outlet,
            manner,
        };
        let before = {
            let mut line = self.0.lock().unwrap();
            if manner == Manner::AtOnce {
                line.current.change(|session| session.set_given_up(true));
            }
            line.next.replace(next)
        };
        // May join an engine's thread, so no lock is held.
        drop(before);
    }

    /// Forgets the model that was to come.
    pub(crate) fn stay(&self) {
        let next = {
            let mut line = self.0.lock().unwrap();
            line.current.change(|session| session.set_given_up(false));
            line.next.take()
        };
        drop(next);
    }

    /// Whether the model that is to come takes over with the next frame.
    pub(crate) fn changes_at_once(&self) -> bool {
        let line = self.0.lock().unwrap();
        let at_once = |next: &Next| next.manner == Manner::AtOnce && next.session.is_ready();
        line.next.as_ref().is_some_and(at_once)
    }

    /// Goes over to the model that was to come, if it is loaded: windows from now on are for it.
    /// What is done to its frames, if so.
    pub(crate) fn change_over(&self) -> Option<Arc<dyn FrameProcessor>> {
        let (old, new, given_up) = {
            let mut line = self.0.lock().unwrap();
            let new = line.next.take_if(|next| next.session.is_ready())?;
            new.session.take_over(&line.current);
            let old = std::mem::replace(&mut line.current, new.session.clone());
            line.before.push(old.clone());
            let given_up = match new.manner {
                Manner::InOrder => Vec::new(),
                Manner::AtOnce => line.remove(|_| true),
            };
            (old, new, given_up)
        };
        new.outlet.put(ModelReport::ChangedOver);
        if !given_up.is_empty() {
            // What they were doing ends; may join an engine's thread, so no lock is held.
            drop(given_up);
            return Some(new.session.processor());
        }
        let (weak, id) = (Arc::downgrade(&self.0), Arc::as_ptr(&old) as usize);
        old.retire(Box::new(move || give_up(&weak, id)));
        Some(new.session.processor())
    }

    /// Gives sessions up that will not answer any more: their devices are silent for `patience`, or
    /// their models cannot be used.
    pub(crate) fn give_up_lost(&self, patience: Duration) {
        let lost = {
            let mut line = self.0.lock().unwrap();
            if line.before.is_empty() {
                return;
            }
            line.remove(|session| session.is_lost(patience))
        };
        drop(lost);
    }

    /// Changes what the next windows are asked; whether that is something else.
    pub(crate) fn set_ask(&self, ask: Ask) -> bool {
        // With the lock, so that a session that takes over now does not take the older one.
        let line = self.0.lock().unwrap();
        let other = line.current.change(|session| session.set_ask(ask));
        other.unwrap_or(false)
    }

    /// Changes who gives way when the queue is full.
    pub(crate) fn set_policy(&self, policy: DropPolicy) {
        let line = self.0.lock().unwrap();
        for session in line.all() {
            session.change(|session| session.set_policy(policy));
        }
    }

    /// Changes the name of the stream in prompts.
    pub(crate) fn set_stream(&self, stream: &str) {
        let line = self.0.lock().unwrap();
        line.current.change(|session| session.set_stream(stream));
    }

    /// Complete windows that wait, for whichever model.
    pub(crate) fn queued(&self) -> usize {
        let all = self.0.lock().unwrap().all();
        all.iter().map(|session| session.queued()).sum()
    }

    /// Drops everything in flight and refuses more until [`stop_flush`](Self::stop_flush). When it
    /// returns, nothing of what was before will be put in the outlet any more.
    pub(crate) fn start_flush(&self) {
        self.forget(|session| {
            session.change(|session| session.begin_flush());
        });
    }

    /// Accepts windows again.
    pub(crate) fn stop_flush(&self) {
        self.current().change(|session| session.end_flush());
    }

    /// Drops everything in flight and what was said, and goes on. When it returns, nothing of what
    /// was before will be put in the outlet any more.
    pub(crate) fn restart(&self) {
        self.forget(|session| {
            session.change(|session| session.forget());
        });
    }

    /// Nothing is left for the sessions before the current one.
    fn forget(&self, begin: impl Fn(&Session)) {
        let before = {
            let mut line = self.0.lock().unwrap();
            line.all().iter().for_each(|session| begin(session));
            let before = std::mem::take(&mut line.before);
            line.current.change(|session| session.release());
            before
        };
        // May join an engine's thread, so no lock is held.
        drop(before);
    }

    /// Waits until the reports of all queued windows are in the outlet, at most until `deadline`.
    pub(crate) fn wait_idle(&self, deadline: Instant) -> Waited {
        let all = self.0.lock().unwrap().all();
        // What becomes of the last one counts: one before it may be given up.
        all.iter()
            .fold(Waited::Idle, |_, session| session.wait_idle(deadline))
    }
}

/// A session has told all its answers: the next in line may tell its own.
fn give_up(line: &Weak<Mutex<Line>>, id: usize) {
    let done = line.upgrade().map(|line| {
        let mut line = line.lock().unwrap();
        line.remove(|session| std::ptr::from_ref(session) as usize == id)
    });
    // May be the last reference to an engine, on its own thread, so no lock is held.
    drop(done);
}
