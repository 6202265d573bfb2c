// SPDX-License-Identifier: MPL-2.0

//! How the program itself stands: whether its parts move, what is wrong with its file, who takes what
//! he is told. The page, the metrics and systemd's watchdog ask here.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, RwLock};
use std::time::{Duration, Instant};

use crate::out::standing::Standing;
use crate::time::Millis;

/// A part that did not move for so long hangs.
pub const HANGS: Duration = Duration::from_secs(60);

/// For how long it is told that the clock was set.
const TOLD: Duration = Duration::from_secs(86_400);

/// A part that moves.
#[derive(Debug)]
pub struct Pulse {
    begin: Instant,
    last_ms: AtomicU64,
}

impl Pulse {
    fn new(begin: Instant) -> Self {
        let pulse = Self {
            begin,
            last_ms: AtomicU64::new(0),
        };
        pulse.beat();
        pulse
    }

    /// It moves.
    pub fn beat(&self) {
        self.last_ms.store(self.passed(), Ordering::Relaxed);
    }

    /// For how long it has not.
    pub fn still(&self) -> Duration {
        Duration::from_millis(
            self.passed()
                .saturating_sub(self.last_ms.load(Ordering::Relaxed)),
        )
    }

    fn passed(&self) -> u64 {
        u64::try_from(self.begin.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

/// How the program stands.
#[derive(Debug)]
pub struct Health {
    begin: Instant,
    /// Since when it runs.
    pub started: Millis,
    pulses: Mutex<BTreeMap<String, Arc<Pulse>>>,
    out: RwLock<Vec<Arc<Standing>>>,
    /// Why the file as it is now is not used.
    file: Mutex<Option<String>>,
    plugin: Mutex<String>,
    /// That the clock was set, and when that was noticed.
    clock: Mutex<Option<(String, Instant)>>,
}

impl Default for Health {
    fn default() -> Self {
        Self {
            begin: Instant::now(),
            started: Millis::now(),
            pulses: Mutex::default(),
            out: RwLock::default(),
            file: Mutex::default(),
            plugin: Mutex::default(),
            clock: Mutex::default(),
        }
    }
}

impl Health {
    /// For how long it runs.
    pub fn uptime(&self) -> Duration {
        self.begin.elapsed()
    }

    /// The pulse of a part, from now on looked at.
    pub fn pulse(&self, part: &str) -> Arc<Pulse> {
        let pulse = Arc::new(Pulse::new(self.begin));
        self.pulses
            .lock()
            .unwrap()
            .insert(part.to_owned(), pulse.clone());
        pulse
    }

    /// A part is gone, and not looked at any more.
    pub fn gone(&self, part: &str) {
        self.pulses.lock().unwrap().remove(part);
    }

    /// The parts that hang.
    pub fn hanging(&self) -> Vec<String> {
        let pulses = self.pulses.lock().unwrap();
        let hanging = pulses.iter().filter(|(_, pulse)| pulse.still() > HANGS);
        hanging.map(|(part, _)| part.clone()).collect()
    }

    /// Those who are told.
    pub fn out(&self) -> Vec<Arc<Standing>> {
        self.out.read().unwrap().clone()
    }

    /// These are told from now on.
    pub fn set_out(&self, standings: Vec<Arc<Standing>>) {
        *self.out.write().unwrap() = standings;
    }

    /// Which plugin this is, and of which GStreamer.
    pub fn plugin(&self) -> String {
        self.plugin.lock().unwrap().clone()
    }

    /// This one.
    pub fn set_plugin(&self, plugin: String) {
        *self.plugin.lock().unwrap() = plugin;
    }

    /// That the clock was set within the last day.
    pub fn clock(&self) -> Option<String> {
        let clock = self.clock.lock().unwrap();
        let (words, at) = clock.as_ref()?;
        (at.elapsed() < TOLD).then(|| words.clone())
    }

    /// The clock was set.
    pub fn set_clock(&self, words: String) {
        *self.clock.lock().unwrap() = Some((words, Instant::now()));
    }

    /// Why the file as it is now is not used.
    pub fn file(&self) -> Option<String> {
        self.file.lock().unwrap().clone()
    }

    /// The file is not used for this reason, or it is.
    pub fn set_file(&self, reason: Option<String>) {
        *self.file.lock().unwrap() = reason;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_move_hangs_and_what_is_gone_does_not() {
        let begin = Instant::now().checked_sub(HANGS * 3).unwrap();
        let health = Health {
            begin,
            ..Health::default()
        };
        let (dead, alive) = (health.pulse("dead"), health.pulse("alive"));
        dead.last_ms.store(0, Ordering::Relaxed);
        alive.beat();
        assert_eq!(health.hanging(), ["dead"]);
        health.gone("dead");
        assert!(health.hanging().is_empty());
    }
}
