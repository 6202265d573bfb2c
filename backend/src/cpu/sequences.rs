// SPDX-License-Identifier: MPL-2.0

//! The open sequences, the rows of the last one that ended, and prompts that were prepared: the next one
//! that begins alike goes on from the rows that it shares with one of them.

use std::collections::{HashMap, VecDeque};

use super::kv::Kv;
use crate::rows::{Row, n_shared, not_open};
use crate::{Error, SequenceId};

/// What the rows of a sequence are, and their keys and values.
struct Sequence {
    rows: Vec<Row>,
    kv: Kv,
    /// Rows being computed, which `rows` does not have yet.
    coming: Vec<Row>,
    /// Rows of `rows` that it had before those that are being computed; fewer than it has where it
    /// went on from another sequence's.
    n_before: usize,
}

/// A place to compute rows in.
pub(super) struct Batch<'a> {
    pub(super) kv: &'a mut Kv,
    /// Of the rows to compute, how many `kv` has already.
    pub(super) n_shared: usize,
}

/// The sequences of an engine.
#[derive(Default)]
pub(super) struct Sequences {
    open: HashMap<SequenceId, Sequence>,
    held: Held,
    next_id: u32,
}

/// Rows for sequences to come.
#[derive(Default)]
struct Held {
    /// The last that ended. Its buffers serve the next one too.
    ended: Option<(Vec<Row>, Kv)>,
    /// Prompts, the one that was prepared last at the end.
    prepared: VecDeque<(Vec<Row>, Kv)>,
}

impl Held {
    /// Of the rows with which a new sequence would begin, how many are here ([`n_shared`]).
    fn shared(&self, rows: &[Row]) -> usize {
        let held = self.prepared.iter().chain(&self.ended);
        let shared = held.map(|(held, _)| n_shared(held, rows));
        shared.max().unwrap_or(0)
    }

    /// Buffers that begin with the rows that a new sequence shares with one that is here, and these rows.
    /// A prepared prompt of which it has all rows is taken; of one that another sequence waits for, the
    /// rows are copied.
    fn take_over(&mut self, rows: &[Row]) -> Option<(Vec<Row>, Kv)> {
        let shared = |(held, _): &(Vec<Row>, Kv)| n_shared(held, rows);
        let best = (0..self.prepared.len()).max_by_key(|&i| shared(&self.prepared[i]));
        let n_ended = self.ended.as_ref().map_or(0, shared);
        if let Some((i, n_shared)) = best.map(|i| (i, shared(&self.prepared[i])))
            && n_shared > n_ended
        {
            let is_whole = n_shared == self.prepared[i].0.len();
            if is_whole {
                return self.prepared.remove(i);
            }
            let (held, kv) = &self.prepared[i];
            let mut own = match self.ended.take() {
                Some((_, own)) => own,
                None => kv.like(),
            };
            own.copy(kv, n_shared);
            return Some((held[..n_shared].to_vec(), own));
        }
        let (mut held, mut kv) = self.ended.take()?;
        held.truncate(n_ended);
        kv.truncate(n_ended);
        Some((held, kv))
    }
}

impl Sequences {
    /// Begins an empty sequence with these buffers.
    pub(super) fn open(&mut self, kv: Kv) -> SequenceId {
        let id = SequenceId(self.next_id);
        self.next_id = self.next_id.wrapping_add(1);
        let sequence = Sequence {
            rows: Vec::new(),
            kv,
            coming: Vec::new(),
            n_before: 0,
        };
        self.open.insert(id, sequence);
        id
    }

    /// Of the rows with which a new sequence would begin, how many are here ([`n_shared`]).
    pub(super) fn shared(&self, rows: &[Row]) -> usize {
        self.held.shared(rows)
    }

