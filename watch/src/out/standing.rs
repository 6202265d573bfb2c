// SPDX-License-Identifier: MPL-2.0

//! How things stand with one who is told, for the page; and the bell that wakes who tells.

use std::collections::BTreeMap;
use std::sync::{Condvar, Mutex};
use std::time::Duration;

use crate::log;
use crate::store::outbox::{LONGEST, Moment};
use crate::time::Millis;

/// One who is told.
#[derive(Debug)]
pub struct Standing {
    /// As in `notify`.
    pub name: String,
    /// The address, without what may be secret.
    pub shown: String,
    now: Mutex<Now>,
}

/// How it stands.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Now {
    /// Whether it takes what it is told; unknown before the first time.
    pub well: Option<bool>,
    pub since: Millis,
    /// Why it does not.
    pub reason: String,
    pub waiting: usize,
    pub oldest: Option<Millis>,
    pub told: u64,
    /// What was not told within a day.
    pub given_up: u64,
    due: BTreeMap<(i64, Moment), Millis>,
}

impl Standing {
    /// Nothing is known yet.
    pub fn new(name: &str, shown: &str) -> Self {
        let now = Now {
            since: Millis::now(),
            ..Now::default()
        };
        Self {
            name: name.to_owned(),
            shown: shown.to_owned(),
            now: Mutex::new(now),
        }
    }

    /// How it stands.
    pub fn now(&self) -> Now {
        self.now.lock().unwrap().clone()
    }

    /// It takes what it is told. Says whether that is new.
    pub fn well(&self, at: Millis) -> bool {
        let mut now = self.now.lock().unwrap();
        let new = now.well != Some(true);
        if new {
            now.well = Some(true);
            now.since = at;
            now.reason.clear();
        }
        new
    }

    /// It does not. Says whether that is new.
    pub fn ill(&self, reason: &str, at: Millis) -> bool {
        let mut now = self.now.lock().unwrap();
        let new = now.well != Some(false);
        if new {
            now.well = Some(false);
            now.since = at;
        }
        reason.clone_into(&mut now.reason);
        new
    }

    /// What waits. Whatever waited before, was not told and is gone was given up.
    pub fn waiting(&self, due: impl Iterator<Item = (i64, Moment, Millis)>) {
        let due: BTreeMap<_, _> = due
            .map(|(event, moment, at)| ((event, moment), at))
            .collect();
        let mut now = self.now.lock().unwrap();
        let gone = now.due.keys().filter(|key| !due.contains_key(key)).count();
        if gone > 0 {
            now.given_up += gone as u64;
            log::error(format!(
                "{}: {gone} alarms were not told within {} h and are given up",
                self.name,
                LONGEST.as_secs() / 3_600
            ));
        }
        now.waiting = due.len();
        now.oldest = due.values().min().copied();
        now.due = due;
    }

    /// Whether this waits already.
    pub fn knows(&self, event: i64, moment: Moment) -> bool {
        self.now.lock().unwrap().due.contains_key(&(event, moment))
    }

    /// It has been told of this.
    pub fn told(&self, event: i64, moment: Moment, at: Millis) {
        {
            let mut now = self.now.lock().unwrap();
            now.told += 1;
            now.due.remove(&(event, moment));
            now.waiting = now.due.len();
        }
        if self.well(at) {
            log::info(format!("{}: it takes what it is told", self.name));
        }
    }
}

/// Wakes who tells when there is something new.
#[derive(Debug, Default)]
pub struct Bell {
    rung: Mutex<bool>,
    changed: Condvar,
}

impl Bell {
    /// There is something new.
    pub fn ring(&self) {
        *self.rung.lock().unwrap() = true;
        self.changed.notify_all();
    }

    /// Waits for it, this long at most; says whether it rang.
    pub fn wait(&self, time: Duration) -> bool {
        let rung = self.rung.lock().unwrap();
        let (mut rung, _) = self
            .changed
            .wait_timeout_while(rung, time, |rung| !*rung)
            .unwrap();
        std::mem::take(&mut *rung)
    }
}
