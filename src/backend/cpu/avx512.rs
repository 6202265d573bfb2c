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

use std::arch::x86_64::{
    __m512, __m512bh, __m512i, _MM_HINT_T0, _mm_prefetch, _mm256_loadu_si256, _mm512_abs_ps,
    _mm512_add_epi32, _mm512_add_ps, _mm512_and_si512, _mm512_castpd_ps, _mm512_castps_pd,
    _mm512_castps_si512, _mm512_castsi512_ps, _mm512_cmplt_ps_mask, _mm512_cvtepi32_ps,
    _mm512_cvtepu16_epi32, _mm512_div_ps, _mm512_dpbf16_ps, _mm512_dpbusd_epi32, _mm512_fmadd_ps,
    _mm512_fnmadd_ps, _mm512_load_ps, _mm512_load_si512, _mm512_loadu_ps, _mm512_loadu_si512,
    _mm512_mask_blend_ps, _mm512_max_ps, _mm512_mul_ps, _mm512_or_si512, _mm512_reduce_add_ps,
    _mm512_roundscale_ps, _mm512_scalef_ps, _mm512_set1_epi32, _mm512_set1_ps, _mm512_setzero_ps,
    _mm512_setzero_si512, _mm512_shuffle_f32x4, _mm512_slli_epi32, _mm512_srli_epi32,
    _mm512_store_ps, _mm512_storeu_ps, _mm512_sub_epi32, _mm512_sub_ps, _mm512_unpackhi_pd,
    _mm512_unpackhi_ps, _mm512_unpacklo_pd, _mm512_unpacklo_ps,
};

use half::bf16;

use super::lanes::{LANES, Line, TILE_LINES};
use super::quantize::Slices;

/// Rows of a matrix in a tile product.
pub(super) const TILE_ROWS: usize = 8;

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

