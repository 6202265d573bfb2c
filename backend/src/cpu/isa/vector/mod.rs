// SPDX-License-Identifier: MPL-2.0

//! Kernels that are the same for every instruction set, written over its registers.
//!
//! An instruction set says what its registers are ([`Registers`]) and how it multiplies what is in
//! their lanes ([`Dot`]). A kernel here is inlined into a function that is compiled for the set, and
//! its register tables have the sizes that the set has registers for.

#![expect(
    unsafe_code,
    reason = "the functions of an instruction set are called where it was found"
)]
#![expect(
    clippy::needless_range_loop,
    reason = "registers are numbered: one index names those of several tables"
)]

pub(super) mod attend;
pub(super) mod few;
pub(super) mod softmax;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
pub(super) mod table;
pub(super) mod tiles;

use half::bf16;

use super::operands::{LANES, Line, TILE_ROWS, Words};

/// Registers of an instruction set.
///
/// # Safety
///
/// Every function needs a processor that has the set; those that take an address, as much memory there
/// as they say.
pub(super) trait Registers: Copy {
    /// [`N`](Self::N) numbers.
    type Floats: Copy;

    /// As many 32-bit words, whatever is in them.
    type Ints: Copy;

    /// Lanes of 32 bits.
    const N: usize;

    /// How many registers there are.
    const COUNT: usize;

    unsafe fn splat(x: f32) -> Self::Floats;

    /// Reads `N` numbers.
    unsafe fn load(at: *const f32) -> Self::Floats;

    /// Writes `N` numbers.
    unsafe fn store(x: Self::Floats, at: *mut f32);

    unsafe fn add(a: Self::Floats, b: Self::Floats) -> Self::Floats;

    unsafe fn sub(a: Self::Floats, b: Self::Floats) -> Self::Floats;

    unsafe fn mul(a: Self::Floats, b: Self::Floats) -> Self::Floats;

    unsafe fn div(a: Self::Floats, b: Self::Floats) -> Self::Floats;

    unsafe fn max(a: Self::Floats, b: Self::Floats) -> Self::Floats;

    unsafe fn abs(x: Self::Floats) -> Self::Floats;

    /// `a * b + c`, rounded once.
    unsafe fn fma(a: Self::Floats, b: Self::Floats, c: Self::Floats) -> Self::Floats;

    /// `c - a * b`, rounded once.
    unsafe fn fnma(a: Self::Floats, b: Self::Floats, c: Self::Floats) -> Self::Floats;

    /// Where `u` is negative `yes`, else `no`.
    unsafe fn if_negative(u: Self::Floats, yes: Self::Floats, no: Self::Floats) -> Self::Floats;

    /// The nearest integers.
    unsafe fn round(x: Self::Floats) -> Self::Floats;

    /// `x * 2^n` for integers `n` from -126 to 127.
    unsafe fn times_power(x: Self::Floats, n: Self::Floats) -> Self::Floats;

    /// The sum of all lanes.
    unsafe fn sum(x: Self::Floats) -> f32;

    /// The sum of all lanes of each.
    unsafe fn sum_each(x: [Self::Floats; 4]) -> [f32; 4];

    /// Reads `N` numbers of bf16.
    unsafe fn load_bf16(at: *const bf16) -> Self::Floats;

    /// Words of two bf16, ties upwards, of numbers that are not negative, `low` in the low half.
    unsafe fn join_bf16(low: Self::Floats, high: Self::Floats) -> Self::Ints;

    unsafe fn splat_int(x: i32) -> Self::Ints;

    /// Reads `N` words.
    unsafe fn load_ints(at: *const u32) -> Self::Ints;

    /// Writes `N` words.
    unsafe fn store_ints(x: Self::Ints, at: *mut u32);

    unsafe fn add_ints(a: Self::Ints, b: Self::Ints) -> Self::Ints;

    unsafe fn sub_ints(a: Self::Ints, b: Self::Ints) -> Self::Ints;

    /// `256 x`
    unsafe fn times_256(x: Self::Ints) -> Self::Ints;

    /// As numbers.
    unsafe fn to_floats(x: Self::Ints) -> Self::Floats;

    /// The same bits as numbers.
    unsafe fn as_floats(x: Self::Ints) -> Self::Floats;

