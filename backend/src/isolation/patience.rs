// SPDX-License-Identifier: MPL-2.0

//! How long a call may show no sign of life: several times the longest that it ever did.

use std::time::Duration;

/// Kinds of calls that take similarly long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The weights are read.
    Load,
    /// The vision net.
    Encode,
    /// Many rows.
    Prefill,
    /// One row of each of some sequences.
    Decode,
    /// No launch at all.
    Short,
}

/// What was measured.
#[derive(Debug, Clone, Default)]
pub struct Patience {
    seen: [Seen; 5],
}

#[derive(Debug, Clone, Copy, Default)]
struct Seen {
    /// The longest time without a sign of life.
    silence: Duration,
    /// Rows or patches of the largest call.
    size: usize,
    /// Calls since one was given up.
    n: u32,
    /// After how long it was.
    given_up: Duration,
}

impl Kind {
    /// What is doing, in words.
    pub fn doing(self) -> &'static str {
        match self {
            Self::Load => "the model was being loaded",
            Self::Encode => "the vision net ran",
            Self::Prefill => "a prompt was being computed",
            Self::Decode => "a token was being computed",
            Self::Short => "it was asked how it stands",
        }
    }

    /// Before anything was measured. A library may read gigabytes in one go.
    fn first(self) -> Duration {
        match self {
            Self::Load => Duration::from_secs(600),
            Self::Encode | Self::Prefill => Duration::from_secs(60),
            Self::Decode | Self::Short => Duration::from_secs(20),
        }
    }
}

impl Patience {
    /// No device is given up in less: whoever looks at the video is to know within a second that nothing is
    /// seen, and a launch that never took a tenth of this takes no longer without a reason.
    const LEAST: Duration = Duration::from_millis(750);
    /// The same of a device of which little is known.
    pub const UNKNOWN: Duration = Duration::from_secs(2);
    /// Calls of a kind after which it is known.
    const KNOWN: u32 = 8;
    /// Times the longest silence.
    const TIMES: u32 = 8;

    /// How long a call of so many rows may be silent.
    pub fn limit(&self, kind: Kind, size: usize) -> Duration {
        let seen = self.seen[kind as usize];
        let silence = seen.silence.max(seen.given_up);
        if silence.is_zero() || kind == Kind::Load {
            return kind.first();
        }
        // Attention costs rows times rows.
        let larger = (size.max(1) as f64 / seen.size.max(1) as f64).max(1.0);
        let limit = silence.as_secs_f64() * f64::from(Self::TIMES) * larger * larger;
        // A driver that is asked how it stands may have something else to do.
        let least = match seen.n >= Self::KNOWN && kind != Kind::Short {
            true => Self::LEAST,
            false => Self::UNKNOWN,
        };
        Duration::from_secs_f64(limit.min(3600.0)).clamp(least, kind.first() * 10)
    }

    /// A call was silent for so long, and went on.
    pub fn saw(&mut self, kind: Kind, size: usize, silence: Duration) {
        let seen = &mut self.seen[kind as usize];
        seen.silence = seen.silence.max(silence).max(Duration::from_nanos(1));
        seen.size = seen.size.max(size);
        seen.n = seen.n.saturating_add(1);
        if seen.n >= Self::KNOWN {
            // They took no longer than before: it hung.
            seen.given_up = Duration::ZERO;
        }
    }

    /// A call was given up after so long: those that follow have longer, since it may have been slow after
    /// all, until enough of them have come back.
    pub fn gave_up(&mut self, kind: Kind, size: usize, silence: Duration) {
        let seen = &mut self.seen[kind as usize];
        seen.given_up = seen.given_up.max(silence);
        seen.size = seen.size.max(size);
        seen.n = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn a_call_may_be_silent_for_several_times_the_longest_that_it_was() {
        let mut patience = Patience::default();
        assert_eq!(patience.limit(Kind::Decode, 1), Duration::from_secs(20));
        patience.saw(Kind::Decode, 1, 50 * MS);
        assert_eq!(patience.limit(Kind::Decode, 1), Patience::UNKNOWN);
        for _ in 1..Patience::KNOWN {
            patience.saw(Kind::Decode, 1, 50 * MS);
        }
        assert_eq!(patience.limit(Kind::Decode, 1), Patience::LEAST);
        patience.saw(Kind::Decode, 1, 90 * MS);
        assert!(patience.limit(Kind::Decode, 1) < Duration::from_secs(1));
        patience.saw(Kind::Decode, 1, 600 * MS);
        patience.saw(Kind::Decode, 1, 100 * MS);
        assert_eq!(patience.limit(Kind::Decode, 1), 4800 * MS);
        assert_eq!(patience.limit(Kind::Encode, 1), Duration::from_secs(60));
    }

    #[test]
    fn a_device_that_hung_once_is_given_up_as_soon_as_before_once_it_works_again() {
        let mut patience = Patience::default();
        let work = |patience: &mut Patience, n: u32| {
            for _ in 0..n {
                patience.saw(Kind::Decode, 1, 5 * MS);
            }
            patience.limit(Kind::Decode, 1)
        };
        assert_eq!(work(&mut patience, Patience::KNOWN), Patience::LEAST);
        patience.gave_up(Kind::Decode, 1, 800 * MS);
        assert_eq!(work(&mut patience, 1), 6400 * MS);
        assert_eq!(work(&mut patience, Patience::KNOWN - 1), Patience::LEAST);
    }

    #[test]
    fn a_driver_that_is_asked_how_it_stands_has_two_seconds_whatever_was_measured() {
        let mut patience = Patience::default();
        for _ in 0..100 {
            patience.saw(Kind::Short, 0, MS);
        }
        assert_eq!(patience.limit(Kind::Short, 0), Patience::UNKNOWN);
    }

    #[test]
    fn a_longer_prompt_may_take_longer_than_any_before() {
        let mut patience = Patience::default();
        patience.saw(Kind::Prefill, 100, 500 * MS);
        assert_eq!(patience.limit(Kind::Prefill, 100), 4000 * MS);
        assert_eq!(patience.limit(Kind::Prefill, 50), 4000 * MS);
        assert_eq!(patience.limit(Kind::Prefill, 300), 36_000 * MS);
    }

    #[test]
    fn what_was_given_up_once_is_given_more_time_the_next_time_and_never_for_ever() {
        let mut patience = Patience::default();
        for _ in 0..40 {
            let limit = patience.limit(Kind::Encode, 10);
            patience.gave_up(Kind::Encode, 10, limit);
        }
        assert_eq!(patience.limit(Kind::Encode, 10), Duration::from_secs(600));
        assert!(patience.limit(Kind::Encode, usize::MAX) <= Duration::from_secs(600));
    }
}
