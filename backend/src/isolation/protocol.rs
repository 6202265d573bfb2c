// SPDX-License-Identifier: MPL-2.0

//! What the application and a worker say to each other: frames of a length and that many bytes, first a
//! greeting that never changes, then calls and answers of one build.

use std::io::{self, Read};

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::text::bounded;
use crate::{Arithmetic, Error, GridThw, Health, Launch, Limits, Position, Recipe, Step};

/// What the crate was made of: both sides must have the same.
pub const STAMP: &str = env!("VLMCAPTION_STAMP");

/// With which a worker's greeting begins, of any build; its stamp follows.
pub const GREETING: &str = "vlmcaption-worker ";

/// Bytes of a call, at most: the weights of a built-in model are in one.
pub const MAX_CALL: usize = 64 << 20;
/// Bytes of an answer, at most.
pub const MAX_ANSWER: usize = 1 << 20;

/// What a worker is told.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub enum Call {
    /// Make the program.
    Load(Box<Recipe>),
    /// `Program::encode`, of pixels that are in the arena.
    Encode {
        /// Of the patches.
        grid: GridThw,
        /// Bytes of pixels.
        n_bytes: usize,
        /// Of the patches.
        mean: [f32; 3],
        /// Of the patches.
        std: [f32; 3],
    },
    /// `Program::open`
    Open,
    /// `Program::extend`
    Extend(u32, Rows),
    /// `Program::extend_each`
    ExtendEach(Vec<Step>),
    /// `Program::verifies`
    Verifies(usize),
    /// `Program::verify`
    Verify(u32, Vec<u32>, Vec<Position>),
    /// `Program::shared`
    Shared(Rows),
    /// `Program::prepare`
    Prepare(Rows),
    /// `Program::continues`
    Continues(usize, usize),
    /// `Program::health`
    Health,
    /// `Program::truncate`; not answered.
    Truncate(u32, usize),
    /// `Program::close`; not answered.
    Close(u32),
    /// Features that nobody needs any more; not answered.
    Forget(Vec<u64>),
}

/// Rows of a sequence.
#[derive(Debug, Clone, Default, serde::Serialize, serde::Deserialize)]
pub struct Rows {
    /// What they are.
    pub runs: Vec<Run>,
    /// Where they stand.
    pub positions: Vec<Position>,
}

/// Consecutive rows.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub enum Run {
    /// Text tokens.
    Tokens(Vec<u32>),
    /// Features by their number.
    Visual(u64),
}

/// What a worker answers.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub enum Answer {
    /// The program is there.
    Loaded {
        /// Its own.
        limits: Limits,
        /// Its own.
        batch: usize,
        /// Its own.
        prompts: usize,
        /// Its own.
        arithmetic: Arithmetic,
        /// Its own.
        remark: Option<String>,
    },
    /// Features, kept under a number.
    Encoded {
        /// The number.
        visual: u64,
        /// Rows.
        n_tokens: usize,
    },
    /// A sequence.
    Opened(u32),
    /// What follows each of the sequences that were extended, and what became of the others.
    Extended(Vec<Next>, Option<Failure>),
    /// Rows.
    Count(usize),
    /// Launches.
    Launches(Vec<Launch>),
    /// Yes or no.
    Truth(bool),
    /// How the device fares.
    Health(Health),
    /// It is done.
    Done,
    /// It is not.
    Failed(Failure),
}

/// What follows a sequence.
#[derive(Debug, Clone, Copy, serde::Serialize, serde::Deserialize)]
pub enum Next {
    /// Logits, in the row of the arena with the same number.
    Logits,
    /// A token.
    Token(u32),
}

/// An error, as far as the application treats it differently.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub enum Failure {
    /// [`Error::Cancelled`]
    Cancelled,
    /// [`Error::Context`]
    Context {
        /// Rows asked for.
        needed: usize,
        /// Rows there are.
        context: usize,
    },
    /// [`Error::Shape`]
    Shape {
        /// The input.
        what: String,
        /// What the net takes.
        want: String,
        /// What it was given.
        got: String,
    },
    /// Any other, in words.
    Other(String),
}

