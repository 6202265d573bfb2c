// SPDX-License-Identifier: MPL-2.0

//! Registers of 256 bits.

use std::arch::x86_64::{
    __m256, __m256i, _MM_HINT_T0, _MM_HINT_T1, _mm_add_ps, _mm_add_ss, _mm_cvtss_f32,
    _mm_loadu_si128, _mm_movehdup_ps, _mm_movehl_ps, _mm_storeu_ps, _mm256_add_epi32,
    _mm256_add_ps, _mm256_and_ps, _mm256_and_si256, _mm256_blendv_ps, _mm256_castps_si256,
    _mm256_castps256_ps128, _mm256_castsi256_ps, _mm256_cvtepi8_epi16, _mm256_cvtepi32_ps,
    _mm256_cvtepu16_epi32, _mm256_cvtps_epi32, _mm256_div_ps, _mm256_dpbusd_avx_epi32,
    _mm256_dpbusd_epi32, _mm256_extractf128_ps, _mm256_fmadd_ps, _mm256_fnmadd_ps, _mm256_hadd_ps,
    _mm256_loadu_ps, _mm256_loadu_si256, _mm256_madd_epi16, _mm256_max_ps, _mm256_mul_ps,
    _mm256_or_si256, _mm256_round_ps, _mm256_set1_epi32, _mm256_set1_ps, _mm256_setzero_si256,
    _mm256_slli_epi32, _mm256_srli_epi32, _mm256_storeu_ps, _mm256_storeu_si256, _mm256_sub_epi32,
    _mm256_sub_ps,
};

use half::bf16;

use super::memory::ask;
use crate::cpu::isa::ahead::asks_near;
use crate::cpu::isa::vector::{Dot, Registers};

/// AVX2 and FMA.
#[derive(Clone, Copy)]
pub(super) struct Avx2;

/// Two bytes that were widened to 16 bits to a word.
pub(super) struct Pairs;

/// Four bytes to a word, unsigned activations: VNNI as AVX-VNNI encodes it.
pub(super) struct Quads;

/// The same as AVX-512 VL encodes it.
pub(super) struct EvexQuads;

impl Registers for Avx2 {
    type Floats = __m256;
    type Ints = __m256i;
    const N: usize = 8;
    const COUNT: usize = 16;

    #[inline]
    #[target_feature(enable = "avx2,fma")]
    unsafe fn splat(x: f32) -> __m256 {
        _mm256_set1_ps(x)
    }

    #[inline]
    #[target_feature(enable = "avx2,fma")]
    unsafe fn load(at: *const f32) -> __m256 {
        // SAFETY: the caller's: 32 bytes are there.
        unsafe { _mm256_loadu_ps(at) }
    }

    #[inline]
    #[target_feature(enable = "avx2,fma")]
    unsafe fn store(x: __m256, at: *mut f32) {
        // SAFETY: the caller's: 32 bytes are there.
        unsafe { _mm256_storeu_ps(at, x) }
    }

    #[inline]
    #[target_feature(enable = "avx2,fma")]
    unsafe fn add(a: __m256, b: __m256) -> __m256 {
        _mm256_add_ps(a, b)
    }

    #[inline]
    #[target_feature(enable = "avx2,fma")]
    unsafe fn sub(a: __m256, b: __m256) -> __m256 {
        _mm256_sub_ps(a, b)
    }

    #[inline]
    #[target_feature(enable = "avx2,fma")]
    unsafe fn mul(a: __m256, b: __m256) -> __m256 {
        _mm256_mul_ps(a, b)
    }

    #[inline]
    #[target_feature(enable = "avx2,fma")]
    unsafe fn div(a: __m256, b: __m256) -> __m256 {
        _mm256_div_ps(a, b)
    }

    #[inline]
    #[target_feature(enable = "avx2,fma")]
    unsafe fn max(a: __m256, b: __m256) -> __m256 {
        _mm256_max_ps(a, b)
    }

    #[inline]
    #[target_feature(enable = "avx2,fma")]
    unsafe fn abs(x: __m256) -> __m256 {
        _mm256_and_ps(x, _mm256_castsi256_ps(_mm256_set1_epi32(i32::MAX)))
    }

    #[inline]
    #[target_feature(enable = "avx2,fma")]
    unsafe fn fma(a: __m256, b: __m256, c: __m256) -> __m256 {
        _mm256_fmadd_ps(a, b, c)
    }

    #[inline]
    #[target_feature(enable = "avx2,fma")]
    unsafe fn fnma(a: __m256, b: __m256, c: __m256) -> __m256 {
        _mm256_fnmadd_ps(a, b, c)
    }

    #[inline]
    #[target_feature(enable = "avx2,fma")]
    unsafe fn if_negative(u: __m256, yes: __m256, no: __m256) -> __m256 {
        _mm256_blendv_ps(no, yes, u)
    }

    #[inline]
    #[target_feature(enable = "avx2,fma")]
    unsafe fn round(x: __m256) -> __m256 {
        _mm256_round_ps::<8>(x)
    }

