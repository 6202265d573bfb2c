// SPDX-License-Identifier: MPL-2.0

//! The one sequence of a device that has one KV cache: what the cache holds, which rows a call
//! computes, and which it finds there.
//!
//! Compiled models are run this way by every vendor's program. What differs from vendor to vendor is
//! how much of a prefix its nets can go on from ([`Reuse`]), and the launches themselves.

use super::rows::{Batch, Row, VisionOutput, n_shared, not_open};
use super::{Error, Limits, Position, Segment, SequenceId};

/// Rows of the cache: those of the open sequence, and behind them those of an earlier one that are
/// still good.
#[derive(Debug, Default)]
pub(super) struct Sequence {
    rows: Vec<Row>,
    /// The open sequence and how many of the rows are its.
    open: Option<(SequenceId, usize)>,
    next_id: u32,
}

/// What the nets of a device can do with rows that are in the cache.
pub(super) trait Reuse {
    /// Of the rows that a new sequence begins with, the first `n_equal` of which are in the cache,
    /// how many are worth keeping there.
    fn reusable(&self, rows: &[Row], n_equal: usize) -> usize;

    /// Rows that count against [`Limits::prompt`] of a new sequence of `n` rows, the first
    /// `n_reused` of which are not computed.
    fn prompt_rows(&self, n: usize, n_reused: usize) -> usize;
}

/// Rows that one call appends to the sequence.
pub(super) struct Extension<S> {
    /// The rows.
    pub batch: Batch<S>,
    /// How many of them are in the cache already.
    pub done: usize,
    /// Row of the cache where the first of them stands.
    pub base: usize,
}

impl Sequence {
    /// Begins an empty sequence.
    ///
    /// # Errors
    /// [`Error::Shape`] if one is open.
    pub(super) fn open(&mut self) -> Result<SequenceId, Error> {
        if self.open.is_some() {
            return Err(Error::Shape {
                what: "sequences".into(),
                want: "one at a time: there is one cache".to_owned(),
                got: "two".to_owned(),
            });
        }
        let id = SequenceId(self.next_id);
        self.next_id = self.next_id.wrapping_add(1);
        self.open = Some((id, 0));
        Ok(id)
    }

