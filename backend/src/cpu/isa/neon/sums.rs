// SPDX-License-Identifier: MPL-2.0

//! How the sums of a tile are made of products: by lanes, by blocks of 2 rows by 2 rows, or in 16 bits first.

use core::arch::asm;
use std::arch::aarch64::{int32x4_t, vpaddq_s32, vzip1q_s32, vzip2q_s32};

use super::registers::Neon;
use crate::cpu::isa::operands::{LANES, Line, TILE_ROWS, Words};
use crate::cpu::isa::vector::{Corner, Dot, Registers};

/// A product with one word of a register, for each of its words.
pub(super) trait Lanes: Dot<Neon> {
    /// `sums[i] + x . w[i]`, lane by lane of `x`.
    ///
    /// # Safety
    ///
    /// As with [`Registers`].
    unsafe fn lanes(sums: [Self::Sum; 4], x: int32x4_t, w: int32x4_t) -> [Self::Sum; 4];
}

/// Products of two rows of a matrix with two of activations, of two words of each.
pub(super) trait Blocks: Dot<Neon> {
    /// `sum + [[w0 . x0, w0 . x1], [w1 . x0, w1 . x1]]` of rows `[w0, w1]` and `[x0, x1]`.
    ///
    /// # Safety
    ///
    /// As with [`Registers`].
    unsafe fn block(sum: Self::Sum, w: int32x4_t, x: int32x4_t) -> Self::Sum;

    /// The first matrix row's sums of two blocks, and the second's.
    ///
    /// # Safety
    ///
    /// As with [`Registers`].
    unsafe fn rows(low: Self::Sum, high: Self::Sum) -> [Self::Sum; 2];
}

/// Sums with one word of a matrix at a time, which an instruction takes from a lane: so a word costs a
/// quarter of a load, and none of the arithmetic's time.
///
/// # Safety
///
/// As with [`Dot::sums`].
#[inline(always)]
pub(super) unsafe fn by_lane<D: Lanes, const R: usize, const V: usize>(
    a: &[Words],
    b: &[Line<u32>],
    width: usize,
    at: Corner,
) -> [[D::Sum; V]; R] {
    const { assert!(R.is_multiple_of(4)) };
    assert!(at.row + R <= TILE_ROWS && b.len() >= a.len() * width);
    // SAFETY: the caller's; there are lines of as many words.
    unsafe {
        let mut sums = [[D::zero(); V]; R];
        let mut x_at = b.as_ptr().cast::<u32>().add(at.part * Neon::N);
        for words in a {
            let mut w = [Neon::splat_int(0); TILE_ROWS / 4];
            for q in 0..R / 4 {
                w[q] = Neon::load_ints(words.as_ptr().add(at.row + 4 * q));
            }
            for v in 0..V {
                let x = Neon::load_ints(x_at.add(v * Neon::N));
                for q in 0..R / 4 {
                    let r = 4 * q;
                    let four = [sums[r][v], sums[r + 1][v], sums[r + 2][v], sums[r + 3][v]];
                    let four = D::lanes(four, x, w[q]);
                    for i in 0..4 {
                        sums[r + i][v] = four[i];
                    }
                }
            }
            x_at = x_at.wrapping_add(width * LANES);
        }
        sums
    }
}

/// Sums with two words at a time of two rows of a matrix and of two of activations: the words of two rows
/// are put side by side first.
///
/// # Safety
///
/// As with [`Dot::sums`].
#[inline(always)]
pub(super) unsafe fn by_block<D: Blocks, const R: usize, const V: usize>(
    a: &[Words],
    b: &[Line<u32>],
    width: usize,
    at: Corner,
) -> [[D::Sum; V]; R] {
    const { assert!(R.is_multiple_of(4)) };
    assert!(at.row + R <= TILE_ROWS && b.len() >= a.len() * width);
    // SAFETY: the caller's; there are lines of as many words.
    unsafe {
        let mut sums = [[[D::zero(); 2]; V]; TILE_ROWS / 2];
        let mut x_at = b.as_ptr().cast::<u32>().add(at.part * Neon::N);
        let step = width * LANES;
        let (pairs, rest) = a.as_chunks::<2>();
        for [first, second] in pairs {
            let mut w = [Neon::splat_int(0); TILE_ROWS / 2];
            for q in 0..R / 4 {
                let first = Neon::load_ints(first.as_ptr().add(at.row + 4 * q));
                let second = Neon::load_ints(second.as_ptr().add(at.row + 4 * q));
                w[2 * q] = vzip1q_s32(first, second);
                w[2 * q + 1] = vzip2q_s32(first, second);
            }
            for v in 0..V {
                let first = Neon::load_ints(x_at.add(v * Neon::N));
                let second = Neon::load_ints(x_at.add(step + v * Neon::N));
                let x = [vzip1q_s32(first, second), vzip2q_s32(first, second)];
                for p in 0..R / 2 {
                    for i in 0..2 {
                        sums[p][v][i] = D::block(sums[p][v][i], w[p], x[i]);
                    }
                }
            }
            x_at = x_at.wrapping_add(2 * step);
        }
        if let [last] = rest {
            let zero = Neon::splat_int(0);
            for v in 0..V {
                let x = Neon::load_ints(x_at.add(v * Neon::N));
                let x = [vzip1q_s32(x, zero), vzip2q_s32(x, zero)];
                for q in 0..R / 4 {
                    let w = Neon::load_ints(last.as_ptr().add(at.row + 4 * q));
                    let w = [vzip1q_s32(w, zero), vzip2q_s32(w, zero)];
                    for p in 0..2 {
                        for i in 0..2 {
                            let sum = &mut sums[2 * q + p][v][i];
                            *sum = D::block(*sum, w[p], x[i]);
                        }
                    }
                }
            }
        }
        let mut all = [[D::zero(); V]; R];
        for p in 0..R / 2 {
            for v in 0..V {
                let [low, high] = sums[p][v];
                [all[2 * p][v], all[2 * p + 1][v]] = D::rows(low, high);
            }
        }
        all
    }
}

