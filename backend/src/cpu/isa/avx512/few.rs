// SPDX-License-Identifier: MPL-2.0

//! Products of a matrix with 1 to 4 rows, which are bound by reading the matrix.

use std::arch::x86_64::{
    __m512, _mm512_add_epi32, _mm512_add_ps, _mm512_cvtepi32_ps, _mm512_dpbusd_epi32,
    _mm512_fmadd_ps, _mm512_mul_ps, _mm512_set1_epi32, _mm512_set1_ps, _mm512_setzero_ps,
    _mm512_setzero_si512, _mm512_slli_epi32,
};
use std::ops::Range;

use super::memory::{load_bytes, load_slice, prefetch_far, prefetch_near, store_slice, widen_bf16};
use super::sums::{sum, sum_each};
use crate::cpu::isa::operands::{Bf16Matrix, ByteMatrix, Halves, LANES, STEP};
use crate::cpu::slices::Slices;

/// How many bytes ahead of where a matrix is multiplied with one row it is asked for, where it is at all.
const AHEAD: isize = 8192;

/// How many bytes ahead scales and sums are asked for: those of 64 rows, a stream for each slice.
const SCALES_AHEAD: isize = 256;

/// Up to 4 rows of activations.
pub(super) struct Group<'a> {
    /// `[lines][rows]`, the last line of a row filled up with zeros.
    pub(super) lines: &'a [Halves],
    /// `[rows, slices]`
    pub(super) scales: &'a [f32],
}

/// Columns of a matrix that are multiplied with several rows of activations before the next ones are:
/// 16 KB of four rows of them stay in the first cache.
const PIECE_COLUMNS: usize = 2048;

/// The slices of the matrix, a piece of [`PIECE_COLUMNS`] at a time.
fn pieces(slices: Slices) -> impl Iterator<Item = Range<usize>> {
    let n = slices.count();
    let each = (PIECE_COLUMNS / slices.range(0).len().max(1)).max(1);
    (0..n)
        .step_by(each)
        .map(move |first| first..n.min(first + each))
}

/// Asks for the line `ahead` bytes after `at`, with which `R` rows of activations will be multiplied: the products
/// of a line with several take longer than any processor looks ahead.
#[inline]
#[target_feature(enable = "avx512f")]
fn ask<const R: usize, const NEAR: bool, T>(at: &T, ahead: isize) {
    if NEAR {
        prefetch_near(at, ahead);
    } else if R > 1 {
        prefetch_far(at, ahead);
    }
}

/// `y[i, first..first + R]` for a group of `R` of the `rows` rows of activations; `NEAR` as
/// [`asks_near`](crate::cpu::isa::ahead::asks_near) says.
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
pub(super) fn words_rows<const R: usize, const NEAR: bool>(
    x: &Group<'_>,
    matrix: ByteMatrix<'_>,
    first: usize,
    rows: usize,
    y: &mut [f32],
) {
    for y in y.chunks_exact_mut(rows) {
        y[first..first + R].fill(0.0);
    }
    if R == 1 {
        // The matrix is one stream of bytes.
        for (i, y) in y.chunks_exact_mut(rows).enumerate() {
            for piece in pieces(matrix.slices) {
                let [[sum]] = words_block::<1, 1, NEAR>(x, matrix, i, piece, AHEAD);
                y[first] += sum;
            }
        }
        return;
    }
    for piece in pieces(matrix.slices) {
        words_piece::<R, NEAR>(x, matrix, piece, first, rows, y);
    }
}

