// SPDX-License-Identifier: MPL-2.0

//! Plain loops, which the compiler turns into vector code once for each instruction set
//! ([`loops`](super::loops)). No table, no branch in the inner loops.

use half::bf16;

use super::operands::ByteMatrix;

/// e^x with a relative error below 2e-7.
///
/// Below -87 the result is 1.6e-38, which counts as zero here.
#[inline(always)]
pub(super) fn exp(x: f32) -> f32 {
    // x = n ln 2 + r, |r| <= ln 2 / 2; ln 2 in two parts, so that r keeps its low bits.
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    let x = x.clamp(-87.0, 88.0);
    let n = (x * std::f32::consts::LOG2_E).round_ties_even();
    let r = (x - n * LN2_HIGH) - n * LN2_LOW;
    // Minimax polynomial of degree 5 for (e^r - 1 - r) / r^2 (Cephes `expf`).
    let p = 1.987_569_1e-4;
    let p = p * r + 1.398_199_9e-3;
    let p = p * r + 8.333_452e-3;
    let p = p * r + 4.166_579_6e-2;
    let p = p * r + 1.666_666_5e-1;
    let p = p * r + 0.5;
    let e = p * r * r + r + 1.0;
    // n is in -126..=127, so the shifted exponent is a normal number's.
    e * f32::from_bits(((n as i32 + 127) << 23) as u32)
}

/// x * sigmoid(x), the gate of a SwiGLU.
#[inline(always)]
fn silu(x: f32) -> f32 {
    x / (1.0 + exp(-x))
}

/// GELU by the tanh formula: `gelu_pytorch_tanh`.
#[inline(always)]
fn gelu_tanh_one(x: f32) -> f32 {
    const SQRT_2_OVER_PI: f32 = 0.797_884_6;
    // 0.5 (1 + tanh u) = sigmoid(2 u)
    let u = SQRT_2_OVER_PI * (x + 0.044_715 * x * x * x);
    x / (1.0 + exp(-2.0 * u))
}

/// GELU by the error function: `torch.nn.GELU()`.
///
/// erf after Abramowitz and Stegun 7.1.26, absolute error below 2e-7.
#[inline(always)]
fn gelu_erf_one(x: f32) -> f32 {
    let z = x.abs() * std::f32::consts::FRAC_1_SQRT_2;
    let t = 1.0 / (1.0 + 0.327_591_1 * z);
    let p = 1.061_405_4;
    let p = p * t - 1.453_152_1;
    let p = p * t + 1.421_413_8;
    let p = p * t - 0.284_496_72;
    let p = p * t + 0.254_829_6;
    let erf = (1.0 - p * t * exp(-z * z)).copysign(x);
    0.5 * x * (1.0 + erf)
}

#[inline(always)]
pub(super) fn gelu_tanh(x: &mut [f32]) {
    for x in x {
        *x = gelu_tanh_one(*x);
    }
}

#[inline(always)]
pub(super) fn gelu_erf(x: &mut [f32]) {
    for x in x {
        *x = gelu_erf_one(*x);
    }
}

#[inline(always)]
pub(super) fn swiglu(gate: &[f32], up: &[f32], y: &mut [f32]) {
    for ((y, &gate), &up) in y.iter_mut().zip(gate).zip(up) {
        *y = silu(gate) * up;
    }
}

#[inline(always)]
pub(super) fn add_assign(x: &mut [f32], y: &[f32]) {
    for (x, &y) in x.iter_mut().zip(y) {
        *x += y;
    }
}

#[inline(always)]
pub(super) fn softmax_unscaled(scores: &mut [f32]) -> f32 {
    const LANES: usize = 32;
    let mut max = [f32::NEG_INFINITY; LANES];
    let (chunks, rest) = scores.as_chunks::<LANES>();
    for chunk in chunks {
        for lane in 0..LANES {
            max[lane] = if chunk[lane] > max[lane] {
                chunk[lane]
            } else {
                max[lane]
            };
        }
    }
    let max = max
        .iter()
        .chain(rest)
        .fold(f32::NEG_INFINITY, |a, &b| a.max(b));
    let mut sums = [0.0f32; LANES];
    let (chunks, rest) = scores.as_chunks_mut::<LANES>();
    for chunk in chunks {
        for lane in 0..LANES {
            chunk[lane] = exp(chunk[lane] - max);
            sums[lane] += chunk[lane];
        }
    }
    let mut sum: f32 = sums.iter().sum();
    for score in rest {
        *score = exp(*score - max);
        sum += *score;
    }
    1.0 / sum
}

