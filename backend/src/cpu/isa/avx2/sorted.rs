// SPDX-License-Identifier: MPL-2.0

//! Products of bytes that are added in 16 bits first ([`sorted`](crate::cpu::isa::sorted)).

use std::arch::x86_64::{
    __m256i, _mm256_add_epi16, _mm256_add_epi32, _mm256_and_si256, _mm256_andnot_si256,
    _mm256_blendv_epi8, _mm256_castsi256_pd, _mm256_cmpeq_epi64, _mm256_cmpgt_epi16,
    _mm256_loadu_si256, _mm256_madd_epi16, _mm256_maddubs_epi16, _mm256_max_epi8, _mm256_max_epi16,
    _mm256_movemask_pd, _mm256_or_si256, _mm256_set1_epi8, _mm256_set1_epi16, _mm256_set1_epi32,
    _mm256_set1_epi64x, _mm256_setzero_si256, _mm256_sign_epi8, _mm256_srli_epi64,
    _mm256_storeu_si256, _mm256_sub_epi8, _mm256_xor_si256,
};
use std::mem;

use super::registers::Avx2;
use crate::cpu::isa::operands::{BLOCK_WORDS, LANES, Line, Out, Scaling, TILE_ROWS};
use crate::cpu::isa::sorted::{EIGHT, Found, MOST, SortedWords};
use crate::cpu::isa::vector::{Corner, Registers, tiles};

/// Words of a register.
const N: usize = Avx2::N;

/// Sorts the words of a row in a block.
#[target_feature(enable = "avx2")]
pub(super) fn sort(row: &[i8], to: &mut SortedWords) {
    let mut flipped = _mm256_setzero_si256();
    to.sort(row, |bytes, weights, flips| {
        look(bytes, weights, flips, &mut flipped)
    });
    // SAFETY: both are 32 bytes. At most 16 times two weights were added in a lane.
    let flipped: [i16; 16] = unsafe { mem::transmute(flipped) };
    let flipped: i32 = flipped.into_iter().map(i32::from).sum();
    to.set_offset(255 * flipped);
}

/// Finds out how 8 words are multiplied, and what weights and flips they have then. The weights whose activations are
/// flipped are added to `flipped`.
#[inline]
#[target_feature(enable = "avx2")]
fn look(
    bytes: &[i8; 4 * EIGHT],
    weights: &mut [u32; EIGHT],
    flips: &mut [u32; EIGHT],
    flipped: &mut __m256i,
) -> Found {
    let zero = _mm256_setzero_si256();
    let one = _mm256_set1_epi8(1);
    let exceeds = |a, b| _mm256_cmpgt_epi16(_mm256_max_epi16(a, b), _mm256_set1_epi16(MOST));
    // SAFETY: 32 bytes are there.
    let w = unsafe { _mm256_loadu_si256(bytes.as_ptr().cast()) };
    let positive = _mm256_max_epi8(w, zero);
    let negative = _mm256_sub_epi8(positive, w);
    // Sums of each sign in lanes of 16 bits, and those of the second word of a pair where the first one is.
    let positive = _mm256_maddubs_epi16(positive, one);
    let negative = _mm256_maddubs_epi16(negative, one);
    let next_positive = _mm256_srli_epi64::<32>(positive);
    let next_negative = _mm256_srli_epi64::<32>(negative);
    let first = _mm256_set1_epi64x(0xffff_ffff);
    let plain_exceeds = exceeds(
        _mm256_add_epi16(positive, next_positive),
        _mm256_add_epi16(negative, next_negative),
    );
    let plain_exceeds = _mm256_and_si256(plain_exceeds, first);
    let flipped_exceeds = exceeds(
        _mm256_add_epi16(negative, next_positive),
        _mm256_add_epi16(positive, next_negative),
    );
    // A lane of 64 bits for each pair.
    let plain = _mm256_cmpeq_epi64(plain_exceeds, zero);
    let fit = _mm256_cmpeq_epi64(_mm256_and_si256(plain_exceeds, flipped_exceeds), zero);
    let flip_lanes = _mm256_andnot_si256(flipped_exceeds, plain_exceeds);
    let flip_bytes = _mm256_and_si256(exceeds(positive, negative), _mm256_set1_epi16(0xff));
    let flip = _mm256_blendv_epi8(flip_bytes, flip_lanes, fit);
    let flipped_weights = _mm256_maddubs_epi16(one, _mm256_and_si256(w, flip));
    *flipped = _mm256_add_epi16(*flipped, flipped_weights);
    let w = _mm256_sign_epi8(w, _mm256_or_si256(flip, one));
    // SAFETY: 32 bytes are there.
    unsafe {
        _mm256_storeu_si256(weights.as_mut_ptr().cast(), w);
        _mm256_storeu_si256(flips.as_mut_ptr().cast(), flip);
    }
    let bits = |lanes| _mm256_movemask_pd(_mm256_castsi256_pd(lanes)) as usize;
    Found {
        plain: bits(plain),
        fit: bits(fit),
    }
}

