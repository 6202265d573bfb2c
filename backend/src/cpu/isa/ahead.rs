// SPDX-License-Identifier: MPL-2.0

//! How a processor wants a matrix to be asked for that is read from memory once.

#![expect(unsafe_code, reason = "older Rust has the instruction as unsafe")]

use std::arch::x86_64::{__cpuid, CpuidResult};
use std::sync::LazyLock;

/// AMD's number of the processors with Zen 5. Later ones are taken to be like it.
const ZEN_5: u32 = 0x1a;

/// Whether products with few rows ask for all of a matrix some KiB ahead, into the first cache. Zen 5 then reads 37
/// to 41 GB/s instead of 24 to 32. Zen 4 and a Xeon read their memory up to a third slower with one row when asked
/// so; they and others are asked into the second cache, and for several rows only.
pub(super) fn asks_near() -> bool {
    static NEAR: LazyLock<bool> = LazyLock::new(|| {
        let vendor = cpuid(0);
        let name = [vendor.ebx, vendor.edx, vendor.ecx].map(u32::to_le_bytes);
        name.as_flattened() == b"AuthenticAMD" && family(cpuid(1).eax) >= ZEN_5
    });
    *NEAR
}

fn cpuid(leaf: u32) -> CpuidResult {
    #[allow(
        unused_unsafe,
        reason = "safe since a later Rust than the oldest that builds this"
    )]
    // SAFETY: every x86 of 64 bits has the instruction and these leaves.
    unsafe {
        __cpuid(leaf)
    }
}

/// The family in the signature of leaf 1: 15 and more are the sum of two fields.
fn family(signature: u32) -> u32 {
    let base = signature >> 8 & 0xf;
    if base == 0xf {
        base + (signature >> 20 & 0xff)
    } else {
        base
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_are_those_that_the_makers_publish() {
        // EPYC 9005 (Zen 5), Ryzen 7000 (Zen 4), EPYC 7003 (Zen 3), Core of the 12th generation.
        for (signature, expected) in [
            (0x00b0_0f21, 0x1a),
            (0x00a6_0f12, 0x19),
            (0x00a0_0f11, 0x19),
            (0x0009_0672, 0x6),
        ] {
            assert_eq!(family(signature), expected, "{signature:x}");
        }
    }
}