    /// Begins to extend a sequence: which rows are to be computed, and where. What stood there is
    /// given up; after an error the cache is as it was.
    ///
    /// # Errors
    /// [`Error::Shape`] if the sequence is not open or the segments are not what
    /// [`Batch::read`] takes; [`Error::Context`] if the rows do not fit the cache, or the prompt of a
    /// new sequence what one may have.
    pub(super) fn begin<S: VisionOutput>(
        &mut self,
        sequence: SequenceId,
        segments: &[Segment<'_>],
        positions: &[Position],
        limits: &Limits,
        device: &impl Reuse,
    ) -> Result<Extension<S>, Error> {
        let base = self.n_rows(sequence)?;
        let batch: Batch<S> = Batch::read(segments, positions, limits.context, limits.vocab_size)?;
        let n = batch.rows.len();
        fits(base + n, limits.context)?;
        let done = match base {
            0 => self.reusable(&batch.rows, device),
            _ => 0,
        };
        if base == 0 {
            fits(device.prompt_rows(n, done), limits.prompt)?;
        }
        // Rows from here on are overwritten, whatever comes.
        self.rows.truncate(base + done);
        Ok(Extension { batch, done, base })
    }

    /// Ends what [`Sequence::begin`] began: the rows were computed, and all are the sequence's now.
    pub(super) fn finish<S>(&mut self, extension: &Extension<S>) {
        self.rows.extend(&extension.batch.rows[extension.done..]);
        if let Some((_, n_rows)) = &mut self.open {
            *n_rows = self.rows.len();
        }
    }

    /// Of the rows that a new sequence would begin with, how many would not be computed; none of
    /// segments that [`Sequence::begin`] would refuse.
    pub(super) fn shared<S: VisionOutput>(
        &self,
        segments: &[Segment<'_>],
        positions: &[Position],
        limits: &Limits,
        device: &impl Reuse,
    ) -> usize {
        Batch::<S>::read(segments, positions, limits.context, limits.vocab_size)
            .map_or(0, |batch| self.reusable(&batch.rows, device))
    }

    /// Forgets the sequence's rows from `n_rows` on.
    pub(super) fn truncate(&mut self, sequence: SequenceId, n_rows: usize) {
        if let Some((id, rows)) = &mut self.open
            && *id == sequence
        {
            *rows = n_rows.min(*rows);
            self.rows.truncate(*rows);
        }
    }

    /// Ends a sequence; its rows stay until they are overwritten.
    pub(super) fn close(&mut self, sequence: SequenceId) {
        if self.open.is_some_and(|(id, _)| id == sequence) {
            self.open = None;
        }
    }

    /// Rows of the open sequence.
    fn n_rows(&self, sequence: SequenceId) -> Result<usize, Error> {
        match self.open {
            Some((id, rows)) if id == sequence => Ok(rows),
            _ => Err(not_open(sequence)),
        }
    }

    fn reusable(&self, rows: &[Row], device: &impl Reuse) -> usize {
        device.reusable(rows, n_shared(&self.rows, rows))
    }
}

/// So many tokens cannot be told of in one launch.
pub(super) fn not_at_once(n_tokens: usize, n_rows: usize) -> Error {
    Error::Shape {
        what: "tokens to verify".into(),
        want: "as many as a launch takes that sees all rows before them".to_owned(),
        got: format!("{n_tokens} behind {n_rows} rows"),
    }
}

fn fits(needed: usize, context: usize) -> Result<(), Error> {
    match needed <= context {
        true => Ok(()),
        false => Err(Error::Context { needed, context }),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{Features, GridThw, VisualTokens};

    /// Features of one launch of a vision net.
    struct Launch(u64);

    impl VisionOutput for Launch {
        fn launch(&self) -> u64 {
            self.0
        }
    }

    /// Nets that go on from whole pairs of rows, and count what they compute or all of it.
    struct Pairs {
        counts_all: bool,
    }

    impl Reuse for Pairs {
        fn reusable(&self, _rows: &[Row], n_equal: usize) -> usize {
            n_equal / 2 * 2
        }

        fn prompt_rows(&self, n: usize, n_reused: usize) -> usize {
            match self.counts_all {
                true => n,
                false => n - n_reused,
            }
        }
    }

    const PAIRS: Pairs = Pairs { counts_all: true };

    fn limits(context: usize, prompt: usize) -> Limits {
        Limits {
            context,
            prompt,
            vocab_size: 100,
            weight_bytes: 0,
        }
    }

    fn at(rows: std::ops::Range<u32>) -> Vec<Position> {
        rows.map(|row| [row; 3]).collect()
    }

    fn begin(
        sequence: &mut Sequence,
        id: SequenceId,
        tokens: &[u32],
        limits: &Limits,
    ) -> Result<Extension<Launch>, Error> {
        let from = sequence.open.map_or(0, |(_, rows)| rows as u32);
        let positions = at(from..from + tokens.len() as u32);
        sequence.begin(id, &[Segment::Tokens(tokens)], &positions, limits, &PAIRS)
    }

    /// Begins and finishes; how many rows were in the cache.
    fn extend(sequence: &mut Sequence, id: SequenceId, tokens: &[u32]) -> usize {
        let extension = begin(sequence, id, tokens, &limits(50, 50)).unwrap();
        sequence.finish(&extension);
        extension.done
    }

    #[test]
    fn there_is_one_sequence_at_a_time() {
        let mut sequence = Sequence::default();
        let first = sequence.open().unwrap();
        assert!(sequence.open().is_err());
        sequence.close(first);
        let second = sequence.open().unwrap();
        assert_ne!(first, second);
        assert!(begin(&mut sequence, first, &[1], &limits(8, 8)).is_err());
    }

    #[test]
    fn a_call_continues_behind_the_rows_that_are_there() {
        let mut sequence = Sequence::default();
        let id = sequence.open().unwrap();
        extend(&mut sequence, id, &[1, 2, 3]);
        let extension = begin(&mut sequence, id, &[4, 5], &limits(50, 50)).unwrap();
        assert_eq!((extension.base, extension.done), (3, 0));
    }

    #[test]
    fn an_equal_beginning_is_found_as_far_as_the_nets_go_on_from_it() {
        let mut sequence = Sequence::default();
        let id = sequence.open().unwrap();
        extend(&mut sequence, id, &[1, 2, 3, 4, 5]);
        sequence.close(id);
        let prompt = [1, 2, 3, 9, 9];
        let shared = |sequence: &Sequence| {
            let segments = [Segment::Tokens(&prompt)];
            sequence.shared::<Launch>(&segments, &at(0..5), &limits(50, 50), &PAIRS)
        };
        assert_eq!(shared(&sequence), 2);
        let id = sequence.open().unwrap();
        assert_eq!(extend(&mut sequence, id, &prompt), 2);
        assert_eq!(shared(&sequence), 4);
    }

    #[test]
    fn what_a_failed_call_overwrote_is_not_found_again() {
        let mut sequence = Sequence::default();
        let id = sequence.open().unwrap();
        extend(&mut sequence, id, &[1, 2, 3, 4, 5]);
        sequence.close(id);
        let id = sequence.open().unwrap();
        // Begun, and not finished.
        begin(&mut sequence, id, &[1, 2, 9], &limits(50, 50)).unwrap();
        sequence.close(id);
        let id = sequence.open().unwrap();
        assert_eq!(extend(&mut sequence, id, &[1, 2, 3, 4, 5]), 2);
    }

    #[test]
    fn a_refused_call_leaves_the_cache_as_it_was() {
        let mut sequence = Sequence::default();
        let id = sequence.open().unwrap();
        extend(&mut sequence, id, &[1, 2, 3, 4, 5]);
        let more = limits(6, 6);
        let refused = begin(&mut sequence, id, &[6, 7], &more);
        assert!(matches!(
            refused.err(),
            Some(Error::Context {
                needed: 7,
                context: 6
            })
        ));
        assert!(begin(&mut sequence, id, &[100], &limits(50, 50)).is_err());
        sequence.close(id);
        let id = sequence.open().unwrap();
        assert_eq!(extend(&mut sequence, id, &[1, 2, 3, 4, 5]), 4);
    }

    #[test]
    fn a_prompt_is_as_long_as_the_nets_count_it() {
        for (counts_all, fits) in [(true, false), (false, true)] {
            let mut sequence = Sequence::default();
            let id = sequence.open().unwrap();
            extend(&mut sequence, id, &[1, 2, 3, 4]);
            sequence.close(id);
            let id = sequence.open().unwrap();
            let segments = [Segment::Tokens(&[1, 2, 3, 4, 5, 6])];
            let device = Pairs { counts_all };
            let begun = sequence.begin::<Launch>(id, &segments, &at(0..6), &limits(50, 4), &device);
            assert_eq!(begun.is_ok(), fits);
        }
    }

    #[test]
    fn rows_behind_a_shortened_sequence_are_forgotten() {
        let mut sequence = Sequence::default();
        let id = sequence.open().unwrap();
        extend(&mut sequence, id, &[1, 2, 3, 4, 5]);
        sequence.truncate(SequenceId(7), 0);
        sequence.truncate(id, 3);
        sequence.truncate(id, 4);
        let extension = begin(&mut sequence, id, &[6], &limits(50, 50)).unwrap();
        assert_eq!(extension.base, 3);
        sequence.close(id);
        let id = sequence.open().unwrap();
        assert_eq!(extend(&mut sequence, id, &[1, 2, 3, 4, 5]), 2);
    }

    #[test]
    fn rows_of_another_run_of_the_vision_net_are_not_the_same() {
        let tokens = |id| VisualTokens {
            grid: GridThw { t: 1, h: 4, w: 4 },
            n_tokens: 4,
            features: Features::Device(Arc::new(Launch(id))),
        };
        let mut sequence = Sequence::default();
        let id = sequence.open().unwrap();
        let picture = tokens(1);
        let segments = [
            Segment::Tokens(&[1, 2]),
            Segment::Visual(&picture),
            Segment::Tokens(&[3]),
        ];
        let limits = limits(50, 50);
        let extension = sequence.begin::<Launch>(id, &segments, &at(0..7), &limits, &PAIRS);
        sequence.finish(&extension.unwrap());
        let again = sequence.shared::<Launch>(&segments, &at(0..7), &limits, &PAIRS);
        let other = tokens(2);
        let segments = [
            Segment::Tokens(&[1, 2]),
            Segment::Visual(&other),
            Segment::Tokens(&[3]),
        ];
        let others = sequence.shared::<Launch>(&segments, &at(0..7), &limits, &PAIRS);
        assert_eq!((again, others), (6, 2));
    }
}
