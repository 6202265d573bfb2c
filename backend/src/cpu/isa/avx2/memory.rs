// SPDX-License-Identifier: MPL-2.0

//! Lines turned into columns, and what is asked for before it is needed.

use std::arch::x86_64::{
    __m256, _MM_HINT_T0, _mm_load_ps, _mm_loadu_ps, _mm_prefetch, _mm256_castpd_ps,
    _mm256_castps_pd, _mm256_castps128_ps256, _mm256_insertf128_ps, _mm256_setzero_ps,
    _mm256_store_ps, _mm256_storeu_ps, _mm256_unpackhi_pd, _mm256_unpackhi_ps, _mm256_unpacklo_pd,
    _mm256_unpacklo_ps,
};

use crate::cpu::isa::operands::{CACHE_LINE, LANES, Line, TILE_ROWS, Words};
use crate::cpu::isa::tables::ByteWords;

/// Lanes of a register.
const WIDE: usize = LANES / 2;

#[target_feature(enable = "avx2")]
pub(super) fn transpose(lines: &mut [Line<u32>; LANES]) {
    let from = *lines;
    for first in [0, WIDE] {
        for column in (0..LANES).step_by(4) {
            let columns = four_columns(&from, first, column);
            for (line, x) in lines[column..column + 4].iter_mut().zip(columns) {
                // SAFETY: 32 bytes, aligned to as many: half of a line, which is aligned to 64.
                unsafe { _mm256_store_ps(line.0[first..][..WIDE].as_mut_ptr().cast(), x) }
            }
        }
    }
}

/// Numbers `column..column + 4` of the eight lines from `first` on.
#[inline]
#[target_feature(enable = "avx2")]
fn four_columns(lines: &[Line<u32>; LANES], first: usize, column: usize) -> [__m256; 4] {
    let mut x = [_mm256_setzero_ps(); 4];
    for (i, x) in x.iter_mut().enumerate() {
        let part = |line: usize| lines[first + line].0[column..][..4].as_ptr().cast();
        // SAFETY: 16 bytes, aligned to as many: a quarter of a line, which is aligned to 64.
        let (low, high) = unsafe { (_mm_load_ps(part(i)), _mm_load_ps(part(i + 4))) };
        *x = _mm256_insertf128_ps::<1>(_mm256_castps128_ps256(low), high);
    }
    columns(x)
}

/// Columns of four registers, whose halves are those of rows `i` and `i + 4`.
#[inline]
#[target_feature(enable = "avx2")]
fn columns(x: [__m256; 4]) -> [__m256; 4] {
    let low = [
        _mm256_unpacklo_ps(x[0], x[1]),
        _mm256_unpacklo_ps(x[2], x[3]),
    ];
    let high = [
        _mm256_unpackhi_ps(x[0], x[1]),
        _mm256_unpackhi_ps(x[2], x[3]),
    ];
    let (a, b) = (_mm256_castps_pd(low[0]), _mm256_castps_pd(low[1]));
    let (c, d) = (_mm256_castps_pd(high[0]), _mm256_castps_pd(high[1]));
    [
        _mm256_castpd_ps(_mm256_unpacklo_pd(a, b)),
        _mm256_castpd_ps(_mm256_unpackhi_pd(a, b)),
        _mm256_castpd_ps(_mm256_unpacklo_pd(c, d)),
        _mm256_castpd_ps(_mm256_unpackhi_pd(c, d)),
    ]
}

/// Puts the words of 8 rows side by side.
// SAFETY: the table is handed out where the features were found.
pub(super) const BYTE_WORDS: Option<ByteWords> = Some(|rows, to| unsafe { byte_words(rows, to) });

#[target_feature(enable = "avx2")]
fn byte_words(rows: [&[i8]; TILE_ROWS], to: &mut [Words]) -> usize {
    let rows = rows.map(|row| row.as_chunks::<16>().0);
    let there = rows.iter().map(|row| row.len()).min().unwrap_or(0);
    let whole = there.min(to.len() / 4);
    for (at, to) in to.as_chunks_mut::<4>().0.iter_mut().enumerate().take(whole) {
        let mut x = [_mm256_setzero_ps(); 4];
        for (i, x) in x.iter_mut().enumerate() {
            // SAFETY: 16 bytes are there.
            let four = |row: usize| unsafe { _mm_loadu_ps(rows[row][at].as_ptr().cast()) };
            *x = _mm256_insertf128_ps::<1>(_mm256_castps128_ps256(four(i)), four(i + 4));
        }
        for (to, x) in to.iter_mut().zip(columns(x)) {
            // SAFETY: a word of 8 rows is 32 bytes.
            unsafe { _mm256_storeu_ps(to.as_mut_ptr().cast(), x) }
        }
    }
    4 * whole
}

/// Asks for the cache lines of so many bytes from an address on.
pub(super) fn prefetch(at: *const u8, bytes: usize) {
    for line in (0..bytes + at.addr() % CACHE_LINE).step_by(CACHE_LINE) {
        ask::<_MM_HINT_T0>(at.wrapping_add(line));
    }
}

/// Asks for the cache line at an address.
#[inline]
pub(super) fn ask<const HINT: i32>(at: *const u8) {
    #[allow(
        unused_unsafe,
        reason = "safe since a later Rust than the oldest that builds this"
    )]
    // SAFETY: asking for memory reads none, wherever it points.
    unsafe {
        _mm_prefetch::<HINT>(at.cast());
    }
}
