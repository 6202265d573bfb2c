// SPDX-License-Identifier: MPL-2.0

//! What a device's only cache holds, and which sequence it is.

use super::rows::{Row, n_shared, not_open};
use super::{Error, SequenceId};

/// Rows of the cache: those of the open sequence, and behind them those of an earlier one that are
/// still good.
#[derive(Debug, Default)]
pub(super) struct Kept {
    rows: Vec<Row>,
    /// The open sequence and how many of the rows are its.
    open: Option<(SequenceId, usize)>,
    next_id: u32,
}

impl Kept {
    /// Begins an empty sequence.
    ///
    /// # Errors
    /// [`Error::Shape`] if one is open.
    pub(super) fn open(&mut self) -> Result<SequenceId, Error> {
        if self.open.is_some() {
            return Err(Error::Shape {
                what: "sequences",
                want: "one at a time: there is one cache".to_owned(),
                got: "two".to_owned(),
            });
        }
        let id = SequenceId(self.next_id);
        self.next_id = self.next_id.wrapping_add(1);
        self.open = Some((id, 0));
        Ok(id)
    }

    /// Rows of the open sequence.
    ///
    /// # Errors
    /// [`Error::Shape`] if it is not this one.
    pub(super) fn n_rows(&self, sequence: SequenceId) -> Result<usize, Error> {
        match self.open {
            Some((id, rows)) if id == sequence => Ok(rows),
            _ => Err(not_open(sequence)),
        }
    }

    /// Of the rows that a new sequence begins with, how many are here ([`n_shared`]).
    pub(super) fn shared(&self, rows: &[Row]) -> usize {
        n_shared(&self.rows, rows)
    }

    /// Rows from `n_rows` on are about to be overwritten.
    pub(super) fn keep(&mut self, n_rows: usize) {
        self.rows.truncate(n_rows);
    }

    /// These rows were computed behind the last; all are the open sequence's now.
    pub(super) fn append(&mut self, rows: &[Row]) {
        self.rows.extend(rows);
        if let Some((_, n_rows)) = &mut self.open {
            *n_rows = self.rows.len();
        }
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
}
