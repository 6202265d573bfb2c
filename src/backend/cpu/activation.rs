// SPDX-License-Identifier: MPL-2.0

//! Element-wise functions: exponential, GELU, SiLU, softmax. Plain loops that the compiler turns
//! into vector code once per instruction set; the best set is picked at run time.

use multiversion::multiversion;

use super::avx512::Avx512;

/// e^x with a relative error below 2e-7, for vector code: no table, no branch.
///
/// Below -87 the result is 1.6e-38 instead of less: nothing here tells that from zero.
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

/// GELU by the tanh formula, in place.
pub(super) fn gelu_tanh(x: &mut [f32]) {
    match Avx512::detect() {
        Some(isa) => isa.gelu_tanh(x),
        None => gelu_tanh_anywhere(x),
    }
}

#[multiversion(targets(
    "x86_64+avx2+avx512bw+avx512dq+avx512f+avx512vl+avx512vnni+fma",
    "x86_64+avx2+fma"
))]
fn gelu_tanh_anywhere(x: &mut [f32]) {
    for x in x {
        *x = gelu_tanh_one(*x);
    }
}

/// GELU by the error function, in place.
#[multiversion(targets(
    "x86_64+avx2+avx512bw+avx512dq+avx512f+avx512vl+avx512vnni+fma",
    "x86_64+avx2+fma"
))]
pub(super) fn gelu_erf(x: &mut [f32]) {
    for x in x {
        *x = gelu_erf_one(*x);
    }
}

/// SwiGLU: `y = silu(gate) * up`.
///
/// `gate_up` is one row of the joined projection, `[2 * y.len()]`, gate first.
pub(super) fn swiglu(gate_up: &[f32], y: &mut [f32]) {
    let (gate, up) = gate_up.split_at(y.len());
    match Avx512::detect() {
        Some(isa) => isa.swiglu(gate, up, y),
        None => swiglu_anywhere(gate, up, y),
    }
}

#[multiversion(targets(
    "x86_64+avx2+avx512bw+avx512dq+avx512f+avx512vl+avx512vnni+fma",
    "x86_64+avx2+fma"
))]
fn swiglu_anywhere(gate: &[f32], up: &[f32], y: &mut [f32]) {
    for ((y, &gate), &up) in y.iter_mut().zip(gate).zip(up) {
        *y = silu(gate) * up;
    }
}

/// `x += y`.
#[multiversion(targets(
    "x86_64+avx2+avx512bw+avx512dq+avx512f+avx512vl+avx512vnni+fma",
    "x86_64+avx2+fma"
))]
pub(super) fn add_assign(x: &mut [f32], y: &[f32]) {
    for (x, &y) in x.iter_mut().zip(y) {
        *x += y;
    }
}

/// Softmax without the division: replaces each score by `exp(score - max)` and returns
/// 1 / their sum, for the caller to apply to the (shorter) weighted sum.
#[multiversion(targets(
    "x86_64+avx2+avx512bw+avx512dq+avx512f+avx512vl+avx512vnni+fma",
    "x86_64+avx2+fma"
))]
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_follows_the_libms() {
        for i in -860..=870 {
            let x = i as f32 / 10.0;
            let want = f64::from(x).exp();
            let error = (f64::from(exp(x)) / want - 1.0).abs();
            assert!(error < 2e-7, "exp({x}): relative error {error}");
        }
    }

    #[test]
    fn exp_of_a_masked_score_is_nothing() {
        assert!(exp(f32::NEG_INFINITY) < 2e-38);
    }

    #[test]
    fn gelu_has_the_values_of_torch() {
        // torch.nn.functional.gelu(x), approximate="none" and "tanh"
        let cases = [
            (-3.0, -0.004_049_694, -0.003_637_392),
            (-1.0, -0.158_655_26, -0.158_808_01),
            (-0.1, -0.046_017_22, -0.046_017_04),
            (0.0, 0.0, 0.0),
            (0.5, 0.345_731_23, 0.345_714),
            (2.0, 1.954_499_7, 1.954_597_7),
        ];
        for (x, erf, tanh) in cases {
            let (mut a, mut b) = ([x], [x]);
            gelu_erf(&mut a);
            gelu_tanh(&mut b);
            assert!((a[0] - erf).abs() < 4e-7, "gelu_erf({x}) = {}", a[0]);
            assert!((b[0] - tanh).abs() < 4e-7, "gelu_tanh({x}) = {}", b[0]);
        }
    }

    #[test]
    fn softmax_sums_to_one_at_any_length() {
        for n in [1, 2, 31, 32, 33, 100] {
            let mut scores: Vec<f32> = (0..n).map(|i| (i as f32 * 0.7).sin() * 20.0).collect();
            let want: Vec<f64> = scores.iter().map(|&s| f64::from(s).exp()).collect();
            let total: f64 = want.iter().sum();
            let scale = softmax_unscaled(&mut scores);
            for (got, want) in scores.iter().zip(&want) {
                assert!((f64::from(got * scale) - want / total).abs() < 1e-6);
            }
        }
    }
}
