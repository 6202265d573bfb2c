// SPDX-License-Identifier: MPL-2.0

//! Reads the body of an answer: a stream of events, or one JSON text.

use std::io::Read;

use serde_json::Value;

use crate::answer::{Answer, Assembly, Finish, Flaw, Piece};
use crate::error::{Asked, Problem};
use crate::shape::{self, one_line};
use crate::sse::{Event, Parser};
use crate::wire::link::Link;

/// The longest event and the longest whole answer, beside its text: alternatives of tokens and
/// usage take far more room than the text does.
const LARGEST: usize = 16 << 20;

/// What is read with.
pub(crate) struct Reading<'a> {
    pub(crate) link: &'a Link,
    pub(crate) asked: &'a Asked<'a>,
    pub(crate) scrub: &'a dyn Fn(&str) -> String,
    /// Hears the pieces.
    pub(crate) on: &'a mut dyn FnMut(Piece<'_>),
}

/// Which form an answer has.
enum Form {
    /// Not known: no byte has come.
    Unknown,
    Events(Parser),
    Json(Vec<u8>),
}

/// An answer, and whether its body was read to the end, so that the connection can be used again.
pub(crate) struct ReadAnswer {
    pub(crate) answer: Answer,
    pub(crate) is_drained: bool,
}

/// What an event means for the stream.
#[derive(PartialEq)]
enum Goes {
    On,
    Done,
}

