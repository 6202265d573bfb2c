// SPDX-License-Identifier: MPL-2.0

//! Instruction sets: the kernels of each, as tables, and which of them run here.
//!
//! Everything that has more than one form is asked of an [`Isa`]. A table is handed out only where
//! the processor has what its functions were compiled for.
//!
//! | name | processors | has |
//! |---|---|---|
//! | `portable` | any | plain loops |
//! | `avx2` | x86 with AVX2 and FMA | plain loops, compiled for it |
//! | `avx512` | x86 with AVX-512 F, BW, DQ, VL and VNNI | and tile products, blocked attention |
//! | `avx512bf16` | and BF16 | and products and attention in bf16 |
//!
//! The environment variable `VLMCAPTION_ISA` takes another one than the best, for tests and
//! benchmarks. Products of many rows are `rten-gemm`'s where a table has no tiles, and it chooses
//! its kernels itself.

#[cfg(target_arch = "x86_64")]
mod avx512;
mod loops;
pub(crate) mod operands;
mod plain;
mod tables;

use std::sync::LazyLock;

pub(crate) use loops::Loops;
use loops::PORTABLE;
pub(crate) use tables::{Bf16Kernels, TileKernels};

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
    all.push(Isa {
        name: "avx2",
        loops: &loops::avx2::LOOPS,
        tiles: None,
        bf16: None,
    });
    all
}

#[cfg(test)]
mod tests;
