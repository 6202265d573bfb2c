// SPDX-License-Identifier: MPL-2.0

//! Texts that are being written: told a few times a second, and the last one always.

use std::time::{Duration, Instant};

/// A `vlmcaption/partial` message is posted at most this often.
const INTERVAL: Duration = Duration::from_millis(200);

/// Text of an answer so far.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Partial {
    pub sequence: u64,
    pub prompt_id: String,
    pub text: String,
}

impl Partial {
    /// The message `vlmcaption/partial`.
    pub fn structure(self) -> gst::Structure {
        gst::Structure::builder("vlmcaption/partial")
            .field("sequence", self.sequence)
            .field("prompt-id", self.prompt_id)
            .field("text", self.text)
            .build()
    }

    fn is_of(&self, other: &Self) -> bool {
        self.sequence == other.sequence && self.prompt_id == other.prompt_id
    }
}

/// What was told last, and what is still to be told.
#[derive(Debug, Default)]
pub(super) struct Partials {
    posted: Option<Instant>,
    waiting: Option<Partial>,
}

impl Partials {
    /// Takes a text; what is to be told at once.
    pub fn add(&mut self, partial: Partial, now: Instant) -> Vec<Partial> {
        let other = self.waiting.take_if(|waiting| !waiting.is_of(&partial));
        self.waiting = Some(partial);
        other.into_iter().chain(self.due(now)).collect()
    }

    /// What is to be told by the clock.
    pub fn due(&mut self, now: Instant) -> Option<Partial> {
        if self.posted.is_some_and(|posted| now < posted + INTERVAL) {
            return None;
        }
        let due = self.waiting.take()?;
        self.posted = Some(now);
        Some(due)
    }

    /// Takes the last text: its answer has ended.
    pub fn last(&mut self) -> Option<Partial> {
        self.waiting.take()
    }

    /// When something is due.
    pub fn next(&self) -> Option<Instant> {
        self.waiting
            .as_ref()
            .and(self.posted)
            .map(|posted| posted + INTERVAL)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn partial(sequence: u64, text: &str) -> Partial {
        Partial {
            sequence,
            prompt_id: "default".into(),
            text: text.into(),
        }
    }

    #[test]
    fn texts_are_told_five_times_a_second_and_the_last_of_each_answer_always() {
        let (mut partials, start) = (Partials::default(), Instant::now());
        assert_eq!(partials.add(partial(1, "A"), start), [partial(1, "A")]);
        for text in ["A r", "A re", "A red"] {
            assert_eq!(partials.add(partial(1, text), start + INTERVAL / 2), []);
        }
        assert_eq!(partials.next(), Some(start + INTERVAL));
        let later = start + INTERVAL;
        assert_eq!(partials.due(later), Some(partial(1, "A red")));
        assert_eq!(partials.next(), None);
        assert_eq!(partials.add(partial(1, "A red car"), later), []);
        let told = partials.add(partial(2, "B"), later);
        assert_eq!(told, [partial(1, "A red car")]);
        assert_eq!(partials.due(later + INTERVAL), Some(partial(2, "B")));
    }
}
