// SPDX-License-Identifier: MPL-2.0

//! Whose turn it is: the sessions of an engine, and how device time is shared out. No thread and no
//! clock of its own; the engine and its sessions change it under one lock.

use std::collections::BTreeMap;
use std::time::Duration;

use super::state::{Drained, SessionState};
use super::turn::{Outcome, Turn};
use crate::caption::reports::report::{ModelReport, Notice, Report};

/// What the lock of an engine holds.
#[derive(Default)]
pub(crate) struct Schedule {
    sessions: BTreeMap<u64, SessionState>,
    next_id: u64,
    load: Load,
    /// Prompts that the model keeps begun at a time; 0 before it has said so.
    prompts: usize,
    /// The last turn was an inquiry's: a caption that waits is next.
    inquired: bool,
    quit: bool,
    ended: bool,
}

/// Whether the model can be used.
#[derive(Clone, Default)]
pub(crate) enum Load {
    #[default]
    Running,
    /// It can be; what users should know of it.
    Ready(Vec<Notice>),
    Failed(String),
}

/// The engine's own.
impl Schedule {
    pub(crate) fn load(&self) -> &Load {
        &self.load
    }

    /// Why the model cannot be used, if so.
    pub(crate) fn failure(&self) -> Option<&str> {
        match &self.load {
            Load::Failed(reason) => Some(reason),
            Load::Running | Load::Ready(_) => None,
        }
    }

    pub(crate) fn set_load(&mut self, load: Load) {
        self.load = load;
    }

    /// How many prompts the model keeps begun at a time.
    pub(crate) fn set_prompts(&mut self, prompts: usize) {
        self.prompts = prompts;
    }

    /// Tells the engine's threads to end.
    pub(crate) fn quit(&mut self) {
        self.quit = true;
    }

    pub(crate) fn is_quitting(&self) -> bool {
        self.quit
    }

    /// The engine's thread is at its end.
    pub(crate) fn end(&mut self) {
        self.ended = true;
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.ended
    }
}

/// Sessions.
impl Schedule {
    /// Whether there is none.
    pub(crate) fn is_unused(&self) -> bool {
        self.sessions.is_empty()
    }

    /// Adds a session, which is told how the model stands; its number.
    pub(crate) fn add(&mut self, session: impl FnOnce(f64) -> SessionState) -> u64 {
        let session = session(self.least_used().unwrap_or(0.0));
        match &self.load {
            Load::Running => {}
            Load::Ready(notices) => session.tell(ModelReport::Loaded {
                took: Duration::ZERO,
                remark: None,
                notices: notices.clone(),
            }),
            Load::Failed(reason) => session.tell(ModelReport::Failed(reason.clone())),
        }
        let id = self.next_id;
        self.next_id += 1;
        self.sessions.insert(id, session);
        id
    }

    pub(crate) fn remove(&mut self, id: u64) -> Option<SessionState> {
        self.sessions.remove(&id)
    }

    pub(crate) fn get(&self, id: u64) -> Option<&SessionState> {
        self.sessions.get(&id)
    }

    pub(crate) fn get_mut(&mut self, id: u64) -> Option<&mut SessionState> {
        self.sessions.get_mut(&id)
    }

    /// A session that is about to get work; one that slept is not owed the time it did not ask for.
    pub(crate) fn wake(&mut self, id: u64) -> Option<&mut SessionState> {
        let floor = self.least_used().unwrap_or(0.0);
        let session = self.sessions.get_mut(&id)?;
        if !session.is_running() && !session.has_work() {
            session.raise_used(floor);
        }
        Some(session)
    }

    /// Reports what came of a turn so far, unless a flush has come. A flush waits for the lock, so
    /// nothing of before is put in the outlet after it.
    pub(crate) fn tell(&self, turn: &Turn, report: impl Into<Report>) {
        let session = self.sessions.get(&turn.session);
        if session.is_some_and(|session| session.is_of(turn.epoch)) {
            turn.outlet.put(report);
        }
    }

