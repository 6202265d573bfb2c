// SPDX-License-Identifier: MPL-2.0

//! What is done to every number or row alike, shared out among the threads in pieces.
//!
//! Pieces have fixed sizes, so that what comes out does not depend on the number of threads; what fits
//! one piece is done where it stands.

use rayon::prelude::*;

use crate::{Error, finite};

/// Numbers of a piece: 64 KB, some microseconds.
const PIECE: usize = 1 << 14;

/// Refuses what is not finite, as [`finite::check`].
///
/// # Errors
/// [`Error::NotANumber`] with the place.
pub(super) fn check_finite(x: &[f32], place: impl Fn() -> String + Sync) -> Result<(), Error> {
    x.par_chunks(PIECE)
        .try_for_each(|x| finite::check(x, &place))
}

/// How many rows of so many numbers are worth a task.
pub(super) fn rows_at_least(width: usize) -> usize {
    PIECE.div_ceil(width.max(1))
}

/// `[heads, rows, width]` to `[rows, heads, width]`.
pub(super) fn join_heads(by_head: &[f32], n_heads: usize, rows: usize, joined: &mut [f32]) {
    let width = joined.len() / (rows * n_heads);
    joined
        .par_chunks_exact_mut(n_heads * width)
        .with_min_len(rows_at_least(n_heads * width))
        .enumerate()
        .for_each(|(row, joined)| {
            for (head, joined) in joined.chunks_exact_mut(width).enumerate() {
                joined.copy_from_slice(&by_head[(head * rows + row) * width..][..width]);
            }
        });
}

/// `y` `[rows, n]` cut into columns `each` wide, the last of which may be narrower: of each the parts of all rows.
pub(super) fn columns(y: &mut [f32], n: usize, each: usize) -> Vec<Vec<&mut [f32]>> {
    let rows = y.len() / n;
    let mut columns: Vec<Vec<&mut [f32]>> = Vec::new();
    columns.resize_with(n.div_ceil(each), || Vec::with_capacity(rows));
    for row in y.chunks_exact_mut(n) {
        for (column, part) in columns.iter_mut().zip(row.chunks_mut(each)) {
            column.push(part);
        }
    }
    columns
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_pieces_are_looked_at() {
        for len in [1, PIECE, 3 * PIECE + 17] {
            let mut x: Vec<f32> = (0..len).map(|i| i as f32).collect();
            assert!(check_finite(&x, || "here".to_owned()).is_ok());
            x[len - 1] = f32::NAN;
            let refused = check_finite(&x, || "here".to_owned());
            assert!(refused.is_err_and(|error| error.to_string().contains("here")));
        }
    }

    #[test]
    fn columns_hold_the_parts_of_all_rows() {
        let mut y: Vec<f32> = (0..21).map(|i| i as f32).collect();
        let columns = columns(&mut y, 7, 3);
        let second: [&[f32]; 3] = [&[3.0, 4.0, 5.0], &[10.0, 11.0, 12.0], &[17.0, 18.0, 19.0]];
        assert_eq!(columns[1], second);
        let last: [&[f32]; 3] = [&[6.0], &[13.0], &[20.0]];
        assert_eq!(columns[2], last);
        assert_eq!(columns.len(), 3);
    }

    #[test]
    fn heads_side_by_side_become_rows() {
        let (heads, rows, width) = (3, 1000, 20);
        let number = |head, row, i| ((head * rows + row) * width + i) as f32;
        let by_head: Vec<f32> = (0..heads * rows * width).map(|i| i as f32).collect();
        let mut joined = vec![f32::NAN; by_head.len()];
        join_heads(&by_head, heads, rows, &mut joined);
        let mut joined = joined.into_iter();
        for row in 0..rows {
            for head in 0..heads {
                for i in 0..width {
                    assert_eq!(joined.next(), Some(number(head, row, i)));
                }
            }
        }
    }
}
