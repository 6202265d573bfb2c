// SPDX-License-Identifier: MPL-2.0

//! The interface of a device program.

use super::cancel::Cancel;
use super::error::Error;
use super::visual::{Patches, VisualTokens};

/// One run of consecutive rows of a sequence.
#[derive(Debug, Clone, Copy)]
pub enum Segment<'a> {
    /// Text tokens by id.
    Tokens(&'a [u32]),
    /// Visual tokens, in place of as many placeholders.
    Visual(&'a VisualTokens),
}

impl Segment<'_> {
    /// Rows of the sequence that this run takes.
    pub fn n_rows(&self) -> usize {
        match self {
            Segment::Tokens(ids) => ids.len(),
            Segment::Visual(tokens) => tokens.n_tokens,
        }
    }
}

/// Rotary position of one row on the three axes time, height and width (mrope). Text rows carry
/// the same number three times.
pub type Position = [u32; 3];

/// What follows the last row of a sequence.
#[derive(Debug, Clone, Copy)]
pub enum Next<'a> {
    /// Unnormalised log-probabilities, `[vocab_size]`.
    Logits(&'a [f32]),
    /// The token a net with a built-in greedy head chose.
    Token(u32),
}

/// Names a sequence of a [`Program`]: its rows in the KV cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct SequenceId(pub u32);

/// One token that a sequence of several is extended by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Step {
    /// The sequence.
    pub sequence: SequenceId,
    /// The token.
    pub token: u32,
    /// Where it stands.
    pub position: Position,
}

/// A launch by which tokens are [verified](Program::verify).
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Launch {
    /// Rows that the device computes, whatever it is given: what it costs depends on them.
    pub rows: usize,
    /// Tokens that it takes at most.
    pub tokens: usize,
}

impl Launch {
    /// One that takes as many tokens as it has rows.
    pub fn of(rows: usize) -> Self {
        Self { rows, tokens: rows }
    }
}

/// What a program has, as far as planning needs it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Limits {
    /// Rows that one sequence can hold: prompt and answer together.
    pub context: usize,
    /// Rows that the first [`extend`](Program::extend) of a sequence may have.
    pub prompt: usize,
    /// Entries of [`Next::Logits`].
    pub vocab_size: usize,
    /// Bytes that the weights occupy on the device.
    pub weight_bytes: u64,
}

/// What a program computes in, as far as it knows: what came of the choices that were left to it.
#[derive(Debug, Clone, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
pub struct Arithmetic {
    /// Number type of the large matrices: `f32`, `bf16`, `int8`.
    pub precision: Option<String>,
    /// What multiplies them: the instruction set of a processor's kernels, or a chip.
    pub kernels: Option<String>,
}

/// How a device fares, as far as it can tell.
#[derive(Debug, Clone, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
pub struct Health {
    /// The chip's name.
    pub chip: Option<String>,
    /// Bytes of device memory in use.
    pub memory_used: Option<u64>,
    /// Bytes of device memory.
    pub memory_total: Option<u64>,
    /// Use of the chip, percent.
    pub utilisation: Option<u32>,
    /// Degrees Celsius.
    pub temperature: Option<u32>,
}

/// A model on a device.
///
/// One thread owns it; none of the calls is ever made from a streaming thread. A long call looks
/// at its [`Cancel`] between layers or launches and returns [`Error::Cancelled`]. Where a layer itself
/// takes long, it says from within that it goes on ([`Cancel::alive`]); a launch of a vendor's
/// library cannot.
pub trait Program: Send {
    /// What planning needs to know.
    fn limits(&self) -> &Limits;

    /// Runs the vision net on one temporal patch.
    fn encode(&mut self, patches: &Patches, cancel: &Cancel) -> Result<VisualTokens, Error>;

    /// Begins an empty sequence.
    fn open(&mut self) -> Result<SequenceId, Error>;

