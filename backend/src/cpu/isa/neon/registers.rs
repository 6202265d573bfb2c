// SPDX-License-Identifier: MPL-2.0

//! Registers of 128 bits.

use std::arch::aarch64::{
    float32x4_t, int32x4_t, vabsq_f32, vaddq_f32, vaddq_s32, vaddvq_f32, vbslq_f32, vcltzq_s32,
    vcvtnq_s32_f32, vcvtq_f32_s32, vdivq_f32, vdupq_n_f32, vdupq_n_s32, vfmaq_f32, vfmsq_f32,
    vld1_s8, vld1_u16, vld1q_f32, vld1q_s32, vmaxq_f32, vmovl_s8, vmulq_f32, vpaddq_f32,
    vreinterpretq_f32_s32, vreinterpretq_f32_u32, vreinterpretq_s32_f32, vreinterpretq_s32_s16,
    vreinterpretq_s32_u32, vreinterpretq_u32_s32, vrndnq_f32, vshll_n_u16, vshlq_n_s32,
    vsriq_n_u32, vst1q_f32, vst1q_s32, vsubq_f32, vsubq_s32,
};

use half::bf16;

use super::memory::ask;
use crate::cpu::isa::vector::Registers;

/// What every `ARMv8-A` has.
#[derive(Clone, Copy)]
pub(super) struct Neon;

impl Registers for Neon {
    type Floats = float32x4_t;
    type Ints = int32x4_t;
    const N: usize = 4;
    const COUNT: usize = 32;

    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn splat(x: f32) -> float32x4_t {
        vdupq_n_f32(x)
    }

    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn load(at: *const f32) -> float32x4_t {
        // SAFETY: the caller's: 16 bytes are there.
        unsafe { vld1q_f32(at) }
    }

    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn store(x: float32x4_t, at: *mut f32) {
        // SAFETY: the caller's: 16 bytes are there.
        unsafe { vst1q_f32(at, x) }
    }

    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn add(a: float32x4_t, b: float32x4_t) -> float32x4_t {
        vaddq_f32(a, b)
    }

    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn sub(a: float32x4_t, b: float32x4_t) -> float32x4_t {
        vsubq_f32(a, b)
    }

    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn mul(a: float32x4_t, b: float32x4_t) -> float32x4_t {
        vmulq_f32(a, b)
    }

    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn div(a: float32x4_t, b: float32x4_t) -> float32x4_t {
        vdivq_f32(a, b)
    }

    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn max(a: float32x4_t, b: float32x4_t) -> float32x4_t {
        vmaxq_f32(a, b)
    }

    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn abs(x: float32x4_t) -> float32x4_t {
        vabsq_f32(x)
    }

    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn fma(a: float32x4_t, b: float32x4_t, c: float32x4_t) -> float32x4_t {
        vfmaq_f32(c, a, b)
    }

    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn fnma(a: float32x4_t, b: float32x4_t, c: float32x4_t) -> float32x4_t {
        vfmsq_f32(c, a, b)
    }

    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn if_negative(u: float32x4_t, yes: float32x4_t, no: float32x4_t) -> float32x4_t {
        vbslq_f32(vcltzq_s32(vreinterpretq_s32_f32(u)), yes, no)
    }

    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn round(x: float32x4_t) -> float32x4_t {
        vrndnq_f32(x)
    }

    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn times_power(x: float32x4_t, n: float32x4_t) -> float32x4_t {
        let exponent = vaddq_s32(vcvtnq_s32_f32(n), vdupq_n_s32(127));
        vmulq_f32(x, vreinterpretq_f32_s32(vshlq_n_s32::<23>(exponent)))
    }

    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn sum(x: float32x4_t) -> f32 {
        vaddvq_f32(x)
    }

    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn sum_each([a, b, c, d]: [float32x4_t; 4]) -> [f32; 4] {
        let x = vpaddq_f32(vpaddq_f32(a, b), vpaddq_f32(c, d));
        let mut sums = [0.0; 4];
        // SAFETY: 16 bytes are there.
        unsafe { vst1q_f32(sums.as_mut_ptr(), x) };
        sums
    }

    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn load_bf16(at: *const bf16) -> float32x4_t {
        // SAFETY: the caller's: 8 bytes are there, and a bf16 is 16 bits.
        let bits = unsafe { vld1_u16(at.cast()) };
        vreinterpretq_f32_u32(vshll_n_u16::<16>(bits))
    }

    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn join_bf16(low: float32x4_t, high: float32x4_t) -> int32x4_t {
        let half = vdupq_n_s32(0x8000);
        let low = vaddq_s32(vreinterpretq_s32_f32(low), half);
        let high = vaddq_s32(vreinterpretq_s32_f32(high), half);
        let (low, high) = (vreinterpretq_u32_s32(low), vreinterpretq_u32_s32(high));
        vreinterpretq_s32_u32(vsriq_n_u32::<16>(high, low))
    }

    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn splat_int(x: i32) -> int32x4_t {
        vdupq_n_s32(x)
    }

    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn load_ints(at: *const u32) -> int32x4_t {
        // SAFETY: the caller's: 16 bytes are there.
        unsafe { vld1q_s32(at.cast()) }
    }

    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn store_ints(x: int32x4_t, at: *mut u32) {
        // SAFETY: the caller's: 16 bytes are there.
        unsafe { vst1q_s32(at.cast(), x) }
    }

    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn add_ints(a: int32x4_t, b: int32x4_t) -> int32x4_t {
        vaddq_s32(a, b)
    }

    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn sub_ints(a: int32x4_t, b: int32x4_t) -> int32x4_t {
        vsubq_s32(a, b)
    }

    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn times_256(x: int32x4_t) -> int32x4_t {
        vshlq_n_s32::<8>(x)
    }

    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn to_floats(x: int32x4_t) -> float32x4_t {
        vcvtq_f32_s32(x)
    }

    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn as_floats(x: int32x4_t) -> float32x4_t {
        vreinterpretq_f32_s32(x)
    }

    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn load_bytes_wide(at: *const i8) -> int32x4_t {
        // SAFETY: the caller's: 8 bytes are there.
        vreinterpretq_s32_s16(vmovl_s8(unsafe { vld1_s8(at) }))
    }

    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn prefetch_far(at: *const u8, bytes: usize) {
        ask!("pldl2keep", at.wrapping_add(bytes));
    }

    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn prefetch_near(at: *const u8, bytes: usize) {
        ask!("pldl1keep", at.wrapping_add(bytes));
    }

    fn asks_near() -> bool {
        false
    }
}
