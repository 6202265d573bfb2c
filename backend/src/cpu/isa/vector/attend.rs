// SPDX-License-Identifier: MPL-2.0

//! Attention of a few queries to keys and values kept in bf16, row by row.

use half::bf16;

use super::Registers;
use super::few::Ahead;
use crate::cpu::isa::operands::CACHE_LINE;

/// Keys whose scores are summed at a time.
const KEYS: usize = 4;

/// How many bytes ahead keys and values are asked for, where that is into the first cache
/// ([`asks_near`](Registers::asks_near)).
const AHEAD: usize = 4096;

/// `scores[r, i] = q[r] . k[i]`: queries `q` `[few, dim]`, keys `k` `[keys, dim]`.
///
/// # Safety
///
/// The processor must have the set of `S`.
#[inline(always)]
pub(in crate::cpu::isa) unsafe fn scores<S: Registers>(
    q: &[f32],
    k: &[bf16],
    dim: usize,
    scores: &mut [f32],
) {
    let n = k.len() / dim;
    let queries = q.chunks(2 * dim).zip(scores.chunks_mut(2 * n));
    for (q, scores) in queries {
        // SAFETY: the caller's.
        unsafe {
            if q.len() == 2 * dim {
                scores_of::<S, 2>(q, k, dim, scores);
            } else {
                scores_of::<S, 1>(q, k, dim, scores);
            }
        }
    }
}

/// [`scores`] of `R` queries.
#[inline(always)]
unsafe fn scores_of<S: Registers, const R: usize>(
    q: &[f32],
    k: &[bf16],
    dim: usize,
    scores: &mut [f32],
) {
    let n = k.len() / dim;
    let ahead = Ahead::if_near::<S>(AHEAD);
    for (block, keys) in k.chunks(KEYS * dim).enumerate() {
        let here = keys.len() / dim;
        let mut rows: [&[bf16]; KEYS] = [&keys[..dim]; KEYS];
        for (row, key) in rows.iter_mut().zip(keys.chunks_exact(dim)) {
            *row = key;
        }
        let mut queries: [&[f32]; R] = [&[]; R];
        for (r, query) in queries.iter_mut().enumerate() {
            *query = &q[r * dim..][..dim];
        }
        // SAFETY: the caller's.
        let sums = unsafe {
            ask::<S>(ahead, keys);
            products::<S, R>(queries, rows)
        };
        for (r, sums) in sums.iter().enumerate() {
            let to = &mut scores[r * n + block * KEYS..][..here];
            to.copy_from_slice(&sums[..here]);
        }
    }
}

/// Asks for the cache lines ahead of those of some numbers.
#[inline(always)]
unsafe fn ask<S: Registers>(ahead: Ahead, numbers: &[bf16]) {
    for number in numbers.iter().step_by(CACHE_LINE / size_of::<bf16>()) {
        // SAFETY: the caller's: the processor has the set of `S`.
        unsafe { ahead.ask::<S, _>(number) };
    }
}

/// Products of `R` queries with four keys.
#[inline(always)]
unsafe fn products<S: Registers, const R: usize>(
    q: [&[f32]; R],
    keys: [&[bf16]; KEYS],
) -> [[f32; KEYS]; R] {
    let dim = q[0].len();
    assert!(q.iter().all(|q| q.len() == dim) && keys.iter().all(|key| key.len() == dim));
    let whole = dim / S::N * S::N;
    let mut all = [[0.0; KEYS]; R];
    // SAFETY: the caller's; up to `whole`, `N` numbers are there of each row.
    unsafe {
        let mut sums = [[S::splat(0.0); KEYS]; R];
        for at in (0..whole).step_by(S::N) {
            let mut x = [S::splat(0.0); R];
            for r in 0..R {
                x[r] = S::load(q[r].as_ptr().add(at));
            }
            for i in 0..KEYS {
                let key = S::load_bf16(keys[i].as_ptr().add(at));
                for r in 0..R {
                    sums[r][i] = S::fma(x[r], key, sums[r][i]);
                }
            }
        }
        for r in 0..R {
            all[r] = S::sum_each(sums[r]);
        }
    }
    for r in 0..R {
        for i in 0..KEYS {
            let rest = q[r][whole..].iter().zip(&keys[i][whole..]);
            all[r][i] += rest.map(|(&x, k)| x * k.to_f32()).sum::<f32>();
        }
    }
    all
}

/// `y[r] = sum_i p[r, i] * v[i]` for `R` queries: weights `p` `[R, n]`, values `v` `[n, width]`.
///
/// # Safety
///
/// The processor must have the set of `S`.
#[inline(always)]
pub(in crate::cpu::isa) unsafe fn weighted<S: Registers, const R: usize>(
    p: &[f32],
    v: &[bf16],
    width: usize,
    y: &mut [f32],
) {
    let mut first = 0;
    // SAFETY: the caller's.
    unsafe {
        while R <= 2 && S::COUNT >= 32 && first + 8 * S::N <= width {
            weighted_columns::<S, R, 8>(p, v, width, first, y);
            first += 8 * S::N;
        }
        while (R <= 2 || S::COUNT >= 32) && first + 4 * S::N <= width {
            weighted_columns::<S, R, 4>(p, v, width, first, y);
            first += 4 * S::N;
        }
        while first + 2 * S::N <= width {
            weighted_columns::<S, R, 2>(p, v, width, first, y);
            first += 2 * S::N;
        }
        while first + S::N <= width {
            weighted_columns::<S, R, 1>(p, v, width, first, y);
            first += S::N;
        }
    }
    let n = v.len() / width;
    for r in 0..R {
        let weights = &p[r * n..][..n];
        for column in first..width {
            let rest = weights.iter().zip(v[column..].iter().step_by(width));
            y[r * width + column] = rest.map(|(p, x)| p * x.to_f32()).sum();
        }
    }
}

/// Columns of `C` registers from `first` on of [`weighted`].
#[inline(always)]
unsafe fn weighted_columns<S: Registers, const R: usize, const C: usize>(
    p: &[f32],
    v: &[bf16],
    width: usize,
    first: usize,
    y: &mut [f32],
) {
    let n = v.len() / width;
    let ahead = Ahead::if_near::<S>(AHEAD);
    let mut weights: [&[f32]; R] = [&[]; R];
    for (r, weights) in weights.iter_mut().enumerate() {
        *weights = &p[r * n..][..n];
    }
    // SAFETY: the caller's; `C` registers are there of each row.
    unsafe {
        let mut sums = [[S::splat(0.0); C]; R];
        for (i, row) in v.chunks_exact(width).take(n).enumerate() {
            let row = &row[first..][..C * S::N];
            ask::<S>(ahead, row);
            let mut wide = [S::splat(0.0); C];
            for c in 0..C {
                wide[c] = S::load_bf16(row.as_ptr().add(c * S::N));
            }
            for r in 0..R {
                let weight = S::splat(weights[r][i]);
                for c in 0..C {
                    sums[r][c] = S::fma(weight, wide[c], sums[r][c]);
                }
            }
        }
        for r in 0..R {
            let y = &mut y[r * width + first..][..C * S::N];
            for c in 0..C {
                S::store(sums[r][c], y.as_mut_ptr().add(c * S::N));
            }
        }
    }
}
