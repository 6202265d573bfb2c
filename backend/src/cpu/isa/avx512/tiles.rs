// SPDX-License-Identifier: MPL-2.0

//! Products of 8 rows of a matrix with a tile of activations.

use std::arch::x86_64::{
    __m512, __m512bh, __m512i, _mm512_add_ps, _mm512_castsi512_ps, _mm512_cvtepi32_ps,
    _mm512_dpbf16_ps, _mm512_dpbusd_epi32, _mm512_fmadd_ps, _mm512_mul_ps, _mm512_set1_epi32,
    _mm512_set1_ps, _mm512_setzero_ps, _mm512_setzero_si512, _mm512_sub_epi32,
};

use super::memory::{load, load_floats, store};
use crate::cpu::isa::operands::{Line, Out, Scaling, TILE_ROWS, Words};

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

/// Writes sums of bytes, `[8][V]` registers, as numbers.
macro_rules! scale {
    ($sums:ident, $scaling:ident, $out:ident) => {
        for r in 0..TILE_ROWS {
            let offset = _mm512_set1_epi32($scaling.offsets[r]);
            let scale = _mm512_set1_ps($scaling.scales[r]);
            let y = &mut $out.lines[r * $out.stride..][..V];
            for v in 0..V {
                let sum = _mm512_cvtepi32_ps(_mm512_sub_epi32($sums[r][v], offset));
                let scale = _mm512_mul_ps(scale, load_floats(&$scaling.row_scales[v]));
                let sum = if $out.add {
                    _mm512_fmadd_ps(sum, scale, load_floats(&y[v]))
                } else {
                    _mm512_mul_ps(sum, scale)
                };
                store(sum, &mut y[v]);
            }
        }
    };
}

#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
pub(super) fn bytes_tile<const V: usize>(
    a: &[Words],
    b: &[Line<u32>],
    scaling: &Scaling<'_>,
    out: Out<'_>,
) {
    let sums = sums!(a, b, _mm512_setzero_si512(), _mm512_dpbusd_epi32);
    scale!(sums, scaling, out);
}

/// [`bytes_tile`] of rows of a matrix where they are.
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
pub(super) fn bytes_in_place<const V: usize>(
    a: [&[i8]; TILE_ROWS],
    b: &[Line<u32>],
    scaling: &Scaling<'_>,
    out: Out<'_>,
) {
    let (lines, _) = b.as_chunks::<V>();
    // All of one length, so that it is checked once.
    let mut rows: [&[[i8; 4]]; TILE_ROWS] = [&[]; TILE_ROWS];
    for r in 0..TILE_ROWS {
        rows[r] = &a[r].as_chunks().0[..lines.len()];
    }
    let mut sums = [[_mm512_setzero_si512(); V]; TILE_ROWS];
    for (i, lines) in lines.iter().enumerate() {
        let mut x = [_mm512_setzero_si512(); V];
        for v in 0..V {
            x[v] = load(&lines[v]);
        }
        for r in 0..TILE_ROWS {
            let w = _mm512_set1_epi32(i32::from_le_bytes(rows[r][i].map(i8::cast_unsigned)));
            for v in 0..V {
                sums[r][v] = _mm512_dpbusd_epi32(sums[r][v], x[v], w);
            }
        }
    }
    scale!(sums, scaling, out);
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
pub(super) fn floats_tile<const V: usize>(a: &[Words], b: &[Line<u32>], out: Out<'_>) {
    let sums = sums!(a, b, _mm512_setzero_ps(), dot_floats);
    write(&sums, out);
}

#[target_feature(enable = "avx512f,avx512bw,avx512vnni,avx512bf16")]
pub(super) fn pairs_tile<const V: usize>(a: &[Words], b: &[Line<u32>], out: Out<'_>) {
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
