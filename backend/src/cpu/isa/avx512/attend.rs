// SPDX-License-Identifier: MPL-2.0

//! Attention of a few queries to keys and values kept in bf16, row by row.

use std::arch::x86_64::{
    __m512, _mm512_dpbf16_ps, _mm512_fmadd_ps, _mm512_set1_ps, _mm512_setzero_ps,
};

use half::bf16;

use super::few::bf16_rows;
use super::memory::{load_pairs, prefetch_far, prefetch_near, store_slice, widen_bf16};
use super::sums::sum_each;
use crate::cpu::isa::ahead::asks_near;
use crate::cpu::isa::operands::{Bf16Matrix, LANES};

/// Numbers of bf16 in a register.
const WIDE: usize = 2 * LANES;

/// One register of a query: `x = high + low`, up to 2^-16 of it.
#[derive(Clone, Copy)]
struct Halves {
    high: [bf16; WIDE],
    low: [bf16; WIDE],
}

/// How many blocks of 16 keys ahead they are asked for; one, where they are asked for into the first cache.
const AHEAD: usize = 4;

/// How many bytes ahead values are asked for into the first cache.
const VALUES_AHEAD: isize = 4096;

/// `scores[r, i] = q[r] . k[i]`: queries `q` `[few, dim]`, keys `k` `[keys, dim]`.
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
pub(super) fn scores(q: &[f32], k: &[bf16], dim: usize, scores: &mut [f32]) {
    match dim {
        64 => scores_wide::<2>(q, k, scores),
        96 => scores_wide::<3>(q, k, scores),
        128 => scores_wide::<4>(q, k, scores),
        _ => {
            let n = k.len() / dim;
            let keys = Bf16Matrix { rows: k, k: dim };
            for (q, scores) in q.chunks_exact(dim).zip(scores.chunks_exact_mut(n)) {
                bf16_rows::<1, false>(q, keys, 0, 1, scores);
            }
        }
    }
}

/// [`scores`] for keys of `D` registers.
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
fn scores_wide<const D: usize>(q: &[f32], k: &[bf16], scores: &mut [f32]) {
    let queries: Vec<Halves> = q.chunks_exact(WIDE).map(halves).collect();
    let (queries, _) = queries.as_chunks::<D>();
    let keys = k.as_chunks::<WIDE>().0.as_chunks::<D>().0;
    let (blocks, rest) = keys.as_chunks::<LANES>();
    let near = asks_near();
    // The last keys and zeros.
    let mut filled = [[[bf16::ZERO; WIDE]; D]; LANES];
    filled[..rest.len()].copy_from_slice(rest);
    let last = (!rest.is_empty()).then_some(&filled);
    for (i, keys) in blocks.iter().chain(last).enumerate() {
        for line in keys.as_flattened() {
            if near {
                prefetch_near(line, size_of_val(keys) as isize);
            } else {
                prefetch_far(line, (AHEAD * size_of_val(keys)) as isize);
            }
        }
        for (query, scores) in queries
            .iter()
            .zip(scores.chunks_exact_mut(k.len() / (WIDE * D)))
        {
            let mut all = [0.0; LANES];
            store_slice(block(query, keys), &mut all);
            for (score, sum) in scores[i * LANES..].iter_mut().zip(all) {
                *score = sum;
            }
        }
    }
}

/// Products of a query with 16 keys.
#[inline]
#[target_feature(enable = "avx512f,avx512bf16")]
fn block<const D: usize>(query: &[Halves; D], keys: &[[[bf16; WIDE]; D]; LANES]) -> __m512 {
    let mut sums = [_mm512_setzero_ps(); LANES];
    for at in 0..D {
        let (high, low) = (load_pairs(&query[at].high), load_pairs(&query[at].low));
        for i in 0..LANES {
            let key = load_pairs(&keys[i][at]);
            sums[i] = _mm512_dpbf16_ps(sums[i], high, key);
            sums[i] = _mm512_dpbf16_ps(sums[i], low, key);
        }
    }
    sum_each(sums)
}

fn halves(x: &[f32]) -> Halves {
    let mut halves = Halves {
        high: [bf16::ZERO; WIDE],
        low: [bf16::ZERO; WIDE],
    };
    for ((high, low), x) in halves.high.iter_mut().zip(&mut halves.low).zip(x) {
        *high = bf16::from_f32(*x);
        *low = bf16::from_f32(x - high.to_f32());
    }
    halves
}

/// `y[r] = sum_i p[r, i] * v[i]` for `R` queries: weights `p` `[R, n]`, values `v` `[n, width]`.
#[target_feature(enable = "avx512f,avx512bw")]
pub(super) fn weighted<const R: usize>(p: &[f32], v: &[bf16], width: usize, y: &mut [f32]) {
    let mut first = 0;
    while R <= 2 && first + 8 * LANES <= width {
        weighted_columns::<R, 8>(p, v, width, first, y);
        first += 8 * LANES;
    }
    while first + 4 * LANES <= width {
        weighted_columns::<R, 4>(p, v, width, first, y);
        first += 4 * LANES;
    }
    while first + LANES <= width {
        weighted_columns::<R, 1>(p, v, width, first, y);
        first += LANES;
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

/// Columns `first..first + 16 C` of [`weighted`].
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn weighted_columns<const R: usize, const C: usize>(
    p: &[f32],
    v: &[bf16],
    width: usize,
    first: usize,
    y: &mut [f32],
) {
    let n = v.len() / width;
    let near = asks_near();
    let mut weights: [&[f32]; R] = [&[]; R];
    for (r, weights) in weights.iter_mut().enumerate() {
        *weights = &p[r * n..][..n];
    }
    let mut sums = [[_mm512_setzero_ps(); C]; R];
    for (i, row) in v.chunks_exact(width).take(n).enumerate() {
        let row = &row[first..first + C * LANES];
        let mut wide = [_mm512_setzero_ps(); C];
        if near {
            for c in 0..C.div_ceil(2) {
                prefetch_near(&row[2 * c * LANES], VALUES_AHEAD);
            }
        }
        for c in 0..C {
            wide[c] = widen_bf16(&row[c * LANES..(c + 1) * LANES]);
        }
        for r in 0..R {
            let weight = _mm512_set1_ps(weights[r][i]);
            for c in 0..C {
                sums[r][c] = _mm512_fmadd_ps(weight, wide[c], sums[r][c]);
            }
        }
    }
    for r in 0..R {
        let (lines, _) = y[r * width + first..].as_chunks_mut::<LANES>();
        for (sum, line) in sums[r].iter().zip(lines) {
            store_slice(*sum, line);
        }
    }
}
