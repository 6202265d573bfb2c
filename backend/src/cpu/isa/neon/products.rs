// SPDX-License-Identifier: MPL-2.0

//! How words are multiplied.
//!
//! Instructions that the oldest Rust that builds this has no function for are written out.

use core::arch::asm;
use std::arch::aarch64::{
    float32x4_t, int32x4_t, vdupq_n_f32, vdupq_n_s32, vfmaq_laneq_f32, vget_low_s8, vmlal_high_s8,
    vmull_s8, vpadalq_s16, vreinterpretq_f32_s64, vreinterpretq_s8_s32, vreinterpretq_s32_s64,
    vreinterpretq_s64_f32, vreinterpretq_s64_s32, vzip1q_s64, vzip2q_s64,
};

use super::registers::Neon;
use super::sums::{Blocks, Lanes, by_block, by_lane, in_sixteen_bits};
use crate::cpu::isa::operands::{Line, Words};
use crate::cpu::isa::vector::{Corner, Dot, Registers};

/// One f32 to a word.
pub(super) struct Floats;

/// Four signed bytes to a word, by what every `ARMv8-A` has: two products of 8 bits in 16 bits, which hold
/// them, and a sum of neighbours in 32.
pub(super) struct Bytes;

/// Four signed bytes to a word: `FEAT_DotProd`.
pub(super) struct Dots;

/// Four signed bytes to a word, 2 rows by 2 rows at a time: `FEAT_I8MM`.
pub(super) struct ByteBlocks;

/// Two bf16 to a word, 2 rows by 2 rows at a time: `FEAT_BF16`.
pub(super) struct Bf16Blocks;

/// An instruction that adds a product to `sum`.
macro_rules! instruction {
    ($instruction:literal, $sum:ident, $x:ident, $w:ident $(, $lane:ident = const $value:expr)?) => {{
        let mut sum = $sum;
        asm!(
            $instruction,
            sum = inout(vreg) sum,
            x = in(vreg) $x,
            w = in(vreg) $w,
            $($lane = const $value,)?
            options(pure, nomem, nostack, preserves_flags),
        );
        sum
    }};
}

impl Dot<Neon> for Floats {
    type Sum = float32x4_t;

    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn zero() -> float32x4_t {
        vdupq_n_f32(0.0)
    }

    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn dot(sum: float32x4_t, x: int32x4_t, w: int32x4_t) -> float32x4_t {
        // SAFETY: the caller's.
        unsafe { Neon::fma(Neon::as_floats(x), Neon::as_floats(w), sum) }
    }

    #[inline(always)]
    unsafe fn sums<const R: usize, const V: usize>(
        a: &[Words],
        b: &[Line<u32>],
        width: usize,
        at: Corner,
    ) -> [[float32x4_t; V]; R] {
        // SAFETY: the caller's.
        unsafe { by_lane::<Self, R, V>(a, b, width, at) }
    }
}

impl Lanes for Floats {
    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn lanes(sums: [float32x4_t; 4], x: int32x4_t, w: int32x4_t) -> [float32x4_t; 4] {
        // SAFETY: the caller's.
        let (x, w) = unsafe { (Neon::as_floats(x), Neon::as_floats(w)) };
        [
            vfmaq_laneq_f32::<0>(sums[0], x, w),
            vfmaq_laneq_f32::<1>(sums[1], x, w),
            vfmaq_laneq_f32::<2>(sums[2], x, w),
            vfmaq_laneq_f32::<3>(sums[3], x, w),
        ]
    }
}

impl Dot<Neon> for Bytes {
    type Sum = int32x4_t;

    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn zero() -> int32x4_t {
        vdupq_n_s32(0)
    }

    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn dot(sum: int32x4_t, x: int32x4_t, w: int32x4_t) -> int32x4_t {
        let (x, w) = (vreinterpretq_s8_s32(x), vreinterpretq_s8_s32(w));
        // Both halves into the same lanes: only the sum of all counts.
        let products = vmull_s8(vget_low_s8(x), vget_low_s8(w));
        vpadalq_s16(sum, vmlal_high_s8(products, x, w))
    }

    #[inline(always)]
    unsafe fn sums<const R: usize, const V: usize>(
        a: &[Words],
        b: &[Line<u32>],
        width: usize,
        at: Corner,
    ) -> [[int32x4_t; V]; R] {
        // SAFETY: the caller's.
        unsafe { in_sixteen_bits::<R, V>(a, b, width, at) }
    }
}

