// SPDX-License-Identifier: MPL-2.0

//! Softmax of a tile of scores, and the functions that need an exponential.

use super::Registers;
use crate::cpu::isa::operands::{LANES, Line, Running, Weights};

/// Hides from each lane of scores `[keys][lines]` the keys that are not below its limit.
#[inline(always)]
pub(in crate::cpu::isa) fn hide(scores: &mut [Line<f32>], limits: &[Line<i32>], first: usize) {
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

/// Scores `[keys][lines]`, `width` lines wide, to weights.
///
/// # Safety
///
/// The processor must have the set of `S`.
#[inline(always)]
pub(in crate::cpu::isa) unsafe fn weigh<S: Registers>(
    scores: &[Line<f32>],
    width: usize,
    running: &mut Running,
    mut weights: Weights<'_>,
    sums: &mut [Line<f32>],
) {
    for part in 0..width * LANES / S::N {
        // SAFETY: the caller's, and the register is within the lines of a key.
        unsafe { weigh_part::<S>(scores, width, part, running, &mut weights, sums) };
    }
}

/// One register of queries.
#[inline(always)]
unsafe fn weigh_part<S: Registers>(
    scores: &[Line<f32>],
    width: usize,
    part: usize,
    running: &mut Running,
    weights: &mut Weights<'_>,
    sums: &mut [Line<f32>],
) {
    let first = part * S::N;
    let step = width * LANES;
    let n_keys = scores.len() / width;
    let max_at = running.max[..width].as_mut_ptr().cast::<f32>();
    let total_at = running.sums[..width].as_mut_ptr().cast::<f32>();
    // SAFETY: the caller's; the register is within the lines of each key, of each sum, and of the
    // weights, of which the assertions say how many there are.
    unsafe {
        let (max_at, total_at) = (max_at.add(first), total_at.add(first));
        let scores = scores.as_ptr().cast::<f32>().add(first);
        let before = S::load(max_at);
        let mut max = before;
        for i in 0..n_keys {
            max = S::max(max, S::load(scores.add(i * step)));
        }
        S::store(max, max_at);
        let factor = exp::<S>(S::sub(before, max));
        let mut total = S::mul(S::load(total_at), factor);
        let n_sums = sums.len() / width;
        let sums = sums.as_mut_ptr().cast::<f32>().add(first);
        for i in 0..n_sums {
            let sum = sums.add(i * step);
            S::store(S::mul(S::load(sum), factor), sum);
        }
        match weights {
            Weights::Floats(weights) => {
                assert!(weights.len() >= n_keys * width);
                let to = weights.as_mut_ptr().cast::<f32>().add(first);
                for i in 0..n_keys {
                    let weight = exp_from::<S>(scores.add(i * step), max);
                    total = S::add(total, weight);
                    S::store(weight, to.add(i * step));
                }
            }
            Weights::Pairs(weights) => {
                assert!(weights.len() >= n_keys.div_ceil(2) * width);
                let to = weights.as_mut_ptr().cast::<u32>().add(first);
                for i in 0..n_keys.div_ceil(2) {
                    let low = exp_from::<S>(scores.add(2 * i * step), max);
                    let high = if 2 * i + 1 < n_keys {
                        exp_from::<S>(scores.add((2 * i + 1) * step), max)
                    } else {
                        S::splat(0.0)
                    };
                    total = S::add(total, S::add(low, high));
                    S::store_ints(S::join_bf16(low, high), to.add(i * step));
                }
            }
        }
        S::store(total, total_at);
    }
}

/// `e^(x - max)` of the scores at an address.
#[inline(always)]
unsafe fn exp_from<S: Registers>(scores: *const f32, max: S::Floats) -> S::Floats {
    // SAFETY: the caller's.
    unsafe { exp::<S>(S::sub(S::load(scores), max)) }
}

/// `e^x` for `x <= 0`, as [`plain::exp`](crate::cpu::isa::plain::exp) with fused products.
#[inline(always)]
unsafe fn exp<S: Registers>(x: S::Floats) -> S::Floats {
    // SAFETY: the caller's.
    unsafe {
        let x = S::max(x, S::splat(-87.0));
        let n = S::round(S::mul(x, S::splat(std::f32::consts::LOG2_E)));
        let r = S::fnma(n, S::splat(0.693_359_4), x);
        let r = S::fnma(n, S::splat(-2.121_944_4e-4), r);
        let mut p = S::splat(1.987_569_1e-4);
        for c in [
            1.398_199_9e-3,
            8.333_452e-3,
            4.166_579_6e-2,
            1.666_666_5e-1,
            0.5,
        ] {
            p = S::fma(p, r, S::splat(c));
        }
        let e = S::fma(S::mul(p, r), r, r);
        S::times_power(S::add(e, S::splat(1.0)), n)
    }
}

/// `x / (1 + e^-u)`
#[inline(always)]
unsafe fn sigmoid_times<S: Registers>(x: S::Floats, u: S::Floats) -> S::Floats {
    // Beyond 87 the sigmoid is 1 or nothing, and `exp` takes no positive numbers: it is asked for
    // e^-|u|, and the sigmoid of a negative number is one less that of the positive.
    // SAFETY: the caller's.
    unsafe {
        let e = exp::<S>(S::sub(S::splat(0.0), S::abs(u)));
        let one = S::splat(1.0);
        let top = S::if_negative(u, e, one);
        S::div(S::mul(x, top), S::add(one, e))
    }
}

/// GELU by the tanh formula, in place.
///
/// # Safety
///
/// The processor must have the set of `S`.
#[inline(always)]
pub(in crate::cpu::isa) unsafe fn gelu_tanh<S: Registers>(x: &mut [f32]) {
    let mut chunks = x.chunks_exact_mut(S::N);
    for chunk in &mut chunks {
        // SAFETY: the caller's; the chunk is a register.
        unsafe { S::store(gelu::<S>(S::load(chunk.as_ptr())), chunk.as_mut_ptr()) };
    }
    let rest = chunks.into_remainder();
    if !rest.is_empty() {
        let mut last = [0.0; LANES];
        last[..rest.len()].copy_from_slice(rest);
        // SAFETY: the caller's; a register has at most as many lanes as a line.
        unsafe { S::store(gelu::<S>(S::load(last.as_ptr())), last.as_mut_ptr()) };
        rest.copy_from_slice(&last[..rest.len()]);
    }
}

#[inline(always)]
unsafe fn gelu<S: Registers>(x: S::Floats) -> S::Floats {
    // 0.5 (1 + tanh u) = sigmoid(2 u), u = sqrt(2 / pi) (x + 0.044715 x^3)
    const TWICE: f32 = 2.0 * 0.797_884_6;
    // SAFETY: the caller's.
    unsafe {
        let square = S::mul(x, x);
        let factor = S::fma(square, S::splat(TWICE * 0.044_715), S::splat(TWICE));
        sigmoid_times::<S>(x, S::mul(x, factor))
    }
}

/// `y = silu(gate) * up`
///
/// # Safety
///
/// The processor must have the set of `S`.
#[inline(always)]
pub(in crate::cpu::isa) unsafe fn swiglu<S: Registers>(gate: &[f32], up: &[f32], y: &mut [f32]) {
    let n = y.len() / S::N * S::N;
    let (gate, last_gate) = gate[..y.len()].split_at(n);
    let (up, last_up) = up[..y.len()].split_at(n);
    let (y, rest) = y.split_at_mut(n);
    let chunks = gate.chunks_exact(S::N).zip(up.chunks_exact(S::N));
    for (y, (gate, up)) in y.chunks_exact_mut(S::N).zip(chunks) {
        // SAFETY: the caller's; each chunk is a register.
        unsafe {
            let silu = silu_times::<S>(S::load(gate.as_ptr()), S::load(up.as_ptr()));
            S::store(silu, y.as_mut_ptr());
        }
    }
    if !rest.is_empty() {
        let (mut gate, mut up) = ([0.0; LANES], [0.0; LANES]);
        gate[..rest.len()].copy_from_slice(last_gate);
        up[..rest.len()].copy_from_slice(last_up);
        // SAFETY: the caller's; a register has at most as many lanes as a line.
        unsafe {
            let silu = silu_times::<S>(S::load(gate.as_ptr()), S::load(up.as_ptr()));
            S::store(silu, gate.as_mut_ptr());
        }
        rest.copy_from_slice(&gate[..rest.len()]);
    }
}

#[inline(always)]
unsafe fn silu_times<S: Registers>(gate: S::Floats, up: S::Floats) -> S::Floats {
    // SAFETY: the caller's.
    unsafe { S::mul(sigmoid_times::<S>(gate, gate), up) }
}
