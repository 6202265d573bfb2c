// SPDX-License-Identifier: MPL-2.0

//! The drafts of one session, by question.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::vlm::drafter::Drafter;

/// A drafter for each question, with what it has learnt; the turn that is being made has its own.
#[derive(Clone, Default)]
pub(crate) struct Drafters(Arc<Mutex<HashMap<String, Drafter>>>);

impl Drafters {
    /// That of a question; a new one if it was not asked yet.
    pub(crate) fn take(&self, question: &str) -> Drafter {
        self.all().remove(question).unwrap_or_default()
    }

    /// Gives it back after the answer.
    pub(crate) fn put(&self, question: &str, drafter: Drafter) {
        self.all().insert(question.to_owned(), drafter);
    }

    /// Forgets those of other questions.
    pub(crate) fn retain(&self, is_asked: impl Fn(&str) -> bool) {
        self.all().retain(|id, _| is_asked(id));
    }

    fn all(&self) -> MutexGuard<'_, HashMap<String, Drafter>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
