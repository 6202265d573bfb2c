// SPDX-License-Identifier: MPL-2.0

//! Kernels for x86 processors with AVX-512: products of 8 rows of a matrix with a tile of 48 rows of
//! activations, and of a matrix with very few rows.
//!
//! The lanes of a register are rows of activations, and each word of a matrix is spread over all
//! lanes. So matrices stay as they are, row by row, whatever the number of rows they are multiplied
//! with, and what belongs to a row (its scale, its largest score) is a number in each lane.

#![expect(
    unsafe_code,
    reason = "functions with target features are called where the features were found"
)]
#![expect(
    clippy::needless_range_loop,
    reason = "registers are numbered: one index names those of several tables"
)]

mod attend;
mod few;
mod memory;
mod sums;
mod tiles;
mod weights;

use half::bf16;

use super::ahead::asks_near;
use super::loops::{Loops, avx512 as plain};
use super::operands::{
    Bf16Matrix, ByteForm, ByteMatrix, FewWords, GROUP_ROWS, Line, Out, Running, STEP, Scaling,
    TILE_ROWS, Weights, Words,
};
use super::tables::{Bf16Kernels, ByteProduct, TileKernels};
use few::{Group, bf16_rows, words_rows};
use tiles::{bytes_in_place, bytes_tile, floats_tile, pairs_tile};

/// For processors with AVX-512 F, BW, DQ, VL and VNNI.
pub(super) static TILES: TileKernels = TileKernels {
    form: ByteForm::Quads,
    least_lines: 2,
    bytes: ByteProduct::InPlace {
        multiply: byte_rows,
        gathered: bytes,
    },
    floats,
    // SAFETY: the table is handed out where the features were found; so with all below.
    transpose: |lines| unsafe { memory::transpose(lines) },
    // SAFETY: as above.
    prefetch: |at, bytes| unsafe { memory::prefetch(at, bytes) },
    // SAFETY: as above.
    hide: |scores, limits, first| unsafe { weights::hide(scores, limits, first) },
    weigh,
    few_halves: true,
    few_words,
    few_bf16,
};

/// For processors that multiply bf16 too.
pub(super) static BF16: Bf16Kernels = Bf16Kernels {
    pairs: Some(pairs),
    // SAFETY: the table is handed out where the features were found.
    scores: |q, k, dim, scores| unsafe { attend::scores(q, k, dim, scores) },
    weighted,
};

/// The plain loops, and what is better by hand.
pub(super) static LOOPS: Loops = Loops {
    // SAFETY: the table is handed out where the features were found.
    gelu_tanh: |x| unsafe { weights::gelu_tanh(x) },
    // SAFETY: as above.
    swiglu: |gate, up, y| unsafe { weights::swiglu(gate, up, y) },
    ..plain::LOOPS
};

fn bytes(a: &[Words], b: &[Line<u32>], scaling: &Scaling<'_>, out: Out<'_>) {
    // SAFETY: the table is handed out where the features were found.
    unsafe {
        match b.len() / a.len().max(1) {
            3 => bytes_tile::<3>(a, b, scaling, out),
            2 => bytes_tile::<2>(a, b, scaling, out),
            _ => bytes_tile::<1>(a, b, scaling, out),
        }
    }
}

fn byte_rows(a: [&[i8]; TILE_ROWS], b: &[Line<u32>], scaling: &Scaling<'_>, out: Out<'_>) {
    // SAFETY: the table is handed out where the features were found.
    unsafe {
        match scaling.row_scales.len() {
            3 => bytes_in_place::<3>(a, b, scaling, out),
            2 => bytes_in_place::<2>(a, b, scaling, out),
            _ => bytes_in_place::<1>(a, b, scaling, out),
        }
    }
}

fn floats(a: &[Words], b: &[Line<u32>], out: Out<'_>) {
    // SAFETY: the table is handed out where the features were found.
    unsafe {
        match b.len() / a.len().max(1) {
            3 => floats_tile::<3>(a, b, out),
            2 => floats_tile::<2>(a, b, out),
            _ => floats_tile::<1>(a, b, out),
        }
    }
}

fn pairs(a: &[Words], b: &[Line<u32>], out: Out<'_>) {
    // SAFETY: the table is handed out where the features were found.
    unsafe {
        match b.len() / a.len().max(1) {
            3 => pairs_tile::<3>(a, b, out),
            2 => pairs_tile::<2>(a, b, out),
            _ => pairs_tile::<1>(a, b, out),
        }
    }
}