impl Reading<'_> {
    /// Reads an answer of status 200.
    ///
    /// # Errors
    /// What the server says inside it, what is wrong with its form, or that it is not whole.
    /// Faults of the connection are the link's to know.
    pub(crate) fn read(
        &mut self,
        body: &mut dyn Read,
        is_stream: bool,
    ) -> Result<ReadAnswer, Problem> {
        let limit = self.link.bounds().text;
        let mut assembly = Assembly::new(limit);
        let mut form = match is_stream {
            true => Form::Events(Parser::new(LARGEST)),
            false => Form::Unknown,
        };
        let mut buffer = vec![0; 16 << 10];
        let (mut goes, mut ended, mut total) = (Goes::On, false, 0usize);
        while goes == Goes::On {
            let n = match body.read(&mut buffer) {
                Ok(n) => n,
                // What follows the reason is welcome and not needed.
                Err(_) if assembly.is_finished() && !self.link.is_cancelled() => break,
                Err(error) => return Err(self.broken(&error, &assembly)),
            };
            if n == 0 {
                ended = true;
                break;
            }
            total = total.saturating_add(n);
            if total > limit.saturating_add(LARGEST) {
                return Err(Problem::TooLong { bound: limit });
            }
            let bytes = &buffer[..n];
            if let Form::Unknown = form {
                form = form_of(bytes);
            }
            match &mut form {
                Form::Events(parser) => {
                    let events = parser
                        .feed(bytes)
                        .map_err(|_| Problem::TooLong { bound: limit })?;
                    for event in events {
                        goes = self.event(&event, &mut assembly, false)?;
                        if goes == Goes::Done {
                            break;
                        }
                    }
                }
                Form::Json(text) => {
                    self.link.streams();
                    text.extend_from_slice(bytes);
                }
                Form::Unknown => (),
            }
        }
        if ended {
            self.end(form, &mut assembly)?;
        }
        let is_drained = ended || (goes == Goes::Done && self.drain(body));
        if self.link.is_cancelled() {
            return Err(Problem::Cancelled);
        }
        let n_bytes = assembly.n_bytes();
        let mut answer = assembly.finish().ok_or(Problem::Truncated { n_bytes })?;
        if let Finish::Other(reason) = &mut answer.finish {
            *reason = one_line(&(self.scrub)(reason));
        }
        Ok(ReadAnswer { answer, is_drained })
    }

    /// The body has ended: what is left in the parser.
    fn end(&mut self, form: Form, assembly: &mut Assembly) -> Result<(), Problem> {
        match form {
            Form::Events(mut parser) => {
                if let Some(event) = parser.finish() {
                    self.event(&event, assembly, true)?;
                }
                Ok(())
            }
            Form::Json(text) => self.json(&text, assembly),
            Form::Unknown => Ok(()),
        }
    }

    fn event(
        &mut self,
        event: &Event,
        assembly: &mut Assembly,
        last: bool,
    ) -> Result<Goes, Problem> {
        let data = event.data.trim();
        if data == "[DONE]" {
            return Ok(Goes::Done);
        }
        if data.is_empty() {
            return Ok(Goes::On);
        }
        let value: Value = match serde_json::from_str(data) {
            Ok(value) => value,
            // The last event may have been cut.
            Err(_) if last => {
                let n_bytes = assembly.n_bytes();
                return Err(Problem::Truncated { n_bytes });
            }
            Err(_) if event.name == "error" => {
                let said = shape::of_body(data.as_bytes(), self.scrub);
                return Err(Problem::of_answer(said, self.asked));
            }
            Err(_) => {
                let shown = one_line(&(self.scrub)(data));
                let reason = format!("an event that is not JSON: {shown}");
                return Err(Problem::Garbage { reason });
            }
        };
        self.link.streams();
        let error = match event.name.as_str() {
            "error" => Some(shape::of_body(data.as_bytes(), self.scrub)),
            _ => shape::in_answer(&value, self.scrub),
        };
        if let Some(said) = error {
            return Err(Problem::of_answer(said, self.asked));
        }
        self.take(&value, assembly)?;
        if assembly.is_finished() {
            self.link.lingers();
        }
        Ok(Goes::On)
    }

    fn json(&mut self, text: &[u8], assembly: &mut Assembly) -> Result<(), Problem> {
        match serde_json::from_slice::<Value>(text) {
            Ok(value) => {
                if let Some(said) = shape::in_answer(&value, self.scrub) {
                    return Err(Problem::of_answer(said, self.asked));
                }
                if value.get("choices").is_none() {
                    let reason = "an answer without choices".into();
                    return Err(Problem::Garbage { reason });
                }
                self.take(&value, assembly)
            }
            Err(error) if error.is_eof() => Err(Problem::Truncated {
                n_bytes: assembly.n_bytes(),
            }),
            Err(_) => {
                let said = shape::of_body(text, self.scrub).message;
                Err(Problem::Garbage {
                    reason: format!("it says: {said}"),
                })
            }
        }
    }

    fn take(&mut self, value: &Value, assembly: &mut Assembly) -> Result<(), Problem> {
        let n_bytes = assembly.n_bytes();
        assembly.take(value, self.on).map_err(|flaw| match flaw {
            Flaw::TooLong => Problem::TooLong {
                bound: self.link.bounds().text,
            },
            Flaw::Aborted => Problem::Truncated { n_bytes },
            Flaw::Garbage(reason) => Problem::Garbage {
                reason: reason.into(),
            },
        })
    }

    /// The connection broke, or a bound was passed, which the link knows.
    fn broken(&self, error: &std::io::Error, assembly: &Assembly) -> Problem {
        if let Some(problem @ (Problem::Cancelled | Problem::Timeout { .. })) = self.link.verdict()
        {
            return problem;
        }
        match assembly.n_bytes() {
            0 => Problem::Broken {
                reason: crate::wire::attempt::reason(error),
            },
            n_bytes => Problem::Truncated { n_bytes },
        }
    }

    /// Whether the body ends soon after its last event.
    fn drain(&self, body: &mut dyn Read) -> bool {
        self.link.drains();
        let mut rest = [0; 512];
        // A body that goes on is no longer read.
        (0..8).any(|_| matches!(body.read(&mut rest), Ok(0)))
    }
}

/// The form that an answer's first bytes show.
fn form_of(bytes: &[u8]) -> Form {
    let start = bytes.trim_ascii_start();
    let is_field = |name: &[u8]| start.starts_with(name);
    if start.is_empty() {
        Form::Unknown
    } else if is_field(b"data") || is_field(b":") || is_field(b"event") || is_field(b"id:") {
        Form::Events(Parser::new(LARGEST))
    } else {
        Form::Json(Vec::new())
    }
}

/// Reads a whole body of at most `limit` bytes.
///
/// # Errors
/// [`Problem::TooLong`], and faults of the connection.
pub(crate) fn whole(body: &mut dyn Read, link: &Link, limit: usize) -> Result<Vec<u8>, Problem> {
    let mut text = Vec::new();
    let mut buffer = vec![0; 16 << 10];
    loop {
        match body.read(&mut buffer) {
            Ok(0) => return Ok(text),
            Ok(n) => {
                link.streams();
                text.extend_from_slice(&buffer[..n]);
                if text.len() > limit {
                    return Err(Problem::TooLong { bound: limit });
                }
            }
            Err(error) => {
                return Err(link.verdict().unwrap_or_else(|| Problem::Broken {
                    reason: crate::wire::attempt::reason(&error),
                }));
            }
        }
    }
}