/// Sum of `f(x)` over a row, in lanes that vector registers can hold.
#[inline(always)]
fn sum_by(row: &[f32], f: impl Fn(f32) -> f32) -> f32 {
    const LANES: usize = 32;
    let mut sums = [0.0f32; LANES];
    let (chunks, rest) = row.as_chunks::<LANES>();
    for chunk in chunks {
        for lane in 0..LANES {
            sums[lane] += f(chunk[lane]);
        }
    }
    sums.iter().sum::<f32>() + rest.iter().map(|&x| f(x)).sum::<f32>()
}

#[inline(always)]
pub(super) fn layer_norm(x: &[f32], weight: &[f32], bias: &[f32], eps: f32, y: &mut [f32]) {
    let width = weight.len();
    for (x, y) in x.chunks_exact(width).zip(y.chunks_exact_mut(width)) {
        let mean = sum_by(x, |v| v) / width as f32;
        let variance = sum_by(x, |v| (v - mean) * (v - mean)) / width as f32;
        let scale = 1.0 / (variance + eps).sqrt();
        for ((y, &x), (&w, &b)) in y.iter_mut().zip(x).zip(weight.iter().zip(bias)) {
            *y = (x - mean) * scale * w + b;
        }
    }
}

#[inline(always)]
pub(super) fn rms_norm(x: &[f32], weight: &[f32], eps: f32, y: &mut [f32]) {
    let width = weight.len();
    for (x, y) in x.chunks_exact(width).zip(y.chunks_exact_mut(width)) {
        let scale = 1.0 / (sum_by(x, |v| v * v) / width as f32 + eps).sqrt();
        for ((y, &x), &w) in y.iter_mut().zip(x).zip(weight) {
            *y = x * scale * w;
        }
    }
}

#[inline(always)]
pub(super) fn rms_norm_row(row: &mut [f32], weight: &[f32], eps: f32) {
    let scale = 1.0 / (sum_by(row, |v| v * v) / weight.len() as f32 + eps).sqrt();
    for (x, &w) in row.iter_mut().zip(weight) {
        *x = *x * scale * w;
    }
}

#[inline(always)]
pub(super) fn turn(cos: &[f32], sin: &[f32], head: &[f32], scale: f32, out: &mut [f32]) {
    let half = cos.len();
    let (sin, (a, b)) = (&sin[..half], head.split_at(half));
    let (out_a, out_b) = out.split_at_mut(half);
    let (b, out_a, out_b) = (&b[..half], &mut out_a[..half], &mut out_b[..half]);
    for j in 0..half {
        let (c, s) = (cos[j] * scale, sin[j] * scale);
        out_a[j] = a[j] * c - b[j] * s;
        out_b[j] = b[j] * c + a[j] * s;
    }
}

#[inline(always)]
pub(super) fn add_squares(row: &[f32], sums: &mut [f32]) {
    let size: f64 = row.iter().map(|&w| f64::from(w * w)).sum();
    if size > 0.0 {
        let inverse = (1.0 / size) as f32;
        for (sum, w) in sums.iter_mut().zip(row) {
            *sum += w * w * inverse;
        }
    }
}

