// SPDX-License-Identifier: MPL-2.0

//! Texts that are being written: told a few times a second, and the last one always.

use std::time::{Duration, Instant};

use super::imp::VlmCaption;

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
    fn is_of(&self, other: &Self) -> bool {
        self.sequence == other.sequence && self.prompt_id == other.prompt_id
    }
}

/// What was told last, and what is still to be told.
#[derive(Debug, Default)]
pub(super) struct Partials {
    told: Option<Instant>,
    waiting: Option<Partial>,
}

impl Partials {
    /// Takes a text; what is to be told at once.
    fn add(&mut self, partial: Partial, now: Instant) -> Vec<Partial> {
        let other = self.waiting.take_if(|waiting| !waiting.is_of(&partial));
        self.waiting = Some(partial);
        other.into_iter().chain(self.due(now)).collect()
    }

    /// What is to be told by the clock.
    fn due(&mut self, now: Instant) -> Option<Partial> {
        if self.told.is_some_and(|told| now < told + INTERVAL) {
            return None;
        }
        let due = self.waiting.take()?;
        self.told = Some(now);
        Some(due)
    }

    fn next(&self) -> Option<Instant> {
        self.waiting
            .as_ref()
            .and(self.told)
            .map(|told| told + INTERVAL)
    }
}

impl VlmCaption {
    pub(super) fn partial(&self, partial: Partial) {
        let (due, wait) = {
            let mut partials = self.partials.lock().unwrap();
            let due = partials.add(partial, Instant::now());
            (due, partials.next().is_some())
        };
        for partial in due {
            self.post_partial(partial);
        }
        if wait {
            self.wake_minder();
        }
    }

    /// Tells of a text if it is time; time until the next.
    pub(super) fn post_due_partial(&self, now: Instant) -> Option<Duration> {
        let (due, next) = {
            let mut partials = self.partials.lock().unwrap();
            (partials.due(now), partials.next())
        };
        if let Some(partial) = due {
            self.post_partial(partial);
        }
        next.map(|next| next.saturating_duration_since(now))
    }

    /// Tells of the last text: the answer has ended.
    pub(super) fn post_last_partial(&self) {
        let last = self.partials.lock().unwrap().waiting.take();
        if let Some(partial) = last {
            self.post_partial(partial);
        }
    }

    fn post_partial(&self, partial: Partial) {
        let structure = gst::Structure::builder("vlmcaption/partial")
            .field("sequence", partial.sequence)
            .field("prompt-id", partial.prompt_id)
            .field("text", partial.text);
        self.post(structure.build());
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
