// SPDX-License-Identifier: MPL-2.0

//! Kernels for `ARMv8-A`, with products of bytes and without: those of [`vector`](super::vector) on registers of
//! 128 bits.
//!
//! A line is four registers, and a tile twelve wide. Of the 32 registers 24 hold sums, of all 8 matrix rows
//! and a quarter of a tile; two hold a word of each matrix row, of which an instruction takes its own
//! from a lane, and three the activations: five loads for 24 products, where a Cortex-A76 makes two of each in
//! a cycle, and four products have to be under way in each of its two pipes. What is left of a
//! narrow tile is multiplied a register at a time, whose eight sums are just as many.
//!
//! Products of 2 rows by 2 rows have 16 sums, of all matrix rows and two registers of activations, for each of
//! which two words are put side by side first. Without products of bytes there are 16 too, for 4 matrix rows
//! and two registers of activations, each of them twice: there are two lanes for each row.

#![expect(
    unsafe_code,
    reason = "functions with target features are called where the features were found"
)]
#![expect(
    clippy::needless_range_loop,
    reason = "registers are numbered: one index names those of several tables"
)]

mod memory;
mod products;
mod registers;
mod sums;

use half::bf16;

use super::loops::{Loops, PORTABLE};
use super::operands::{
    Bf16Matrix, ByteForm, ByteMatrix, FewWords, GROUP_ROWS, Line, Out, Running, Scaling, Weights,
    Words,
};
use super::tables::{Bf16Kernels, ByteProduct, TileKernels};
use super::vector::table::{gathered, kernels, table};
use super::vector::{attend, few, softmax, tiles};
use products::{Bf16Blocks, ByteBlocks, Bytes, Dots, Floats};
use registers::Neon;

// The plain loops are compiled for these registers wherever the processor is an Arm of 64 bits.
kernels!(Neon, "neon", Floats, [8, 3, 8, 1], PORTABLE);

table!(
    /// For every `ARMv8-A`.
    TILES, Neon, "neon", SignedQuads,
    gathered!(Neon, "neon", Bytes, [4, 2, 4, 2]), 1,
    Quads<Bytes>, [6, 5, 4]
);

table!(
    /// For those that have `FEAT_DotProd`.
    DOTS, Neon, "neon,dotprod", SignedQuads,
    gathered!(Neon, "neon,dotprod", Dots, [8, 3, 8, 1]), 1,
    Quads<Dots>, [4, 4, 4]
);

table!(
    /// For those that have `FEAT_I8MM` too.
    BLOCKS, Neon, "neon,dotprod,i8mm", SignedQuads,
    gathered!(Neon, "neon,dotprod,i8mm", ByteBlocks, [8, 2, 8, 2]), 1,
    Quads<Dots>, [4, 4, 4]
);

/// And products of bf16, for those that have `FEAT_BF16`.
pub(super) static BF16_BLOCKS: Bf16Kernels = Bf16Kernels {
    // SAFETY: the table is handed out where the features were found.
    pairs: Some(|a, b, out| unsafe { pairs(a, b, out) }),
    ..BF16
};

#[target_feature(enable = "neon,bf16")]
fn pairs(a: &[Words], b: &[Line<u32>], out: Out<'_>) {
    // SAFETY: the features are those of the registers and of the product.
    unsafe { tiles::floats_tile::<Neon, Bf16Blocks, 8, 2, 8, 2>(a, b, out) }
}
