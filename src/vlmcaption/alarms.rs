// SPDX-License-Identifier: MPL-2.0

//! Alarms: what is remembered of each question from window to window, and the `vlmcaption/event`
//! messages and classes on buffers that come of it.

use std::collections::HashMap;
use std::sync::Arc;

use super::analytics::Class;
use super::output::nanos;
use crate::caption::Caption;
use crate::caption::alarm::{Alarms, Ending, Event, Watch};
use crate::caption::evidence::record::Alarm;
use crate::caption::prompt::{Ask, iso8601};

/// The alarms of all questions.
#[derive(Debug, Default)]
pub(super) struct Questions {
    alarms: Alarms,
    /// By question: the answer that its events are about; none for a count.
    watched: HashMap<String, Option<String>>,
    /// By question, why it had no answer; until it has one.
    failed: HashMap<String, String>,
    /// What is on every buffer while events are open.
    classes: Arc<[Class]>,
}

/// The begin or the end of something, to be posted.
#[derive(Debug)]
pub(super) struct AlarmEvent {
    event: Event,
    watched: Option<String>,
}

impl Questions {
    /// The questions are these from now on; what ends by it.
    pub fn set(&mut self, ask: &Ask) -> Vec<AlarmEvent> {
        let all = ask.all();
        let rules = all.iter().filter_map(|question| {
            let asked = format!("{:?} {}", question.kind, question.text);
            Some((question.id.as_str(), asked, question.rule.as_ref()?))
        });
        let over = self.alarms.set(rules);
        let over = self.named(over);
        self.failed.retain(|id, _| all.iter().any(|q| q.id == *id));
        let watched = all.iter().filter_map(|question| {
            let answer = match question.rule.as_ref()?.watch {
                Watch::Answer(index) => question.kind.choices().get(index).cloned(),
                Watch::Number => None,
            };
            Some((question.id.clone(), answer))
        });
        self.watched = watched.collect();
        self.classify();
        over
    }

    /// Events that ended without this answer, and the one that it decided.
    pub fn answered(&mut self, caption: &Caption) -> (Vec<AlarmEvent>, Vec<AlarmEvent>) {
        let id = &caption.question.id;
        self.failed.remove(id);
        let over = self.alarms.set_timeline(caption.window_info.timeline);
        let seen = caption.observation();
        let decided = seen.and_then(|seen| self.alarms.observe(id, &seen));
        self.classify();
        (self.named(over), self.named(decided.into_iter().collect()))
    }

    /// How the alarm of a question stands after the answer that `decided` came of; `None` if it is
    /// quiet.
    pub fn standing(&self, id: &str, decided: &[AlarmEvent]) -> Option<Alarm> {
        match decided.first().map(|decided| decided.event.ending) {
            Some(None) => Some(Alarm::Begin),
            Some(Some(_)) => Some(Alarm::End),
            None if self.alarms.open().any(|(open, _)| open == id) => Some(Alarm::Open),
            None => self.alarms.is_rising(id).then_some(Alarm::Rising),
        }
    }

    /// Ends all events.
    pub fn end(&mut self, ending: Ending) -> Vec<AlarmEvent> {
        let events = self.alarms.end(ending);
        self.classify();
        self.named(events)
    }

    /// `question:answer` of every event that is open and about an answer, for
    /// [`add_classes`](super::analytics::add_classes).
    pub fn classes(&self) -> Arc<[Class]> {
        self.classes.clone()
    }

    /// Only what the application wrote down before becomes a class, never what a model says.
    fn classify(&mut self) {
        let classes = self.alarms.open().filter_map(|(id, value)| {
            let answer = self.watched.get(id)?.as_ref()?;
            Some(Class {
                word: glib::Quark::from_str(format!("{id}:{answer}")),
                confidence: value as f32,
            })
        });
        self.classes = classes.collect();
    }

    fn named(&self, events: Vec<Event>) -> Vec<AlarmEvent> {
        let named = events.into_iter().map(|event| AlarmEvent {
            watched: self.watched.get(&event.id).cloned().flatten(),
            event,
        });
        named.collect()
    }

    /// A question was not answered; whether the reason is new.
    pub fn failed(&mut self, id: String, reason: &str) -> bool {
        let before = self.failed.insert(id, reason.to_owned());
        before.as_deref() != Some(reason)
    }
}

impl AlarmEvent {
    /// The message `vlmcaption/event`; `caption` is the answer that decided, if one did.
    pub fn structure(&self, caption: Option<&Caption>, stream_id: &str) -> gst::Structure {
        let event = &self.event;
        let (kind, moment) = match event.ending {
            None => ("begin", event.start),
            Some(_) => ("end", event.end),
        };
        let number = caption.filter(|_| self.watched.is_none());
        let answer = self.watched.clone().or(number.map(|c| c.text.clone()));
        let known = caption.is_some_and(|caption| !caption.probabilities.is_empty());
        let fields = gst::Structure::builder("vlmcaption/event")
            .field("id", &event.id)
            .field("event-id", event.event_id)
            .field("kind", kind)
            .field_if_some("answer", answer)
            .field_if_some(
                "probability",
                (known && self.watched.is_some()).then_some(event.value),
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
}
