// SPDX-License-Identifier: MPL-2.0

//! Instruction sets: the kernels of each, as tables, and which of them run here.
//!
//! Everything that has more than one form is asked of an [`Isa`]. A table is handed out only where
//! the processor has what its functions were compiled for.
//!
//! | name | processors | has |
//! |---|---|---|
//! | `portable` | any | plain loops |
//! | `avx2` | x86 with AVX2 and FMA | and tile products, blocked attention, keys and values in bf16 |
//! | `avxvnni` | and AVX-VNNI | and products of bytes in one instruction |
//! | `evexvnni` | and AVX-512 F, BW, DQ, VL and VNNI | the same, encoded otherwise: to measure and to test |
//! | `avx512` | x86 with AVX-512 F, BW, DQ, VL and VNNI | the same in registers of 512 bits |
//! | `avx512bf16` | and BF16 | and products and attention in bf16 |
//! | `neon` | every Arm of 64 bits | tile products, blocked attention, keys and values in bf16 |
//! | `neondot` | and dotprod (`sdot`) | and products of bytes in one instruction |
//! | `i8mm` | and i8mm (`smmla`) | and tiles of bytes by blocks of 2 rows by 2 rows |
//! | `i8mmbf16` | and bf16 (`bfmmla`) | and products and attention in bf16 |
//!
//! The environment variable `VLMCAPTION_ISA` takes another one than the best, for tests and
//! benchmarks. Products of many rows are `rten-gemm`'s where a table has no tiles, and it chooses
//! its kernels itself: on x86 before AVX2, on other processors than these, and with `portable`.

#[cfg(target_arch = "x86_64")]
mod ahead;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod loops;
#[cfg(target_arch = "aarch64")]
mod neon;
pub(crate) mod operands;
mod plain;
#[cfg_attr(
    not(target_arch = "x86_64"),
    expect(dead_code, reason = "other processors have no such table")
)]
mod sorted;
mod tables;
#[cfg_attr(
    not(any(target_arch = "x86_64", target_arch = "aarch64")),
    expect(dead_code, reason = "other processors have no such registers yet")
)]
mod vector;

use std::sync::LazyLock;

pub(crate) use loops::Loops;
use loops::PORTABLE;
pub(crate) use sorted::SortedWords;
pub(crate) use tables::{Bf16Kernels, ByteProduct, PairProduct, TileKernels};

/// The environment variable that names one.
const VARIABLE: &str = "VLMCAPTION_ISA";

/// The kernels of one instruction set.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Isa {
    /// What [`VARIABLE`] calls it.
    pub(crate) name: &'static str,
    /// Plain loops.
    pub(crate) loops: &'static Loops,
    /// Products tile by tile, and what goes with them.
    pub(crate) tiles: Option<&'static TileKernels>,
    /// Products of bf16.
    pub(crate) bf16: Option<&'static Bf16Kernels>,
}

impl Isa {
    /// Runs everywhere.
    const PORTABLE: Self = Self {
        name: "portable",
        loops: &PORTABLE,
        tiles: None,
        bf16: None,
    };

    /// The one that is used in this process.
    pub(crate) fn host() -> Self {
        static HOST: LazyLock<Isa> = LazyLock::new(|| chosen().unwrap_or(Isa::best()));
        *HOST
    }

    /// All that this processor can run, the best first.
    pub(crate) fn available() -> Vec<Self> {
        let mut all = Vec::new();
        #[cfg(target_arch = "x86_64")]
        all.extend(x86());
        #[cfg(target_arch = "aarch64")]
        all.extend(arm());
        all.push(Self::PORTABLE);
        all
    }

    /// The best that this processor can run.
    pub(crate) fn best() -> Self {
        Self::available().first().copied().unwrap_or(Self::PORTABLE)
    }

    /// Without kernels that round what is not rounded yet.
    pub(crate) fn exact(self) -> Self {
        Self { bf16: None, ..self }
    }
}

/// The one that the environment names, or the best.
///
/// # Errors
/// A sentence, if it names none that runs here.
pub(crate) fn chosen() -> Result<Isa, String> {
    let Ok(name) = std::env::var(VARIABLE) else {
        return Ok(Isa::best());
    };
    named(&name)
}

fn named(name: &str) -> Result<Isa, String> {
    let all = Isa::available();
    let found = all.iter().find(|isa| isa.name == name);
    found.copied().ok_or_else(|| {
        let names: Vec<&str> = all.iter().map(|isa| isa.name).collect();
        format!(
            "{VARIABLE} is {name:?}; this processor runs {}",
            names.join(", ")
        )
    })
}

#[cfg(target_arch = "x86_64")]
fn x86() -> Vec<Isa> {
    let mut all = Vec::new();
    if !(is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma")) {
        return all;
    }
    let avx512 = is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("avx512vl")
        && is_x86_feature_detected!("avx512vnni");
    if avx512 {
        let exact = Isa {
            name: "avx512",
            loops: &avx512::LOOPS,
            tiles: Some(&avx512::TILES),
            bf16: None,
        };
        if is_x86_feature_detected!("avx512bf16") {
            all.push(Isa {
                name: "avx512bf16",
                bf16: Some(&avx512::BF16),
                ..exact
            });
        }
        all.push(exact);
    }
    let avx2 = Isa {
        name: "avx2",
        loops: &avx2::LOOPS,
        tiles: Some(&avx2::TILES),
        bf16: Some(&avx2::BF16),
    };
    if is_x86_feature_detected!("avxvnni") {
        all.push(Isa {
            name: "avxvnni",
            tiles: Some(&avx2::VNNI),
            ..avx2
        });
    }
    if avx512 {
        all.push(Isa {
            name: "evexvnni",
            tiles: Some(&avx2::EVEX_VNNI),
            ..avx2
        });
    }
    all.push(avx2);
    all
}

#[cfg(target_arch = "aarch64")]
fn arm() -> Vec<Isa> {
    use std::arch::is_aarch64_feature_detected as has;
    let mut all = Vec::new();
    if !has!("neon") {
        return all;
    }
    let neon = Isa {
        name: "neon",
        loops: &neon::LOOPS,
        tiles: Some(&neon::TILES),
        bf16: Some(&neon::BF16),
    };
    if has!("dotprod") {
        if has!("i8mm") {
            let i8mm = Isa {
                name: "i8mm",
                tiles: Some(&neon::BLOCKS),
                ..neon
            };
            if has!("bf16") {
                all.push(Isa {
                    name: "i8mmbf16",
                    bf16: Some(&neon::BF16_BLOCKS),
                    ..i8mm
                });
            }
            all.push(i8mm);
        }
        all.push(Isa {
            name: "neondot",
            tiles: Some(&neon::DOTS),
            ..neon
        });
    }
    all.push(neon);
    all
}

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
