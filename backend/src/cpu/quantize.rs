// SPDX-License-Identifier: MPL-2.0

//! Rounding rows to integers, a scale per row and K-slice.

use rayon::prelude::*;

use super::isa::Isa;
use super::slices::Slices;

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
                *scale = (Isa::host().loops.slice_to_bytes)(&x[range.clone()], zero, &mut q[range]);
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
            let q = &mut q[range.clone()];
            scales.push((Isa::host().loops.slice_to_words)(&x[range], q));
        }
    }
    WordRows { q, scales }
}

#[cfg(test)]
mod tests {
    use super::*;

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
                let weights_to_i8 = Isa::host().loops.weights_to_i8;
                assert!(weights_to_i8(&x, &mut [0; 1100]).0.is_nan());
            }
        }
    }
}