/// Adds the products of the slices `piece` to `y[i, first..first + R]`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
fn words_piece<const R: usize, const NEAR: bool>(
    x: &Group<'_>,
    matrix: ByteMatrix<'_>,
    piece: Range<usize>,
    first: usize,
    rows: usize,
    y: &mut [f32],
) {
    /// Matrix rows at a time: the activations are read less often, and more sums are on their way.
    const W: usize = 2;
    let add = |sums: &[f32; R], y: &mut [f32]| {
        for (y, sum) in y[first..first + R].iter_mut().zip(sums) {
            *y += sum;
        }
    };
    let n = y.len() / rows;
    let mut blocks = y.chunks_exact_mut(W * rows);
    let mut i = 0;
    for y in &mut blocks {
        let ahead = ahead(matrix, n, i + 2 * W, &piece) - offset(matrix, i, piece.start);
        let sums = words_block::<R, W, NEAR>(x, matrix, i, piece.clone(), ahead);
        for (sums, y) in sums.iter().zip(y.chunks_exact_mut(rows)) {
            add(sums, y);
        }
        i += W;
    }
    for y in blocks.into_remainder().chunks_exact_mut(rows) {
        let ahead = ahead(matrix, n, i + 2, &piece) - offset(matrix, i, piece.start);
        let [sums] = words_block::<R, 1, NEAR>(x, matrix, i, piece.clone(), ahead);
        add(&sums, y);
        i += 1;
    }
}

/// Where a slice of row `i` begins.
#[inline]
fn offset(matrix: ByteMatrix<'_>, i: usize, slice: usize) -> isize {
    (i * matrix.slices.in_features() + matrix.slices.range(slice).start) as isize
}

/// Where what is multiplied when row `i` of `n` is reached begins: beyond the last row the next piece, and after
/// that the next rows of the matrix.
#[inline]
fn ahead(matrix: ByteMatrix<'_>, n: usize, i: usize, piece: &Range<usize>) -> isize {
    if i < n {
        offset(matrix, i, piece.start)
    } else if piece.end < matrix.slices.count() {
        offset(matrix, i - n, piece.end)
    } else {
        offset(matrix, i, 0)
    }
}

/// Products of the slices `piece` of `W` matrix rows from `i` on with `R` rows of activations.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
fn words_block<const R: usize, const W: usize, const NEAR: bool>(
    x: &Group<'_>,
    matrix: ByteMatrix<'_>,
    i: usize,
    piece: Range<usize>,
    ahead: isize,
) -> [[f32; R]; W] {
    let k = matrix.slices.in_features();
    let n_slices = matrix.slices.count();
    let (lines, _) = x.lines.as_chunks::<R>();
    let mut totals = [[_mm512_setzero_ps(); R]; W];
    let mut rests = [[0.0f32; R]; W];
    for s in piece {
        let range = matrix.slices.range(s);
        let n = range.len() / STEP;
        let mut w: [&[[i8; STEP]]; W] = [&[]; W];
        for (j, w) in w.iter_mut().enumerate() {
            *w = &matrix.q[(i + j) * k..][range.clone()].as_chunks().0[..n];
        }
        // Slices begin at multiples of 64.
        let lines = &lines[range.start / STEP..];
        let whole = &lines[..n];
        let of_rows = s * matrix.out_features + i;
        let (scales, offsets) = (&matrix.scales[of_rows..][..W], &matrix.sums[of_rows..][..W]);
        if NEAR {
            prefetch_near(&scales[0], SCALES_AHEAD);
            prefetch_near(&offsets[0], SCALES_AHEAD);
        }
        let mut highs = [[_mm512_setzero_si512(); R]; W];
        let mut lows = highs;
        for j in 0..W {
            // What 32768 adds to each product, a sixteenth of it to each lane.
            lows[j] = [_mm512_set1_epi32(-(offsets[j] << 11)); R];
        }
        // By number, so that the compiler sees that all have as many.
        for at in 0..n {
            let line = &whole[at];
            let mut words = [_mm512_setzero_si512(); W];
            for j in 0..W {
                words[j] = load_bytes(&w[j][at].map(i8::cast_unsigned));
                ask::<R, NEAR, _>(&w[j][at], ahead);
            }
            for r in 0..R {
                let (high, low) = (load_bytes(&line[r].high.0), load_bytes(&line[r].low.0));
                for j in 0..W {
                    highs[j][r] = _mm512_dpbusd_epi32(highs[j][r], high, words[j]);
                    lows[j][r] = _mm512_dpbusd_epi32(lows[j][r], low, words[j]);
                }
            }
        }
        for j in 0..W {
            let scale = _mm512_set1_ps(scales[j]);
            for r in 0..R {
                // 32 products below 2^23 to a lane stay below 2^31.
                let sum = _mm512_add_epi32(_mm512_slli_epi32::<8>(highs[j][r]), lows[j][r]);
                let sum = _mm512_mul_ps(_mm512_cvtepi32_ps(sum), scale);
                let scale = _mm512_set1_ps(x.scales[r * n_slices + s]);
                totals[j][r] = _mm512_fmadd_ps(sum, scale, totals[j][r]);
            }
        }
        if n * STEP < range.len() {
            let tail = range.start + n * STEP..range.end;
            for j in 0..W {
                let w = &matrix.q[(i + j) * k..][tail.clone()];
                for (r, sum) in tail_sums(w, &lines[n]).into_iter().enumerate() {
                    rests[j][r] += sum as f32 * scales[j] * x.scales[r * n_slices + s];
                }
            }
        }
    }
    add_lanes(&totals, &mut rests);
    rests
}