/// Rows of 16-bit activations, as two unsigned bytes each: `x + 32768 = 256 high + low`.
struct Halves<'a> {
    /// `[rows, in_features]`
    high: &'a [u8],
    low: &'a [u8],
    /// `[rows, slices]`
    scales: &'a [f32],
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

    /// `y[i, r] = w[i] . x[r]` for 16-bit activations `x` `[rows, in_features]` with `scales`
    /// `[rows, slices]`; `y` is `[matrix rows, rows]`. What a row comes to does not depend on the others.
    pub(super) fn few_words(self, x: &[i16], scales: &[f32], w: ByteMatrix<'_>, y: &mut [f32]) {
        let k = w.slices.in_features();
        let (rows, n_slices) = (x.len() / k, w.slices.count());
        let unsigned = |x: &i16| x.cast_unsigned() ^ 0x8000;
        let high: Vec<u8> = x.iter().map(|x| (unsigned(x) >> 8) as u8).collect();
        let low: Vec<u8> = x.iter().map(|x| unsigned(x) as u8).collect();
        for first in (0..rows).step_by(4) {
            let n = (rows - first).min(4);
            let x = Halves {
                high: &high[first * k..][..n * k],
                low: &low[first * k..][..n * k],
                scales: &scales[first * n_slices..][..n * n_slices],
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
        for first in (0..rows).step_by(4) {
            let n = (rows - first).min(4);
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
}

/// Sums of `dot` over the words of 8 matrix rows and `V` lines of activations, `[8][V]`, which stay
/// in registers.
macro_rules! sums {
    ($a:ident, $b:ident, $zero:expr, $dot:ident) => {{
        let mut sums = [[$zero; V]; TILE_ROWS];
        let (lines, _) = $b.as_chunks::<V>();
        for (words, lines) in $a.iter().zip(lines) {
            let mut x = [_mm512_setzero_si512(); V];
            for v in 0..V {
                x[v] = load(&lines[v]);
            }
            for r in 0..TILE_ROWS {
                let w = _mm512_set1_epi32(words[r].cast_signed());
                for v in 0..V {
                    sums[r][v] = $dot(sums[r][v], x[v], w);
                }
            }
        }
        sums
    }};
}

#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
fn bytes_tile<const V: usize>(a: &[Words], b: &[Line<u32>], scaling: &Scaling<'_>, out: Out<'_>) {
    let sums = sums!(a, b, _mm512_setzero_si512(), _mm512_dpbusd_epi32);
    for r in 0..TILE_ROWS {
        let offset = _mm512_set1_epi32(scaling.offsets[r]);
        let scale = _mm512_set1_ps(scaling.scales[r]);
        let y = &mut out.lines[r * out.stride..][..V];
        for v in 0..V {
            let sum = _mm512_cvtepi32_ps(_mm512_sub_epi32(sums[r][v], offset));
            let scale = _mm512_mul_ps(scale, load_floats(&scaling.row_scales[v]));
            let sum = if out.add {
                _mm512_fmadd_ps(sum, scale, load_floats(&y[v]))
            } else {
                _mm512_mul_ps(sum, scale)
            };
            store(sum, &mut y[v]);
        }
    }
}

/// `f32` fused product and sum on words.
#[inline]
#[target_feature(enable = "avx512f")]
fn dot_floats(sum: __m512, x: __m512i, w: __m512i) -> __m512 {
    _mm512_fmadd_ps(_mm512_castsi512_ps(x), _mm512_castsi512_ps(w), sum)
}

#[inline]
#[target_feature(enable = "avx512f,avx512bf16")]
fn dot_pairs(sum: __m512, x: __m512i, w: __m512i) -> __m512 {
    // SAFETY: both types are 512 bits without a meaning of their own.
    let (x, w) = unsafe {
        (
            std::mem::transmute::<__m512i, __m512bh>(x),
            std::mem::transmute::<__m512i, __m512bh>(w),
        )
    };
    _mm512_dpbf16_ps(sum, x, w)
}

#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
fn floats_tile<const V: usize>(a: &[Words], b: &[Line<u32>], out: Out<'_>) {
    let sums = sums!(a, b, _mm512_setzero_ps(), dot_floats);
    write(&sums, out);
}

#[target_feature(enable = "avx512f,avx512bw,avx512vnni,avx512bf16")]
fn pairs_tile<const V: usize>(a: &[Words], b: &[Line<u32>], out: Out<'_>) {
    let sums = sums!(a, b, _mm512_setzero_ps(), dot_pairs);
    write(&sums, out);
}

#[inline]
#[target_feature(enable = "avx512f")]
fn write<const V: usize>(sums: &[[__m512; V]; TILE_ROWS], out: Out<'_>) {
    for r in 0..TILE_ROWS {
        let y = &mut out.lines[r * out.stride..][..V];
        for v in 0..V {
            let sum = if out.add {
                _mm512_add_ps(sums[r][v], load_floats(&y[v]))
            } else {
                sums[r][v]
            };
            store(sum, &mut y[v]);
        }
    }
}

#[target_feature(enable = "avx512f")]
fn hide(scores: &mut [Line<f32>], limits: &[Line<i32>], first: usize) {
    for (i, scores) in scores.chunks_exact_mut(limits.len()).enumerate() {
        // Contexts are counted in far less than 31 bits.
        let key = (first + i) as i32;
        for (scores, limits) in scores.iter_mut().zip(limits) {
            for (score, &limit) in scores.0.iter_mut().zip(&limits.0) {
                *score = if key < limit {
                    *score
                } else {
                    f32::NEG_INFINITY
                };
            }
        }
    }
}

#[target_feature(enable = "avx512f")]
fn weigh<const V: usize>(
    scores: &[Line<f32>],
    running: &mut Running,
    weights: Weights<'_>,
    sums: &mut [Line<f32>],
) {
    let (keys, _) = scores.as_chunks::<V>();
    let mut max = [_mm512_setzero_ps(); V];
    for v in 0..V {
        max[v] = load_floats(&running.max[v]);
    }
    for key in keys {
        for v in 0..V {
            max[v] = _mm512_max_ps(max[v], load_floats(&key[v]));
        }
    }
    let mut factors = [_mm512_setzero_ps(); V];
    let mut totals = [_mm512_setzero_ps(); V];
    for v in 0..V {
        factors[v] = exp(_mm512_sub_ps(load_floats(&running.max[v]), max[v]));
        totals[v] = _mm512_mul_ps(load_floats(&running.sums[v]), factors[v]);
        store(max[v], &mut running.max[v]);
    }
    for sums in sums.as_chunks_mut::<V>().0 {
        for v in 0..V {
            store(
                _mm512_mul_ps(load_floats(&sums[v]), factors[v]),
                &mut sums[v],
            );
        }
    }
    match weights {
        Weights::Floats(weights) => {
            for (key, to) in keys.iter().zip(weights.as_chunks_mut::<V>().0) {
                for v in 0..V {
                    let weight = exp(_mm512_sub_ps(load_floats(&key[v]), max[v]));
                    totals[v] = _mm512_add_ps(totals[v], weight);
                    store_bits(weight, &mut to[v]);
                }
            }
        }
        Weights::Pairs(weights) => {
            for (keys, to) in keys.chunks(2).zip(weights.as_chunks_mut::<V>().0) {
                for v in 0..V {
                    let low = exp(_mm512_sub_ps(load_floats(&keys[0][v]), max[v]));
                    let high = match keys.get(1) {
                        Some(key) => exp(_mm512_sub_ps(load_floats(&key[v]), max[v])),
                        None => _mm512_setzero_ps(),
                    };
                    totals[v] = _mm512_add_ps(totals[v], _mm512_add_ps(low, high));
                    store_bits(join(low, high), &mut to[v]);
                }
            }
        }
    }
    for v in 0..V {
        store(totals[v], &mut running.sums[v]);
    }
}

/// Two numbers that are not negative to a word of bf16, ties upwards.
#[inline]
#[target_feature(enable = "avx512f")]
fn join(low: __m512, high: __m512) -> __m512 {
    let half = _mm512_set1_epi32(0x8000);
    let low = _mm512_add_epi32(_mm512_castps_si512(low), half);
    let high = _mm512_add_epi32(_mm512_castps_si512(high), half);
    let high = _mm512_and_si512(high, _mm512_set1_epi32(0xffff_0000_u32.cast_signed()));
    _mm512_castsi512_ps(_mm512_or_si512(_mm512_srli_epi32::<16>(low), high))
}

/// `e^x` for `x <= 0`, as [`activation::exp`](super::activation::exp) with fused products.
#[inline]
#[target_feature(enable = "avx512f")]
fn exp(x: __m512) -> __m512 {
    let constant = |c: f32| _mm512_set1_ps(c);
    let x = _mm512_max_ps(x, constant(-87.0));
    let n = _mm512_mul_ps(x, constant(std::f32::consts::LOG2_E));
    let n = _mm512_roundscale_ps::<0>(n);
    let r = _mm512_fnmadd_ps(n, constant(0.693_359_4), x);
    let r = _mm512_fnmadd_ps(n, constant(-2.121_944_4e-4), r);
    let mut p = constant(1.987_569_1e-4);
    for c in [
        1.398_199_9e-3,
        8.333_452e-3,
        4.166_579_6e-2,
        1.666_666_5e-1,
        0.5,
    ] {
        p = _mm512_fmadd_ps(p, r, constant(c));
    }
    let e = _mm512_fmadd_ps(_mm512_mul_ps(p, r), r, r);
    _mm512_scalef_ps(_mm512_add_ps(e, constant(1.0)), n)
}

/// `x / (1 + e^-u)`
#[inline]
#[target_feature(enable = "avx512f")]
fn sigmoid_times(x: __m512, u: __m512) -> __m512 {
    // Beyond 87 the sigmoid is 1 or nothing, and `exp` takes no positive numbers: it is asked for
    // e^-|u|, and the sigmoid of a negative number is one less that of the positive.
    let e = exp(_mm512_sub_ps(_mm512_setzero_ps(), _mm512_abs_ps(u)));
    let one = _mm512_set1_ps(1.0);
    let negative = _mm512_cmplt_ps_mask(u, _mm512_setzero_ps());
    let top = _mm512_mask_blend_ps(negative, one, e);
    _mm512_div_ps(_mm512_mul_ps(x, top), _mm512_add_ps(one, e))
}

#[target_feature(enable = "avx512f")]
fn gelu_tanh(x: &mut [f32]) {
    // 0.5 (1 + tanh u) = sigmoid(2 u), u = sqrt(2 / pi) (x + 0.044715 x^3)
    const TWICE: f32 = 2.0 * 0.797_884_6;
    let gelu = |x: __m512| {
        let square = _mm512_mul_ps(x, x);
        let factor = _mm512_fmadd_ps(
            square,
            _mm512_set1_ps(TWICE * 0.044_715),
            _mm512_set1_ps(TWICE),
        );
        sigmoid_times(x, _mm512_mul_ps(x, factor))
    };
    let (chunks, rest) = x.as_chunks_mut::<LANES>();
    for chunk in chunks {
        store_slice(gelu(load_slice(chunk)), chunk);
    }
    if !rest.is_empty() {
        let mut last = [0.0; LANES];
        last[..rest.len()].copy_from_slice(rest);
        store_slice(gelu(load_slice(&last)), &mut last);
        rest.copy_from_slice(&last[..rest.len()]);
    }
}

#[target_feature(enable = "avx512f")]
fn swiglu(gate: &[f32], up: &[f32], y: &mut [f32]) {
    let silu = |gate: __m512, up: __m512| _mm512_mul_ps(sigmoid_times(gate, gate), up);
    let (chunks, rest) = y.as_chunks_mut::<LANES>();
    let (gates, last_gates) = gate.as_chunks::<LANES>();
    let (ups, last_ups) = up.as_chunks::<LANES>();
    for ((y, gate), up) in chunks.iter_mut().zip(gates).zip(ups) {
        store_slice(silu(load_slice(gate), load_slice(up)), y);
    }
    if !rest.is_empty() {
        let fill = |from: &[f32]| {
            let mut last = [0.0; LANES];
            last[..rest.len()].copy_from_slice(&from[..rest.len()]);
            last
        };
        let (gate, up) = (fill(last_gates), fill(last_ups));
        let mut last = [0.0; LANES];
        store_slice(silu(load_slice(&gate), load_slice(&up)), &mut last);
        rest.copy_from_slice(&last[..rest.len()]);
    }
}

#[target_feature(enable = "avx512f")]
fn transpose(lines: &mut [Line<u32>; LANES]) {
    let mut a = [_mm512_setzero_ps(); LANES];
    for i in 0..LANES {
        a[i] = _mm512_castsi512_ps(load(&lines[i]));
    }
    let mut b = a;
    for i in (0..LANES).step_by(2) {
        b[i] = _mm512_unpacklo_ps(a[i], a[i + 1]);
        b[i + 1] = _mm512_unpackhi_ps(a[i], a[i + 1]);
    }
    // Four numbers of column 4 n + c in the n-th quarter of a[4 m + c].
    for i in (0..LANES).step_by(4) {
        let [b0, b1] = [_mm512_castps_pd(b[i]), _mm512_castps_pd(b[i + 1])];
        let [b2, b3] = [_mm512_castps_pd(b[i + 2]), _mm512_castps_pd(b[i + 3])];
        a[i] = _mm512_castpd_ps(_mm512_unpacklo_pd(b0, b2));
        a[i + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(b0, b2));
        a[i + 2] = _mm512_castpd_ps(_mm512_unpacklo_pd(b1, b3));
        a[i + 3] = _mm512_castpd_ps(_mm512_unpackhi_pd(b1, b3));
    }
    for c in 0..4 {
        let even_low = _mm512_shuffle_f32x4::<0x88>(a[c], a[4 + c]);
        let odd_low = _mm512_shuffle_f32x4::<0xdd>(a[c], a[4 + c]);
        let even_high = _mm512_shuffle_f32x4::<0x88>(a[8 + c], a[12 + c]);
        let odd_high = _mm512_shuffle_f32x4::<0xdd>(a[8 + c], a[12 + c]);
        store_bits(
            _mm512_shuffle_f32x4::<0x88>(even_low, even_high),
            &mut lines[c],
        );
        store_bits(
            _mm512_shuffle_f32x4::<0x88>(odd_low, odd_high),
            &mut lines[4 + c],
        );
        store_bits(
            _mm512_shuffle_f32x4::<0xdd>(even_low, even_high),
            &mut lines[8 + c],
        );
        store_bits(
            _mm512_shuffle_f32x4::<0xdd>(odd_low, odd_high),
            &mut lines[12 + c],
        );
    }
}

/// Bytes of a matrix row that one step of the products with few rows reads.
const STEP: usize = 64;

/// How many bytes ahead of where a matrix is read it is asked for: the processor's own prefetcher
/// stops at the end of a page.
const AHEAD: usize = 2048;

/// `R` rows of activations, which are those from `first` on of `rows`.
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
fn words_rows<const R: usize>(
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
    let mut totals = [[_mm512_setzero_ps(); R]; W];
    let mut offsets = [[0.0f32; R]; W];
    for s in 0..n_slices {
        let range = matrix.slices.range(s);
        let mut w: [(&[[i8; STEP]], &[i8]); W] = [(&[], &[]); W];
        for (j, w) in w.iter_mut().enumerate() {
            *w = matrix.q[(i + j) * k..][range.clone()].as_chunks();
        }
        let mut high: [(&[[u8; STEP]], &[u8]); R] = [(&[], &[]); R];
        let mut low = high;
        for r in 0..R {
            high[r] = x.high[r * k..][range.clone()].as_chunks();
            low[r] = x.low[r * k..][range.clone()].as_chunks();
        }
        let mut sums = [[[_mm512_setzero_si512(); 2]; R]; W];
        for at in 0..w[0].0.len() {
            let mut words = [_mm512_setzero_si512(); W];
            for j in 0..W {
                words[j] = load_bytes(&w[j].0[at].map(i8::cast_unsigned));
                prefetch(&w[j].0[at], AHEAD);
            }
            for r in 0..R {
                let (high, low) = (load_bytes(&high[r].0[at]), load_bytes(&low[r].0[at]));
                for j in 0..W {
                    sums[j][r][0] = _mm512_dpbusd_epi32(sums[j][r][0], high, words[j]);
                    sums[j][r][1] = _mm512_dpbusd_epi32(sums[j][r][1], low, words[j]);
                }
            }
        }
        for j in 0..W {
            let at = s * matrix.out_features + i + j;
            let (scale, offset) = (matrix.scales[at], 32_768.0 * matrix.sums[at] as f32);
            for r in 0..R {
                let scale = scale * x.scales[r * n_slices + s];
                // 32 products below 2^23 to a lane stay below 2^31.
                let sum = _mm512_slli_epi32::<8>(sums[j][r][0]);
                let sum = _mm512_cvtepi32_ps(_mm512_add_epi32(sum, sums[j][r][1]));
                totals[j][r] = _mm512_fmadd_ps(sum, _mm512_set1_ps(scale), totals[j][r]);
                offsets[j][r] += offset * scale;
            }
        }
        if !w[0].1.is_empty() {
            for j in 0..W {
                for r in 0..R {
                    let scale = matrix.scales[s * matrix.out_features + i + j];
                    let rest = high[r].1.iter().zip(low[r].1).zip(w[j].1);
                    let rest = rest.map(|((&high, &low), &w)| {
                        (256 * i32::from(high) + i32::from(low)) * i32::from(w)
                    });
                    let scale = scale * x.scales[r * n_slices + s];
                    offsets[j][r] -= rest.sum::<i32>() as f32 * scale;
                }
            }
        }
    }
    let mut y = [[0.0; R]; W];
    for j in 0..W {
        for r in 0..R {
            y[j][r] = _mm512_reduce_add_ps(totals[j][r]) - offsets[j][r];
        }
    }
    y
}

#[target_feature(enable = "avx512f,avx512bw")]
fn bf16_rows<const R: usize>(
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

/// Asks for the cache line `bytes` bytes after `at`.
#[inline]
#[target_feature(enable = "avx512f")]
fn prefetch<T>(at: &T, bytes: usize) {
    let ahead = std::ptr::from_ref(at).cast::<i8>().wrapping_add(bytes);
    #[allow(
        unused_unsafe,
        reason = "safe since a later Rust than the oldest that builds this"
    )]
    // SAFETY: asking for memory reads none, wherever it points.
    unsafe {
        _mm_prefetch::<_MM_HINT_T0>(ahead)
    }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn load(line: &Line<u32>) -> __m512i {
    // SAFETY: a line is 64 bytes, aligned to as many.
    unsafe { _mm512_load_si512(line.0.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn load_floats(line: &Line<f32>) -> __m512 {
    // SAFETY: a line is 64 bytes, aligned to as many.
    unsafe { _mm512_load_ps(line.0.as_ptr()) }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn store(x: __m512, line: &mut Line<f32>) {
    // SAFETY: a line is 64 bytes, aligned to as many.
    unsafe { _mm512_store_ps(line.0.as_mut_ptr(), x) }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn store_bits(x: __m512, line: &mut Line<u32>) {
    // SAFETY: a line is 64 bytes, aligned to as many.
    unsafe { _mm512_store_ps(line.0.as_mut_ptr().cast(), x) }
}

/// The first 16 numbers of a slice.
#[inline]
#[target_feature(enable = "avx512f")]
fn load_slice(x: &[f32]) -> __m512 {
    assert!(x.len() >= 16);
    // SAFETY: 64 bytes are there.
    unsafe { _mm512_loadu_ps(x.as_ptr()) }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn store_slice(x: __m512, to: &mut [f32; LANES]) {
    // SAFETY: 64 bytes are there.
    unsafe { _mm512_storeu_ps(to.as_mut_ptr(), x) }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn load_bytes(x: &[u8; STEP]) -> __m512i {
    // SAFETY: 64 bytes are there.
    unsafe { _mm512_loadu_si512(x.as_ptr().cast()) }
}

/// The first 16 numbers of a slice in f32.
#[inline]
#[target_feature(enable = "avx512f")]
fn widen_bf16(w: &[bf16]) -> __m512 {
    assert!(w.len() >= 16);
    // SAFETY: 32 bytes are there, and a bf16 is 16 bits.
    let bits = unsafe { _mm256_loadu_si256(w.as_ptr().cast()) };
    _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(bits)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wave(n: usize, step: f32) -> Vec<f32> {
        (0..n).map(|i| (i as f32 * step).sin()).collect()
    }

    #[test]
    fn lines_become_columns() {
        let Some(isa) = Avx512::detect() else { return };
        let mut lines = [Line([0; LANES]); LANES];
        for (i, line) in lines.iter_mut().enumerate() {
            for (j, number) in line.0.iter_mut().enumerate() {
                *number = (100 * i + j) as u32;
            }
        }
        isa.transpose(&mut lines);
        for (j, line) in lines.iter().enumerate() {
            let want: Vec<u32> = (0..LANES).map(|i| (100 * i + j) as u32).collect();
            assert_eq!(line.0[..], want);
        }
    }

    #[test]
    fn activations_agree_with_the_plain_formulas() {
        let Some(isa) = Avx512::detect() else { return };
        let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
        for n in [1, 16, 45] {
            let x: Vec<f32> = wave(n, 0.7).iter().map(|x| x * 12.0).collect();
            let (mut gelu, mut swiglu) = (x.clone(), vec![0.0; n]);
            isa.gelu_tanh(&mut gelu);
            isa.swiglu(&x, &wave(n, 0.3), &mut swiglu);
            for (i, &x) in x.iter().enumerate() {
                let x = f64::from(x);
                let u = 0.797_884_560_802_865_4 * (x + 0.044715 * x * x * x);
                let want = x * sigmoid(2.0 * u);
                assert!((f64::from(gelu[i]) - want).abs() < 2e-6, "gelu({x})");
                let want = x * sigmoid(x) * f64::from(wave(n, 0.3)[i]);
                assert!((f64::from(swiglu[i]) - want).abs() < 4e-6, "silu({x})");
            }
        }
        let mut far = [-1e30, -200.0, -0.0, 200.0, 1e10];
        isa.gelu_tanh(&mut far);
        assert_eq!(far[2..], [-0.0, 200.0, 1e10]);
        assert!(far[..2].iter().all(|x| x.abs() < 1e-6), "{far:?}");
    }

    #[test]
    fn what_a_row_comes_to_does_not_depend_on_the_others() {
        let Some(isa) = Avx512::detect() else { return };
        for (n, k) in [(5, 64), (6, 1100), (3, 70)] {
            let slices = Slices::new(k);
            let q: Vec<i8> = (0..n * k).map(|i| (i * 37 % 255) as u8 as i8).collect();
            let w: Vec<bf16> = wave(n * k, 0.3).into_iter().map(bf16::from_f32).collect();
            let scales = wave(n * slices.count(), 0.9);
            let mut sums = vec![0; n * slices.count()];
            for i in 0..n {
                for s in 0..slices.count() {
                    let slice = &q[i * k..][slices.range(s)];
                    sums[s * n + i] = slice.iter().map(|&w| i32::from(w)).sum();
                }
            }
            let matrix = ByteMatrix {
                q: &q,
                scales: &scales,
                sums: &sums,
                out_features: n,
                slices,
            };
            let x = wave(7 * k, 0.11);
            let words: Vec<i16> = x.iter().map(|x| (x * 32767.0) as i16).collect();
            let x_scales = wave(7 * slices.count(), 0.5);
            let (mut all, mut narrow) = (vec![0.0; 7 * n], vec![0.0; 7 * n]);
            isa.few_words(&words, &x_scales, matrix, &mut all);
            isa.few_bf16(&x, &w, k, &mut narrow);
            for r in 0..7 {
                let (mut one, mut one_narrow) = (vec![0.0; n], vec![0.0; n]);
                let x_scales = &x_scales[r * slices.count()..][..slices.count()];
                isa.few_words(&words[r * k..][..k], x_scales, matrix, &mut one);
                isa.few_bf16(&x[r * k..][..k], &w, k, &mut one_narrow);
                for i in 0..n {
                    assert_eq!(all[i * 7 + r], one[i]);
                    assert_eq!(narrow[i * 7 + r], one_narrow[i]);
                    let exact = |s: usize| -> f64 {
                        let range = slices.range(s);
                        let x = &words[r * k..][range.clone()];
                        let w = &q[i * k..][range];
                        let sum: i64 = x
                            .iter()
                            .zip(w)
                            .map(|(&x, &w)| i64::from(x) * i64::from(w))
                            .sum();
                        sum as f64 * f64::from(scales[s * n + i]) * f64::from(x_scales[s])
                    };
                    let want: f64 = (0..slices.count()).map(exact).sum();
                    let size: f64 = (0..slices.count()).map(|s| exact(s).abs()).sum();
                    assert!(
                        (f64::from(one[i]) - want).abs() < 1e-4 * size + 100.0,
                        "{n}x{k}"
                    );
                    let terms = x[r * k..][..k].iter().zip(&w[i * k..]);
                    let want: f64 = terms
                        .map(|(&x, w)| f64::from(x) * f64::from(w.to_f32()))
                        .sum();
                    assert!((f64::from(one_narrow[i]) - want).abs() < 1e-4);
                }
            }
        }
    }
}
