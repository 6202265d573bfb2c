// SPDX-License-Identifier: MPL-2.0

//! Kernels for x86 processors with AVX-512: products of 8 rows of a matrix with a tile of 48 rows of
//! activations, and of a matrix with very few rows.
//!
//! The lanes of a register are rows of activations ([`lanes`](super::lanes)), and each word of a
//! matrix is spread over all lanes. So matrices stay as they are, row by row, whatever the number
//! of rows they are multiplied with, and what belongs to a row (its scale, its largest score) is a
//! number in each lane.

#![expect(
    unsafe_code,
    reason = "functions with target features can be called once the features were found"
)]
#![expect(
    clippy::needless_range_loop,
    reason = "registers are numbered: one index names those of several tables"
)]

mod attend;
mod few;
mod memory;
mod tiles;
mod weights;

use half::bf16;

use super::lanes::{LANES, Line, TILE_LINES};
use super::quantize::Slices;
use few::{Bytes, Group, Halves, STEP, bf16_rows, words_rows};
use memory::{prefetch, transpose};
use tiles::{bytes_tile, floats_tile, pairs_tile};
use weights::{gelu_tanh, hide, swiglu, weigh};

/// Rows of a matrix in a tile product.
pub(super) const TILE_ROWS: usize = 8;

/// Rows of activations that are multiplied with a matrix at a time, if there are few.
const GROUP_ROWS: usize = 4;

/// A word of each of [`TILE_ROWS`] rows of a matrix.
pub(super) type Words = [u32; TILE_ROWS];

/// Proof that the processor has AVX-512 with byte products (VNNI).
#[derive(Debug, Clone, Copy)]
pub(super) struct Avx512(());

/// Proof that it multiplies bf16 too.
#[derive(Debug, Clone, Copy)]
pub(super) struct Avx512Bf16(());

/// What turns the sums of bytes of a tile into numbers.
pub(super) struct Scaling<'a> {
    /// What the activations' zero point adds to the sums of each matrix row.
    pub(super) offsets: [i32; TILE_ROWS],
    /// Of each matrix row.
    pub(super) scales: [f32; TILE_ROWS],
    /// Of each row of activations: the lines of the tile.
    pub(super) row_scales: &'a [Line<f32>],
}

/// Where a tile product goes: row `r` of the matrix to the lines from `r * stride` on.
pub(super) struct Out<'a> {
    pub(super) lines: &'a mut [Line<f32>],
    pub(super) stride: usize,
    /// Whether the product is added to what is there.
    pub(super) add: bool,
}

/// Where the weights of some keys go, `[words][lines]`.
pub(super) enum Weights<'a> {
    /// One key to a word.
    Floats(&'a mut [Line<u32>]),
    /// Two keys to a word, in bf16.
    Pairs(&'a mut [Line<u32>]),
}

/// The softmax of a tile of queries, as far as keys were seen: a lane for each query.
pub(super) struct Running {
    /// Largest score.
    max: [Line<f32>; TILE_LINES],
    /// Sum of `exp(score - max)`.
    pub(super) sums: [Line<f32>; TILE_LINES],
}

impl Running {
    /// No key was seen.
    pub(super) fn new() -> Self {
        Self {
            max: [Line([f32::NEG_INFINITY; LANES]); TILE_LINES],
            sums: [Line([0.0; LANES]); TILE_LINES],
        }
    }
}

/// `[out_features, in_features]` in 8 bits, or some of its rows, for products with few rows.
#[derive(Clone, Copy)]
pub(super) struct ByteMatrix<'a> {
    pub(super) q: &'a [i8],
    /// Scales of the first slice of these rows, those of the next `out_features` further on.
    pub(super) scales: &'a [f32],
    /// Sums of the weights of a slice, likewise.
    pub(super) sums: &'a [i32],
    pub(super) out_features: usize,
    pub(super) slices: Slices,
}

impl Avx512 {
    /// Whether this processor has it.
    pub(super) fn detect() -> Option<Self> {
        let found = is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512vnni");
        found.then_some(Self(()))
    }

