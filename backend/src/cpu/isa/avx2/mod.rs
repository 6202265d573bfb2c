// SPDX-License-Identifier: MPL-2.0

//! Kernels for x86 processors with AVX2, with VNNI and without: those of [`vector`](super::vector) on
//! registers of 256 bits.
//!
//! A line is two registers, and a tile six wide. Twelve of the sixteen registers hold sums: those of 2 matrix
//! rows and a whole tile. Where a product takes a register of its own there are eight, of 4 matrix rows
//! and a third of a tile.

#![expect(
    unsafe_code,
    reason = "functions with target features are called where the features were found"
)]

mod memory;
mod registers;

use half::bf16;

use super::loops::{Loops, avx2 as plain};
use super::operands::{
    Bf16Matrix, ByteForm, ByteMatrix, FewWords, GROUP_ROWS, Line, Out, Running, Scaling, Weights,
    Words,
};
use super::tables::{Bf16Kernels, TileKernels};
use super::vector::{attend, few, softmax, tiles};
use registers::{Avx2, EvexQuads, Pairs, Quads};

/// A table for processors with these features, with this product of bytes.
macro_rules! table {
    ($(#[$doc:meta])* $table:ident, $features:tt, $form:ident, $dot:ty, [$r:literal, $v:literal]) => {
        $(#[$doc])*
        pub(super) static $table: TileKernels = TileKernels {
            form: ByteForm::$form,
            bytes: |a, b, scaling, out| {
                #[target_feature(enable = $features)]
                fn bytes(a: &[Words], b: &[Line<u32>], scaling: &Scaling<'_>, out: Out<'_>) {
                    // SAFETY: the features are those of the registers and of the product.
                    unsafe { tiles::scaled_tile::<Avx2, $dot, $r, $v>(a, b, scaling, out) }
                }
                // SAFETY: the table is handed out where the features were found; so with all below.
                unsafe { bytes(a, b, scaling, out) }
            },
            // SAFETY: as above.
            floats: |a, b, out| unsafe { floats(a, b, out) },
            // SAFETY: as above.
            transpose: |lines| unsafe { memory::transpose(lines) },
            prefetch: memory::prefetch,
            // SAFETY: as above.
            hide: |scores, limits, first| unsafe { hide(scores, limits, first) },
            // SAFETY: as above.
            weigh: |scores, width, running, to, sums| unsafe {
                weigh(scores, width, running, to, sums);
            },
            few_words: |x, w, y| {
                #[target_feature(enable = $features)]
                fn rows<const R: usize, const W: usize>(
                    x: &FewWords<'_>,
                    w: ByteMatrix<'_>,
                    first: usize,
                    y: &mut [f32],
                ) {
                    let x = few::$form::<$dot>::new(x, first..first + R, w.slices);
                    // SAFETY: the features are those of the registers and of the product.
                    unsafe { few::words_rows::<Avx2, _, R, W>(&x, w, first, y) }
                }
                let n = x.x.len() / w.slices.in_features();
                for first in (0..n).step_by(GROUP_ROWS) {
                    // SAFETY: as above.
                    unsafe {
                        match n - first {
                            1 => rows::<1, 1>(x, w, first, y),
                            2 => rows::<2, 4>(x, w, first, y),
                            3 => rows::<3, 3>(x, w, first, y),
                            _ => rows::<4, 3>(x, w, first, y),
                        }
                    }
                }
            },
            few_bf16,
        };
    };
}

table!(
    /// For processors with AVX2 and FMA.
    TILES, "avx2,fma", Pairs, Pairs, [4, 2]
);

table!(
    /// For those that have AVX-VNNI too.
    VNNI, "avx2,fma,avxvnni", Quads, Quads, [2, 6]
);

table!(
    /// For those that have AVX-512 VL and VNNI too.
    EVEX_VNNI, "avx2,fma,avx512vl,avx512vnni", Quads, EvexQuads, [2, 6]
);

/// Attention to keys and values in bf16; products are f32's.
pub(super) static BF16: Bf16Kernels = Bf16Kernels {
    pairs: None,
    // SAFETY: the table is handed out where the features were found.
    scores: |q, k, dim, to| unsafe { scores(q, k, dim, to) },
    weighted,
};

/// The plain loops, and what is better by hand.
pub(super) static LOOPS: Loops = Loops {
    // SAFETY: the table is handed out where the features were found.
    gelu_tanh: |x| unsafe { gelu_tanh(x) },
    // SAFETY: as above.
    swiglu: |gate, up, y| unsafe { swiglu(gate, up, y) },
    ..plain::LOOPS
};

fn few_bf16(x: &[f32], w: Bf16Matrix<'_>, y: &mut [f32]) {
    let k = w.k;
    let rows = x.len() / k;
    for first in (0..rows).step_by(GROUP_ROWS) {
        let n = (rows - first).min(GROUP_ROWS);
        let x = &x[first * k..][..n * k];
        // SAFETY: the table is handed out where the features were found.
        unsafe {
            match n {
                4 => bf16_rows::<4>(x, w, first, rows, y),
                3 => bf16_rows::<3>(x, w, first, rows, y),
                2 => bf16_rows::<2>(x, w, first, rows, y),
                _ => bf16_rows::<1>(x, w, first, rows, y),
            }
        }
    }
}

fn weighted(p: &[f32], v: &[bf16], width: usize, y: &mut [f32]) {
    let n = v.len() / width;
    let p = p.chunks(GROUP_ROWS * n);
    for (p, y) in p.zip(y.chunks_mut(GROUP_ROWS * width)) {
        // SAFETY: the table is handed out where the features were found.
        unsafe {
            match y.len() / width {
                4 => weighted_rows::<4>(p, v, width, y),
                3 => weighted_rows::<3>(p, v, width, y),
                2 => weighted_rows::<2>(p, v, width, y),
                _ => weighted_rows::<1>(p, v, width, y),
            }
        }
    }
}

#[target_feature(enable = "avx2,fma")]
fn floats(a: &[Words], b: &[Line<u32>], out: Out<'_>) {
    // SAFETY: the features are those of the registers.
    unsafe { tiles::floats_tile::<Avx2, 2, 6>(a, b, out) }
}

#[target_feature(enable = "avx2,fma")]
fn hide(scores: &mut [Line<f32>], limits: &[Line<i32>], first: usize) {
    softmax::hide(scores, limits, first);
}

#[target_feature(enable = "avx2,fma")]
fn weigh(
    scores: &[Line<f32>],
    width: usize,
    running: &mut Running,
    to: Weights<'_>,
    sums: &mut [Line<f32>],
) {
    // SAFETY: the features are those of the registers.
    unsafe { softmax::weigh::<Avx2>(scores, width, running, to, sums) }
}

#[target_feature(enable = "avx2,fma")]
fn bf16_rows<const R: usize>(
    x: &[f32],
    w: Bf16Matrix<'_>,
    first: usize,
    rows: usize,
    y: &mut [f32],
) {
    // SAFETY: the features are those of the registers.
    unsafe { few::bf16_rows::<Avx2, R>(x, w, first, rows, y) }
}

#[target_feature(enable = "avx2,fma")]
fn scores(q: &[f32], k: &[bf16], dim: usize, to: &mut [f32]) {
    // SAFETY: the features are those of the registers.
    unsafe { attend::scores::<Avx2>(q, k, dim, to) }
}

#[target_feature(enable = "avx2,fma")]
fn weighted_rows<const R: usize>(p: &[f32], v: &[bf16], width: usize, y: &mut [f32]) {
    // SAFETY: the features are those of the registers.
    unsafe { attend::weighted::<Avx2, R>(p, v, width, y) }
}

#[target_feature(enable = "avx2,fma")]
fn gelu_tanh(x: &mut [f32]) {
    // SAFETY: the features are those of the registers.
    unsafe { softmax::gelu_tanh::<Avx2>(x) }
}

#[target_feature(enable = "avx2,fma")]
fn swiglu(gate: &[f32], up: &[f32], y: &mut [f32]) {
    // SAFETY: the features are those of the registers.
    unsafe { softmax::swiglu::<Avx2>(gate, up, y) }
}