/// Products of 8 rows with a tile of unsigned activations.
#[target_feature(enable = "avx2,fma")]
pub(super) fn multiply(
    rows: [&SortedWords; TILE_ROWS],
    b: &[Line<u32>],
    scaling: &Scaling<'_>,
    out: Out<'_>,
) {
    match scaling.row_scales.len() {
        3 => tile::<6>(rows, b, scaling, out),
        2 => tile::<4>(rows, b, scaling, out),
        _ => tile::<2>(rows, b, scaling, out),
    }
}

/// The same for lines of `V` registers.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn tile<const V: usize>(
    rows: [&SortedWords; TILE_ROWS],
    b: &[Line<u32>],
    scaling: &Scaling<'_>,
    mut out: Out<'_>,
) {
    for (i, row) in rows.into_iter().enumerate() {
        let at = Corner { row: i, part: 0 };
        let sums = sums::<V>(row, b);
        // SAFETY: the features are those of the registers; lines are `V` registers wide.
        unsafe {
            tiles::put_scaled::<Avx2, V>(sums, V * N / LANES, at, scaling, &mut out);
        }
    }
}

/// Sums over the words of a row.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn sums<const V: usize>(row: &SortedWords, b: &[Line<u32>]) -> [__m256i; V] {
    assert!(b.len() * LANES == row.n_words() * V * N);
    let x = b.as_ptr().cast::<u32>();
    // SAFETY: words of lists are below `n_words`, and there are `V` registers for each of so many.
    let load = |i: usize, v: usize| unsafe { Avx2::load_ints(x.add((i * V + v) * N)) };
    let splat = |words: &[u32; BLOCK_WORDS], i: usize| {
        // SAFETY: as above, and there are no more than these.
        _mm256_set1_epi32(unsafe { *words.get_unchecked(i) }.cast_signed())
    };
    let (weights, flips) = (row.weights(), row.flips());
    let ones = _mm256_set1_epi16(1);
    let mut sums = [_mm256_setzero_si256(); V];
    for &i in row.twos() {
        let i = usize::from(i);
        let (w, next) = (splat(weights, i), splat(weights, i + 1));
        for (v, sum) in sums.iter_mut().enumerate() {
            let products = _mm256_maddubs_epi16(load(i, v), w);
            let both = _mm256_add_epi16(products, _mm256_maddubs_epi16(load(i + 1, v), next));
            *sum = _mm256_add_epi32(*sum, _mm256_madd_epi16(both, ones));
        }
    }
    for &i in row.flipped() {
        let i = usize::from(i);
        let (w, next, flip) = (splat(weights, i), splat(weights, i + 1), splat(flips, i));
        for (v, sum) in sums.iter_mut().enumerate() {
            let products = _mm256_maddubs_epi16(_mm256_xor_si256(load(i, v), flip), w);
            let both = _mm256_add_epi16(products, _mm256_maddubs_epi16(load(i + 1, v), next));
            *sum = _mm256_add_epi32(*sum, _mm256_madd_epi16(both, ones));
        }
    }
    for &i in row.ones() {
        let i = usize::from(i);
        let (w, flip) = (splat(weights, i), splat(flips, i));
        for (v, sum) in sums.iter_mut().enumerate() {
            let products = _mm256_maddubs_epi16(_mm256_xor_si256(load(i, v), flip), w);
            *sum = _mm256_add_epi32(*sum, _mm256_madd_epi16(products, ones));
        }
    }
    let offset = _mm256_set1_epi32(row.offset());
    sums.map(|sum| _mm256_add_epi32(sum, offset))
}