    /// Products of bytes: `a` are words of weights, `b` as many words of unsigned activations, 1 to 3
    /// lines each.
    pub(super) fn bytes(self, a: &[Words], b: &[Line<u32>], scaling: &Scaling<'_>, out: Out<'_>) {
        // SAFETY: `self` is the proof of the features.
        unsafe {
            match b.len() / a.len().max(1) {
                3 => bytes_tile::<3>(a, b, scaling, out),
                2 => bytes_tile::<2>(a, b, scaling, out),
                _ => bytes_tile::<1>(a, b, scaling, out),
            }
        }
    }

    /// Products of f32: `a` are words of a matrix, `b` as many words of activations, 1 to 3 lines
    /// each.
    pub(super) fn floats(self, a: &[Words], b: &[Line<u32>], out: Out<'_>) {
        // SAFETY: `self` is the proof of the features.
        unsafe {
            match b.len() / a.len().max(1) {
                3 => floats_tile::<3>(a, b, out),
                2 => floats_tile::<2>(a, b, out),
                _ => floats_tile::<1>(a, b, out),
            }
        }
    }

    /// GELU by the tanh formula, in place: `gelu_pytorch_tanh`.
    pub(super) fn gelu_tanh(self, x: &mut [f32]) {
        // SAFETY: `self` is the proof of the features.
        unsafe { gelu_tanh(x) }
    }

    /// SwiGLU: `y = silu(gate) * up`.
    pub(super) fn swiglu(self, gate: &[f32], up: &[f32], y: &mut [f32]) {
        // SAFETY: `self` is the proof of the features.
        unsafe { swiglu(gate, up, y) }
    }

    /// Asks for the 64 bytes `bytes` after `at`.
    pub(super) fn prefetch<T>(self, at: &T, bytes: usize) {
        // SAFETY: `self` is the proof of the features.
        unsafe { prefetch(at, bytes) }
    }

    /// Lines for columns: number `j` of line `i` becomes number `i` of line `j`.
    pub(super) fn transpose(self, lines: &mut [Line<u32>; LANES]) {
        // SAFETY: `self` is the proof of the features.
        unsafe { transpose(lines) }
    }

    /// Hides from each lane of `scores` `[keys][lines]` the keys that are not below its limit; the first
    /// key is number `first`.
    pub(super) fn hide(self, scores: &mut [Line<f32>], limits: &[Line<i32>], first: usize) {
        // SAFETY: `self` is the proof of the features.
        unsafe { hide(scores, limits, first) }
    }

    /// Turns `scores` `[keys][lines]` into weights, `exp(score - max)`, in words of one key or of
    /// two (bf16); weighted sums `[any][lines]` of earlier keys are brought to the new maximum.
    pub(super) fn weigh(
        self,
        scores: &[Line<f32>],
        width: usize,
        running: &mut Running,
        weights: Weights<'_>,
        sums: &mut [Line<f32>],
    ) {
        // SAFETY: `self` is the proof of the features.
        unsafe {
            match width {
                3 => weigh::<3>(scores, running, weights, sums),
                2 => weigh::<2>(scores, running, weights, sums),
                _ => weigh::<1>(scores, running, weights, sums),
            }
        }
    }

    /// `y[i, r] = w[i] . x[r]`; `y` is `[matrix rows, rows]`. What a row comes to does not depend on the
    /// others.
    pub(super) fn few_words(self, x: &FewWords<'_>, w: ByteMatrix<'_>, y: &mut [f32]) {
        let (n_slices, n_lines) = (w.slices.count(), w.slices.in_features().div_ceil(STEP));
        let rows = x.lines.len() / n_lines;
        for first in (0..rows).step_by(GROUP_ROWS) {
            let n = (rows - first).min(GROUP_ROWS);
            let x = Group {
                lines: &x.lines[first * n_lines..][..n * n_lines],
                scales: &x.scales[first * n_slices..][..n * n_slices],
            };
            // SAFETY: `self` is the proof of the features.
            unsafe {
                match n {
                    4 => words_rows::<4>(&x, w, first, rows, y),
                    3 => words_rows::<3>(&x, w, first, rows, y),
                    2 => words_rows::<2>(&x, w, first, rows, y),
                    _ => words_rows::<1>(&x, w, first, rows, y),
                }
            }
        }
    }

