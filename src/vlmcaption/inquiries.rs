// SPDX-License-Identifier: MPL-2.0

//! The actions `ask`, `cancel` and `caption-now`: every question that was taken comes to one
//! `vlmcaption/answer` message, whatever happens.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use gst::glib;
use gst::prelude::*;
use gst::subclass::prelude::*;

use super::imp::{CAT, VlmCaption};
use super::output::{self, Origin};
use crate::backend::Cancel;
use crate::caption::Caption;
use crate::caption::captioner::moment_after;
use crate::caption::inquiry::Inquiry;
use crate::caption::question::Question;

/// Time for a question that was given none.
const PATIENCE: Duration = Duration::from_secs(60);
/// Names the question in prompt and answer.
const PROMPT_ID: &str = "ask";

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
    fn begin(&mut self, text: &str, deadline: Instant, cancel: Cancel) -> u64 {
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

    /// Takes out the questions whose time is over.
    fn expired(&mut self, now: Instant) -> Vec<(u64, Open)> {
        self.open
            .extract_if(.., |_, open| open.deadline <= now)
            .collect()
    }

    fn next(&self) -> Option<Instant> {
        self.open.values().map(|open| open.deadline).min()
    }
}

/// The element's actions about questions.
pub(super) fn signals() -> Vec<glib::subclass::Signal> {
    fn element(values: &[glib::Value]) -> Option<super::VlmCaption> {
        values.first()?.get().ok()
    }
    vec![
        // Asks about the frames at hand, ahead of captions that wait. Takes the question (a
        // template, like prompt) and ns until it is of no use (0 = a minute); returns the number
        // that the vlmcaption/answer message will have, 0 if the element does not run.
        glib::subclass::Signal::builder("ask")
            .param_types([String::static_type(), u64::static_type()])
            .return_type::<u64>()
            .action()
            .class_handler(|values| {
                let text = values.get(1)?.get::<Option<String>>().ok()?;
                let deadline = Duration::from_nanos(values.get(2)?.get().ok()?);
                let id = element(values)?
                    .imp()
                    .ask(&text.unwrap_or_default(), deadline);
                Some(id.to_value())
            })
            .build(),
        // Takes a question back; whether it was still open.
        glib::subclass::Signal::builder("cancel")
            .param_types([u64::static_type()])
            .return_type::<bool>()
            .action()
            .class_handler(|values| {
                let id = values.get(1)?.get().ok()?;
                Some(element(values)?.imp().cancel(id).to_value())
            })
            .build(),
        // Ends the window being filled and captions it as it is.
        glib::subclass::Signal::builder("caption-now")
            .action()
            .class_handler(|values| {
                if let Some(captioner) = element(values)?.imp().captioner() {
                    captioner.close_window();
                }
                None
            })
            .build(),
    ]
}

impl VlmCaption {
    fn ask(&self, text: &str, deadline: Duration) -> u64 {
        let Some(captioner) = self.captioner() else {
            gst::warning!(CAT, imp = self, "asked before PAUSED: {text:?}");
            return 0;
        };
        if text.trim().is_empty() {
            gst::warning!(CAT, imp = self, "an empty question is not asked");
            return 0;
        }
        let patience = if deadline.is_zero() {
            PATIENCE
        } else {
            deadline
        };
        let deadline = moment_after(patience);
        let cancel = Cancel::default();
        let id = {
            let mut inquiries = self.inquiries.lock().unwrap();
            inquiries.begin(text, deadline, cancel.clone())
        };
        gst::debug!(CAT, imp = self, "question {id}: {text:?}");
        let question = Question {
            id: PROMPT_ID.into(),
            ..Question::plain(text)
        };
        captioner.inquire(Inquiry {
            id,
            question: Arc::new(question),
            cancel,
        });
        self.wake_minder();
        id
    }

    fn cancel(&self, id: u64) -> bool {
        let open = self.inquiries.lock().unwrap().open.remove(&id);
        let Some(open) = open else { return false };
        self.unanswered(id, &open, "cancelled");
        true
    }

    /// An answer, or why there is none; not of interest if nobody waits for it any more.
    pub(super) fn answered(&self, id: u64, answer: Result<Box<Caption>, String>, by: &Origin) {
        let open = self.inquiries.lock().unwrap().open.remove(&id);
        let Some(open) = open else {
            gst::debug!(CAT, imp = self, "question {id} is not open any more");
            return;
        };
        match answer {
            Ok(caption) => {
                let origin = self.origin_of(by);
                let mut fields = output::structure("vlmcaption/answer", &caption, &origin);
                fields.set("id", id);
                fields.set("question", &open.text);
                self.post(fields);
            }
            Err(reason) => self.unanswered(id, &open, &reason),
        }
    }

    /// Ends the questions whose time is over; time until the next one's is.
    pub(super) fn end_late_inquiries(&self, now: Instant) -> Option<Duration> {
        let (expired, next) = {
            let mut inquiries = self.inquiries.lock().unwrap();
            (inquiries.expired(now), inquiries.next())
        };
        for (id, open) in expired {
            self.unanswered(id, &open, "the deadline has passed");
        }
        next.map(|next| next.saturating_duration_since(now))
    }

    /// Ends all questions: the element stops.
    pub(super) fn end_inquiries(&self) {
        let open = std::mem::take(&mut self.inquiries.lock().unwrap().open);
        for (id, open) in open {
            self.unanswered(id, &open, "the element has stopped");
        }
    }

    fn unanswered(&self, id: u64, open: &Open, error: &str) {
        open.cancel.cancel();
        let fields = gst::Structure::builder("vlmcaption/answer")
            .field("id", id)
            .field("question", &open.text)
            .field("error", error);
        self.post(fields.build());
    }
}
