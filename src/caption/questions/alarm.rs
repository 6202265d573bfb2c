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

use crate::caption::frames::window::FrameTime;

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
    /// The application began anew.
    Reset,
    /// The element stopped.
    Stop,
    /// The question is no longer asked, or asks something else.
    Question,
    /// The stream's time went back.
    Clock,
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
    /// Number of the timeline that answers are on.
    timeline: u64,
}

#[derive(Debug)]
struct Alarm {
    rule: Rule,
    /// What is asked, in any words: if it changes, an event of before is over.
    asked: String,
    phase: Phase,
    /// Running time of the last event's end.
    ended: Option<Duration>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Phase {
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
                        phase: Phase::Quiet,
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

    /// What follows is on the timeline with this number. With another one all events end: times
    /// of two timelines cannot be compared.
    pub fn set_timeline(&mut self, timeline: u64) -> Vec<Event> {
        if std::mem::replace(&mut self.timeline, timeline) == timeline {
            return Vec::new();
        }
        self.end(Ending::Clock)
    }

    /// Takes an answer; those of questions without a rule say nothing.
    pub fn observe(&mut self, id: &str, seen: &Observation) -> Option<Event> {
        let next_id = self.n_events + 1;
        let event = self.alarms.get_mut(id)?.observe(id, seen, next_id)?;
        self.n_events = self.n_events.max(event.event_id);
        Some(event)
    }

    /// The questions whose events are open, and the last value of each.
    pub fn open(&self) -> impl Iterator<Item = (&str, f64)> {
        self.alarms.iter().filter_map(|(id, alarm)| {
            let Phase::Open { span, .. } = &alarm.phase else {
                return None;
            };
            Some((id.as_str(), span.value))
        })
    }

    /// Whether a question's answers speak for an event that has not lasted long enough to begin.
    pub fn is_rising(&self, id: &str) -> bool {
        let alarm = self.alarms.get(id);
        alarm.is_some_and(|alarm| matches!(alarm.phase, Phase::Rising(_)))
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
        match &mut self.phase {
            Phase::Open { span, .. } if seen.value >= rule.off => {
                span.extend(seen);
                None
            }
            Phase::Open { .. } => {
                let mut event = self.end(id, Ending::Answer)?;
                (event.value, event.sequence) = (seen.value, seen.sequence);
                self.ended = Some(seen.last.running_time);
                Some(event)
            }
            Phase::Rising(span) if seen.value >= rule.off => {
                span.extend(seen);
                self.rise(id, seen, next_id)
            }
            Phase::Quiet | Phase::Rising(_) => {
                let cooling = self.ended.is_some_and(|ended| {
                    seen.first.running_time.saturating_sub(ended) < rule.cool_down
                });
                if seen.value < rule.on || cooling {
                    self.phase = Phase::Quiet;
                    return None;
                }
                self.phase = Phase::Rising(Span::new(seen));
                self.rise(id, seen, next_id)
            }
        }
    }

    /// Opens what has risen long enough.
    fn rise(&mut self, id: &str, seen: &Observation, event_id: u64) -> Option<Event> {
        let Phase::Rising(span) = self.phase else {
            return None;
        };
        let event = span.event(id, event_id, None);
        if seen.value < self.rule.on || event.duration() < self.rule.min_duration {
            return None;
        }
        self.phase = Phase::Open { span, event_id };
        Some(event)
    }

    fn end(&mut self, id: &str, ending: Ending) -> Option<Event> {
        match std::mem::replace(&mut self.phase, Phase::Quiet) {
            Phase::Open { span, event_id } => {
                self.ended = Some(span.end.running_time);
                Some(span.event(id, event_id, Some(ending)))
            }
            Phase::Quiet | Phase::Rising(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::caption::frames::window::WallClock;

    fn at(ms: u64) -> FrameTime {
        let time = Duration::from_millis(ms);
        FrameTime {
            // Segments shift PTS against running time.
            pts: time + Duration::from_secs(100),
            running_time: time,
            wallclock: time,
            clock: WallClock::System,
        }
    }

    fn rule(on: f64, off: f64, min_ms: u64, cool_ms: u64) -> Rule {
        Rule {
            watch: Watch::Answer(0),
            on,
            off,
            min_duration: Duration::from_millis(min_ms),
            cool_down: Duration::from_millis(cool_ms),
        }
    }

    fn alarms(rule: &Rule) -> Alarms {
        let mut alarms = Alarms::default();
        assert!(
            alarms
                .set([("a", "?".to_owned(), rule)].into_iter())
                .is_empty()
        );
        alarms
    }

    /// Windows of a second, one after the other.
    fn windows(values: &[f64]) -> impl Iterator<Item = Observation> {
        (0..).zip(values).map(|(n, value)| Observation {
            first: at(1000 * n),
            last: at(1000 * n + 750),
            value: *value,
            sequence: n + 1,
        })
    }

    /// `b` and `e` where events begin and end, by the window's number from 0.
    fn story(rule: &Rule, values: &[f64]) -> String {
        let mut alarms = alarms(rule);
        let events = windows(values).filter_map(|seen| {
            let event = alarms.observe("a", &seen)?;
            let kind = if event.ending.is_none() { 'b' } else { 'e' };
            Some(format!("{kind}{}", seen.sequence - 1))
        });
        events.collect()
    }

    #[test]
    fn an_event_begins_at_on_and_ends_below_off() {
        let rule = rule(0.6, 0.4, 0, 0);
        assert_eq!(
            story(&rule, &[0.5, 0.6, 0.5, 0.4, 0.39, 0.5, 0.7]),
            "b1e4b6"
        );
    }

    #[test]
    fn it_begins_only_once_it_has_lasted() {
        let rule = rule(0.6, 0.4, 1700, 0);
        assert_eq!(story(&rule, &[0.9, 0.1, 0.9, 0.9, 0.9, 0.1]), "b3e5");
        assert_eq!(
            story(&rule, &[0.9, 0.5, 0.9]),
            "b2",
            "between the thresholds it goes on"
        );
        assert_eq!(
            story(&rule, &[0.9, 0.5, 0.5]),
            "",
            "it begins with a value at on"
        );
    }

    #[test]
    fn none_begins_while_it_cools_down() {
        let rule = rule(0.6, 0.4, 0, 2500);
        // Ended by the window up to 1.75 s: until 4.25 s none begins.
        assert_eq!(story(&rule, &[0.9, 0.1, 0.9, 0.9, 0.9, 0.9]), "b0e1b5");
    }

    #[test]
    fn begin_and_end_of_an_event_tell_its_times_and_belong_together() {
        let mut alarms = alarms(&rule(0.6, 0.4, 0, 0));
        let events: Vec<Event> = windows(&[0.1, 0.7, 0.9, 0.5, 0.1])
            .filter_map(|seen| alarms.observe("a", &seen))
            .collect();
        let [begin, end] = events.as_slice() else {
            panic!("{events:?}");
        };
        assert_eq!((begin.event_id, end.event_id), (1, 1));
        assert_eq!(
            (begin.start, begin.end, begin.sequence),
            (at(1000), at(1750), 2)
        );
        assert_eq!((end.start, end.end, end.sequence), (at(1000), at(3750), 5));
        assert_eq!((end.value, end.peak), (0.1, 0.9));
        assert_eq!(end.duration(), Duration::from_millis(2750));
        assert_eq!(end.ending, Some(Ending::Answer));
    }

    #[test]
    fn an_open_event_ends_with_the_stream_and_with_its_question() {
        let rule = rule(0.6, 0.4, 0, 0);
        let open = || {
            let mut alarms = alarms(&rule);
            windows(&[0.9]).for_each(|seen| drop(alarms.observe("a", &seen)));
            alarms
        };
        for ending in [Ending::Eos, Ending::Flush, Ending::Stop] {
            let mut alarms = open();
            let events = alarms.end(ending);
            assert_eq!((events.len(), events[0].ending), (1, Some(ending)));
            assert!(alarms.end(ending).is_empty());
        }
        let set = |id, asked: &str, rule| {
            let events = open().set([(id, asked.to_owned(), rule)].into_iter());
            events.first().and_then(|event| event.ending)
        };
        assert_eq!(set("b", "?", &rule), Some(Ending::Question));
        assert_eq!(set("a", "what else?", &rule), Some(Ending::Question));
        let stricter = Rule {
            on: 0.99,
            ..rule.clone()
        };
        assert_eq!(
            set("a", "?", &stricter),
            None,
            "a threshold may be tuned meanwhile"
        );
    }

    proptest! {
        #[test]
        fn events_alternate_keep_their_distance_and_need_a_threshold_crossed(
            values in prop::collection::vec(0u32..=20, 0..80),
            (on, off) in (0u32..=20).prop_flat_map(|on| (Just(on), 0..=on)),
            min_ms in 0u64..4000,
            cool_ms in 0u64..6000,
        ) {
            let values: Vec<f64> = values.iter().map(|v| f64::from(*v) / 20.0).collect();
            let rule = rule(f64::from(on) / 20.0, f64::from(off) / 20.0, min_ms, cool_ms);
            let mut alarms = alarms(&rule);
            let mut open: Option<Event> = None;
            let mut ended: Option<Duration> = None;
            let mut last_id = 0;
            for seen in windows(&values) {
                let Some(event) = alarms.observe("a", &seen) else {
                    continue;
                };
                prop_assert!(event.start.running_time <= event.end.running_time);
                match event.ending {
                    None => {
                        prop_assert!(open.is_none(), "two begins without an end");
                        prop_assert!(seen.value >= rule.on);
                        prop_assert!(event.duration() >= rule.min_duration);
                        prop_assert!(event.event_id > last_id);
                        last_id = event.event_id;
                        if let Some(ended) = ended {
                            prop_assert!(event.start.running_time - ended >= rule.cool_down);
                        }
                        open = Some(event);
                    }
                    Some(ending) => {
                        let begin = open.take();
                        prop_assert!(begin.is_some(), "an end without a begin");
                        let begin = begin.unwrap();
                        prop_assert_eq!(begin.event_id, event.event_id);
                        prop_assert_eq!(begin.start, event.start);
                        prop_assert_eq!(ending, Ending::Answer);
                        prop_assert!(seen.value < rule.off);
                        ended = Some(seen.last.running_time);
                    }
                }
            }
            let events = alarms.end(Ending::Eos);
            prop_assert_eq!(events.len(), usize::from(open.is_some()));
        }

        #[test]
        fn values_between_the_thresholds_change_nothing(
            values in prop::collection::vec(8u32..12, 1..60),
            before in prop::bool::ANY,
        ) {
            let rule = rule(0.6, 0.4, 0, 0);
            let mut alarms = alarms(&rule);
            let first = if before { 0.9 } else { 0.1 };
            let values = values.iter().map(|v| f64::from(*v) / 20.0);
            let values: Vec<f64> = [first].into_iter().chain(values).collect();
            let n_events = windows(&values).filter_map(|seen| alarms.observe("a", &seen)).count();
            prop_assert_eq!(n_events, usize::from(before));
        }
    }
}
