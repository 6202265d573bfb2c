// SPDX-License-Identifier: MPL-2.0

//! Lines turned into columns, and what is asked for before it is needed.

use std::arch::aarch64::{
    uint32x4_t, vdupq_n_u32, vld1q_u32, vreinterpretq_u32_u64, vreinterpretq_u64_u32, vst1q_u32,
    vzip1q_u32, vzip1q_u64, vzip2q_u32, vzip2q_u64,
};

use crate::cpu::isa::operands::{CACHE_LINE, LANES, Line};
use crate::cpu::isa::tables::ByteWords;

#[target_feature(enable = "neon")]
pub(super) fn transpose(lines: &mut [Line<u32>; LANES]) {
    let from = *lines;
    for first in (0..LANES).step_by(4) {
        for column in (0..LANES).step_by(4) {
            let columns = four_columns(&from, first, column);
            for (line, x) in lines[column..column + 4].iter_mut().zip(columns) {
                // SAFETY: 16 bytes are there.
                unsafe { vst1q_u32(line.0[first..][..4].as_mut_ptr(), x) }
            }
        }
    }
}

/// Numbers `column..column + 4` of the four lines from `first` on.
#[inline]
#[target_feature(enable = "neon")]
fn four_columns(lines: &[Line<u32>; LANES], first: usize, column: usize) -> [uint32x4_t; 4] {
    let mut x = [vdupq_n_u32(0); 4];
    for (x, line) in x.iter_mut().zip(&lines[first..first + 4]) {
        // SAFETY: 16 bytes are there.
        *x = unsafe { vld1q_u32(line.0[column..][..4].as_ptr()) };
    }
    let [a, b, c, d] = x;
    let (a, b, c, d) = (
        vreinterpretq_u64_u32(vzip1q_u32(a, b)),
        vreinterpretq_u64_u32(vzip1q_u32(c, d)),
        vreinterpretq_u64_u32(vzip2q_u32(a, b)),
        vreinterpretq_u64_u32(vzip2q_u32(c, d)),
    );
    [
        vreinterpretq_u32_u64(vzip1q_u64(a, b)),
        vreinterpretq_u32_u64(vzip2q_u64(a, b)),
        vreinterpretq_u32_u64(vzip1q_u64(c, d)),
        vreinterpretq_u32_u64(vzip2q_u64(c, d)),
    ]
}

/// Nothing: words are put side by side by [`transpose`].
pub(super) const BYTE_WORDS: Option<ByteWords> = None;

/// Asks for the cache line at an address, into the cache that the instruction's operand names.
macro_rules! ask {
    ($cache:literal, $at:expr) => {{
        let at: *const u8 = $at;
        // SAFETY: asking for memory reads none, wherever it points.
        unsafe {
            core::arch::asm!(
                concat!("prfm ", $cache, ", [{at}]"),
                at = in(reg) at,
                options(nostack, preserves_flags, readonly),
            );
        }
    }};
}

pub(super) use ask;

/// Asks for the cache lines of so many bytes from an address on.
pub(super) fn prefetch(at: *const u8, bytes: usize) {
    for line in (0..bytes + at.addr() % CACHE_LINE).step_by(CACHE_LINE) {
        ask!("pldl1keep", at.wrapping_add(line));
    }
}