fn weigh(
    scores: &[Line<f32>],
    width: usize,
    running: &mut Running,
    to: Weights<'_>,
    sums: &mut [Line<f32>],
) {
    // SAFETY: the table is handed out where the features were found.
    unsafe {
        match width {
            3 => weights::weigh::<3>(scores, running, to, sums),
            2 => weights::weigh::<2>(scores, running, to, sums),
            _ => weights::weigh::<1>(scores, running, to, sums),
        }
    }
}

fn few_words(x: &FewWords<'_>, w: ByteMatrix<'_>, y: &mut [f32]) {
    if asks_near() {
        groups_of_words::<true>(x, w, y);
    } else {
        groups_of_words::<false>(x, w, y);
    }
}

fn groups_of_words<const NEAR: bool>(x: &FewWords<'_>, w: ByteMatrix<'_>, y: &mut [f32]) {
    let (n_slices, n_lines) = (w.slices.count(), w.slices.in_features().div_ceil(STEP));
    let rows = x.lines.len() / n_lines;
    for first in (0..rows).step_by(GROUP_ROWS) {
        let n = (rows - first).min(GROUP_ROWS);
        let x = Group {
            lines: &x.lines[first * n_lines..][..n * n_lines],
            scales: &x.scales[first * n_slices..][..n * n_slices],
        };
        // SAFETY: the table is handed out where the features were found.
        unsafe {
            match n {
                4 => words_rows::<4, NEAR>(&x, w, first, rows, y),
                3 => words_rows::<3, NEAR>(&x, w, first, rows, y),
                2 => words_rows::<2, NEAR>(&x, w, first, rows, y),
                _ => words_rows::<1, NEAR>(&x, w, first, rows, y),
            }
        }
    }
}

fn few_bf16(x: &[f32], w: Bf16Matrix<'_>, y: &mut [f32]) {
    if asks_near() {
        groups_of_bf16::<true>(x, w, y);
    } else {
        groups_of_bf16::<false>(x, w, y);
    }
}

fn groups_of_bf16<const NEAR: bool>(x: &[f32], w: Bf16Matrix<'_>, y: &mut [f32]) {
    let k = w.k;
    let rows = x.len() / k;
    for first in (0..rows).step_by(GROUP_ROWS) {
        let n = (rows - first).min(GROUP_ROWS);
        let x = &x[first * k..][..n * k];
        // SAFETY: the table is handed out where the features were found.
        unsafe {
            match n {
                4 => bf16_rows::<4, NEAR>(x, w, first, rows, y),
                3 => bf16_rows::<3, NEAR>(x, w, first, rows, y),
                2 => bf16_rows::<2, NEAR>(x, w, first, rows, y),
                _ => bf16_rows::<1, NEAR>(x, w, first, rows, y),
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
                4 => attend::weighted::<4>(p, v, width, y),
                3 => attend::weighted::<3>(p, v, width, y),
                2 => attend::weighted::<2>(p, v, width, y),
                _ => attend::weighted::<1>(p, v, width, y),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::isa::Isa;
    use crate::cpu::slices::Slices;

    /// What is asked for ahead changes no number; a processor asks in one of two ways only.
    #[test]
    fn however_a_matrix_is_asked_for_few_rows_come_to_the_same() {
        if !Isa::available().iter().any(|isa| isa.name == "avx512") {
            return;
        }
        for (rows, n, k) in [(1, 7, 700), (3, 5, 2600), (8, 13, 4500)] {
            let slices = Slices::new(k);
            let count = n * slices.count();
            let q: Vec<i8> = (0..n * k)
                .map(|i| ((i * 37 % 255) as i32 - 127) as i8)
                .collect();
            let (scales, sums) = (vec![0.01; count], vec![3; count]);
            let matrix = ByteMatrix {
                q: &q,
                scales: &scales,
                sums: &sums,
                out_features: n,
                slices,
            };
            let words: Vec<i16> = (0..rows * k)
                .map(|i| (i * 971 % 60_000) as u16 as i16)
                .collect();
            let x_scales = vec![0.5; rows * slices.count()];
            let few = TILES.words(&words, k, &x_scales);
            let (mut near, mut far) = (vec![0.0; rows * n], vec![1.0; rows * n]);
            groups_of_words::<true>(&few, matrix, &mut near);
            groups_of_words::<false>(&few, matrix, &mut far);
            assert_eq!(near, far);
            let x: Vec<f32> = words.iter().map(|&x| f32::from(x)).collect();
            let w: Vec<bf16> = q.iter().map(|&w| bf16::from_f32(f32::from(w))).collect();
            let w = Bf16Matrix { rows: &w, k };
            groups_of_bf16::<true>(&x, w, &mut near);
            groups_of_bf16::<false>(&x, w, &mut far);
            assert_eq!(near, far);
        }
    }
}