#[inline(always)]
pub(super) fn note_magnitudes(x: &[f32], max: &mut [f32]) -> f64 {
    const LANES: usize = 32;
    let mut total = 0.0;
    for row in x.chunks_exact(max.len()) {
        let mut squares = [0.0f32; LANES];
        for (x, max) in row.chunks(LANES).zip(max.chunks_mut(LANES)) {
            for ((x, max), square) in x.iter().zip(max).zip(&mut squares) {
                let v = x.abs();
                *max = if v > *max { v } else { *max };
                *square += x * x;
            }
        }
        total += f64::from(squares.iter().sum::<f32>());
    }
    total
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

#[inline(always)]
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

#[inline(always)]
pub(super) fn slice_to_words(x: &[f32], q: &mut [i16]) -> f32 {
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

#[inline(always)]
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

/// Sum of products, in lanes that vector registers can hold.
#[inline(always)]
fn dot_by<T: Copy>(x: &[f32], w: &[T], widen: impl Fn(T) -> f32) -> f32 {
    const LANES: usize = 64;
    let mut sums = [0.0f32; LANES];
    let ((x_chunks, x_rest), (w_chunks, w_rest)) = (x.as_chunks::<LANES>(), w.as_chunks::<LANES>());
    for (x, w) in x_chunks.iter().zip(w_chunks) {
        for lane in 0..LANES {
            sums[lane] += x[lane] * widen(w[lane]);
        }
    }
    let rest: f32 = x_rest.iter().zip(w_rest).map(|(&x, &w)| x * widen(w)).sum();
    sums.iter().sum::<f32>() + rest
}

#[inline(always)]
pub(super) fn f32_rows(x: &[f32], w: &[f32], in_features: usize, y: &mut [f32]) {
    let rows = x.len() / in_features;
    for (w, y) in w.chunks_exact(in_features).zip(y.chunks_exact_mut(rows)) {
        for (x, y) in x.chunks_exact(in_features).zip(y) {
            *y = dot_by(x, w, |w| w);
        }
    }
}

#[inline(always)]
pub(super) fn bf16_rows(x: &[f32], w: &[bf16], in_features: usize, y: &mut [f32]) {
    let rows = x.len() / in_features;
    for (w, y) in w.chunks_exact(in_features).zip(y.chunks_exact_mut(rows)) {
        for (x, y) in x.chunks_exact(in_features).zip(y) {
            *y = dot_by(x, w, |w| f32::from_bits(u32::from(w.to_bits()) << 16));
        }
    }
}

#[inline(always)]
pub(super) fn add_weighted(p: &[f32], rows: &[f32], y: &mut [f32]) {
    let width = y.len();
    for (&p, row) in p.iter().zip(rows.chunks_exact(width)) {
        for (y, &v) in y.iter_mut().zip(row) {
            *y += p * v;
        }
    }
}

#[inline(always)]
pub(super) fn words_rows(x: &[i16], scales: &[f32], matrix: ByteMatrix<'_>, y: &mut [f32]) {
    let slices = matrix.slices;
    let (k, n_slices) = (slices.in_features(), slices.count());
    let rows = x.len() / k;
    let weights = matrix.q.chunks_exact(k);
    for (i, (w, y)) in weights.zip(y.chunks_exact_mut(rows)).enumerate() {
        for ((x, scales), y) in x.chunks_exact(k).zip(scales.chunks_exact(n_slices)).zip(y) {
            let mut sum = 0.0;
            let parts = slices.of(x).zip(slices.of(w)).zip(scales);
            for (s, ((x, w), scale)) in parts.enumerate() {
                // 512 products below 2^22 stay below 2^31.
                let exact: i32 = x
                    .iter()
                    .zip(w)
                    .map(|(&x, &w)| i32::from(x) * i32::from(w))
                    .sum();
                sum += exact as f32 * scale * matrix.scales[s * matrix.out_features + i];
            }
            *y = sum;
        }
    }
}

#[inline(always)]
pub(super) fn scale_sums(sums: &[i32], offsets: &[i32], scales: &[f32], scale: f32, y: &mut [f32]) {
    for ((y, scales), (sum, offset)) in y.iter_mut().zip(scales).zip(sums.iter().zip(offsets)) {
        *y = (sum - offset) as f32 * (scales * scale);
    }
}

#[inline(always)]
pub(super) fn add_scaled_sums(
    sums: &[i32],
    offsets: &[i32],
    scales: &[f32],
    scale: f32,
    y: &mut [f32],
) {
    for ((y, scales), (sum, offset)) in y.iter_mut().zip(scales).zip(sums.iter().zip(offsets)) {
        *y += (sum - offset) as f32 * (scales * scale);
    }
}
