// SPDX-License-Identifier: MPL-2.0

//! Columns that are not like the others: of weights, which are scaled before they are rounded, and of
//! activations, which are left out of the product of bytes.

use rayon::prelude::*;

use super::isa::Isa;

/// A column is an outlier if a value in it exceeds this many times the root mean square of all.
const OUTLIER_FACTOR: f32 = 8.0;

/// Most columns that are taken out of a product; each costs as much as four of the others.
const MAX_OUTLIERS: usize = 16;

/// A column that is this many times the size of the median column, or less than the inverse, is
/// scaled.
const SCALED_FROM: f32 = 4.0;

/// Rows that are looked at by one task.
const PIECE: usize = 64;

/// Matrices of fewer rows are not looked at.
const FEWEST_ROWS: usize = 32;

/// By how much activations are to be multiplied so that no column of `rows` `[rows, k]` is far from
/// the median; `None` if none is.
pub(super) fn column_scales(rows: &[f32], k: usize) -> Option<Vec<f32>> {
    // The sizes of columns of a few numbers differ by chance.
    if rows.len() < FEWEST_ROWS * k {
        return None;
    }
    let sizes = column_sizes(rows, k);
    let mut sorted: Vec<f32> = sizes.iter().copied().filter(|&size| size > 0.0).collect();
    if sorted.is_empty() {
        return None;
    }
    let middle = sorted.len() / 2;
    let (_, &mut median, _) = sorted.select_nth_unstable_by(middle, f32::total_cmp);
    let scale = |&size: &f32| match size / median {
        ratio if ratio > SCALED_FROM || (ratio > 0.0 && ratio < SCALED_FROM.recip()) => ratio,
        _ => 1.0,
    };
    let scales: Vec<f32> = sizes.iter().map(scale).collect();
    scales.iter().any(|&scale| scale != 1.0).then_some(scales)
}

/// Sizes of the columns of `rows` `[rows, k]`: root mean squares, each row taken by its own size, for
/// rows have scales of their own.
fn column_sizes(rows: &[f32], k: usize) -> Vec<f32> {
    let sums = rows
        .par_chunks(4 * PIECE * k)
        .map(|rows| {
            let mut sums = vec![0.0; k];
            rows.chunks_exact(k)
                .for_each(|row| (Isa::host().loops.add_squares)(row, &mut sums));
            sums
        })
        .reduce_with(|mut a, b| {
            a.iter_mut().zip(&b).for_each(|(a, b)| *a += b);
            a
        });
    let sums = sums.unwrap_or_default();
    sums.into_iter().map(f32::sqrt).collect()
}

/// Columns of `x` `[rows, k]` with a value beyond [`OUTLIER_FACTOR`], the largest first, at most
/// [`MAX_OUTLIERS`].
///
/// The root mean square is that of all columns but those with the largest values, so that one outlier
/// does not hide another.
pub(super) fn outlier_columns(x: &[f32], k: usize) -> Vec<usize> {
    let pieces = x.par_chunks(PIECE * k).map(|x| {
        let mut max = vec![0.0f32; k];
        let squares = (Isa::host().loops.note_magnitudes)(x, &mut max);
        (squares, max)
    });
    // Added up in their order: what comes out does not depend on the number of threads.
    let pieces: Vec<(f64, Vec<f32>)> = pieces.collect();
    let squares: f64 = pieces.iter().map(|(squares, _)| squares).sum();
    let mut max = vec![0.0f32; k];
    for (_, of_piece) in &pieces {
        for (max, of_piece) in max.iter_mut().zip(of_piece) {
            *max = max.max(*of_piece);
        }
    }
    let most = MAX_OUTLIERS.min(k / 4);
    if most == 0 {
        return Vec::new();
    }
    let mut columns: Vec<usize> = (0..k).collect();
    columns.select_nth_unstable_by(most - 1, |&a, &b| max[b].total_cmp(&max[a]));
    columns.truncate(most);
    columns.sort_by(|&a, &b| max[b].total_cmp(&max[a]).then(a.cmp(&b)));
    let rows = x.len() / k;
    let n_rest = rows * (k - most);
    let limit = |of_columns: f64| {
        let rest = squares - of_columns;
        OUTLIER_FACTOR * (rest.max(0.0) / n_rest as f64).sqrt() as f32
    };
    // What these columns come to at most: usually none is an outlier even so, and they need not be added up.
    let at_most = columns.iter().map(|&column| f64::from(max[column]).powi(2));
    if max[columns[0]] <= limit(rows as f64 * at_most.sum::<f64>()) {
        return Vec::new();
    }
    let limit = limit(squares_of(x, k, &columns));
    columns.retain(|&column| max[column] > limit);
    columns
}

/// The sum of the squares of some columns of `x` `[rows, k]`. Row by row: the numbers of a column are each in a
/// page of their own.
fn squares_of(x: &[f32], k: usize, columns: &[usize]) -> f64 {
    let of_row = |row: &[f32]| -> f64 {
        let squares = columns.iter().map(|&column| f64::from(row[column]).powi(2));
        squares.sum()
    };
    let pieces = x.par_chunks(PIECE * k);
    let pieces: Vec<f64> = pieces
        .map(|x| x.chunks_exact(k).map(of_row).sum())
        .collect();
    pieces.iter().sum()
}

/// A copy of `x` `[rows, k]` with zeros in `columns`.
pub(super) fn without(x: &[f32], k: usize, columns: &[usize]) -> Vec<f32> {
    let mut x = x.to_vec();
    for row in x.chunks_exact_mut(k) {
        for &column in columns {
            row[column] = 0.0;
        }
    }
    x
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise(n: usize, seed: u32) -> Vec<f32> {
        let mut state = seed;
        let mut next = move || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / 8_388_608.0 - 1.0
        };
        (0..n).map(|_| next() + next() + next()).collect()
    }

    #[test]
    fn an_outlier_does_not_hide_a_smaller_one() {
        let (rows, k) = (40, 512);
        let mut x = noise(rows * k, 11);
        for row in x.chunks_mut(k) {
            row[7] *= 1000.0;
            row[130] *= 300.0;
            row[400] *= 50.0;
        }
        // One token alone.
        x[3 * k + 222] = 900.0;
        assert_eq!(outlier_columns(&x, k), [7, 222, 130, 400]);
        assert!(outlier_columns(&noise(rows * k, 12), k).is_empty());
    }

    #[test]
    fn weights_of_one_size_are_not_scaled() {
        let mut w = noise(64 * 96, 15);
        assert!(column_scales(&w, 96).is_none());
        // One row that is much larger than the others says nothing of the columns.
        w[..96].iter_mut().for_each(|w| *w *= 1000.0);
        assert!(column_scales(&w, 96).is_none());
        assert!(column_scales(&[0.0; 64], 8).is_none());
    }
}