    /// `y[i, r] = w[i] . x[r]` for a bf16 matrix `[matrix rows, k]`; `x` is `[rows, k]`, `y` `[matrix
    /// rows, rows]`. What a row comes to does not depend on the others.
    pub(super) fn few_bf16(self, x: &[f32], w: &[bf16], k: usize, y: &mut [f32]) {
        let rows = x.len() / k;
        for first in (0..rows).step_by(GROUP_ROWS) {
            let n = (rows - first).min(GROUP_ROWS);
            let x = &x[first * k..][..n * k];
            // SAFETY: `self` is the proof of the features.
            unsafe {
                match n {
                    4 => bf16_rows::<4>(x, w, k, first, rows, y),
                    3 => bf16_rows::<3>(x, w, k, first, rows, y),
                    2 => bf16_rows::<2>(x, w, k, first, rows, y),
                    _ => bf16_rows::<1>(x, w, k, first, rows, y),
                }
            }
        }
    }
}

/// Some rows of 16-bit activations, as [`Avx512::few_words`] reads them.
pub(super) struct FewWords<'a> {
    /// Groups of [`GROUP_ROWS`] rows, the last of fewer, each `[lines][rows]`.
    lines: Vec<Halves>,
    scales: &'a [f32],
}

impl<'a> FewWords<'a> {
    /// Takes activations `[rows, in_features]` and their scales `[rows, slices]`.
    pub(super) fn new(x: &[i16], in_features: usize, scales: &'a [f32]) -> Self {
        let n_lines = in_features.div_ceil(STEP);
        let zeros = Halves {
            high: Bytes([0; STEP]),
            low: Bytes([0; STEP]),
        };
        let mut lines = vec![zeros; x.len() / in_features * n_lines];
        let groups = lines.chunks_mut(GROUP_ROWS * n_lines);
        for (x, group) in x.chunks(GROUP_ROWS * in_features).zip(groups) {
            let rows = x.len() / in_features;
            for (r, x) in x.chunks_exact(in_features).enumerate() {
                let lines = group[r..].iter_mut().step_by(rows);
                for (line, x) in lines.zip(x.chunks(STEP)) {
                    let halves = line.high.0.iter_mut().zip(&mut line.low.0);
                    for ((high, low), x) in halves.zip(x) {
                        let x = x.cast_unsigned() ^ 0x8000;
                        *high = (x >> 8) as u8;
                        *low = x as u8;
                    }
                }
            }
        }
        Self { lines, scales }
    }
}

impl Avx512Bf16 {
    /// Whether this processor has it.
    pub(super) fn detect() -> Option<Self> {
        let found = Avx512::detect().is_some() && is_x86_feature_detected!("avx512bf16");
        found.then_some(Self(()))
    }

    /// Products of pairs of bf16: `a` are words of a matrix, `b` as many words of activations, 1 to 3
    /// lines each.
    pub(super) fn pairs(self, a: &[Words], b: &[Line<u32>], out: Out<'_>) {
        // SAFETY: `self` is the proof of the features.
        unsafe {
            match b.len() / a.len().max(1) {
                3 => pairs_tile::<3>(a, b, out),
                2 => pairs_tile::<2>(a, b, out),
                _ => pairs_tile::<1>(a, b, out),
            }
        }
    }

    /// `scores[r, i] = q[r] . k[i]`: queries `q` `[few, dim]`, keys `k` `[keys, dim]`.
    pub(super) fn scores(self, q: &[f32], k: &[bf16], dim: usize, scores: &mut [f32]) {
        // SAFETY: `self` is the proof of the features.
        unsafe { attend::scores(q, k, dim, scores) }
    }

    /// `y[r] = sum_i p[r, i] * v[i]`: weights `p` `[few, keys]`, values `v` `[keys, width]`, `y` `[few,
    /// width]`.
    pub(super) fn weighted(self, p: &[f32], v: &[bf16], width: usize, y: &mut [f32]) {
        let n = v.len() / width;
        let p = p.chunks(GROUP_ROWS * n);
        for (p, y) in p.zip(y.chunks_mut(GROUP_ROWS * width)) {
            // SAFETY: `self` is the proof of the features.
            unsafe {
                match y.len() / width {
                    4 => attend::weighted::<4>(p, v, width, y),
                    3 => attend::weighted::<3>(p, v, width, y),
                    2 => attend::weighted::<2>(p, v, width, y),
                    _ => attend::weighted::<1>(p, v, width, y),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
