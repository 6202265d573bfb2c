// SPDX-License-Identifier: MPL-2.0

//! Kernels for x86 processors with AVX2, with VNNI and without: those of [`vector`](super::vector) on
//! registers of 256 bits, and without VNNI products of bytes of their own.
//!
//! A line is two registers, and a tile six wide. Twelve of the sixteen registers hold sums: those of 2 matrix
//! rows and a whole tile. Where a product of bytes takes registers of its own there are six, of one matrix row and a
//! whole tile, whose activations the products read from the cache themselves ([`sorted`]).

#![expect(
    unsafe_code,
    reason = "functions with target features are called where the features were found"
)]

mod memory;
mod registers;
mod sorted;

use half::bf16;

use super::loops::{Loops, avx2 as plain};
use super::operands::{
    Bf16Matrix, ByteForm, ByteMatrix, FewWords, GROUP_ROWS, Line, Out, Running, Scaling, Weights,
    Words,
};
use super::tables::{Bf16Kernels, ByteProduct, TileKernels};
use super::vector::table::{gathered, kernels, table};
use super::vector::{Floats, attend, few, softmax, tiles};
use registers::{Avx2, EvexQuads, Pairs, Quads};

kernels!(Avx2, "avx2,fma", Floats, [2, 6, 4, 2], plain::LOOPS);

table!(
    /// For processors with AVX2 and FMA.
    TILES, Avx2, "avx2,fma", Quads,
    ByteProduct::Sorted {
        // SAFETY: the table is handed out where the features were found.
        sort: |row, to| unsafe { sorted::sort(row, to) },
        // SAFETY: as above.
        multiply: |rows, b, scaling, out| unsafe { sorted::multiply(rows, b, scaling, out) },
    },
    2,
    Pairs<Pairs>, [4, 2, 2]
);

table!(
    /// For those that have AVX-VNNI too.
    VNNI, Avx2, "avx2,fma,avxvnni", Quads,
    gathered!(Avx2, "avx2,fma,avxvnni", Quads, [2, 6, 4, 2]), 1,
    Quads<Quads>, [4, 3, 3]
);

table!(
    /// For those that have AVX-512 VL and VNNI too.
    EVEX_VNNI, Avx2, "avx2,fma,avx512vl,avx512vnni", Quads,
    gathered!(Avx2, "avx2,fma,avx512vl,avx512vnni", EvexQuads, [2, 6, 4, 2]), 1,
    Quads<EvexQuads>, [4, 3, 3]
);