impl Dot<Neon> for Dots {
    type Sum = int32x4_t;

    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn zero() -> int32x4_t {
        vdupq_n_s32(0)
    }

    #[inline]
    #[target_feature(enable = "neon,dotprod")]
    unsafe fn dot(sum: int32x4_t, x: int32x4_t, w: int32x4_t) -> int32x4_t {
        // SAFETY: the caller's: the processor has it. It touches registers only.
        unsafe { instruction!("sdot {sum:v}.4s, {x:v}.16b, {w:v}.16b", sum, x, w) }
    }

    #[inline(always)]
    unsafe fn sums<const R: usize, const V: usize>(
        a: &[Words],
        b: &[Line<u32>],
        width: usize,
        at: Corner,
    ) -> [[int32x4_t; V]; R] {
        // SAFETY: the caller's.
        unsafe { by_lane::<Self, R, V>(a, b, width, at) }
    }
}

/// `sdot` with the four bytes of one lane.
#[inline]
#[target_feature(enable = "neon,dotprod")]
fn dot_lane<const LANE: usize>(sum: int32x4_t, x: int32x4_t, w: int32x4_t) -> int32x4_t {
    // SAFETY: the function has the feature. It touches registers only.
    unsafe {
        instruction!(
            "sdot {sum:v}.4s, {x:v}.16b, {w:v}.4b[{lane}]",
            sum,
            x,
            w,
            lane = const LANE
        )
    }
}

impl Lanes for Dots {
    #[inline]
    #[target_feature(enable = "neon,dotprod")]
    unsafe fn lanes(sums: [int32x4_t; 4], x: int32x4_t, w: int32x4_t) -> [int32x4_t; 4] {
        [
            dot_lane::<0>(sums[0], x, w),
            dot_lane::<1>(sums[1], x, w),
            dot_lane::<2>(sums[2], x, w),
            dot_lane::<3>(sums[3], x, w),
        ]
    }
}

/// Declares products of 2 rows by 2 rows.
macro_rules! blocks {
    ($name:ident, $sum:ty, $zero:expr, $features:literal, $dot:literal, $block:literal, [$as_long:ident, $from_long:ident]) => {
        impl Dot<Neon> for $name {
            type Sum = $sum;

            #[inline]
            #[target_feature(enable = "neon")]
            unsafe fn zero() -> $sum {
                $zero
            }

            #[inline]
            #[target_feature(enable = $features)]
            unsafe fn dot(sum: $sum, x: int32x4_t, w: int32x4_t) -> $sum {
                // SAFETY: the caller's: the processor has it. It touches registers only.
                unsafe { instruction!($dot, sum, x, w) }
            }

            #[inline(always)]
            unsafe fn sums<const R: usize, const V: usize>(
                a: &[Words],
                b: &[Line<u32>],
                width: usize,
                at: Corner,
            ) -> [[$sum; V]; R] {
                // SAFETY: the caller's.
                unsafe { by_block::<Self, R, V>(a, b, width, at) }
            }
        }

        impl Blocks for $name {
            #[inline]
            #[target_feature(enable = $features)]
            unsafe fn block(sum: $sum, w: int32x4_t, x: int32x4_t) -> $sum {
                // SAFETY: the caller's: the processor has it. It touches registers only.
                unsafe { instruction!($block, sum, x, w) }
            }

            #[inline]
            #[target_feature(enable = "neon")]
            unsafe fn rows(low: $sum, high: $sum) -> [$sum; 2] {
                let (low, high) = ($as_long(low), $as_long(high));
                [
                    $from_long(vzip1q_s64(low, high)),
                    $from_long(vzip2q_s64(low, high)),
                ]
            }
        }
    };
}

blocks!(
    ByteBlocks,
    int32x4_t,
    vdupq_n_s32(0),
    "neon,dotprod,i8mm",
    "sdot {sum:v}.4s, {x:v}.16b, {w:v}.16b",
    "smmla {sum:v}.4s, {w:v}.16b, {x:v}.16b",
    [vreinterpretq_s64_s32, vreinterpretq_s32_s64]
);

blocks!(
    Bf16Blocks,
    float32x4_t,
    vdupq_n_f32(0.0),
    "neon,bf16",
    "bfdot {sum:v}.4s, {x:v}.8h, {w:v}.8h",
    "bfmmla {sum:v}.4s, {w:v}.8h, {x:v}.8h",
    [vreinterpretq_s64_f32, vreinterpretq_f32_s64]
);