    /// Reads `2 N` bytes as 16-bit numbers, two to a word.
    unsafe fn load_bytes_wide(at: *const i8) -> Self::Ints;

    /// Asks for the cache line `bytes` bytes after `at` into the second cache: the first takes too few
    /// requests at a time for what comes from memory.
    unsafe fn prefetch_far(at: *const u8, bytes: usize);

    /// Likewise into the first cache, for processors where [`asks_near`](Self::asks_near).
    unsafe fn prefetch_near(at: *const u8, bytes: usize);

    /// Whether matrices that are read once are asked for into the first cache, also for one row.
    fn asks_near() -> bool;
}

/// What a product writes: sums of `V` registers from register `part` of the lines on, and of matrix rows
/// from `row` on.
#[derive(Clone, Copy)]
pub(in crate::cpu::isa) struct Corner {
    pub(in crate::cpu::isa) row: usize,
    pub(in crate::cpu::isa) part: usize,
}

/// A product of words, added to a sum.
pub(super) trait Dot<S: Registers>: Sized {
    /// What is summed.
    type Sum: Copy;

    /// No sum yet.
    ///
    /// # Safety
    ///
    /// As with [`Registers`].
    unsafe fn zero() -> Self::Sum;

    /// `sum + x . w`, lane by lane; where [`sums`](Self::sums) is the set's own, only the sum of all lanes
    /// counts.
    ///
    /// # Safety
    ///
    /// As with [`Registers`].
    unsafe fn dot(sum: Self::Sum, x: S::Ints, w: S::Ints) -> Self::Sum;

    /// Sums over the words: of `R` matrix rows and, lane by lane, of `V` registers of activations.
    ///
    /// # Safety
    ///
    /// As with [`Registers`]; a word of activations takes `width` lines, which the registers from the
    /// corner's on are within.
    #[inline(always)]
    unsafe fn sums<const R: usize, const V: usize>(
        a: &[Words],
        b: &[Line<u32>],
        width: usize,
        at: Corner,
    ) -> [[Self::Sum; V]; R] {
        assert!(at.row + R <= TILE_ROWS && b.len() >= a.len() * width);
        // SAFETY: the caller's; there are lines of as many words.
        unsafe {
            let mut sums = [[Self::zero(); V]; R];
            let mut x_at = b.as_ptr().cast::<u32>().add(at.part * S::N);
            // Two at a time, for every instruction beside the products counts.
            let (twos, last) = a.as_chunks::<2>();
            for words in twos {
                for words in words {
                    add::<S, Self, R, V>(words, x_at, at.row, &mut sums);
                    x_at = x_at.wrapping_add(width * LANES);
                }
            }
            for words in last {
                add::<S, Self, R, V>(words, x_at, at.row, &mut sums);
            }
            sums
        }
    }
}

/// Adds the products of a word to the sums of `R` matrix rows from `row` on.
///
/// # Safety
///
/// As with [`Registers`]; `V` registers are there at `x`.
#[inline(always)]
unsafe fn add<S: Registers, D: Dot<S>, const R: usize, const V: usize>(
    words: &Words,
    x: *const u32,
    row: usize,
    sums: &mut [[D::Sum; V]; R],
) {
    // SAFETY: the caller's.
    unsafe {
        let mut w = [S::splat_int(0); R];
        for r in 0..R {
            w[r] = S::splat_int(words[row + r].cast_signed());
        }
        // One register of activations is there at a time, so that the sums and the words of the matrix rows
        // leave room for it.
        for v in 0..V {
            let x = S::load_ints(x.add(v * S::N));
            for r in 0..R {
                sums[r][v] = D::dot(sums[r][v], x, w[r]);
            }
        }
    }
}

/// One f32 to a word.
#[cfg_attr(
    not(target_arch = "x86_64"),
    expect(dead_code, reason = "the others have instructions of their own for it")
)]
pub(super) struct Floats;

impl<S: Registers> Dot<S> for Floats {
    type Sum = S::Floats;

    #[inline(always)]
    unsafe fn zero() -> S::Floats {
        // SAFETY: the caller's.
        unsafe { S::splat(0.0) }
    }

    #[inline(always)]
    unsafe fn dot(sum: S::Floats, x: S::Ints, w: S::Ints) -> S::Floats {
        // SAFETY: the caller's.
        unsafe { S::fma(S::as_floats(x), S::as_floats(w), sum) }
    }
}
