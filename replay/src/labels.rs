// SPDX-License-Identifier: MPL-2.0

//! Marked truth: which question is true of which record, by its name or by a span of time.

use std::fmt::Write;
use std::path::Path;

use gstvlmcaption::caption::evidence::record::Record;

use crate::questions::Question;

/// What is true.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Truth(Vec<Mark>);

#[derive(Debug, Clone, PartialEq)]
struct Mark {
    /// A record's name, or the first and last moment of a span as RFC 3339 in UTC.
    of: Of,
    question: String,
    is_true: bool,
}

#[derive(Debug, Clone, PartialEq)]
enum Of {
    Record(String),
    Span(String, String),
}

impl Truth {
    /// Reads a file of lines `RECORD,QUESTION,yes|no`; those without an answer are not marked.
    ///
    /// # Errors
    /// A sentence that names the file and the line.
    pub fn read(path: &Path) -> Result<Self, String> {
        let place = path.display();
        let text = std::fs::read_to_string(path).map_err(|error| format!("{place}: {error}"))?;
        Self::parse(&text).map_err(|reason| format!("{place}: {reason}"))
    }

    fn parse(text: &str) -> Result<Self, String> {
        let mut marks = Vec::new();
        for (number, line) in (1..).zip(text.lines()) {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let parts: Vec<&str> = line.split(',').map(str::trim).collect();
            let wrong = || format!("line {number} is not RECORD,QUESTION,yes|no: {line}");
            let [of, question, answer] = parts.as_slice() else {
                return Err(wrong());
            };
            let is_true = match *answer {
                "yes" | "1" => true,
                "no" | "0" => false,
                "" => continue,
                _ => return Err(wrong()),
            };
            marks.push(Mark {
                of: match of.split_once("..") {
                    Some((from, to)) => Of::Span(from.to_owned(), to.to_owned()),
                    None => Of::Record((*of).to_owned()),
                },
                question: (*question).to_owned(),
                is_true,
            });
        }
        Ok(Self(marks))
    }

    /// What is true of a record; a later line goes before an earlier one.
    pub fn of(&self, record: &Record, question: &str) -> Option<bool> {
        let last = record.frames.last().map(|frame| frame.time.as_str());
        let fits = |mark: &&Mark| {
            mark.question == question
                && match &mark.of {
                    Of::Record(id) => *id == record.id,
                    // Times that are written alike are in order of text.
                    Of::Span(from, to) => {
                        last.is_some_and(|last| from.as_str() <= last && last <= to.as_str())
                    }
                }
        };
        let mark = self.0.iter().rev().find(fits);
        mark.map(|mark| mark.is_true)
    }
}

/// A file of truth to be filled in; what the record itself was answered stands beside it.
pub fn blank(records: &[Record], questions: &[Question]) -> String {
    let mut text = "# RECORD,QUESTION,yes|no\n".to_owned();
    for record in records {
        // Writing to a string does not fail.
        let _ = writeln!(text, "# {} {:?}", record.question.id, record.answer.text);
        for question in questions {
            let _ = writeln!(text, "{},{},", record.id, question.id);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rows::tests::record;

    #[test]
    fn a_record_is_marked_by_its_name_or_by_time() {
        let truth = Truth::parse(
            "# a comment\n\
             2026-01-01T00:00:01.000Z..2026-01-01T00:00:09.000Z, person, yes\n\
             b,person,no\n\
             c,person,\n",
        );
        let truth = truth.unwrap();
        let of = |id: &str, time: &str, question: &str| truth.of(&record(id, time), question);
        assert_eq!(of("a", "2026-01-01T00:00:05.500Z", "person"), Some(true));
        assert_eq!(of("b", "2026-01-01T00:00:05.500Z", "person"), Some(false));
        assert_eq!(of("a", "2026-01-01T00:00:09.500Z", "person"), None);
        assert_eq!(of("a", "2026-01-01T00:00:05.500Z", "car"), None);
        assert_eq!(of("c", "2027-01-01T00:00:05.500Z", "person"), None);
    }

    #[test]
    fn a_line_that_says_nothing_is_named() {
        for line in ["a,b", "a,b,maybe", "a,b,yes,no"] {
            let error = Truth::parse(&format!("\n{line}\n")).unwrap_err();
            assert!(error.contains("line 2"), "{error}");
        }
    }
}
