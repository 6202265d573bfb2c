// SPDX-License-Identifier: MPL-2.0

//! Spans as Chrome's trace events, which <https://ui.perfetto.dev> opens. The file is whole after every
//! span, so that it can be opened while the pipeline plays, or after it was killed.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use serde_json::{Value, json};

use crate::caption::trace::{self, Span, Stage};

/// Has spans written to a file, which the first one makes.
pub(super) fn begin(path: PathBuf) {
    let (since, state) = (Instant::now(), Mutex::new(State::Waiting));
    trace::listen(Arc::new(move |span| {
        let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
        state.write(&path, span, since);
    }));
}

enum State {
    /// There was no span yet.
    Waiting,
    Open(Events<File>),
    /// It cannot be written, which was said.
    Failed,
}

impl State {
    fn write(&mut self, path: &Path, span: &Span<'_>, since: Instant) {
        if matches!(self, Self::Waiting) {
            let made = File::create(path).and_then(Events::begin);
            *self = match made {
                Ok(events) => Self::Open(events),
                Err(error) => Self::failed(path, &error),
            };
        }
        if let Self::Open(events) = self
            && let Err(error) = events.add(span, since)
        {
            *self = Self::failed(path, &error);
        }
    }

    fn failed(path: &Path, error: &io::Error) -> Self {
        gst::warning!(
            crate::vlmcaption::log::CAT,
            "{}: {error}; set VLMCAPTION_TRACE to a file that can be written",
            path.display()
        );
        Self::Failed
    }
}

/// A list of events in a file.
struct Events<F> {
    file: F,
    /// The track of each element.
    tracks: HashMap<String, u64>,
    is_empty: bool,
}

/// What the file ends with.
const END: &[u8] = b"\n]\n";

impl<F: Write + Seek> Events<F> {
    fn begin(mut file: F) -> io::Result<Self> {
        file.write_all(b"[")?;
        file.write_all(END)?;
        Ok(Self {
            file,
            tracks: HashMap::new(),
            is_empty: true,
        })
    }

    fn add(&mut self, span: &Span<'_>, since: Instant) -> io::Result<()> {
        let mut events = Vec::new();
        let next = self.tracks.len() as u64 + 1;
        let track = match self.tracks.get(span.element) {
            Some(track) => *track,
            None => {
                self.tracks.insert(span.element.to_owned(), next);
                events.push(json!({
                    "ph": "M", "name": "thread_name", "pid": 1, "tid": next,
                    "args": {"name": span.element},
                }));
                next
            }
        };
        events.extend(of(span, track, since));
        self.file.seek(SeekFrom::End(-(END.len() as i64)))?;
        let mut text = String::new();
        for event in events {
            text.push_str(if std::mem::take(&mut self.is_empty) {
                "\n"
            } else {
                ",\n"
            });
            text.push_str(&event.to_string());
        }
        self.file.write_all(text.as_bytes())?;
        self.file.write_all(END)
    }
}

/// The events of a span. Work of one element does not overlap; its windows and their waits do, so they
/// have tracks of their own.
fn of(span: &Span<'_>, track: u64, since: Instant) -> Vec<Value> {
    let us = |at: Instant| at.saturating_duration_since(since).as_nanos() as f64 / 1e3;
    let (began, ended) = (us(span.began), us(span.ended));
    let args = json!({
        "window": span.window, "question": span.question, "tokens": span.tokens,
    });
    let event = |phase: &str, at: f64| {
        json!({
            "ph": phase, "cat": "vlmcaption", "name": span.stage.name(), "pid": 1, "tid": track,
            "ts": at, "args": args,
        })
    };
    match span.stage {
        Stage::Encode | Stage::Prefill | Stage::Decode => {
            let mut whole = event("X", began);
            whole["dur"] = (ended - began).into();
            vec![whole]
        }
        Stage::Window | Stage::Queue => {
            let ends = [event("b", began), event("e", ended)];
            let ends = ends.into_iter().map(|mut end| {
                end["id"] = format!("{track}.{}.{}", span.window, span.stage.name()).into();
                end
            });
            ends.collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_file_is_json_after_every_span() {
        let since = Instant::now();
        let mut events = Events::begin(Cursor::new(Vec::new())).unwrap();
        let read = |events: &Events<Cursor<Vec<u8>>>| -> Vec<Value> {
            serde_json::from_slice(events.file.get_ref()).unwrap()
        };
        assert!(read(&events).is_empty());
        let mut n = 0;
        for (element, window) in [("a\"b", 1), ("c", 1), ("c", 2)] {
            for stage in Stage::ALL {
                let at = |ms| since + Duration::from_millis(ms);
                let span = Span {
                    stage,
                    element,
                    window,
                    question: "default",
                    tokens: 3,
                    began: at(10 * window),
                    ended: at(10 * window + 5),
                };
                events.add(&span, since).unwrap();
                n += of(&span, 1, since).len();
                let all = read(&events);
                let spans = all.iter().filter(|event| event["ph"] != "M");
                assert_eq!(spans.count(), n);
            }
        }
        let all = read(&events);
        let count = |phase: &str| all.iter().filter(|event| event["ph"] == phase).count();
        // Two elements; of three windows three spans of work, and two that may overlap.
        assert_eq!(
            (count("M"), count("X"), count("b"), count("e")),
            (2, 9, 6, 6)
        );
        let encode = all.iter().find(|event| event["name"] == "encode").unwrap();
        assert_eq!(
            (&encode["ts"], &encode["dur"]),
            (&json!(10_000.0), &json!(5_000.0))
        );
        let names = all.iter().filter(|event| event["ph"] == "M");
        let names: Vec<&Value> = names.map(|event| &event["args"]["name"]).collect();
        assert_eq!(names, ["a\"b", "c"]);
    }
}
