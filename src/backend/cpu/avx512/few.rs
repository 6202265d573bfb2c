// SPDX-License-Identifier: MPL-2.0

//! Products of a matrix with 1 to 4 rows, which are bound by reading the matrix.

use std::arch::x86_64::{
    _mm512_add_epi32, _mm512_add_ps, _mm512_cvtepi32_ps, _mm512_dpbusd_epi32, _mm512_fmadd_ps,
    _mm512_mul_ps, _mm512_reduce_add_ps, _mm512_set1_epi32, _mm512_set1_ps, _mm512_setzero_ps,
    _mm512_setzero_si512, _mm512_slli_epi32,
};

use half::bf16;

use super::ByteMatrix;
use super::memory::{load_bytes, load_slice, prefetch, widen_bf16};

/// Bytes of a matrix row that one step of the products with few rows reads.
pub(super) const STEP: usize = 64;

/// How many bytes ahead of where a matrix is read it is asked for: the processor's own prefetcher
/// stops at the end of a page.
const AHEAD: usize = 2048;

/// One cache line of bytes.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(super) struct Bytes(pub(super) [u8; STEP]);

/// Rows of 16-bit activations, as two unsigned bytes each: `x + 32768 = 256 high + low`.
pub(super) struct Halves<'a> {
    /// `[rows][lines]`, the last line of a row filled up with zeros.
    pub(super) high: &'a [Bytes],
    pub(super) low: &'a [Bytes],
    /// `[rows, slices]`
    pub(super) scales: &'a [f32],
}

/// `R` rows of activations, which are those from `first` on of `rows`.
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
pub(super) fn words_rows<const R: usize>(
    x: &Halves<'_>,
    matrix: ByteMatrix<'_>,
    first: usize,
    rows: usize,
    y: &mut [f32],
) {
    if R == 1 {
        // The matrix is one stream of bytes.
        for (i, y) in y.chunks_exact_mut(rows).enumerate() {
            let [sums] = words_block::<R, 1>(x, matrix, i);
            y[first..first + R].copy_from_slice(&sums);
        }
        return;
    }
    // Two matrix rows at a time: the activations are read half as often.
    let mut pairs = y.chunks_exact_mut(2 * rows);
    let mut i = 0;
    for y in &mut pairs {
        let sums = words_block::<R, 2>(x, matrix, i);
        for (sums, y) in sums.iter().zip(y.chunks_exact_mut(rows)) {
            y[first..first + R].copy_from_slice(sums);
        }
        i += 2;
    }
    let rest = pairs.into_remainder();
    if !rest.is_empty() {
        let [sums] = words_block::<R, 1>(x, matrix, i);
        rest[first..first + R].copy_from_slice(&sums);
    }
}

/// Products of `W` matrix rows from `i` on with `R` rows of activations.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
fn words_block<const R: usize, const W: usize>(
    x: &Halves<'_>,
    matrix: ByteMatrix<'_>,
    i: usize,
) -> [[f32; R]; W] {
    let k = matrix.slices.in_features();
    let n_slices = matrix.slices.count();
    let n_lines = k.div_ceil(STEP);
    // Of several long rows the next ones are asked for, else the bytes that follow.
    let ahead = if W > 1 && k > 2 * AHEAD { W * k } else { AHEAD };
    let mut totals = [[_mm512_setzero_ps(); R]; W];
    let mut rests = [[0.0f32; R]; W];
    for s in 0..n_slices {
        let range = matrix.slices.range(s);
        let n = range.len() / STEP;
        let mut w: [&[[i8; STEP]]; W] = [&[]; W];
        for (j, w) in w.iter_mut().enumerate() {
            *w = &matrix.q[(i + j) * k..][range.clone()].as_chunks().0[..n];
        }
        let mut high: [&[Bytes]; R] = [&[]; R];
        let mut low = high;
        for r in 0..R {
            // Slices begin at multiples of 64.
            let line = r * n_lines + range.start / STEP;
            high[r] = &x.high[line..][..n];
            low[r] = &x.low[line..][..n];
        }
        let mut highs = [[_mm512_setzero_si512(); R]; W];
        let mut lows = highs;
        for j in 0..W {
            // What 32768 adds to each product, a sixteenth of it to each lane.
            let offset = matrix.sums[s * matrix.out_features + i + j] << 11;
            lows[j] = [_mm512_set1_epi32(-offset); R];
        }
        for at in 0..n {
            let mut words = [_mm512_setzero_si512(); W];
            for j in 0..W {
                words[j] = load_bytes(&w[j][at].map(i8::cast_unsigned));
                prefetch(&w[j][at], ahead);
            }
            for r in 0..R {
                let (high, low) = (load_bytes(&high[r][at].0), load_bytes(&low[r][at].0));
                for j in 0..W {
                    highs[j][r] = _mm512_dpbusd_epi32(highs[j][r], high, words[j]);
                    lows[j][r] = _mm512_dpbusd_epi32(lows[j][r], low, words[j]);
                }
            }
        }
        for j in 0..W {
            let scale = _mm512_set1_ps(matrix.scales[s * matrix.out_features + i + j]);
            for r in 0..R {
                let scale = _mm512_mul_ps(scale, _mm512_set1_ps(x.scales[r * n_slices + s]));
                // 32 products below 2^23 to a lane stay below 2^31.
                let sum = _mm512_add_epi32(_mm512_slli_epi32::<8>(highs[j][r]), lows[j][r]);
                totals[j][r] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sum), scale, totals[j][r]);
            }
        }
        if n * STEP < range.len() {
            let tail = range.start + n * STEP..range.end;
            for j in 0..W {
                let w = &matrix.q[(i + j) * k..][tail.clone()];
                for r in 0..R {
                    let line = r * n_lines + tail.start / STEP;
                    let (high, low) = (&x.high[line].0, &x.low[line].0);
                    let rest = w.iter().zip(high).zip(low).map(|((&w, &high), &low)| {
                        (256 * i32::from(high) + i32::from(low)) * i32::from(w)
                    });
                    let scale = matrix.scales[s * matrix.out_features + i + j];
                    rests[j][r] += rest.sum::<i32>() as f32 * scale * x.scales[r * n_slices + s];
                }
            }
        }
    }
    let mut y = [[0.0; R]; W];
    for j in 0..W {
        for r in 0..R {
            y[j][r] = _mm512_reduce_add_ps(totals[j][r]) + rests[j][r];
        }
    }
    y
}

#[target_feature(enable = "avx512f,avx512bw")]
pub(super) fn bf16_rows<const R: usize>(
    x: &[f32],
    w: &[bf16],
    k: usize,
    first: usize,
    rows: usize,
    y: &mut [f32],
) {
    const STEP: usize = 32;
    for (w, y) in w.chunks_exact(k).zip(y.chunks_exact_mut(rows)) {
        let mut sums = [[_mm512_setzero_ps(); 2]; R];
        let mut a: [&[f32]; R] = [&[]; R];
        for (r, a) in a.iter_mut().enumerate() {
            *a = &x[r * k..][..k];
        }
        let tail = k / STEP * STEP;
        for at in (0..tail).step_by(STEP) {
            prefetch(&w[at], AHEAD);
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
            y[first + r] = _mm512_reduce_add_ps(_mm512_add_ps(sums[r][0], sums[r][1])) + rest;
        }
    }
}
