// SPDX-License-Identifier: MPL-2.0

//! Sums of the lanes of registers.

use std::arch::x86_64::{
    __m512, _mm512_add_ps, _mm512_castpd_ps, _mm512_castps_pd, _mm512_cvtss_f32, _mm512_permute_ps,
    _mm512_setzero_ps, _mm512_shuffle_f32x4, _mm512_unpackhi_pd, _mm512_unpackhi_ps,
    _mm512_unpacklo_pd, _mm512_unpacklo_ps,
};

use crate::cpu::isa::operands::LANES;

/// The sum of the lanes of each register.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn sum_each(x: [__m512; LANES]) -> __m512 {
    let mut quarters = [_mm512_setzero_ps(); 4];
    for (quarter, x) in quarters.iter_mut().zip(x.as_chunks::<4>().0) {
        let pair = |a, b| _mm512_add_ps(_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b));
        let a = _mm512_castps_pd(pair(x[0], x[1]));
        let b = _mm512_castps_pd(pair(x[2], x[3]));
        // In each quarter of the register, its part of the sum of each of the four.
        *quarter = _mm512_add_ps(
            _mm512_castpd_ps(_mm512_unpacklo_pd(a, b)),
            _mm512_castpd_ps(_mm512_unpackhi_pd(a, b)),
        );
    }
    let pair = |a, b| {
        _mm512_add_ps(
            _mm512_shuffle_f32x4::<0x88>(a, b),
            _mm512_shuffle_f32x4::<0xdd>(a, b),
        )
    };
    let [a, b, c, d] = quarters;
    pair(pair(a, b), pair(c, d))
}

/// The sum of the lanes of one register, added in the order of [`sum_each`].
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn sum(x: __m512) -> f32 {
    let x = _mm512_add_ps(x, _mm512_permute_ps::<0b01_00_11_10>(x));
    let x = _mm512_add_ps(x, _mm512_permute_ps::<0b10_11_00_01>(x));
    let x = _mm512_add_ps(x, _mm512_shuffle_f32x4::<0b10_11_00_01>(x, x));
    let x = _mm512_add_ps(x, _mm512_shuffle_f32x4::<0b01_00_11_10>(x, x));
    _mm512_cvtss_f32(x)
}
