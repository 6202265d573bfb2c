// SPDX-License-Identifier: MPL-2.0

//! What is remembered of each question from window to window, and the `vlmcaption/event` messages
//! that come of it.

use std::collections::HashMap;

use gst::subclass::prelude::*;

use super::imp::{CAT, VlmCaption};
use super::output::nanos;
use crate::caption::Caption;
use crate::caption::alarm::{Alarms, Ending, Event, Watch};
use crate::caption::prompt::{Ask, iso8601};

/// Of all questions.
#[derive(Debug, Default)]
pub(super) struct Questions {
    alarms: Alarms,
    /// By question: the answer that its events are about; none for a count.
    watched: HashMap<String, Option<String>>,
    /// By question, why it had no answer; until it has one.
    failed: HashMap<String, String>,
}

/// A message to post.
pub(super) struct Told {
    event: Event,
    watched: Option<String>,
}

impl Questions {
    fn set(&mut self, ask: &Ask) -> Vec<Told> {
        let all = ask.all();
        let rules = all.iter().filter_map(|question| {
            let asked = format!("{:?} {}", question.kind, question.text);
            Some((question.id.as_str(), asked, question.rule.as_ref()?))
        });
        let over = self.alarms.set(rules);
        let over = self.told(over);
        self.failed.retain(|id, _| all.iter().any(|q| q.id == *id));
        let watched = all.iter().filter_map(|question| {
            let answer = match question.rule.as_ref()?.watch {
                Watch::Answer(index) => question.kind.choices().get(index).cloned(),
                Watch::Number => None,
            };
            Some((question.id.clone(), answer))
        });
        self.watched = watched.collect();
        over
    }

    /// Events that ended without this answer, and the one that it decided.
    fn answered(&mut self, caption: &Caption) -> (Vec<Told>, Vec<Told>) {
        let id = &caption.question.id;
        self.failed.remove(id);
        let over = self.alarms.set_timeline(caption.note.timeline);
        let seen = caption.observation();
        let decided = seen.and_then(|seen| self.alarms.observe(id, &seen));
        (self.told(over), self.told(decided.into_iter().collect()))
    }

    fn end(&mut self, ending: Ending) -> Vec<Told> {
        let events = self.alarms.end(ending);
        self.told(events)
    }

    fn told(&self, events: Vec<Event>) -> Vec<Told> {
        let told = events.into_iter().map(|event| Told {
            watched: self.watched.get(&event.id).cloned().flatten(),
            event,
        });
        told.collect()
    }

    /// A question was not answered; whether the reason is new.
    fn failed(&mut self, id: String, reason: &str) -> bool {
        let before = self.failed.insert(id, reason.to_owned());
        before.as_deref() != Some(reason)
    }
}

impl VlmCaption {
    /// The questions are these from now on; what ends by it is to be posted.
    pub(super) fn take_questions(&self, ask: &Ask) -> Vec<Told> {
        self.board.lock().unwrap().set_questions(ask);
        self.questions.lock().unwrap().set(ask)
    }

    /// Feeds an answer to its question's alarm.
    pub(super) fn feed_alarm(&self, caption: &Caption) {
        let (over, decided) = self.questions.lock().unwrap().answered(caption);
        self.post_events(over, None);
        self.post_events(decided, Some(caption));
    }

    /// Ends all events.
    pub(super) fn end_events(&self, ending: Ending) {
        let over = self.questions.lock().unwrap().end(ending);
        self.post_events(over, None);
    }

    /// One of several questions got no answer: told once per reason, until it gets one.
    pub(super) fn question_failed(&self, id: String, reason: &str) {
        let new = self.questions.lock().unwrap().failed(id, reason);
        if new {
            gst::element_imp_warning!(self, gst::StreamError::Failed, ("{reason}"));
        } else {
            gst::debug!(CAT, imp = self, "again: {reason}");
        }
    }

    /// `caption` is the answer that decided, if one did.
    pub(super) fn post_events(&self, events: Vec<Told>, caption: Option<&Caption>) {
        let stream_id = self.origin.lock().unwrap().stream_id.clone();
        for told in events {
            gst::info!(CAT, imp = self, "{:?}", told.event);
            self.post(structure(&told, caption, &stream_id));
        }
    }
}

fn structure(told: &Told, caption: Option<&Caption>, stream_id: &str) -> gst::Structure {
    let event = &told.event;
    let (kind, moment) = match event.ending {
        None => ("begin", event.start),
        Some(_) => ("end", event.end),
    };
    let number = caption.filter(|_| told.watched.is_none());
    let answer = told.watched.clone().or(number.map(|c| c.text.clone()));
    let known = caption.is_some_and(|caption| !caption.probabilities.is_empty());
    let fields = gst::Structure::builder("vlmcaption/event")
        .field("id", &event.id)
        .field("event-id", event.event_id)
        .field("kind", kind)
        .field_if_some("answer", answer)
        .field_if_some(
            "probability",
            (known && told.watched.is_some()).then_some(event.value),
        )
        .field("peak", event.peak)
        .field("start", nanos(event.start.pts))
        .field("end", nanos(event.end.pts))
        .field("duration", nanos(event.duration()))
        .field("wallclock", iso8601(moment.wallclock))
        .field("sequence", event.sequence)
        .field("stream-id", stream_id);
    let reason = event.ending.map(|ending| match ending {
        Ending::Answer => "answer",
        Ending::Eos => "eos",
        Ending::Flush => "flush",
        Ending::Reset => "reset",
        Ending::Stop => "stop",
        Ending::Question => "question",
        Ending::Clock => "clock",
    });
    fields.field_if_some("reason", reason).build()
}
