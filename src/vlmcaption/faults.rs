// SPDX-License-Identifier: MPL-2.0

//! What is wrong at the moment: said once, shown on every buffer, and taken back when it is over.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// A reason that was told is not told again for this long, however often it comes and goes.
const QUIET: Duration = Duration::from_secs(60);
/// Reasons to be told in that time; more is noise.
const MAX_TOLD: usize = 16;

/// What a fault is with; each ends in its own way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Cause {
    /// The model is not loaded; until it is.
    Load,
    /// The device is silent; until it is heard of.
    Silence,
    /// The stream cannot be sampled; until it can.
    Stream,
    /// The last window got no caption; until one does.
    Window,
}

/// All faults there are.
#[derive(Debug, Default)]
pub(super) struct Faults {
    current: BTreeMap<Cause, String>,
    told: Vec<(String, Instant)>,
    /// The user knows of a fault and not yet of its end.
    announced: bool,
}

impl Faults {
    /// The reason that matters most.
    pub fn reason(&self) -> Option<&str> {
        self.current.values().next().map(String::as_str)
    }

    pub fn has(&self, cause: Cause) -> bool {
        self.current.contains_key(&cause)
    }

    /// Notes a fault; whether the user is to be told.
    pub fn begin(&mut self, cause: Cause, reason: &str, now: Instant) -> bool {
        self.current.insert(cause, reason.to_owned());
        self.told.retain(|(_, at)| now.duration_since(*at) < QUIET);
        if self.told.len() >= MAX_TOLD || self.told.iter().any(|(told, _)| told == reason) {
            return false;
        }
        self.told.push((reason.to_owned(), now));
        self.announced = true;
        true
    }

    /// Ends faults; what it was if none is left and the user is to be told.
    pub fn end(&mut self, causes: &[Cause]) -> Option<String> {
        let mut last = None;
        for cause in causes {
            last = self.current.remove(cause).or(last);
        }
        let over = last.filter(|_| self.current.is_empty())?;
        std::mem::take(&mut self.announced).then_some(over)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_told_once_however_often_it_comes_and_goes() {
        let (mut faults, start) = (Faults::default(), Instant::now());
        assert!(faults.begin(Cause::Window, "gone", start));
        assert!(!faults.begin(Cause::Window, "gone", start));
        assert!(faults.begin(Cause::Load, "no file", start));
        assert_eq!(faults.reason(), Some("no file"));
        assert_eq!(faults.end(&[Cause::Load]), None, "one is left");
        assert_eq!(faults.end(&[Cause::Window]).as_deref(), Some("gone"));
        assert_eq!(faults.end(&[Cause::Window]), None);
        // It comes and goes again, and nobody is bothered.
        assert!(!faults.begin(Cause::Window, "gone", start + QUIET / 2));
        assert_eq!(faults.reason(), Some("gone"));
        assert_eq!(faults.end(&[Cause::Window]), None);
        assert!(faults.begin(Cause::Window, "gone", start + QUIET));
    }

    #[test]
    fn reasons_without_number_are_not_told_without_number() {
        let (mut faults, now) = (Faults::default(), Instant::now());
        let told = (0..100).filter(|n| faults.begin(Cause::Window, &n.to_string(), now));
        assert_eq!(told.count(), MAX_TOLD);
    }
}