    #[inline]
    #[target_feature(enable = "avx2,fma")]
    unsafe fn times_power(x: __m256, n: __m256) -> __m256 {
        let exponent = _mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127));
        _mm256_mul_ps(x, _mm256_castsi256_ps(_mm256_slli_epi32::<23>(exponent)))
    }

    #[inline]
    #[target_feature(enable = "avx2,fma")]
    unsafe fn sum(x: __m256) -> f32 {
        let x = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps::<1>(x));
        let x = _mm_add_ps(x, _mm_movehl_ps(x, x));
        _mm_cvtss_f32(_mm_add_ss(x, _mm_movehdup_ps(x)))
    }

    #[inline]
    #[target_feature(enable = "avx2,fma")]
    unsafe fn sum_each([a, b, c, d]: [__m256; 4]) -> [f32; 4] {
        let x = _mm256_hadd_ps(_mm256_hadd_ps(a, b), _mm256_hadd_ps(c, d));
        let x = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps::<1>(x));
        let mut sums = [0.0; 4];
        // SAFETY: 16 bytes are there.
        unsafe { _mm_storeu_ps(sums.as_mut_ptr(), x) };
        sums
    }

    #[inline]
    #[target_feature(enable = "avx2,fma")]
    unsafe fn load_bf16(at: *const bf16) -> __m256 {
        // SAFETY: the caller's: 16 bytes are there, and a bf16 is 16 bits.
        let bits = unsafe { _mm_loadu_si128(at.cast()) };
        _mm256_castsi256_ps(_mm256_slli_epi32::<16>(_mm256_cvtepu16_epi32(bits)))
    }

    #[inline]
    #[target_feature(enable = "avx2,fma")]
    unsafe fn join_bf16(low: __m256, high: __m256) -> __m256i {
        let half = _mm256_set1_epi32(0x8000);
        let low = _mm256_add_epi32(_mm256_castps_si256(low), half);
        let high = _mm256_add_epi32(_mm256_castps_si256(high), half);
        let high = _mm256_and_si256(high, _mm256_set1_epi32(0xffff_0000_u32.cast_signed()));
        _mm256_or_si256(_mm256_srli_epi32::<16>(low), high)
    }

    #[inline]
    #[target_feature(enable = "avx2,fma")]
    unsafe fn splat_int(x: i32) -> __m256i {
        _mm256_set1_epi32(x)
    }

    #[inline]
    #[target_feature(enable = "avx2,fma")]
    unsafe fn load_ints(at: *const u32) -> __m256i {
        // SAFETY: the caller's: 32 bytes are there.
        unsafe { _mm256_loadu_si256(at.cast()) }
    }

    #[inline]
    #[target_feature(enable = "avx2,fma")]
    unsafe fn store_ints(x: __m256i, at: *mut u32) {
        // SAFETY: the caller's: 32 bytes are there.
        unsafe { _mm256_storeu_si256(at.cast(), x) }
    }

    #[inline]
    #[target_feature(enable = "avx2,fma")]
    unsafe fn add_ints(a: __m256i, b: __m256i) -> __m256i {
        _mm256_add_epi32(a, b)
    }

    #[inline]
    #[target_feature(enable = "avx2,fma")]
    unsafe fn sub_ints(a: __m256i, b: __m256i) -> __m256i {
        _mm256_sub_epi32(a, b)
    }

    #[inline]
    #[target_feature(enable = "avx2,fma")]
    unsafe fn times_256(x: __m256i) -> __m256i {
        _mm256_slli_epi32::<8>(x)
    }

    #[inline]
    #[target_feature(enable = "avx2,fma")]
    unsafe fn to_floats(x: __m256i) -> __m256 {
        _mm256_cvtepi32_ps(x)
    }

    #[inline]
    #[target_feature(enable = "avx2,fma")]
    unsafe fn as_floats(x: __m256i) -> __m256 {
        _mm256_castsi256_ps(x)
    }

    #[inline]
    #[target_feature(enable = "avx2,fma")]
    unsafe fn load_bytes_wide(at: *const i8) -> __m256i {
        // SAFETY: the caller's: 16 bytes are there.
        _mm256_cvtepi8_epi16(unsafe { _mm_loadu_si128(at.cast()) })
    }

    #[inline]
    #[target_feature(enable = "avx2,fma")]
    unsafe fn prefetch_far(at: *const u8, bytes: usize) {
        ask::<_MM_HINT_T1>(at.wrapping_add(bytes));
    }

    #[inline]
    #[target_feature(enable = "avx2,fma")]
    unsafe fn prefetch_near(at: *const u8, bytes: usize) {
        ask::<_MM_HINT_T0>(at.wrapping_add(bytes));
    }

    fn asks_near() -> bool {
        asks_near()
    }
}

impl Dot<Avx2> for Pairs {
    type Sum = __m256i;

    #[inline]
    #[target_feature(enable = "avx2,fma")]
    unsafe fn zero() -> __m256i {
        _mm256_setzero_si256()
    }

    #[inline]
    #[target_feature(enable = "avx2,fma")]
    unsafe fn dot(sum: __m256i, x: __m256i, w: __m256i) -> __m256i {
        _mm256_add_epi32(sum, _mm256_madd_epi16(x, w))
    }
}

impl Dot<Avx2> for Quads {
    type Sum = __m256i;

    #[inline]
    #[target_feature(enable = "avx2,fma")]
    unsafe fn zero() -> __m256i {
        _mm256_setzero_si256()
    }

    #[inline]
    #[target_feature(enable = "avx2,fma,avxvnni")]
    unsafe fn dot(sum: __m256i, x: __m256i, w: __m256i) -> __m256i {
        _mm256_dpbusd_avx_epi32(sum, x, w)
    }
}

impl Dot<Avx2> for EvexQuads {
    type Sum = __m256i;

    #[inline]
    #[target_feature(enable = "avx2,fma")]
    unsafe fn zero() -> __m256i {
        _mm256_setzero_si256()
    }

    #[inline]
    #[target_feature(enable = "avx2,fma,avx512vl,avx512vnni")]
    unsafe fn dot(sum: __m256i, x: __m256i, w: __m256i) -> __m256i {
        _mm256_dpbusd_epi32(sum, x, w)
    }
}
