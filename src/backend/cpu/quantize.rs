// SPDX-License-Identifier: MPL-2.0

//! Rounding rows to integers, a scale per row and K-slice.

use std::ops::Range;

use multiversion::multiversion;
use rayon::prelude::*;

/// Longest K-slice. Shorter slices are more exact (an outlier spoils only its own) and cost more
/// scaling afterwards; 512 products of 8 bits also stay exact in f32.
const SLICE_LEN: usize = 512;

/// How a row of `in_features` is cut into slices of about the same length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Slices {
    in_features: usize,
    len: usize,
}

impl Slices {
    /// The slices of a row: as few as [`SLICE_LEN`] allows, in whole cache lines.
    pub(super) fn new(in_features: usize) -> Self {
        let n = in_features.div_ceil(SLICE_LEN).max(1);
        let len = in_features.div_ceil(n).next_multiple_of(64);
        Self { in_features, len }
    }

    /// Number of slices.
    pub(super) fn count(&self) -> usize {
        self.in_features.div_ceil(self.len)
    }

    /// Width of a row.
    pub(super) fn in_features(&self) -> usize {
        self.in_features
    }

    /// Columns of slice `i`.
    pub(super) fn range(&self, i: usize) -> Range<usize> {
        i * self.len..((i + 1) * self.len).min(self.in_features)
    }

    /// The slice that has a column.
    pub(super) fn slice_of(&self, column: usize) -> usize {
        column / self.len
    }

    /// The slices of one row.
    pub(super) fn of<'a, T>(&self, row: &'a [T]) -> impl Iterator<Item = &'a [T]> + use<'a, T> {
        row.chunks(self.len)
    }
}

/// Activations as unsigned bytes with a zero point: `x = (q - zero) * scale`.
pub(super) struct ByteRows {
    /// `[rows, in_features]`
    pub(super) q: Vec<u8>,
    /// `[slices, rows]`
    pub(super) scales: Vec<f32>,
    /// Value of `q` that stands for 0.
    pub(super) zero: i32,
}

/// Rounds `x` `[rows, in_features]` to bytes around `zero` (128, or 64 for 7 bits).
pub(super) fn to_bytes(x: &[f32], slices: Slices, zero: u8) -> ByteRows {
    let k = slices.in_features();
    let (rows, n) = (x.len() / k, slices.count());
    let mut q = vec![0; x.len()];
    let mut by_row = vec![0.0; rows * n];
    q.par_chunks_mut(k)
        .zip(x.par_chunks(k))
        .zip(by_row.par_chunks_mut(n))
        .for_each(|((q, x), scales)| {
            for (i, scale) in scales.iter_mut().enumerate() {
                let range = slices.range(i);
                *scale = slice_to_bytes(&x[range.clone()], zero, &mut q[range]);
            }
        });
    let mut scales = Vec::with_capacity(by_row.len());
    for i in 0..n {
        scales.extend(by_row.chunks_exact(n).map(|row| row[i]));
    }
    ByteRows {
        q,
        scales,
        zero: i32::from(zero),
    }
}

/// Activations as 16-bit integers: for few rows, where their width costs nothing.
pub(super) struct WordRows {
    /// `[rows, in_features]`
    pub(super) q: Vec<i16>,
    /// `[rows, slices]`
    pub(super) scales: Vec<f32>,
}

/// Rounds `x` `[rows, in_features]` to 16 bits.
pub(super) fn to_words(x: &[f32], slices: Slices) -> WordRows {
    let k = slices.in_features();
    let mut q = vec![0; x.len()];
    let mut scales = Vec::with_capacity(x.len() / k * slices.count());
    for (q, x) in q.chunks_exact_mut(k).zip(x.chunks_exact(k)) {
        for i in 0..slices.count() {
            let range = slices.range(i);
            scales.push(slice_to_words(&x[range.clone()], &mut q[range]));
        }
    }
    WordRows { q, scales }
}

/// Largest magnitude, in lanes that vector registers can hold; 0 counts as 1e-30. NaN if a number is
/// NaN or infinite: a scale must not hide it.
#[inline(always)]
fn largest(x: &[f32]) -> f32 {
    const LANES: usize = 32;
    // The bits of magnitudes have their order, and those of infinity and NaN are the largest.
    let mut max = [1e-30f32.to_bits(); LANES];
    let (chunks, rest) = x.as_chunks::<LANES>();
    for chunk in chunks {
        for lane in 0..LANES {
            max[lane] = max[lane].max(chunk[lane].abs().to_bits());
        }
    }
    let rest = rest.iter().map(|v| v.abs().to_bits());
    let max = f32::from_bits(max.into_iter().chain(rest).fold(0, u32::max));
    if max.is_finite() { max } else { f32::NAN }
}

