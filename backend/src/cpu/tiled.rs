// SPDX-License-Identifier: MPL-2.0

//! Matrices of three number types as words of tiles ([`product`](super::product)), and activations
//! as panels of them.

use std::ops::Range;

use half::bf16;
use rayon::prelude::*;

use super::isa::operands::{LANES, Line, Out, Scaling, TILE_ROWS, Words};
use super::isa::{Bf16Kernels, Isa, TileKernels};
use super::panel::{Panel, panel};
use super::product::{BLOCK_WORDS, Columns, Tiles, product};
use super::slices::Slices;
use crate::Cancel;

/// `[n, in_features]` in f32.
pub(super) struct F32Tiles<'a> {
    pub(super) kernels: &'a TileKernels,
    pub(super) matrix: &'a [f32],
    pub(super) in_features: usize,
}

/// `[n, in_features]` in bf16.
pub(super) struct Bf16Tiles<'a> {
    pub(super) kernels: &'a TileKernels,
    pub(super) bf16: &'a Bf16Kernels,
    pub(super) matrix: &'a [bf16],
    pub(super) in_features: usize,
}

/// `[n, in_features]` in 8 bits.
pub(super) struct ByteTiles<'a> {
    pub(super) kernels: &'a TileKernels,
    pub(super) q: &'a [i8],
    pub(super) slices: Slices,
    /// `[slices, n]`
    pub(super) scales: &'a [f32],
    /// `[slices, n]`
    pub(super) sums: &'a [i32],
    /// `[slices][lines]`
    pub(super) row_scales: &'a [Line<f32>],
    /// Columns that are left out here.
    pub(super) columns: Option<Columns<'a>>,
}

/// Value of an unsigned byte that stands for 0.
const ZERO: u8 = 128;

impl F32Tiles<'_> {
    /// `y` `[rows, n]` for `x` `[rows, in_features]`, plus `bias` `[n]`.
    pub(super) fn forward(&self, x: &[f32], bias: Option<&[f32]>, life: &Cancel, y: &mut [f32]) {
        let k = self.in_features;
        let panel = panel(self.kernels, x.len() / k, k, |row, words| {
            for (word, x) in words.iter_mut().zip(&x[row * k..][..k]) {
                *word = x.to_bits();
            }
        });
        product(self.kernels, self, &panel, bias, life, y);
    }
}

impl Bf16Tiles<'_> {
    /// `y` `[rows, n]` for `x` `[rows, in_features]`, plus `bias` `[n]`.
    pub(super) fn forward(&self, x: &[f32], bias: Option<&[f32]>, life: &Cancel, y: &mut [f32]) {
        let k = self.in_features;
        let panel = panel(self.kernels, x.len() / k, k.div_ceil(2), |row, words| {
            pack_pairs(&x[row * k..][..k], words);
        });
        product(self.kernels, self, &panel, bias, life, y);
    }
}

/// Rows of bytes as a panel, zeros in the columns `left_out`, and their scales `[slices][lines]`.
pub(super) fn byte_panel(
    kernels: &TileKernels,
    x: &[f32],
    slices: Slices,
    left_out: &[usize],
) -> (Panel, Vec<Line<f32>>) {
    let k = slices.in_features();
    let rows = x.len() / k;
    let n_lines = rows.div_ceil(LANES);
    let mut by_row = vec![0.0; rows * slices.count()];
    let mut bytes = vec![0u8; x.len()];
    bytes
        .par_chunks_mut(k)
        .zip(x.par_chunks(k))
        .zip(by_row.par_chunks_mut(slices.count()))
        .for_each_init(Vec::new, |kept, ((q, x), scales)| {
            let x = if left_out.is_empty() {
                x
            } else {
                kept.clear();
                kept.extend_from_slice(x);
                for &column in left_out {
                    kept[column] = 0.0;
                }
                &kept[..]
            };
            for (i, scale) in scales.iter_mut().enumerate() {
                let range = slices.range(i);
                *scale = (Isa::host().loops.slice_to_bytes)(&x[range.clone()], ZERO, &mut q[range]);
            }
        });
    let mut scales = vec![Line([0.0; LANES]); slices.count() * n_lines];
    for (row, by_row) in by_row.chunks_exact(slices.count()).enumerate() {
        for (i, scale) in by_row.iter().enumerate() {
            scales[i * n_lines + row / LANES].0[row % LANES] = *scale;
        }
    }
    let panel = panel(kernels, rows, k.div_ceil(4), |row, words| {
        let (chunks, rest) = bytes[row * k..][..k].as_chunks::<4>();
        for (word, chunk) in words.iter_mut().zip(chunks) {
            *word = u32::from_le_bytes(*chunk);
        }
        if !rest.is_empty() {
            let mut last = [0; 4];
            last[..rest.len()].copy_from_slice(rest);
            words[chunks.len()] = u32::from_le_bytes(last);
        }
    });
    (panel, scales)
}

