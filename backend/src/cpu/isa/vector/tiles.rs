// SPDX-License-Identifier: MPL-2.0

//! Products of 8 rows of a matrix with a tile of activations: a corner of the tile at a time, whose sums
//! stay in registers.

use super::{Corner, Dot, Registers};
use crate::cpu::isa::operands::{LANES, Line, Out, Scaling, TILE_ROWS, Words};

/// Products of bytes with 32-bit sums: those of `R` matrix rows and `V` registers
/// of activations at a time, as far as there are as many; at the end of a narrow tile of `R2` and `V2`.
///
/// # Safety
///
/// The processor must have the set of `S`.
#[inline(always)]
pub(in crate::cpu::isa) unsafe fn scaled_tile<
    S,
    D,
    const R: usize,
    const V: usize,
    const R2: usize,
    const V2: usize,
>(
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
    for part in (whole..parts).step_by(V2) {
        for row in (0..TILE_ROWS).step_by(R2) {
            let at = Corner { row, part };
            // SAFETY: the caller's.
            unsafe { scaled::<S, D, R2, V2>(a, b, width, at, scaling, &mut out) };
        }
    }
}

/// Products of numbers whose sums are f32, likewise.
///
/// # Safety
///
/// The processor must have the set of `S`.
#[inline(always)]
pub(in crate::cpu::isa) unsafe fn floats_tile<
    S,
    D,
    const R: usize,
    const V: usize,
    const R2: usize,
    const V2: usize,
>(
    a: &[Words],
    b: &[Line<u32>],
    mut out: Out<'_>,
) where
    S: Registers,
    D: Dot<S, Sum = S::Floats>,
{
    let width = b.len() / a.len().max(1);
    let parts = width * LANES / S::N;
    let whole = parts / V * V;
    for part in (0..whole).step_by(V) {
        for row in (0..TILE_ROWS).step_by(R) {
            let at = Corner { row, part };
            // SAFETY: the caller's.
            unsafe { floats::<S, D, R, V>(a, b, width, at, &mut out) };
        }
    }
    for part in (whole..parts).step_by(V2) {
        for row in (0..TILE_ROWS).step_by(R2) {
            let at = Corner { row, part };
            // SAFETY: the caller's.
            unsafe { floats::<S, D, R2, V2>(a, b, width, at, &mut out) };
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
        for (r, sums) in D::sums::<R, V>(a, b, width, at).into_iter().enumerate() {
            let row = at.row + r;
            put_scaled::<S, V>(sums, width, Corner { row, ..at }, scaling, out);
        }
    }
}

/// Scales `V` registers of sums of a row, and puts them to a tile of `width` lines.
///
/// # Safety
///
/// The processor must have the set of `S`; the registers from `part` on are within the lines of a row.
#[inline(always)]
pub(in crate::cpu::isa) unsafe fn put_scaled<S: Registers, const V: usize>(
    sums: [S::Ints; V],
    width: usize,
    at: Corner,
    scaling: &Scaling<'_>,
    out: &mut Out<'_>,
) {
    let row_scales = scaling.row_scales[..width].as_ptr().cast::<f32>();
    let y = out.lines[at.row * out.stride..][..width].as_mut_ptr();
    // SAFETY: the caller's.
    unsafe {
        let offset = S::splat_int(scaling.offsets[at.row]);
        let scale = S::splat(scaling.scales[at.row]);
        for v in 0..V {
            let first = (at.part + v) * S::N;
            let y = y.cast::<f32>().add(first);
            let sum = S::to_floats(S::sub_ints(sums[v], offset));
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

#[inline(always)]
unsafe fn floats<S, D, const R: usize, const V: usize>(
    a: &[Words],
    b: &[Line<u32>],
    width: usize,
    at: Corner,
    out: &mut Out<'_>,
) where
    S: Registers,
    D: Dot<S, Sum = S::Floats>,
{
    // SAFETY: the caller's; the registers from `part` on are within the lines of a row.
    unsafe {
        let sums = D::sums::<R, V>(a, b, width, at);
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
