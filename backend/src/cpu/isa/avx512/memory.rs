// SPDX-License-Identifier: MPL-2.0

//! Loads, stores, and lines turned into columns.

use std::arch::x86_64::{
    __m512, __m512bh, __m512i, _MM_HINT_T0, _MM_HINT_T1, _mm_prefetch, _mm256_loadu_si256,
    _mm512_castpd_ps, _mm512_castps_pd, _mm512_castsi512_ps, _mm512_cvtepu16_epi32, _mm512_load_ps,
    _mm512_load_si512, _mm512_loadu_ps, _mm512_loadu_si512, _mm512_setzero_ps,
    _mm512_shuffle_f32x4, _mm512_slli_epi32, _mm512_store_ps, _mm512_storeu_ps, _mm512_unpackhi_pd,
    _mm512_unpackhi_ps, _mm512_unpacklo_pd, _mm512_unpacklo_ps,
};

use half::bf16;

use crate::cpu::isa::operands::{CACHE_LINE, LANES, Line, STEP};

#[target_feature(enable = "avx512f")]
pub(super) fn transpose(lines: &mut [Line<u32>; LANES]) {
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

/// Asks for the cache lines of so many bytes from an address on.
#[target_feature(enable = "avx512f")]
pub(super) fn prefetch(at: *const u8, bytes: usize) {
    for line in (0..bytes + at.addr() % CACHE_LINE).step_by(CACHE_LINE) {
        ask::<_MM_HINT_T0>(at.wrapping_add(line).cast());
    }
}

/// Asks for the cache line `bytes` bytes after `at` into the second cache only: the first of most processors takes
/// too few requests at a time for what comes from memory.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn prefetch_far<T>(at: &T, bytes: isize) {
    ask::<_MM_HINT_T1>(std::ptr::from_ref(at).cast::<i8>().wrapping_offset(bytes));
}

/// Likewise into the first cache.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn prefetch_near<T>(at: &T, bytes: isize) {
    ask::<_MM_HINT_T0>(std::ptr::from_ref(at).cast::<i8>().wrapping_offset(bytes));
}

#[inline]
#[target_feature(enable = "avx512f")]
fn ask<const HINT: i32>(at: *const i8) {
    #[allow(
        unused_unsafe,
        reason = "safe since a later Rust than the oldest that builds this"
    )]
    // SAFETY: asking for memory reads none, wherever it points.
    unsafe {
        _mm_prefetch::<HINT>(at)
    }
}

#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn load(line: &Line<u32>) -> __m512i {
    // SAFETY: a line is 64 bytes, aligned to as many.
    unsafe { _mm512_load_si512(line.0.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn load_floats(line: &Line<f32>) -> __m512 {
    // SAFETY: a line is 64 bytes, aligned to as many.
    unsafe { _mm512_load_ps(line.0.as_ptr()) }
}

#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn store(x: __m512, line: &mut Line<f32>) {
    // SAFETY: a line is 64 bytes, aligned to as many.
    unsafe { _mm512_store_ps(line.0.as_mut_ptr(), x) }
}

#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn store_bits(x: __m512, line: &mut Line<u32>) {
    // SAFETY: a line is 64 bytes, aligned to as many.
    unsafe { _mm512_store_ps(line.0.as_mut_ptr().cast(), x) }
}

/// The first 16 numbers of a slice.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn load_slice(x: &[f32]) -> __m512 {
    assert!(x.len() >= 16);
    // SAFETY: 64 bytes are there.
    unsafe { _mm512_loadu_ps(x.as_ptr()) }
}

#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn store_slice(x: __m512, to: &mut [f32; LANES]) {
    // SAFETY: 64 bytes are there.
    unsafe { _mm512_storeu_ps(to.as_mut_ptr(), x) }
}

#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn load_bytes(x: &[u8; STEP]) -> __m512i {
    // SAFETY: 64 bytes are there.
    unsafe { _mm512_loadu_si512(x.as_ptr().cast()) }
}

/// The first 16 numbers of a slice in f32.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn widen_bf16(w: &[bf16]) -> __m512 {
    assert!(w.len() >= 16);
    // SAFETY: 32 bytes are there, and a bf16 is 16 bits.
    let bits = unsafe { _mm256_loadu_si256(w.as_ptr().cast()) };
    _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(bits)))
}

#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn load_pairs(x: &[bf16; 32]) -> __m512bh {
    // SAFETY: 64 bytes are there, a bf16 is 16 bits, and both vectors are 512 bits without meaning of
    // their own.
    unsafe { std::mem::transmute::<__m512i, __m512bh>(_mm512_loadu_si512(x.as_ptr().cast())) }
}