impl ByteTiles<'_> {
    /// `y` `[rows, n]` for rows of bytes.
    pub(super) fn forward(
        &self,
        panel: &Panel,
        bias: Option<&[f32]>,
        life: &Cancel,
        y: &mut [f32],
    ) {
        product(self.kernels, self, panel, bias, life, y);
    }
}

/// What activations, keys and values are held in.
pub(super) trait Number: Copy {
    /// As f32.
    fn wide(self) -> f32;

    /// As bits of bf16.
    fn narrow(self) -> u16;
}

impl Number for f32 {
    fn wide(self) -> f32 {
        self
    }

    #[inline(always)]
    fn narrow(self) -> u16 {
        round(self)
    }
}

impl Number for bf16 {
    fn wide(self) -> f32 {
        self.to_f32()
    }

    #[inline(always)]
    fn narrow(self) -> u16 {
        self.to_bits()
    }
}

/// Two numbers to a word, rounded to bf16, the first in the low half.
pub(super) fn pack_pairs<T: Number>(x: &[T], words: &mut [u32]) {
    let (pairs, rest) = x.as_chunks::<2>();
    for (word, [a, b]) in words.iter_mut().zip(pairs) {
        *word = pair(a.narrow(), b.narrow());
    }
    if let [last] = rest {
        words[pairs.len()] = pair(last.narrow(), 0);
    }
}

/// A word of two bf16, the first in the low half.
#[inline(always)]
pub(super) fn pair(first: u16, second: u16) -> u32 {
    u32::from(first) | u32::from(second) << 16
}

/// Bits of the nearest bf16, ties to even. NaN stays NaN.
#[inline(always)]
pub(super) fn round(x: f32) -> u16 {
    let bits = x.to_bits();
    let rounded = bits.wrapping_add(0x7fff + (bits >> 16 & 1));
    let bits = if x.is_nan() {
        bits | 0x40_0000
    } else {
        rounded
    };
    (bits >> 16) as u16
}

/// The first 16 words of `row`, each made of `N` numbers, filled up with `zero`.
#[inline(always)]
fn line<T: Copy, const N: usize>(row: &[T], zero: T, word: impl Fn([T; N]) -> u32) -> Line<u32> {
    let mut line = Line([0; LANES]);
    let (chunks, rest) = row.as_chunks::<N>();
    if let Some(chunks) = chunks.first_chunk::<LANES>() {
        for (to, chunk) in line.0.iter_mut().zip(chunks) {
            *to = word(*chunk);
        }
        return line;
    }
    for (to, chunk) in line.0.iter_mut().zip(chunks) {
        *to = word(*chunk);
    }
    if !rest.is_empty() {
        let mut last = [zero; N];
        last[..rest.len()].copy_from_slice(rest);
        line.0[chunks.len()] = word(last);
    }
    line
}

/// Blocks of `words` words.
fn blocks(words: usize) -> Vec<Range<usize>> {
    (0..words)
        .step_by(BLOCK_WORDS)
        .map(|at| at..(at + BLOCK_WORDS).min(words))
        .collect()
}

impl Tiles for F32Tiles<'_> {
    fn n_rows(&self) -> usize {
        self.matrix.len() / self.in_features
    }

    fn blocks(&self) -> Vec<Range<usize>> {
        blocks(self.in_features)
    }

    fn words(&self, row: usize, from: usize) -> Line<u32> {
        let row = &self.matrix[row * self.in_features..][..self.in_features];
        line(&row[from..], 0.0, |[x]| x.to_bits())
    }

    fn prefetch(&self, row: usize, from: usize) {
        let at = &self.matrix[row * self.in_features + from];
        (self.kernels.prefetch)(std::ptr::from_ref(at).cast());
    }

    fn multiply(
        &self,
        _: usize,
        _: usize,
        a: &[Words],
        b: &[Line<u32>],
        _: Range<usize>,
        out: Out<'_>,
    ) {
        (self.kernels.floats)(a, b, out);
    }
}

impl Tiles for Bf16Tiles<'_> {
    fn n_rows(&self) -> usize {
        self.matrix.len() / self.in_features
    }

    fn blocks(&self) -> Vec<Range<usize>> {
        blocks(self.in_features.div_ceil(2))
    }

    fn words(&self, row: usize, from: usize) -> Line<u32> {
        let row = &self.matrix[row * self.in_features..][..self.in_features];
        line(&row[2 * from..], bf16::ZERO, |[a, b]| {
            u32::from(a.to_bits()) | u32::from(b.to_bits()) << 16
        })
    }

    fn prefetch(&self, row: usize, from: usize) {
        let at = row * self.in_features + 2 * from;
        (self.kernels.prefetch)(std::ptr::from_ref(&self.matrix[at]).cast());
    }

    fn multiply(
        &self,
        _: usize,
        _: usize,
        a: &[Words],
        b: &[Line<u32>],
        _: Range<usize>,
        out: Out<'_>,
    ) {
        (self.bf16.pairs)(a, b, out);
    }
}