/// Nearest integer of a number below 2^22, without the range checks of `as`.
#[inline(always)]
fn nearest(x: f32) -> i32 {
    // Adding 1.5 * 2^23 leaves the integer in the low bits of the mantissa.
    const MAGIC: f32 = 12_582_912.0;
    (x + MAGIC).to_bits() as i32 - MAGIC.to_bits() as i32
}

#[multiversion(targets(
    "x86_64+avx2+avx512bw+avx512dq+avx512f+avx512vl+avx512vnni+fma",
    "x86_64+avx2+fma"
))]
pub(super) fn slice_to_bytes(x: &[f32], zero: u8, q: &mut [u8]) -> f32 {
    let top = f32::from(zero - 1);
    let max = largest(x);
    if max.is_nan() {
        q.fill(zero);
        return max;
    }
    let factor = top / max;
    for (q, &x) in q.iter_mut().zip(x) {
        *q = (nearest(x * factor) + i32::from(zero)) as u8;
    }
    max / top
}

#[multiversion(targets(
    "x86_64+avx2+avx512bw+avx512dq+avx512f+avx512vl+avx512vnni+fma",
    "x86_64+avx2+fma"
))]
fn slice_to_words(x: &[f32], q: &mut [i16]) -> f32 {
    let max = largest(x);
    if max.is_nan() {
        q.fill(0);
        return max;
    }
    let factor = 32767.0 / max;
    for (q, &x) in q.iter_mut().zip(x) {
        *q = nearest(x * factor) as i16;
    }
    max / 32767.0
}

/// Rounds a slice of weights to 8 bits; returns their scale and their sum.
#[multiversion(targets(
    "x86_64+avx2+avx512bw+avx512dq+avx512f+avx512vl+avx512vnni+fma",
    "x86_64+avx2+fma"
))]
pub(super) fn weights_to_i8(w: &[f32], q: &mut [i8]) -> (f32, i32) {
    let max = largest(w);
    if max.is_nan() {
        q.fill(0);
        return (max, 0);
    }
    let factor = 127.0 / max;
    let mut sum = 0;
    for (q, &w) in q.iter_mut().zip(w) {
        let rounded = nearest(w * factor);
        sum += rounded;
        *q = rounded as i8;
    }
    (max / 127.0, sum)
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

    #[test]
    fn rounding_stays_within_half_a_step() {
        let x: Vec<f32> = (0..1100).map(|i| (i as f32 * 0.7).sin() * 3.0).collect();
        let slices = Slices::new(550);
        for zero in [128, 64] {
            let bytes = to_bytes(&x, slices, zero);
            for (i, (&q, &x)) in bytes.q.iter().zip(&x).enumerate() {
                let (row, column) = (i / 550, i % 550);
                let slice = (0..slices.count()).find(|&s| slices.range(s).contains(&column));
                let scale = bytes.scales[slice.expect("a slice") * 2 + row];
                let back = (i32::from(q) - bytes.zero) as f32 * scale;
                assert!((back - x).abs() <= 0.501 * scale);
            }
        }
    }

    #[test]
    fn a_row_of_zeros_stays_zero() {
        let bytes = to_bytes(&[0.0; 64], Slices::new(64), 128);
        assert_eq!(bytes.q, [128; 64]);
        assert!(bytes.scales[0].is_finite());
        assert_eq!(to_words(&[0.0; 64], Slices::new(64)).q, [0; 64]);
    }

    #[test]
    fn what_is_no_number_gives_a_scale_that_is_none() {
        for bad in [f32::NAN, -f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            for at in [0, 31, 400, 800, 1099] {
                let mut x = vec![1.0; 1100];
                x[at] = bad;
                let slices = Slices::new(1100);
                // The slice with it, and no other.
                let bytes = to_bytes(&x, slices, 128);
                let bad_bytes: Vec<bool> = bytes.scales.iter().map(|s| s.is_nan()).collect();
                let words = to_words(&x, slices);
                let bad_words: Vec<bool> = words.scales.iter().map(|s| s.is_nan()).collect();
                let want: Vec<bool> = (0..slices.count())
                    .map(|i| slices.range(i).contains(&at))
                    .collect();
                assert_eq!((&bad_bytes, &bad_words), (&want, &want), "{bad} at {at}");
                assert!(weights_to_i8(&x, &mut [0; 1100]).0.is_nan());
            }
        }
    }

    #[test]
    fn weights_come_with_their_sum() {
        let mut q = [0; 3];
        let (scale, sum) = weights_to_i8(&[1.27, -1.0, 0.5], &mut q);
        assert_eq!((q, sum), ([127, -100, 50], 77));
        assert!((scale - 0.01).abs() < 1e-6);
    }
}