    /// Appends rows to a sequence and says what follows the last one.
    ///
    /// `positions` has one entry per row of `segments`. After an error the sequence has the rows it
    /// had before the call.
    fn extend(
        &mut self,
        sequence: SequenceId,
        segments: &[Segment<'_>],
        positions: &[Position],
        cancel: &Cancel,
    ) -> Result<Next<'_>, Error>;

    /// Sequences that [`extend_each`](Self::extend_each) extends in less time than one after the other; 1 if that
    /// saves nothing.
    fn batch(&self) -> usize {
        1
    }

    /// Appends one token to each of some sequences, no sequence twice, and tells what follows each:
    /// `take(i, next)` for each of `steps`. What follows a sequence is the same as if it were
    /// extended alone.
    ///
    /// After an error of a program whose [`batch`](Self::batch) is above 1 all have the rows they had
    /// before the call; of others, those up to the one that failed have their new row.
    fn extend_each(
        &mut self,
        steps: &[Step],
        cancel: &Cancel,
        take: &mut dyn FnMut(usize, Next<'_>),
    ) -> Result<(), Error> {
        for (i, step) in steps.iter().enumerate() {
            let token = [Segment::Tokens(&[step.token])];
            take(
                i,
                self.extend(step.sequence, &token, &[step.position], cancel)?,
            );
        }
        Ok(())
    }

    /// Launches by which tokens behind the `n_rows` rows of a sequence can be [verified](Self::verify), the
    /// shortest first; empty if a token at a time is all that it can do, or others wait for it.
    fn verifies(&self, _n_rows: usize) -> Vec<Launch> {
        Vec::new()
    }

    /// Appends tokens to a sequence that has rows and tells what follows each of them: `take(i, next)`
    /// for each of `tokens`, in their order. It is what would follow if they were appended one by one, up
    /// to the rounding of the device's nets; on the cpu it is the same to the bit.
    ///
    /// This is how a draft is verified: whoever called forgets the rows behind the first token that turns
    /// out to be another one ([`truncate`](Self::truncate)). After an error of a program that
    /// [verifies](Self::verifies) the sequence has the rows it had before the call; of others, those up to
    /// the one that failed.
    fn verify(
        &mut self,
        sequence: SequenceId,
        tokens: &[u32],
        positions: &[Position],
        cancel: &Cancel,
        take: &mut dyn FnMut(usize, Next<'_>),
    ) -> Result<(), Error> {
        for (i, (token, position)) in tokens.iter().zip(positions).enumerate() {
            let token = [Segment::Tokens(std::slice::from_ref(token))];
            take(i, self.extend(sequence, &token, &[*position], cancel)?);
        }
        Ok(())
    }

    /// Of the rows with which a new sequence would begin, how many are here from an earlier one and
    /// are not computed again: equal rows after equal rows have equal keys and values, whoever asked
    /// for them.
    fn shared(&mut self, _segments: &[Segment<'_>], _positions: &[Position]) -> usize {
        0
    }

    /// Computes rows with which a later sequence is expected to begin, so that it finds them
    /// [`shared`](Self::shared). A program that gains nothing by it does nothing.
    ///
    /// # Errors
    /// As [`extend`](Self::extend).
    fn prepare(
        &mut self,
        _segments: &[Segment<'_>],
        _positions: &[Position],
        _cancel: &Cancel,
    ) -> Result<(), Error> {
        Ok(())
    }

    /// How many prompts that were [prepared](Self::prepare) are kept at a time; of one more, the oldest goes.
    fn prompts(&self) -> usize {
        1
    }

    /// Whether a sequence that keeps `n_kept` rows is better extended by `n_more` than begun anew with
    /// all of them. Either is right; this says which is cheaper.
    fn continues(&self, _n_kept: usize, _n_more: usize) -> bool {
        true
    }

    /// Forgets all rows from `n_rows` on.
    fn truncate(&mut self, sequence: SequenceId, n_rows: usize);

    /// Ends a sequence and frees its rows.
    fn close(&mut self, sequence: SequenceId);

    /// What it computes in.
    fn arithmetic(&self) -> Arithmetic {
        Arithmetic::default()
    }

    /// What is worth a line in a log of how it was loaded.
    fn remark(&self) -> Option<String> {
        None
    }

    /// Has `tell` called, once and on any thread, when the device is gone though it was asked nothing; at
    /// once if it is gone already. A program that cannot tell does nothing.
    fn on_loss(&mut self, _tell: Box<dyn Fn(&str) + Send + Sync>) {}

    /// How the device fares; asked about once a second, between other calls.
    fn health(&mut self) -> Health {
        Health::default()
    }
}
