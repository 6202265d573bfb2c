// SPDX-License-Identifier: MPL-2.0

//! Which answers belong to the trace of an event: those of its question from two minutes before it began
//! to two minutes after it ended, and of a long one the first ten minutes.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use crate::heard::Answer;
use crate::time::Millis;

use super::state::Point;

/// How much before and after an event belongs to it.
pub const AROUND: Duration = Duration::from_secs(120);
/// How much of a long event is traced.
const LONGEST: Duration = Duration::from_secs(600);
/// Answers of one question that are remembered.
const MOST: usize = 256;

/// The events that are traced, and the answers of late.
#[derive(Debug, Default)]
pub struct Traces {
    recent: HashMap<(String, String), VecDeque<(Millis, f64)>>,
    open: Vec<Traced>,
    points: Vec<Point>,
}

#[derive(Debug)]
struct Traced {
    event: i64,
    key: (String, String),
    until: Millis,
}

impl Traces {
    /// An answer came.
    pub fn answer(&mut self, camera: &str, answer: &Answer) {
        let key = (camera.to_owned(), answer.alarm.clone());
        self.open
            .retain(|traced| traced.key != key || answer.at <= traced.until);
        for traced in self.open.iter().filter(|traced| traced.key == key) {
            self.points.push(Point {
                event: traced.event,
                at: answer.at,
                probability: answer.probability,
            });
        }
        let recent = self.recent.entry(key).or_default();
        recent.push_back((answer.at, answer.probability));
        while recent.len() > MOST
            || recent
                .front()
                .is_some_and(|(at, _)| at.plus(AROUND) < answer.at)
        {
            recent.pop_front();
        }
    }

    /// An event begins: what was answered just before belongs to it.
    pub fn begin(&mut self, event: i64, camera: &str, alarm: &str, at: Millis) {
        let key = (camera.to_owned(), alarm.to_owned());
        let before = self.recent.get(&key).into_iter().flatten();
        let before = before.filter(|(answered, _)| answered.plus(AROUND) >= at);
        self.points.extend(before.map(|(at, probability)| Point {
            event,
            at: *at,
            probability: *probability,
        }));
        self.open.push(Traced {
            event,
            key,
            until: at.plus(LONGEST),
        });
    }

    /// An event ends.
    pub fn end(&mut self, event: i64, at: Millis) {
        let traced = self.open.iter_mut().filter(|traced| traced.event == event);
        traced.for_each(|traced| traced.until = traced.until.min(at.plus(AROUND)));
    }

    /// What is to be written.
    pub fn points(&self) -> &[Point] {
        &self.points
    }

    /// It is.
    pub fn written(&mut self) {
        self.points.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answers(traces: &mut Traces, seconds: std::ops::Range<i64>) {
        for second in seconds.filter(|second| second % 4 == 0) {
            let answer = Answer {
                alarm: "dog".into(),
                at: Millis(1_000 * second),
                probability: 0.5,
            };
            traces.answer("front", &answer);
            traces.answer("back", &answer);
        }
    }

    fn times(traces: &Traces) -> (i64, i64, usize) {
        let at = |point: &Point| point.at.0 / 1_000;
        let (first, last) = (traces.points.first(), traces.points.last());
        (first.map_or(0, at), last.map_or(0, at), traces.points.len())
    }

    #[test]
    fn two_minutes_before_and_after_belong_to_an_event() {
        let mut traces = Traces::default();
        answers(&mut traces, 0..1_000);
        traces.begin(1, "front", "dog", Millis(1_000_000));
        answers(&mut traces, 1_000..1_040);
        traces.end(1, Millis(1_040_000));
        answers(&mut traces, 1_040..2_000);
        assert_eq!(times(&traces), (880, 1_160, 71));
        traces.written();
        answers(&mut traces, 2_000..2_100);
        assert!(traces.points().is_empty());
    }

    #[test]
    fn of_a_long_event_ten_minutes_are_traced() {
        let mut traces = Traces::default();
        traces.begin(1, "front", "dog", Millis(0));
        answers(&mut traces, 0..4_000);
        assert_eq!(times(&traces), (0, 600, 151));
    }
}