    /// Readies a sequence for more rows; [`end`](Self::end) must follow. An empty one takes over the
    /// rows that it shares with one that is here.
    ///
    /// # Errors
    /// [`Error::Shape`] if it is not open, [`Error::Context`] if it would have more than `context`
    /// rows; nothing has changed then.
    pub(super) fn begin(
        &mut self,
        id: SequenceId,
        rows: Vec<Row>,
        context: usize,
    ) -> Result<Batch<'_>, Error> {
        let Some(sequence) = self.open.get_mut(&id) else {
            return Err(not_open(id));
        };
        let needed = sequence.rows.len() + rows.len();
        if needed > context {
            return Err(Error::Context { needed, context });
        }
        sequence.n_before = sequence.rows.len();
        if sequence.n_before == 0
            && let Some((shared, kv)) = self.held.take_over(&rows)
        {
            sequence.rows = shared;
            sequence.kv = kv;
        }
        sequence.coming = rows;
        Ok(Batch {
            n_shared: sequence.rows.len() - sequence.n_before,
            kv: &mut sequence.kv,
        })
    }

    /// Readies a sequence that has rows for more; [`end`](Self::end) must follow.
    ///
    /// # Errors
    /// As [`begin`](Self::begin), and for a sequence without rows.
    pub(super) fn go_on(
        &mut self,
        id: SequenceId,
        rows: Vec<Row>,
        context: usize,
    ) -> Result<&mut Kv, Error> {
        if self.open.get(&id).is_some_and(|one| one.rows.is_empty()) {
            return Err(Error::Shape {
                what: "sequence".into(),
                want: "one with rows".to_owned(),
                got: id.0.to_string(),
            });
        }
        Ok(self.begin(id, rows, context)?.kv)
    }

    /// Readies each of some sequences for one more row; [`end`](Self::end) must follow for each.
    ///
    /// # Errors
    /// As [`begin`](Self::begin), and for a sequence that is named twice; nothing has changed then.
    pub(super) fn begin_each(
        &mut self,
        ids: &[SequenceId],
        rows: &[Row],
        context: usize,
    ) -> Result<Vec<&mut Kv>, Error> {
        for (i, id) in ids.iter().enumerate() {
            let Some(sequence) = self.open.get(id).filter(|_| !ids[..i].contains(id)) else {
                return Err(Error::Shape {
                    what: "sequence".into(),
                    want: "one that is open, and each once".to_owned(),
                    got: id.0.to_string(),
                });
            };
            let needed = sequence.rows.len() + 1;
            if needed > context {
                return Err(Error::Context { needed, context });
            }
        }
        let mut kvs: Vec<(usize, &mut Kv)> = Vec::with_capacity(ids.len());
        for (id, sequence) in &mut self.open {
            if let Some(at) = ids.iter().position(|asked| asked == id) {
                sequence.n_before = sequence.rows.len();
                sequence.coming = vec![rows[at]];
                kvs.push((at, &mut sequence.kv));
            }
        }
        kvs.sort_by_key(|(at, _)| *at);
        Ok(kvs.into_iter().map(|(_, kv)| kv).collect())
    }

    /// The rows that [`begin`](Self::begin) was told of are in the buffers, or could not be
    /// computed: the sequence then has the rows it had before, and what it took over is as it was.
    pub(super) fn end(&mut self, id: SequenceId, computed: bool) {
        let Some(sequence) = self.open.get_mut(&id) else {
            return;
        };
        let coming = std::mem::take(&mut sequence.coming);
        if computed {
            let n_shared = sequence.rows.len() - sequence.n_before;
            sequence.rows.extend_from_slice(&coming[n_shared..]);
            return;
        }
        sequence.kv.truncate(sequence.rows.len());
        if sequence.n_before == 0 && !sequence.rows.is_empty() {
            let empty = sequence.kv.like();
            let rows = std::mem::take(&mut sequence.rows);
            self.held.ended = Some((rows, std::mem::replace(&mut sequence.kv, empty)));
        }
    }

    /// Forgets all rows of a sequence from `n_rows` on.
    pub(super) fn truncate(&mut self, id: SequenceId, n_rows: usize) {
        if let Some(sequence) = self.open.get_mut(&id) {
            sequence.kv.truncate(n_rows);
            sequence.rows.truncate(n_rows);
        }
    }

    /// Ends a sequence whose rows are the beginning of one to come; they stay while no more than `most` are
    /// here.
    pub(super) fn keep(&mut self, id: SequenceId, most: usize) {
        if let Some(Sequence { rows, kv, .. }) = self.open.remove(&id) {
            let prepared = &mut self.held.prepared;
            prepared.push_back((rows, kv));
            while prepared.len() > most {
                prepared.pop_front();
            }
        }
    }

    /// Ends a sequence; its rows stay until another one has ended.
    pub(super) fn close(&mut self, id: SequenceId) {
        if let Some(Sequence { rows, kv, .. }) = self.open.remove(&id)
            && !rows.is_empty()
        {
            self.held.ended = Some((rows, kv));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::kv::{Head, KvType};
    use crate::rows::Source;

    const CONTEXT: usize = 100;

    fn rows(tokens: &[u32]) -> Vec<Row> {
        let row = |(i, &token): (usize, &u32)| Row {
            source: Source::Token(token),
            position: [i as u32; 3],
        };
        tokens.iter().enumerate().map(row).collect()
    }

    /// Computes rows, whose key is their token; how many were there already.
    fn compute(sequences: &mut Sequences, id: SequenceId, tokens: &[u32]) -> usize {
        let batch = sequences.begin(id, rows(tokens), CONTEXT).expect("room");
        let n_shared = batch.n_shared;
        for &token in &tokens[n_shared..] {
            batch.kv.layer_mut(0, 1)[0].push(&[token as f32], &[token as f32]);
            batch.kv.commit(1);
        }
        sequences.end(id, true);
        n_shared
    }

    fn keys(sequences: &mut Sequences, id: SequenceId) -> Vec<f32> {
        let sequence = sequences.open.get_mut(&id).expect("an open sequence");
        match &sequence.kv.layer_mut(0, 0)[0] {
            Head::F32(rows) => rows.k.clone(),
            Head::Bf16(..) => unreachable!("opened for f32"),
        }
    }

    fn open(sequences: &mut Sequences) -> SequenceId {
        sequences.open(Kv::new(KvType::F32, 1, 1, 1))
    }

    #[test]
    fn a_sequence_goes_on_from_the_rows_it_shares_with_the_last_that_ended() {
        let mut sequences = Sequences::default();
        let first = open(&mut sequences);
        assert_eq!(compute(&mut sequences, first, &[1, 2, 3, 4]), 0);
        sequences.close(first);
        let second = open(&mut sequences);
        assert_eq!(sequences.shared(&rows(&[1, 2, 5])), 2);
        assert_eq!(compute(&mut sequences, second, &[1, 2, 5]), 2);
        assert_eq!(keys(&mut sequences, second), [1.0, 2.0, 5.0]);
        // Its rows are its own now, and a third one open beside it begins with none.
        let third = open(&mut sequences);
        assert_eq!(compute(&mut sequences, third, &[1, 2, 5]), 0);
        assert_eq!(keys(&mut sequences, third), [1.0, 2.0, 5.0]);
    }

    /// Computes rows for a sequence to come, of which two are kept; how many were there already.
    fn prepare(sequences: &mut Sequences, tokens: &[u32]) -> usize {
        let id = open(sequences);
        let n_shared = compute(sequences, id, tokens);
        sequences.keep(id, 2);
        n_shared
    }

    #[test]
    fn prompts_prepared_side_by_side_leave_each_other_alone() {
        let mut sequences = Sequences::default();
        assert_eq!(prepare(&mut sequences, &[1, 2, 10, 11]), 0);
        // Another camera's, with the same head, which is copied.
        assert_eq!(prepare(&mut sequences, &[1, 2, 20, 21]), 2);
        // They grow in turns.
        assert_eq!(prepare(&mut sequences, &[1, 2, 10, 11, 12, 13]), 4);
        assert_eq!(prepare(&mut sequences, &[1, 2, 20, 21, 22, 23]), 4);
        for camera in [10, 20] {
            let asked = [1, 2, camera, camera + 1, camera + 2, camera + 3, 99];
            assert_eq!(sequences.shared(&rows(&asked)), 6);
            let id = open(&mut sequences);
            assert_eq!(compute(&mut sequences, id, &asked), 6);
            let wanted = asked.map(|token| token as f32);
            assert_eq!(keys(&mut sequences, id), wanted);
            sequences.close(id);
        }
        // The first was taken, and its answer's rows gave way to those of the second.
        assert_eq!(sequences.shared(&rows(&[1, 2, 10, 11, 12])), 2);
        assert_eq!(sequences.shared(&rows(&[1, 2, 20, 21, 22])), 4);
        assert!(sequences.held.prepared.is_empty());
    }

    #[test]
    fn of_too_many_prompts_the_oldest_goes() {
        let mut sequences = Sequences::default();
        for camera in [10, 20, 30] {
            prepare(&mut sequences, &[camera, 1, 2]);
        }
        let shared = [10, 20, 30].map(|camera| sequences.shared(&rows(&[camera, 1, 2, 3])));
        assert_eq!(shared, [0, 3, 3]);
    }

    #[test]
    fn the_last_row_runs_and_another_position_is_another_row() {
        let mut sequences = Sequences::default();
        let first = open(&mut sequences);
        compute(&mut sequences, first, &[1, 2, 3]);
        sequences.close(first);
        assert_eq!(sequences.shared(&rows(&[1, 2, 3])), 2);
        let mut moved = rows(&[1, 2, 3]);
        moved[1].position = [1, 1, 2];
        assert_eq!(sequences.shared(&moved), 1);
        assert_eq!(sequences.shared(&rows(&[7])), 0);
    }

    #[test]
    fn rows_that_could_not_be_computed_leave_what_was_there() {
        let mut sequences = Sequences::default();
        let first = open(&mut sequences);
        compute(&mut sequences, first, &[1, 2, 3]);
        sequences.close(first);
        let second = open(&mut sequences);
        let coming = rows(&[1, 2, 9, 9]);
        let batch = sequences.begin(second, coming, CONTEXT).expect("room");
        batch.kv.layer_mut(0, 1)[0].push(&[9.0], &[9.0]);
        sequences.end(second, false);
        assert_eq!(keys(&mut sequences, second), [0.0; 0]);
        assert_eq!(sequences.shared(&rows(&[1, 2, 3])), 2);
        assert_eq!(compute(&mut sequences, second, &[1, 2, 3]), 2);
        assert_eq!(keys(&mut sequences, second), [1.0, 2.0, 3.0]);
        // The same for rows that were to follow others.
        let batch = sequences.begin(second, rows(&[4]), CONTEXT).expect("room");
        batch.kv.layer_mut(0, 1)[0].push(&[4.0], &[4.0]);
        sequences.end(second, false);
        assert_eq!(keys(&mut sequences, second), [1.0, 2.0, 3.0]);
        let full = sequences.begin(second, rows(&[0; 98]), CONTEXT);
        assert!(matches!(full, Err(Error::Context { needed: 101, .. })));
    }

    #[test]
    fn rows_that_were_truncated_are_not_shared() {
        let mut sequences = Sequences::default();
        let first = open(&mut sequences);
        compute(&mut sequences, first, &[1, 2, 3]);
        sequences.truncate(first, 1);
        sequences.close(first);
        assert_eq!(sequences.shared(&rows(&[1, 2, 3])), 1);
        // A sequence without rows leaves them.
        let empty = open(&mut sequences);
        sequences.close(empty);
        assert_eq!(sequences.shared(&rows(&[1, 2, 3])), 1);
    }
}
