// SPDX-License-Identifier: MPL-2.0

//! Events: when the answers to a question begin and end something.
//!
//! ```text
//!             value >= on                 for min-duration
//!   quiet ─────────────────► rising ───────────────────────► open ──► begin
//!     ▲      not cooling       │ value < off                   │ value < off, or ended
//!     └────────────────────────┴───────────────────────────────┴──► end, then cooling
//! ```
//!
//! No clock of its own: times are those of the windows, in running time for what lasts, and PTS for
//! what is told.

use std::collections::BTreeMap;
use std::time::Duration;

use super::window::FrameTime;

/// What answer an event is about.
#[derive(Debug, Clone, PartialEq)]
pub enum Watch {
    /// One of the answers of a yes-no question or a choice, by its place; its value is its
    /// probability.
    Answer(usize),
    /// A count; its value is the number.
    Number,
}

/// When answers begin and end an event.
#[derive(Debug, Clone, PartialEq)]
pub struct Rule {
    /// What is looked at.
    pub watch: Watch,
    /// An event begins at values from here on.
    pub on: f64,
    /// It ends at values below; at most `on`.
    pub off: f64,
    /// How long, in running time, values must have stayed at `off` or above since the first at
    /// `on`, before the event begins.
    pub min_duration: Duration,
    /// After an end no event begins for this long, in running time.
    pub cool_down: Duration,
}

/// An answer about a window, as far as alarms are concerned.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Observation {
    /// First frame of the window.
    pub first: FrameTime,
    /// Its last frame.
    pub last: FrameTime,
    /// Of what the rule watches.
    pub value: f64,
    /// Number of the window.
    pub sequence: u64,
}

/// Why an event ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// By an answer.
    Answer,
    /// The stream ended.
    Eos,
    /// The stream was flushed.
    Flush,
    /// The element stopped.
    Stop,
    /// The question is no longer asked, or asks something else.
    Question,
}

/// Begin or end of an event.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// The question's.
    pub id: String,
    /// The same for the begin and the end of one event, and for no other of these [`Alarms`].
    pub event_id: u64,
    /// `None` for a begin.
    pub ending: Option<Ending>,
    /// First frame of the first window that spoke for it.
    pub start: FrameTime,
    /// Last frame of the last window that did, so far.
    pub end: FrameTime,
    /// The value that decided; of an end without an answer the last one.
    pub value: f64,
    /// The largest value so far.
    pub peak: f64,
    /// The window that decided.
    pub sequence: u64,
}

impl Event {
    /// How long it has lasted, in running time.
    pub fn duration(&self) -> Duration {
        let (start, end) = (self.start.running_time, self.end.running_time);
        end.saturating_sub(start)
    }
}

/// The alarms of one element.
#[derive(Debug, Default)]
pub struct Alarms {
    alarms: BTreeMap<String, Alarm>,
    n_events: u64,
}

#[derive(Debug)]
struct Alarm {
    rule: Rule,
    /// What is asked, in any words: if it changes, an event of before is over.
    asked: String,
    state: State,
    /// Running time of the last event's end.
    ended: Option<Duration>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum State {
    Quiet,
    Rising(Span),
    Open { span: Span, event_id: u64 },
}

/// What speaks for an event.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Span {
    start: FrameTime,
    end: FrameTime,
    value: f64,
    peak: f64,
    sequence: u64,
}

impl Span {
    fn new(seen: &Observation) -> Self {
        Self {
            start: seen.first,
            end: seen.last,
            value: seen.value,
            peak: seen.value,
            sequence: seen.sequence,
        }
    }

    fn extend(&mut self, seen: &Observation) {
        self.end = seen.last;
        self.value = seen.value;
        self.peak = self.peak.max(seen.value);
        self.sequence = seen.sequence;
    }

    fn event(&self, id: &str, event_id: u64, ending: Option<Ending>) -> Event {
        Event {
            id: id.to_owned(),
            event_id,
            ending,
            start: self.start,
            end: self.end,
            value: self.value,
            peak: self.peak,
            sequence: self.sequence,
        }
    }
}

impl Alarms {
    /// Changes the rules: each with the question's id and what it asks. An event goes on if its
    /// question does; the others end.
    pub fn set<'a>(
        &mut self,
        rules: impl Iterator<Item = (&'a str, String, &'a Rule)>,
    ) -> Vec<Event> {
        let mut before = std::mem::take(&mut self.alarms);
        for (id, asked, rule) in rules {
            let alarm = match before.remove(id) {
                Some(alarm) if alarm.asked == asked && alarm.rule.watch == rule.watch => Alarm {
                    rule: rule.clone(),
                    ..alarm
                },
                other => {
                    if let Some(alarm) = other {
                        before.insert(id.to_owned(), alarm);
                    }
                    Alarm {
                        rule: rule.clone(),
                        asked,
                        state: State::Quiet,
                        ended: None,
                    }
                }
            };
            self.alarms.insert(id.to_owned(), alarm);
        }
        let over = before.into_iter();
        over.filter_map(|(id, mut alarm)| alarm.end(&id, Ending::Question))
            .collect()
    }

    /// Takes an answer; those of questions without a rule say nothing.
    pub fn observe(&mut self, id: &str, seen: &Observation) -> Option<Event> {
        let next_id = self.n_events + 1;
        let event = self.alarms.get_mut(id)?.observe(id, seen, next_id)?;
        self.n_events = self.n_events.max(event.event_id);
        Some(event)
    }

    /// Ends all events and forgets everything but the rules.
    pub fn end(&mut self, ending: Ending) -> Vec<Event> {
        let alarms = self.alarms.iter_mut();
        let events = alarms.filter_map(|(id, alarm)| {
            let event = alarm.end(id, ending);
            alarm.ended = None;
            event
        });
        events.collect()
    }
}

impl Alarm {
    fn observe(&mut self, id: &str, seen: &Observation, next_id: u64) -> Option<Event> {
        let rule = &self.rule;
        match &mut self.state {
            State::Open { span, event_id } if seen.value >= rule.off => {
                let _ = event_id;
                span.extend(seen);
                None
            }
            State::Open { .. } => {
                let mut event = self.end(id, Ending::Answer)?;
                (event.value, event.sequence) = (seen.value, seen.sequence);
                self.ended = Some(seen.last.running_time);
                Some(event)
            }
            State::Rising(span) if seen.value >= rule.off => {
                span.extend(seen);
                self.rise(id, seen, next_id)
            }
            State::Quiet | State::Rising(_) => {
                let cooling = self.ended.is_some_and(|ended| {
                    seen.first.running_time.saturating_sub(ended) < rule.cool_down
                });
                if seen.value < rule.on || cooling {
                    self.state = State::Quiet;
                    return None;
                }
                self.state = State::Rising(Span::new(seen));
                self.rise(id, seen, next_id)
            }
        }
    }

    /// Opens what has risen long enough.
    fn rise(&mut self, id: &str, seen: &Observation, event_id: u64) -> Option<Event> {
        let State::Rising(span) = self.state else {
            return None;
        };
        let event = span.event(id, event_id, None);
        if seen.value < self.rule.on || event.duration() < self.rule.min_duration {
            return None;
        }
        self.state = State::Open { span, event_id };
        Some(event)
    }

    fn end(&mut self, id: &str, ending: Ending) -> Option<Event> {
        match std::mem::replace(&mut self.state, State::Quiet) {
            State::Open { span, event_id } => {
                self.ended = Some(span.end.running_time);
                Some(span.event(id, event_id, Some(ending)))
            }
            State::Quiet | State::Rising(_) => None,
        }
    }
}
