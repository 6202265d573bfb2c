// SPDX-License-Identifier: MPL-2.0

//! What an engine's threads, its sessions and its handle share.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::identity::Identity;
use super::schedule::Schedule;
use super::standing::Record;
use super::turn::Turn;
use crate::backend::{Cancel, Health};
use crate::caption::frames::processor::FrameProcessor;
use crate::caption::reports::outbox::Wake;
use crate::caption::reports::report::{ModelReport, Report};

/// One engine's.
pub(crate) struct Shared {
    pub(crate) identity: Arc<Identity>,
    pub(crate) processor: Arc<dyn FrameProcessor>,
    pub(crate) notes: Vec<String>,
    /// Ends the loading.
    pub(crate) cancel: Cancel,
    pub(crate) record: Record,
    /// It is one of several, and is to be there when it is needed.
    pub(crate) stands_by: AtomicBool,
    schedule: Mutex<Schedule>,
    changed: Condvar,
    health: Mutex<Health>,
    /// Of each turn that is being made, by the number of its slot.
    pulses: Mutex<BTreeMap<usize, Pulse>>,
}

/// Signs of life of what the device is doing.
struct Pulse {
    cancel: Cancel,
    /// [`Cancel::checks`] as it was last seen.
    checks: u64,
    /// When it was first seen so.
    since: Instant,
    /// When the turn began.
    began: Instant,
}

impl Shared {
    pub(crate) fn new(
        identity: Arc<Identity>,
        processor: Arc<dyn FrameProcessor>,
        notes: Vec<String>,
    ) -> Self {
        Self {
            identity,
            processor,
            notes,
            cancel: Cancel::default(),
            record: Record::default(),
            stands_by: AtomicBool::new(false),
            schedule: Mutex::default(),
            changed: Condvar::new(),
            health: Mutex::default(),
            pulses: Mutex::default(),
        }
    }

    /// A panic on one thread must not take the others along.
    pub(crate) fn schedule(&self) -> MutexGuard<'_, Schedule> {
        self.schedule.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes whoever waits for a change of the schedule.
    pub(crate) fn notify(&self) {
        self.changed.notify_all();
    }

    /// Waits for a change.
    pub(crate) fn wait<'a>(&self, schedule: MutexGuard<'a, Schedule>) -> MutexGuard<'a, Schedule> {
        let waited = self.changed.wait(schedule);
        waited.unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a change, at most for `time`.
    pub(crate) fn wait_for<'a>(
        &self,
        schedule: MutexGuard<'a, Schedule>,
        time: Duration,
    ) -> MutexGuard<'a, Schedule> {
        let waited = self.changed.wait_timeout(schedule, time);
        waited.unwrap_or_else(PoisonError::into_inner).0
    }

    /// Waits until `is_over`, at most for `time`; whether it came to that.
    pub(crate) fn wait_until(&self, time: Duration, is_over: impl Fn(&Schedule) -> bool) -> bool {
        let waited = self
            .changed
            .wait_timeout_while(self.schedule(), time, |schedule| !is_over(schedule));
        is_over(&waited.unwrap_or_else(PoisonError::into_inner).0)
    }

    /// Reports what came of a turn so far, unless a flush has come.
    pub(crate) fn tell(&self, turn: &Turn, report: impl Into<Report>) {
        self.schedule().tell(turn, report);
    }

    /// Tells all sessions.
    pub(crate) fn tell_all(&self, report: impl Into<Report>) {
        self.schedule().tell_all(&report.into());
    }

    /// The model cannot be used: what waits for it is dropped, and all sessions are told. No turn is
    /// being made then; one that a panic has ended is over.
    pub(crate) fn give_up(&self, reason: &str, report: &ModelReport) {
        self.record.lost(reason);
        self.schedule().give_up(reason, report);
        self.pulses.lock().unwrap().clear();
        self.notify();
        self.call_drained();
    }

    /// Does what is due since sessions have nothing left to tell.
    pub(crate) fn call_drained(&self) {
        let drained = self.schedule().take_drained();
        for call in drained {
            call();
        }
    }
}

/// The device.
impl Shared {
    pub(crate) fn health(&self) -> Health {
        self.health.lock().unwrap().clone()
    }

    pub(crate) fn set_health(&self, health: Health) {
        *self.health.lock().unwrap() = health;
    }

    /// A turn begins on this slot.
    pub(crate) fn begin_pulse(&self, slot: usize, cancel: &Cancel) {
        let pulse = Pulse {
            cancel: cancel.clone(),
            checks: cancel.checks(),
            since: Instant::now(),
            began: Instant::now(),
        };
        self.pulses.lock().unwrap().insert(slot, pulse);
    }

    /// It has ended.
    pub(crate) fn end_pulse(&self, slot: usize) {
        self.pulses.lock().unwrap().remove(&slot);
    }

    /// How long the turn has been made that began first of those that are being made.
    pub(crate) fn longest_turn(&self) -> Duration {
        let pulses = self.pulses.lock().unwrap();
        let turns = pulses.values().map(|pulse| pulse.began.elapsed());
        turns.max().unwrap_or_default()
    }

    /// How long nothing has been heard of the device, though it has work.
    pub(crate) fn silence(&self) -> Duration {
        let mut pulses = self.pulses.lock().unwrap();
        // One turn that lives shows that the device does: the others may wait for it.
        let silences = pulses.values_mut().map(|pulse| {
            let checks = pulse.cancel.checks();
            if checks != pulse.checks {
                pulse.checks = checks;
                pulse.since = Instant::now();
            }
            pulse.since.elapsed()
        });
        silences.min().unwrap_or_default()
    }
}

impl Wake for Shared {
    fn wake(&self) {
        // Nobody is between a look and a wait once this has the lock.
        drop(self.schedule());
        self.notify();
    }
}
