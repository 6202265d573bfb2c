// SPDX-License-Identifier: MPL-2.0

//! Matrices of f32 and bf16 as words of tiles ([`product`](super::product)), and activations as panels
//! of them.

use std::ops::Range;

use half::bf16;

use super::epilogue::Epilogue;
use super::isa::operands::{BLOCK_WORDS, LANES, Line, Out};
use super::isa::{PairProduct, TileKernels};
use super::panel::panel;
use super::product::{Block, Tiles, product};
use crate::Cancel;

/// `[n, in_features]` in f32, or in what is widened to it.
pub(super) struct FloatTiles<'a, T> {
    pub(super) kernels: &'a TileKernels,
    pub(super) matrix: &'a [T],
    pub(super) in_features: usize,
}

/// `[n, in_features]` in bf16, to which activations are rounded.
pub(super) struct Bf16Tiles<'a> {
    pub(super) kernels: &'a TileKernels,
    pub(super) pairs: PairProduct,
    pub(super) matrix: &'a [bf16],
    pub(super) in_features: usize,
}

impl<T: Number> FloatTiles<'_, T> {
    /// The product `[rows, n]` for `x` `[rows, in_features]`, and what follows: `y`.
    pub(super) fn forward(&self, x: &[f32], epilogue: Epilogue<'_>, life: &Cancel, y: &mut [f32]) {
        let k = self.in_features;
        let panel = panel(self.kernels, x.len() / k, k, |row, words| {
            for (word, x) in words.iter_mut().zip(&x[row * k..][..k]) {
                *word = x.to_bits();
            }
        });
        product(self.kernels, self, &panel, epilogue, life, y);
    }
}

impl Bf16Tiles<'_> {
    /// The product `[rows, n]` for `x` `[rows, in_features]`, and what follows: `y`.
    pub(super) fn forward(&self, x: &[f32], epilogue: Epilogue<'_>, life: &Cancel, y: &mut [f32]) {
        let k = self.in_features;
        let panel = panel(self.kernels, x.len() / k, k.div_ceil(2), |row, words| {
            pack_pairs(&x[row * k..][..k], words);
        });
        product(self.kernels, self, &panel, epilogue, life, y);
    }
}

/// What activations, keys and values are held in.
pub(super) trait Number: Copy + Default + Sync {
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
    #[inline(always)]
    fn wide(self) -> f32 {
        f32::from_bits(u32::from(self.to_bits()) << 16)
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
pub(super) fn line<T: Copy, const N: usize>(
    row: &[T],
    zero: T,
    word: impl Fn([T; N]) -> u32,
) -> Line<u32> {
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

impl<T: Number> Tiles for FloatTiles<'_, T> {
    fn n_rows(&self) -> usize {
        self.matrix.len() / self.in_features
    }

    fn blocks(&self) -> Vec<Range<usize>> {
        blocks(self.in_features)
    }

    fn words(&self, row: usize, from: usize) -> Line<u32> {
        let row = &self.matrix[row * self.in_features..][..self.in_features];
        line(&row[from..], T::default(), |[x]| x.wide().to_bits())
    }

    fn prefetch(&self, row: usize, words: &Range<usize>) {
        let numbers = &self.matrix[row * self.in_features..][words.clone()];
        (self.kernels.prefetch)(numbers.as_ptr().cast(), size_of_val(numbers));
    }

    fn multiply(
        &self,
        _: usize,
        block: &Block<'_>,
        b: &[Line<u32>],
        _: Range<usize>,
        out: Out<'_>,
    ) {
        (self.kernels.floats)(block.gathered, b, out);
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

    fn prefetch(&self, row: usize, words: &Range<usize>) {
        let pairs = 2 * words.start..self.in_features.min(2 * words.end);
        let numbers = &self.matrix[row * self.in_features..][pairs];
        (self.kernels.prefetch)(numbers.as_ptr().cast(), size_of_val(numbers));
    }

    fn multiply(
        &self,
        _: usize,
        block: &Block<'_>,
        b: &[Line<u32>],
        _: Range<usize>,
        out: Out<'_>,
    ) {
        (self.pairs)(block.gathered, b, out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::isa::Isa;

    fn wave(n: usize, step: f32) -> Vec<f32> {
        (0..n).map(|i| (i as f32 * step).sin()).collect()
    }

    fn plus(bias: &[f32]) -> Epilogue<'_> {
        Epilogue {
            bias: Some(bias),
            ..Epilogue::default()
        }
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

    /// Odd sizes: rows, columns and rows of the matrix.
    const SIZES: [[usize; 3]; 6] = [
        [1, 5, 3],
        [9, 64, 8],
        [31, 7, 65],
        [50, 130, 70],
        [17, 301, 64],
        [97, 600, 9],
    ];

    #[test]
    fn tiles_of_floats_agree_with_the_plain_sum_at_any_size() {
        for isa in Isa::available() {
            let Some(kernels) = isa.tiles else { continue };
            for [rows, k, n] in SIZES {
                let (x, w, bias) = (wave(rows * k, 0.37), wave(n * k, 0.11), wave(n, 0.5));
                let mut y = vec![f32::NAN; rows * n];
                let tiles = FloatTiles {
                    kernels,
                    matrix: &w,
                    in_features: k,
                };
                tiles.forward(&x, plus(&bias), &Cancel::default(), &mut y);
                let error = error(&x, &w, &bias, k, &y);
                assert!(
                    error < 1e-5 * k as f64,
                    "{}: {rows}x{k}x{n}: {error}",
                    isa.name
                );
            }
        }
    }

    fn rounded(x: Vec<f32>) -> Vec<half::bf16> {
        x.into_iter().map(half::bf16::from_f32).collect()
    }

    fn floats(x: &[half::bf16]) -> Vec<f32> {
        x.iter().map(|x| x.to_f32()).collect()
    }

    #[test]
    fn tiles_of_bf16_round_their_inputs_only() {
        for isa in Isa::available() {
            let Some(kernels) = isa.tiles else { continue };
            for [rows, k, n] in SIZES {
                let x = floats(&rounded(wave(rows * k, 0.37)));
                let (w, bias) = (rounded(wave(n * k, 0.11)), wave(n, 0.5));
                let mut y = vec![f32::NAN; rows * n];
                let (life, in_features, matrix) = (Cancel::default(), k, &w[..]);
                match isa.bf16.and_then(|bf16| bf16.pairs) {
                    Some(pairs) => Bf16Tiles {
                        kernels,
                        pairs,
                        matrix,
                        in_features,
                    }
                    .forward(&x, plus(&bias), &life, &mut y),
                    None => FloatTiles {
                        kernels,
                        matrix,
                        in_features,
                    }
                    .forward(&x, plus(&bias), &life, &mut y),
                }
                let error = error(&x, &floats(&w), &bias, k, &y);
                assert!(
                    error < 1e-5 * k as f64,
                    "{}: {rows}x{k}x{n}: {error}",
                    isa.name
                );
            }
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
