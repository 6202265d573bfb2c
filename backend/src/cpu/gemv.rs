// SPDX-License-Identifier: MPL-2.0

//! Products of a large matrix with few rows, which are bound by reading the matrix once.
//!
//! Every function takes some rows of the matrix, `[n, in_features]`, and writes `[n, rows]`: one
//! line of results per row of the matrix, so that tasks can share the work by its rows.

use rayon::prelude::*;

use super::isa::Isa;
use super::isa::operands::Bf16Matrix;
use super::pieces::columns;

/// More rows than this go to the blocked product of `rten-gemm`, which packs the matrix on each call
/// and is slower below (int8, 2048 x 6144: 60 Gop/s at 16 rows, 165 at 64, 360 at 720).
pub(super) const MAX_ROWS: usize = 24;

/// Bytes of a matrix that one task reads, about; of wide rows it reads [`TASK_STEP`].
const TASK_BYTES: usize = 256 << 10;

/// Tasks that a thread should have of a product, as in [`product`](super::product), and by how many rows of the
/// matrix their sizes differ: whole blocks for most kernels, which multiply one to six at a time.
const TASKS_PER_THREAD: usize = 4;
const TASK_STEP: usize = 12;

/// Shares `y` `[rows, n]` = `x` `[rows, k]` times the transposed matrix `[n, k]` among the threads.
///
/// `part(first, y)` computes the lines of `y` (`[lines, rows]`) from matrix row `first` on.
pub(super) fn share(
    rows: usize,
    n: usize,
    row_bytes: usize,
    y: &mut [f32],
    part: impl Fn(usize, &mut [f32]) + Sync,
) {
    let share = n.div_ceil(TASKS_PER_THREAD * rayon::current_num_threads());
    let lines = (TASK_BYTES / row_bytes.max(1)).min(share).max(1);
    let lines = lines.next_multiple_of(TASK_STEP);
    if rows == 1 {
        let tasks = y.par_chunks_mut(lines).enumerate().with_max_len(1);
        tasks.for_each(|(task, y)| part(task * lines, y));
        return;
    }
    let tasks = columns(y, n, lines).into_par_iter().enumerate();
    tasks
        .with_max_len(1)
        .for_each_init(Vec::new, |turned, (task, mut y)| {
            turned.resize(lines * rows, 0.0);
            let turned = &mut turned[..y.iter().map(|part| part.len()).sum()];
            part(task * lines, turned);
            for (row, y) in y.iter_mut().enumerate() {
                for (y, line) in y.iter_mut().zip(turned.chunks_exact(rows)) {
                    *y = line[row];
                }
            }
        });
}

/// `y[i, r] = w[i] . x[r]` for an f32 matrix.
pub(super) fn f32_rows(x: &[f32], w: &[f32], in_features: usize, y: &mut [f32]) {
    (Isa::host().loops.f32_rows)(x, w, in_features, y);
}

/// `y[i, r] = w[i] . x[r]` for a bf16 matrix.
pub(super) fn bf16_rows(isa: Isa, x: &[f32], matrix: Bf16Matrix<'_>, y: &mut [f32]) {
    match isa.tiles {
        Some(tiles) => (tiles.few_bf16)(x, matrix, y),
        None => (isa.loops.bf16_rows)(x, matrix.rows, matrix.k, y),
    }
}

/// `y += sum_i p[i] * rows[i]` for `rows` `[p.len(), y.len()]`: the weighted sum of attention.
pub(super) fn add_weighted(p: &[f32], rows: &[f32], y: &mut [f32]) {
    (Isa::host().loops.add_weighted)(p, rows, y);
}

#[cfg(test)]
mod tests {
    use half::bf16;

    use super::*;

    fn wave(n: usize, step: f32) -> Vec<f32> {
        (0..n).map(|i| (i as f32 * step).sin()).collect()
    }

    #[test]
    fn few_rows_agree_with_the_plain_sum() {
        for (rows, n, k) in [(1, 5, 64), (3, 7, 100), (24, 300, 33)] {
            let (x, w) = (wave(rows * k, 0.37), wave(n * k, 0.11));
            let narrow: Vec<bf16> = w.iter().map(|&w| bf16::from_f32(w)).collect();
            let (mut a, mut b) = (vec![0.0; rows * n], vec![0.0; rows * n]);
            share(rows, n, 4 * k, &mut a, |first, y| {
                f32_rows(&x, &w[first * k..], k, y);
            });
            for isa in Isa::available() {
                share(rows, n, 4 * k, &mut b, |first, y| {
                    let n = y.len() / rows;
                    let rows = &narrow[first * k..][..n * k];
                    bf16_rows(isa, &x, Bf16Matrix { rows, k }, y);
                });
                for r in 0..rows {
                    for i in 0..n {
                        let want: f32 = (0..k).map(|j| x[r * k + j] * w[i * k + j]).sum();
                        assert!((a[r * n + i] - want).abs() < 1e-4);
                        assert!((b[r * n + i] - want).abs() < 0.01 * k as f32);
                    }
                }
            }
        }
    }

    #[test]
    fn a_weighted_sum_adds_to_what_is_there() {
        let mut y = [1.0, 2.0];
        add_weighted(&[0.5, 2.0], &[2.0, 4.0, 1.0, 1.0], &mut y);
        assert_eq!(y, [4.0, 6.0]);
    }
}
