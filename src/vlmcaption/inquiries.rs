// SPDX-License-Identifier: MPL-2.0

//! Questions that the application asks: every one that was taken comes to one `vlmcaption/answer`
//! message, whatever happens.

use std::collections::BTreeMap;
use std::time::Instant;

use super::output::{self, Origin};
use crate::backend::Cancel;
use crate::caption::Caption;

/// Questions that are not answered yet.
#[derive(Default)]
pub(super) struct Inquiries {
    last: u64,
    open: BTreeMap<u64, Open>,
}

struct Open {
    text: String,
    deadline: Instant,
    cancel: Cancel,
}

impl Inquiries {
    /// Takes a question; its number, from 1.
    pub fn begin(&mut self, text: &str, deadline: Instant, cancel: Cancel) -> u64 {
        self.last += 1;
        let text = text.to_owned();
        let open = Open {
            text,
            deadline,
            cancel,
        };
        self.open.insert(self.last, open);
        self.last
    }

    /// The message with an answer, or why there is none; `None` if nobody waits for it any more.
    pub fn answered(
        &mut self,
        id: u64,
        answer: Result<&Caption, &str>,
        origin: &Origin,
    ) -> Option<gst::Structure> {
        let open = self.open.remove(&id)?;
        Some(match answer {
            Ok(caption) => {
                let mut fields = output::structure("vlmcaption/answer", caption, origin);
                fields.set("id", id);
                fields.set("question", &open.text);
                fields
            }
            Err(reason) => open.unanswered(id, reason),
        })
    }

    /// Takes a question back: its message, if it was still open.
    pub fn cancel(&mut self, id: u64) -> Option<gst::Structure> {
        let open = self.open.remove(&id)?;
        Some(open.unanswered(id, "cancelled"))
    }

    /// Ends the questions whose time is over.
    pub fn end_late(&mut self, now: Instant) -> Vec<gst::Structure> {
        let late = self.open.extract_if(.., |_, open| open.deadline <= now);
        late.map(|(id, open)| open.unanswered(id, "the deadline has passed"))
            .collect()
    }

    /// Ends all questions: the element stops.
    pub fn end_all(&mut self) -> Vec<gst::Structure> {
        let all = std::mem::take(&mut self.open).into_iter();
        all.map(|(id, open)| open.unanswered(id, "the element has stopped"))
            .collect()
    }

    /// When the next question's time is over.
    pub fn next(&self) -> Option<Instant> {
        self.open.values().map(|open| open.deadline).min()
    }
}

impl Open {
    /// The model need not answer, and the application is told why.
    fn unanswered(self, id: u64, error: &str) -> gst::Structure {
        self.cancel.cancel();
        gst::Structure::builder("vlmcaption/answer")
            .field("id", id)
            .field("question", self.text)
            .field("error", error)
            .build()
    }
}
