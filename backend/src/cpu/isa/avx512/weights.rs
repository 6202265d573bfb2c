// SPDX-License-Identifier: MPL-2.0

//! Softmax of a tile of scores, and the functions that need an exponential.

use std::arch::x86_64::{
    __m512, _mm512_abs_ps, _mm512_add_epi32, _mm512_add_ps, _mm512_and_si512, _mm512_castps_si512,
    _mm512_castsi512_ps, _mm512_cmplt_ps_mask, _mm512_div_ps, _mm512_fmadd_ps, _mm512_fnmadd_ps,
    _mm512_mask_blend_ps, _mm512_max_ps, _mm512_mul_ps, _mm512_or_si512, _mm512_roundscale_ps,
    _mm512_scalef_ps, _mm512_set1_epi32, _mm512_set1_ps, _mm512_setzero_ps, _mm512_srli_epi32,
    _mm512_sub_ps,
};

use super::memory::{load_floats, load_slice, store, store_bits, store_slice};
use crate::cpu::isa::operands::{LANES, Line, Running, Weights};

#[target_feature(enable = "avx512f")]
pub(super) fn hide(scores: &mut [Line<f32>], limits: &[Line<i32>], first: usize) {
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
pub(super) fn weigh<const V: usize>(
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

/// `e^x` for `x <= 0`, as [`plain::exp`](crate::cpu::isa::plain::exp) with fused products.
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
pub(super) fn gelu_tanh(x: &mut [f32]) {
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
pub(super) fn swiglu(gate: &[f32], up: &[f32], y: &mut [f32]) {
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
