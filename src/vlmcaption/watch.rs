// SPDX-License-Identifier: MPL-2.0

//! What is remembered of each question from window to window.

use std::collections::HashMap;

use gst::subclass::prelude::*;

use super::imp::{CAT, VlmCaption};

/// Of all questions.
#[derive(Debug, Default)]
pub(super) struct Watch {
    /// By question, why it had no answer; until it has one.
    failed: HashMap<String, String>,
}

impl Watch {
    /// A question was answered.
    pub fn answered(&mut self, id: &str) {
        self.failed.remove(id);
    }

    /// A question was not answered; whether the reason is new.
    fn failed(&mut self, id: String, reason: &str) -> bool {
        let before = self.failed.insert(id, reason.to_owned());
        before.as_deref() != Some(reason)
    }
}

impl VlmCaption {
    /// One of several questions got no answer: told once per reason, until it gets one.
    pub(super) fn question_failed(&self, id: String, reason: &str) {
        let new = self.watch.lock().unwrap().failed(id, reason);
        if new {
            gst::element_imp_warning!(self, gst::StreamError::Failed, ("{reason}"));
        } else {
            gst::debug!(CAT, imp = self, "again: {reason}");
        }
    }
}