    /// Tells all sessions, unless the engine ends.
    pub(crate) fn tell_all(&self, report: &Report) {
        if !self.quit {
            let sessions = self.sessions.values();
            sessions.for_each(|session| session.tell(report.clone()));
        }
    }

    /// The model cannot be used: what waits for it is dropped, and all sessions are told.
    pub(crate) fn give_up(&mut self, reason: &str, report: &ModelReport) {
        self.load = Load::Failed(reason.to_owned());
        for session in self.sessions.values_mut() {
            session.give_up(reason);
            match report {
                // What the vision net made of frames is gone with the program.
                ModelReport::Restarting => session.forget(),
                _ => session.drop_work(),
            }
        }
        self.tell_all(&Report::Model(report.clone()));
    }

    /// What is to be done since sessions have nothing left to tell; to be called without a lock.
    pub(crate) fn take_drained(&mut self) -> Vec<Drained> {
        let sessions = self.sessions.values_mut();
        sessions.filter_map(SessionState::take_drained).collect()
    }
}

/// Turns.
impl Schedule {
    /// The next turn, if there is work. Inquiries go before captions, but for every inquiry one
    /// caption that waits is made. Of each, the session that used least of its share goes first.
    pub(crate) fn next_turn(&mut self) -> Option<Turn> {
        self.pass_over_unheard();
        let mut sessions = self.sessions.values();
        let captions_wait = sessions.any(|s| s.has_work() && s.is_free());
        if !(self.inquired && captions_wait)
            && let Some(turn) = self.next_inquiry()
        {
            self.inquired = true;
            return Some(turn);
        }
        self.inquired = false;
        self.next_caption()
    }

    /// Books a finished turn; whether its result is still wanted.
    pub(crate) fn finish_turn(&mut self, turn: &Turn, took: Duration, outcome: &Outcome) -> bool {
        let Some(session) = self.sessions.get_mut(&turn.session) else {
            return false;
        };
        session.end_turn(&turn.work, took);
        if !session.is_of(turn.epoch) {
            return false;
        }
        if let Outcome::Answered(Some(exchange)) = outcome {
            session.remember(exchange);
        }
        true
    }

    /// Device time of the session that used least, among those with work that may be done.
    fn least_used(&self) -> Option<f64> {
        let busy = self
            .sessions
            .values()
            .filter(|s| s.is_running() || (s.has_work() && s.is_heard()));
        busy.map(SessionState::used).min_by(f64::total_cmp)
    }

    /// A session whose reports are not heard is not owed the turns that others take meanwhile.
    fn pass_over_unheard(&mut self) {
        let floor = self.least_used().unwrap_or(0.0);
        for session in self.sessions.values_mut() {
            if !session.is_running() && !session.is_heard() {
                session.raise_used(floor);
            }
        }
    }

    fn next_inquiry(&mut self) -> Option<Turn> {
        for session in self.sessions.values_mut() {
            session.drop_cancelled();
        }
        let (id, session) = self.least(SessionState::has_inquiry)?;
        session.begin_inquiry(id)
    }

    fn next_caption(&mut self) -> Option<Turn> {
        // Of more prompts than are kept one would overwrite another; and a head start is nothing that an
        // answer should wait for.
        let fit = self.sessions.len() <= self.prompts;
        let may_begin = fit && !self.sessions.values().any(SessionState::is_asked);
        loop {
            let (id, session) = self.least(SessionState::has_work)?;
            if let Some(turn) = session.begin_caption(id, may_begin) {
                return Some(turn);
            }
        }
    }

    /// Of the free sessions that `may` names, the one that used least.
    fn least(&mut self, may: impl Fn(&SessionState) -> bool) -> Option<(u64, &mut SessionState)> {
        let sessions = self.sessions.iter_mut();
        let (id, session) = sessions
            .filter(|(_, session)| may(session) && session.is_free())
            .min_by(|a, b| a.1.used().total_cmp(&b.1.used()))?;
        Some((*id, session))
    }
}
