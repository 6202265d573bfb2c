// SPDX-License-Identifier: MPL-2.0

//! How rows are cut into slices that are rounded by themselves.

use std::ops::Range;

/// Longest K-slice. Shorter slices are more exact (an outlier spoils only its own) and cost more
/// scaling afterwards; 512 products of 8 bits also stay exact in f32.
const SLICE_LEN: usize = 512;

/// How a row of `in_features` is cut into slices of about the same length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Slices {
    in_features: usize,
    len: usize,
}

impl Slices {
    /// The slices of a row: as few as [`SLICE_LEN`] allows, in whole cache lines.
    pub(crate) fn new(in_features: usize) -> Self {
        let n = in_features.div_ceil(SLICE_LEN).max(1);
        let len = in_features.div_ceil(n).next_multiple_of(64);
        Self { in_features, len }
    }

    /// Number of slices.
    pub(crate) fn count(&self) -> usize {
        self.in_features.div_ceil(self.len)
    }

    /// Width of a row.
    pub(crate) fn in_features(&self) -> usize {
        self.in_features
    }

    /// Columns of slice `i`.
    pub(crate) fn range(&self, i: usize) -> Range<usize> {
        i * self.len..((i + 1) * self.len).min(self.in_features)
    }

    /// The slice that has a column.
    pub(crate) fn slice_of(&self, column: usize) -> usize {
        column / self.len
    }

    /// The slices of one row.
    pub(crate) fn of<'a, T>(&self, row: &'a [T]) -> impl Iterator<Item = &'a [T]> + use<'a, T> {
        row.chunks(self.len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_cover_a_row_without_a_short_last_one() {
        for (k, want) in [
            (64, vec![64]),
            (2048, vec![512; 4]),
            (1100, vec![384, 384, 332]),
        ] {
            let slices = Slices::new(k);
            let lens: Vec<usize> = (0..slices.count()).map(|i| slices.range(i).len()).collect();
            assert_eq!(lens, want);
        }
    }
}