impl From<&Error> for Failure {
    fn from(error: &Error) -> Self {
        match error {
            Error::Cancelled => Self::Cancelled,
            Error::Context { needed, context } => Self::Context {
                needed: *needed,
                context: *context,
            },
            Error::Shape { what, want, got } => Self::Shape {
                what: what.clone().into_owned(),
                want: want.clone(),
                got: got.clone(),
            },
            other => Self::Other(other.to_string()),
        }
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Cancelled => Self::Cancelled,
            Failure::Context { needed, context } => Self::Context { needed, context },
            Failure::Shape { what, want, got } => Self::Shape {
                what: bounded(&what).into(),
                want: bounded(&want),
                got: bounded(&got),
            },
            Failure::Other(text) => super::Error::Said(bounded(&text)).into(),
        }
    }
}

/// A call or an answer, and the number of the call.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub struct Numbered<T> {
    /// The number.
    pub number: u64,
    /// The other.
    pub what: T,
}

/// A frame of some bytes.
pub fn frame(bytes: &[u8]) -> Vec<u8> {
    // Nothing that is sent comes near it.
    let n = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    [&n.to_le_bytes()[..], bytes].concat()
}

/// The frame of a call or an answer.
pub fn encode<T: Serialize>(value: &T) -> io::Result<Vec<u8>> {
    let bytes = postcard::to_allocvec(value).map_err(io::Error::other)?;
    Ok(frame(&bytes))
}

/// What a frame's bytes say, all of them.
///
/// # Errors
/// They say nothing.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> io::Result<T> {
    match postcard::take_from_bytes(bytes) {
        Ok((value, [])) => Ok(value),
        Ok((_, rest)) => Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("{} bytes too many", rest.len()),
        )),
        Err(error) => Err(io::Error::new(
            io::ErrorKind::InvalidData,
            error.to_string(),
        )),
    }
}

/// Reads a frame, waiting for it; `None` at the end.
///
/// # Errors
/// One that ends too early, or is longer than `most`.
pub fn read_frame(from: &mut impl Read, most: usize) -> io::Result<Option<Vec<u8>>> {
    let mut head = [0; 4];
    if let Err(error) = from.read_exact(&mut head) {
        return match error.kind() {
            io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset => Ok(None),
            _ => Err(error),
        };
    }
    let n = u32::from_le_bytes(head) as usize;
    if n > most {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut bytes = vec![0; n];
    from.read_exact(&mut bytes)?;
    Ok(Some(bytes))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_call_is_the_same_on_the_other_side() {
        let rows = Rows {
            runs: vec![Run::Tokens(vec![1, u32::MAX]), Run::Visual(7)],
            positions: vec![[0; 3], [1, 2, 3]],
        };
        let call = Numbered {
            number: 9,
            what: Call::Extend(3, rows),
        };
        let bytes = encode(&call).unwrap();
        let read = read_frame(&mut &bytes[..], MAX_CALL).unwrap().unwrap();
        let read: Numbered<Call> = decode(&read).unwrap();
        assert_eq!(format!("{read:?}"), format!("{call:?}"));
    }

    #[test]
    fn an_error_says_the_same_on_the_other_side() {
        let context = Error::Context {
            needed: 5,
            context: 4,
        };
        let shape = Error::Shape {
            what: "rows".into(),
            want: "4".into(),
            got: "5".into(),
        };
        for error in [
            Error::Cancelled,
            context,
            shape,
            Error::Scripted("gone".into()),
        ] {
            let other: Error = Failure::from(&error).into();
            assert_eq!(other.to_string(), error.to_string());
        }
    }

    proptest! {
        #[test]
        fn rubbish_is_an_error_or_an_answer_and_never_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode::<Numbered<Answer>>(&bytes);
            let _ = read_frame(&mut &bytes[..], MAX_ANSWER);
        }
    }
}
