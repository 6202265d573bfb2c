// SPDX-License-Identifier: MPL-2.0

//! Products of 8 rows of a matrix with a tile of activations: a corner of the tile at a time, whose sums
//! stay in registers.

use super::{Dot, Floats, Registers};
use crate::cpu::isa::operands::{LANES, Line, Out, Scaling, TILE_ROWS, Words};

/// Registers of activations at the end of a narrow tile, an even number of which is left.
const REST: usize = 2;

/// Matrix rows that they are multiplied with at a time.
const REST_ROWS: usize = 4;

/// What a product writes: sums of `V` registers from register `part` of the lines on, and of matrix rows
/// from `row` on.
#[derive(Clone, Copy)]
struct Corner {
    row: usize,
    part: usize,
}

/// Products of bytes, or of bytes in 16 bits, with 32-bit sums: those of `R` matrix rows and `V` registers
/// of activations at a time, as far as there are as many.
///
/// # Safety
///
/// The processor must have the set of `S`.
#[inline(always)]
pub(in crate::cpu::isa) unsafe fn scaled_tile<S, D, const R: usize, const V: usize>(
    a: &[Words],
    b: &[Line<u32>],
    scaling: &Scaling<'_>,
    mut out: Out<'_>,
) where
    S: Registers,
    D: Dot<S, Sum = S::Ints>,
{
    let width = b.len() / a.len().max(1);
    let parts = width * LANES / S::N;
    let whole = parts / V * V;
    for part in (0..whole).step_by(V) {
        for row in (0..TILE_ROWS).step_by(R) {
            let at = Corner { row, part };
            // SAFETY: the caller's.
            unsafe { scaled::<S, D, R, V>(a, b, width, at, scaling, &mut out) };
        }
    }
    for part in (whole..parts).step_by(REST) {
        for row in (0..TILE_ROWS).step_by(REST_ROWS) {
            let at = Corner { row, part };
            // SAFETY: the caller's.
            unsafe { scaled::<S, D, REST_ROWS, REST>(a, b, width, at, scaling, &mut out) };
        }
    }
}

/// Products of f32, likewise.
///
/// # Safety
///
/// The processor must have the set of `S`.
#[inline(always)]
pub(in crate::cpu::isa) unsafe fn floats_tile<S: Registers, const R: usize, const V: usize>(
    a: &[Words],
    b: &[Line<u32>],
    mut out: Out<'_>,
) {
    let width = b.len() / a.len().max(1);
    let parts = width * LANES / S::N;
    let whole = parts / V * V;
    for part in (0..whole).step_by(V) {
        for row in (0..TILE_ROWS).step_by(R) {
            let at = Corner { row, part };
            // SAFETY: the caller's.
            unsafe { floats::<S, R, V>(a, b, width, at, &mut out) };
        }
    }
    for part in (whole..parts).step_by(REST) {
        for row in (0..TILE_ROWS).step_by(REST_ROWS) {
            let at = Corner { row, part };
            // SAFETY: the caller's.
            unsafe { floats::<S, REST_ROWS, REST>(a, b, width, at, &mut out) };
        }
    }
}

#[inline(always)]
unsafe fn scaled<S, D, const R: usize, const V: usize>(
    a: &[Words],
    b: &[Line<u32>],
    width: usize,
    at: Corner,
    scaling: &Scaling<'_>,
    out: &mut Out<'_>,
) where
    S: Registers,
    D: Dot<S, Sum = S::Ints>,
{
    // SAFETY: the caller's; the registers from `part` on are within the lines of a row.
    unsafe {
        let sums = sums::<S, D, R, V>(a, b, width, at);
        let row_scales = scaling.row_scales[..width].as_ptr().cast::<f32>();
        for r in 0..R {
            let offset = S::splat_int(scaling.offsets[at.row + r]);
            let scale = S::splat(scaling.scales[at.row + r]);
            let y = out.lines[(at.row + r) * out.stride..][..width].as_mut_ptr();
            for v in 0..V {
                let first = (at.part + v) * S::N;
                let y = y.cast::<f32>().add(first);
                let sum = S::to_floats(S::sub_ints(sums[r][v], offset));
                let scale = S::mul(scale, S::load(row_scales.add(first)));
                let sum = if out.add {
                    S::fma(sum, scale, S::load(y))
                } else {
                    S::mul(sum, scale)
                };
                S::store(sum, y);
            }
        }
    }
}

#[inline(always)]
unsafe fn floats<S: Registers, const R: usize, const V: usize>(
    a: &[Words],
    b: &[Line<u32>],
    width: usize,
    at: Corner,
    out: &mut Out<'_>,
) {
    // SAFETY: the caller's; the registers from `part` on are within the lines of a row.
    unsafe {
        let sums = sums::<S, Floats, R, V>(a, b, width, at);
        for r in 0..R {
            let y = out.lines[(at.row + r) * out.stride..][..width].as_mut_ptr();
            for v in 0..V {
                let y = y.cast::<f32>().add((at.part + v) * S::N);
                let sum = if out.add {
                    S::add(sums[r][v], S::load(y))
                } else {
                    sums[r][v]
                };
                S::store(sum, y);
            }
        }
    }
}

/// Sums over the words. One register of activations is there at a time, so that the sums and the words
/// of the matrix rows leave room for it.
#[inline(always)]
unsafe fn sums<S: Registers, D: Dot<S>, const R: usize, const V: usize>(
    a: &[Words],
    b: &[Line<u32>],
    width: usize,
    at: Corner,
) -> [[D::Sum; V]; R] {
    assert!(at.row + R <= TILE_ROWS && b.len() >= a.len() * width);
    // SAFETY: the caller's; a word of activations takes `width` lines, as many as there are words, and
    // `part` and the `V` registers from it on are within them.
    unsafe {
        let mut sums = [[D::zero(); V]; R];
        let mut x_at = b.as_ptr().cast::<u32>().add(at.part * S::N);
        for words in a {
            let mut w = [S::splat_int(0); R];
            for r in 0..R {
                w[r] = S::splat_int(words[at.row + r].cast_signed());
            }
            for v in 0..V {
                let x = S::load_ints(x_at.add(v * S::N));
                for r in 0..R {
                    sums[r][v] = D::dot(sums[r][v], x, w[r]);
                }
            }
            x_at = x_at.wrapping_add(width * LANES);
        }
        sums
    }
}