impl Tiles for ByteTiles<'_> {
    fn n_rows(&self) -> usize {
        self.q.len() / self.slices.in_features()
    }

    fn blocks(&self) -> Vec<Range<usize>> {
        // Slices begin at multiples of 64 columns.
        let word = |range: Range<usize>| range.start / 4..range.end.div_ceil(4);
        (0..self.slices.count())
            .map(|i| word(self.slices.range(i)))
            .collect()
    }

    fn words(&self, row: usize, from: usize) -> Line<u32> {
        let k = self.slices.in_features();
        line(&self.q[row * k..][4 * from..k], 0, |bytes: [i8; 4]| {
            u32::from_le_bytes(bytes.map(i8::cast_unsigned))
        })
    }

    fn prefetch(&self, row: usize, from: usize) {
        let at = row * self.slices.in_features() + 4 * from;
        (self.kernels.prefetch)(std::ptr::from_ref(&self.q[at]).cast());
    }

    fn columns(&self) -> Option<&Columns<'_>> {
        self.columns.as_ref()
    }

    fn multiply(
        &self,
        row: usize,
        block: usize,
        a: &[Words],
        b: &[Line<u32>],
        lines: Range<usize>,
        out: Out<'_>,
    ) {
        let n = self.n_rows();
        let here = TILE_ROWS.min(n - row);
        let n_lines = self.row_scales.len() / self.slices.count();
        let mut scaling = Scaling {
            offsets: [0; TILE_ROWS],
            scales: [0.0; TILE_ROWS],
            row_scales: &self.row_scales[block * n_lines..][lines],
        };
        let at = block * n + row;
        scaling.scales[..here].copy_from_slice(&self.scales[at..at + here]);
        for (offset, sum) in scaling.offsets.iter_mut().zip(&self.sums[at..at + here]) {
            *offset = i32::from(ZERO) * sum;
        }
        (self.kernels.bytes)(a, b, &scaling, out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wave(n: usize, step: f32) -> Vec<f32> {
        (0..n).map(|i| (i as f32 * step).sin()).collect()
    }

    /// Largest difference from the exact product.
    fn error(x: &[f32], w: &[f32], bias: &[f32], k: usize, y: &[f32]) -> f64 {
        let n = w.len() / k;
        let mut largest = 0.0f64;
        for (x, y) in x.chunks(k).zip(y.chunks(n)) {
            for ((w, bias), y) in w.chunks(k).zip(bias).zip(y) {
                let terms = x.iter().zip(w);
                let sum: f64 = terms.map(|(&x, &w)| f64::from(x) * f64::from(w)).sum();
                largest = largest.max((sum + f64::from(*bias) - f64::from(*y)).abs());
            }
        }
        largest
    }

    #[test]
    fn tiles_of_floats_agree_with_the_plain_sum_at_any_size() {
        let Some(kernels) = Isa::best().tiles else {
            return;
        };
        for [rows, k, n] in [[1, 5, 3], [50, 130, 70], [17, 300, 64], [97, 33, 9]] {
            let (x, w, bias) = (wave(rows * k, 0.37), wave(n * k, 0.11), wave(n, 0.5));
            let mut y = vec![f32::NAN; rows * n];
            let tiles = F32Tiles {
                kernels,
                matrix: &w,
                in_features: k,
            };
            tiles.forward(&x, Some(&bias), &Cancel::default(), &mut y);
            let error = error(&x, &w, &bias, k, &y);
            assert!(error < 1e-5 * k as f64, "{rows}x{k}x{n}: {error}");
        }
    }

    #[test]
    fn tiles_of_bf16_round_their_inputs_only() {
        let Isa {
            tiles: Some(kernels),
            bf16: Some(bf16),
            ..
        } = Isa::best()
        else {
            return;
        };
        for [rows, k, n] in [[1, 5, 3], [50, 130, 70], [17, 301, 64], [97, 600, 9]] {
            let rounded = |x: Vec<f32>| -> Vec<half::bf16> {
                x.into_iter().map(half::bf16::from_f32).collect()
            };
            let floats = |x: &[half::bf16]| -> Vec<f32> { x.iter().map(|x| x.to_f32()).collect() };
            let x = floats(&rounded(wave(rows * k, 0.37)));
            let (w, bias) = (rounded(wave(n * k, 0.11)), wave(n, 0.5));
            let mut y = vec![f32::NAN; rows * n];
            let tiles = Bf16Tiles {
                kernels,
                bf16,
                matrix: &w,
                in_features: k,
            };
            tiles.forward(&x, Some(&bias), &Cancel::default(), &mut y);
            let error = error(&x, &floats(&w), &bias, k, &y);
            assert!(error < 1e-5 * k as f64, "{rows}x{k}x{n}: {error}");
        }
    }

    #[test]
    fn rounding_to_bf16_is_that_of_the_library() {
        for x in wave(1000, 0.7).into_iter().chain([
            0.0,
            -0.0,
            1.0 + 1.0 / 256.0,
            1.0 + 3.0 / 256.0,
            f32::INFINITY,
            f32::MAX,
            1e-40,
        ]) {
            assert_eq!(round(x), bf16::from_f32(x).to_bits(), "{x}");
        }
        assert!(bf16::from_bits(round(f32::NAN)).is_nan());
    }
}