/// Adds the products of two words, of four bytes each, of two matrix rows and a register of activations to
/// `sums[row]`: two lanes of them for each row of activations, in two registers.
///
/// In the order of a processor that issues in order: four products are under way at a time. The compiler
/// keeps more, and moves sums about for it.
#[inline]
#[target_feature(enable = "neon")]
fn add_two_rows(sums: &mut [[int32x4_t; 2]; 2], x: [int32x4_t; 2], [a, b]: [[int32x4_t; 2]; 2]) {
    let [[a_low, a_high], [b_low, b_high]] = sums;
    // SAFETY: the function has the feature. They touch registers only.
    unsafe {
        asm!(
            "smull {p:v}.8h, {x0:v}.8b, {a0:v}.8b",
            "smull2 {q:v}.8h, {x0:v}.16b, {a0:v}.16b",
            "smull {r:v}.8h, {x0:v}.8b, {b0:v}.8b",
            "smull2 {s:v}.8h, {x0:v}.16b, {b0:v}.16b",
            "smlal {p:v}.8h, {x1:v}.8b, {a1:v}.8b",
            "smlal2 {q:v}.8h, {x1:v}.16b, {a1:v}.16b",
            "smlal {r:v}.8h, {x1:v}.8b, {b1:v}.8b",
            "smlal2 {s:v}.8h, {x1:v}.16b, {b1:v}.16b",
            "sadalp {a_low:v}.4s, {p:v}.8h",
            "sadalp {a_high:v}.4s, {q:v}.8h",
            "sadalp {b_low:v}.4s, {r:v}.8h",
            "sadalp {b_high:v}.4s, {s:v}.8h",
            a_low = inout(vreg) *a_low,
            a_high = inout(vreg) *a_high,
            b_low = inout(vreg) *b_low,
            b_high = inout(vreg) *b_high,
            x0 = in(vreg) x[0],
            x1 = in(vreg) x[1],
            a0 = in(vreg) a[0],
            a1 = in(vreg) a[1],
            b0 = in(vreg) b[0],
            b1 = in(vreg) b[1],
            p = out(vreg) _,
            q = out(vreg) _,
            r = out(vreg) _,
            s = out(vreg) _,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
}

/// Sums of bytes, the products of two words in 16 bits before they are added to what has 32. Of the four
/// bytes of a word two lanes are left, which are added at the end.
///
/// # Safety
///
/// As with [`Dot::sums`].
#[inline(always)]
pub(super) unsafe fn in_sixteen_bits<const R: usize, const V: usize>(
    a: &[Words],
    b: &[Line<u32>],
    width: usize,
    at: Corner,
) -> [[int32x4_t; V]; R] {
    const { assert!(R.is_multiple_of(2)) };
    assert!(at.row + R <= TILE_ROWS && b.len() >= a.len() * width);
    // SAFETY: the caller's; there are lines of as many words.
    unsafe {
        let zero = Neon::splat_int(0);
        let mut sums = [[[zero; 2]; R]; V];
        let mut x_at = b.as_ptr().cast::<u32>().add(at.part * Neon::N);
        let step = width * LANES;
        let spread = |words: &Words| {
            let mut w = [zero; R];
            for r in 0..R {
                w[r] = Neon::splat_int(words[at.row + r].cast_signed());
            }
            w
        };
        let (pairs, rest) = a.as_chunks::<2>();
        for [first, second] in pairs {
            let (first, second) = (spread(first), spread(second));
            for v in 0..V {
                let x = [0, step].map(|more| Neon::load_ints(x_at.add(more + v * Neon::N)));
                for r in (0..R).step_by(2) {
                    let w = [[first[r], second[r]], [first[r + 1], second[r + 1]]];
                    add_two_rows(two(&mut sums[v], r), x, w);
                }
            }
            x_at = x_at.wrapping_add(2 * step);
        }
        if let [last] = rest {
            let last = spread(last);
            for v in 0..V {
                let x = [Neon::load_ints(x_at.add(v * Neon::N)), zero];
                for r in (0..R).step_by(2) {
                    let w = [[last[r], zero], [last[r + 1], zero]];
                    add_two_rows(two(&mut sums[v], r), x, w);
                }
            }
        }
        let mut all = [[zero; V]; R];
        for r in 0..R {
            for v in 0..V {
                let [low, high] = sums[v][r];
                all[r][v] = vpaddq_s32(low, high);
            }
        }
        all
    }
}

/// Two of some rows, from `row` on.
#[inline(always)]
fn two<T>(rows: &mut [T], row: usize) -> &mut [T; 2] {
    // There are as many: rows are counted by two.
    rows[row..].first_chunk_mut().expect("two rows")
}