/// Adds the sum of the lanes of each register, at most 16 of them.
#[inline]
#[target_feature(enable = "avx512f")]
fn add_lanes<const R: usize, const W: usize>(totals: &[[__m512; R]; W], to: &mut [[f32; R]; W]) {
    let to = to.as_flattened_mut();
    if let ([total], [to]) = (totals.as_flattened(), &mut *to) {
        *to += sum(*total);
        return;
    }
    let mut all = [_mm512_setzero_ps(); LANES];
    all[..R * W].copy_from_slice(totals.as_flattened());
    let mut sums = [0.0; LANES];
    store_slice(sum_each(all), &mut sums);
    for (to, sum) in to.iter_mut().zip(sums) {
        *to += sum;
    }
}

/// Products of the last columns of a slice, fewer than [`STEP`], with each row of activations.
#[inline]
fn tail_sums<const R: usize>(w: &[i8], line: &[Halves; R]) -> [i32; R] {
    line.each_ref().map(|Halves { high, low }| {
        let words = high.0.iter().zip(&low.0);
        let words = words.map(|(&high, &low)| 256 * i32::from(high) + i32::from(low));
        w.iter()
            .zip(words)
            .map(|(&w, word)| i32::from(w) * word)
            .sum()
    })
}

/// `y[i, first..first + R]` for a group of `R` of the `rows` rows of activations, `x` `[R, k]`; `NEAR` as for
/// [`words_rows`].
#[target_feature(enable = "avx512f,avx512bw")]
pub(super) fn bf16_rows<const R: usize, const NEAR: bool>(
    x: &[f32],
    matrix: Bf16Matrix<'_>,
    first: usize,
    rows: usize,
    y: &mut [f32],
) {
    const STEP: usize = 32;
    let k = matrix.k;
    let mut a: [&[f32]; R] = [&[]; R];
    for (r, a) in a.iter_mut().enumerate() {
        *a = &x[r * k..][..k];
    }
    for (w, y) in matrix.rows.chunks_exact(k).zip(y.chunks_exact_mut(rows)) {
        let mut sums = [[_mm512_setzero_ps(); 2]; R];
        let tail = k / STEP * STEP;
        for at in (0..tail).step_by(STEP) {
            ask::<R, NEAR, _>(&w[at], AHEAD);
            let low = widen_bf16(&w[at..at + STEP / 2]);
            let high = widen_bf16(&w[at + STEP / 2..at + STEP]);
            for r in 0..R {
                let x = load_slice(&a[r][at..at + STEP / 2]);
                sums[r][0] = _mm512_fmadd_ps(low, x, sums[r][0]);
                let x = load_slice(&a[r][at + STEP / 2..at + STEP]);
                sums[r][1] = _mm512_fmadd_ps(high, x, sums[r][1]);
            }
        }
        for r in 0..R {
            let rest = a[r][tail..].iter().zip(&w[tail..]);
            let rest: f32 = rest.map(|(&x, &w)| x * w.to_f32()).sum();
            y[first + r] = sum(_mm512_add_ps(sums[r][0], sums[r][1])) + rest;
        }
    }
}
