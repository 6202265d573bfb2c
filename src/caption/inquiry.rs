// SPDX-License-Identifier: MPL-2.0

//! A question that the application asks once, about what is there now.

use std::sync::Arc;
use std::time::Instant;

use super::note::Note;
use super::question::Question;
use super::schedule::Job;
use super::window::Window;
use crate::backend::Cancel;

/// A question that is asked once; whoever asked keeps its number and its [`Cancel`].
#[derive(Debug, Clone)]
pub struct Inquiry {
    /// Names it in the answer.
    pub id: u64,
    /// What is asked.
    pub question: Arc<Question>,
    /// Ends it wherever it is; it is then not answered.
    pub cancel: Cancel,
}

/// A question with the frames that it is about.
pub(super) struct Asked {
    pub(super) inquiry: Inquiry,
    /// `None` if a flush has taken them away.
    pub(super) job: Option<Job>,
}

impl Asked {
    pub fn new(inquiry: Inquiry, sequence: u64, window: Window) -> Self {
        Self {
            inquiry,
            job: Some(Job {
                sequence,
                window,
                note: Note::default(),
                complete_since: Instant::now(),
            }),
        }
    }
}

/// Why a question was not answered, where no device is to blame.
pub(super) const FLUSHED: &str = "the frames that it is about were flushed";
