// SPDX-License-Identifier: MPL-2.0

//! Linear layers and the embedding table: one copy of each matrix, for one row and for many.

use half::bf16;

use super::epilogue::{Epilogue, Then};
use super::gemm::Gemm;
use super::gemv;
use super::int8::Int8Matrix;
use super::isa::operands::Bf16Matrix;
use super::pages::Pages;
use super::rounding::Compared;

/// The matrix of a [`Linear`], `[out_features, in_features]`.
pub(super) enum Matrix {
    /// The reference.
    F32(Vec<f32>),
    /// As most checkpoints are published: half the memory of f32.
    Bf16(Pages<bf16>),
    /// Large models.
    Int8(Int8Matrix),
    /// f32, with a look at what rounding would do.
    Compared(Compared),
}

/// `torch.nn.Linear`, or several with the same input in one matrix.
pub(super) struct Linear {
    in_features: usize,
    matrix: Matrix,
    /// `[out_features]`
    bias: Option<Vec<f32>>,
}

impl Linear {
    /// Takes a matrix `[out_features, in_features]`.
    pub(super) fn new(in_features: usize, matrix: Matrix, bias: Option<Vec<f32>>) -> Self {
        Self {
            in_features,
            matrix,
            bias,
        }
    }

    /// Width of an input row.
    pub(super) fn in_features(&self) -> usize {
        self.in_features
    }

    /// Width of a result row.
    pub(super) fn out_features(&self) -> usize {
        match &self.matrix {
            Matrix::F32(matrix) => matrix.len() / self.in_features,
            Matrix::Bf16(matrix) => matrix.len() / self.in_features,
            Matrix::Compared(both) => both.exact.len() / self.in_features,
            Matrix::Int8(matrix) => matrix.out_features(),
        }
    }

    /// Bytes of the weights.
    pub(super) fn size_bytes(&self) -> usize {
        let matrix = match &self.matrix {
            Matrix::F32(matrix) => 4 * matrix.len(),
            Matrix::Bf16(matrix) => 2 * matrix.len(),
            Matrix::Compared(both) => 4 * both.exact.len() + both.rounded.size_bytes(),
            Matrix::Int8(matrix) => matrix.size_bytes(),
        };
        matrix + 4 * self.bias.as_ref().map_or(0, Vec::len)
    }

    /// `y` `[rows, out_features]` for `x` `[rows, in_features]`.
    pub(super) fn forward(&self, gemm: &Gemm, x: &[f32], y: &mut [f32]) {
        self.forward_then(gemm, x, Then::Store, y);
    }

    /// The same, and what follows; where many rows are multiplied in tiles, while they are in the cache.
    pub(super) fn forward_then(&self, gemm: &Gemm, x: &[f32], then: Then, y: &mut [f32]) {
        let (k, n) = (self.in_features, self.out_features());
        let rows = x.len() / k;
        let bias = self.bias.as_deref();
        let epilogue = Epilogue { bias, then };
        match &self.matrix {
            Matrix::F32(matrix) if rows > gemv::MAX_ROWS => {
                gemm.times_transposed(x, matrix, k, epilogue, y);
            }
            Matrix::F32(matrix) => epilogue.after(n, y, |y| {
                gemv::share(rows, n, 4 * k, y, |first, y| {
                    gemv::f32_rows(x, &matrix[first * k..], k, y);
                });
            }),
            Matrix::Bf16(matrix) if rows > gemv::MAX_ROWS => {
                gemm.times_transposed_bf16(x, matrix, k, epilogue, y);
            }
            Matrix::Bf16(matrix) => epilogue.after(n, y, |y| {
                gemv::share(rows, n, 2 * k, y, |first, y| {
                    let n = y.len() / rows;
                    let rows = &matrix[first * k..][..n * k];
                    gemv::bf16_rows(gemm.isa, x, Bf16Matrix { rows, k }, y);
                });
            }),
            Matrix::Int8(matrix) => matrix.forward(gemm, x, epilogue, y),
            Matrix::Compared(both) => epilogue.after(n, y, |y| {
                gemm.times_transposed(x, &both.exact, k, Epilogue::default(), y);
                both.note(gemm, rows, x, y);
            }),
        }
    }
}

/// `[vocab_size, hidden_size]`: rows to look up, and a head to multiply with.
pub(super) struct Table {
    width: usize,
    rows: TableRows,
}

/// The numbers of a [`Table`].
pub(super) enum TableRows {
    /// As the reference.
    F32(Vec<f32>),
    /// As published: half the memory.
    Bf16(Pages<bf16>),
    /// A quarter: a head reads all of it for every token.
    Int8(Int8Matrix),
}

impl Table {
    /// Takes `[vocab_size, width]`.
    pub(super) fn new(width: usize, rows: TableRows) -> Self {
        Self { width, rows }
    }

    /// Bytes of the weights.
    pub(super) fn size_bytes(&self) -> usize {
        match &self.rows {
            TableRows::F32(rows) => 4 * rows.len(),
            TableRows::Bf16(rows) => 2 * rows.len(),
            TableRows::Int8(matrix) => matrix.size_bytes(),
        }
    }

    /// Row `id`; it must be below `vocab_size`.
    pub(super) fn look_up(&self, id: usize, row: &mut [f32]) {
        let range = id * self.width..(id + 1) * self.width;
        match &self.rows {
            TableRows::F32(rows) => row.copy_from_slice(&rows[range]),
            TableRows::Bf16(rows) => {
                for (x, w) in row.iter_mut().zip(&rows[range]) {
                    *x = w.to_f32();
                }
            }
            TableRows::Int8(matrix) => matrix.look_up(id, row),
        }
    }

    /// `y` `[rows, vocab_size]` for a few rows `x` `[rows, width]`.
    pub(super) fn head(&self, gemm: &Gemm, x: &[f32], y: &mut [f32]) {
        let k = self.width;
        let rows = x.len() / k;
        let n = y.len() / rows;
        match &self.rows {
            TableRows::F32(table) => gemv::share(rows, n, 4 * k, y, |first, y| {
                gemv::f32_rows(x, &table[first * k..], k, y);
            }),
            TableRows::Bf16(table) => gemv::share(rows, n, 2 * k, y, |first, y| {
                let n = y.len() / rows;
                let rows = &table[first * k..][..n * k];
                gemv::bf16_rows(gemm.isa, x, Bf16Matrix { rows, k }, y);
            }),
            TableRows::Int8(matrix) => matrix.forward(gemm, x, Epilogue::default(), y),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Cancel;
    use crate::cpu::activation::{add_assign, gelu_erf, gelu_tanh, swiglu};
    use crate::cpu::int8::Int8Builder;
    use crate::cpu::isa::Isa;

    fn wave(n: usize, step: f32) -> Vec<f32> {
        (0..n).map(|i| 2.0 * (i as f32 * step).sin()).collect()
    }

    /// The same matrix in each form.
    fn forms(w: &[f32], k: usize) -> [Matrix; 3] {
        let mut builder = Int8Builder::new(w.len() / k, k);
        builder.push(w);
        let mut bf16 = Pages::zeros(w.len());
        for (to, from) in bf16.iter_mut().zip(w) {
            *to = bf16::from_f32(*from);
        }
        [
            Matrix::F32(w.to_vec()),
            Matrix::Bf16(bf16),
            Matrix::Int8(builder.finish()),
        ]
    }

    #[test]
    fn a_large_product_says_that_it_goes_on_whatever_its_kernels() {
        let (rows, k, n) = (1100, 32, 640);
        let x = vec![0.5; rows * k];
        let w: Vec<f32> = (0..n * k).map(|i| (i % 7) as f32 - 3.0).collect();
        for matrix in forms(&w, k) {
            let linear = Linear::new(k, matrix, None);
            for isa in Isa::available() {
                let life = Cancel::default();
                let mut y = vec![0.0; rows * n];
                linear.forward(&Gemm::new(isa, &life), &x, &mut y);
                assert!(life.checks() >= 5, "{isa:?}: {} signs", life.checks());
            }
        }
    }

    /// What follows a product, beside it, is what the same does after it.
    fn check(isa: Isa, linear: &Linear, x: &[f32], place: &str) -> Vec<f32> {
        let (rows, n) = (x.len() / linear.in_features, linear.out_features());
        let gemm = Gemm::new(isa, &Cancel::default());
        let mut product = vec![f32::NAN; rows * n];
        linear.forward(&gemm, x, &mut product);
        let before = wave(rows * n, 0.9);
        let then = |then, n| {
            let mut y = before[..rows * n].to_vec();
            linear.forward_then(&gemm, x, then, &mut y);
            y
        };

        let mut sum = before.clone();
        add_assign(&mut sum, &product);
        assert_eq!(then(Then::Add, n), sum, "{place}");

        for f in [gelu_tanh, gelu_erf] {
            let mut want = product.clone();
            want.chunks_exact_mut(n).for_each(f);
            assert_eq!(then(Then::Map(f), n), want, "{place}");
        }

        let mut want = vec![f32::NAN; rows * n / 2];
        for (product, y) in product.chunks_exact(n).zip(want.chunks_exact_mut(n / 2)) {
            let (gate, up) = product.split_at(n / 2);
            swiglu(gate, up, y);
        }
        assert_eq!(then(Then::Swiglu, n / 2), want, "{place}");
        product
    }

    #[test]
    fn what_follows_a_product_is_the_same_beside_it_and_after_it() {
        let pools = [1, 3].map(|n| rayon::ThreadPoolBuilder::new().num_threads(n).build());
        let pools = pools.map(|pool| pool.expect("threads"));
        // Few rows and many; tasks of 64 rows and of fewer; halves that are no whole tiles; several slices.
        let sizes = [
            [1, 80, 48],
            [7, 80, 352],
            [50, 80, 528],
            [33, 80, 36],
            [20, 80, 200],
            [70, 80, 872],
            [19, 1100, 552],
        ];
        for [rows, k, n] in sizes {
            let (mut x, w, bias) = (wave(rows * k, 0.37), wave(n * k, 0.11), wave(n, 0.5));
            if k > 1000 {
                // An outlier, which int8 multiplies apart.
                x.iter_mut().skip(5).step_by(k).for_each(|x| *x *= 300.0);
            }
            for (form, matrix) in forms(&w, k).into_iter().enumerate() {
                let linear = Linear::new(k, matrix, Some(bias.clone()));
                for isa in Isa::available() {
                    let place = format!("{}: {rows} x {k} x {n}, form {form}", isa.name);
                    let products = pools
                        .each_ref()
                        .map(|pool| pool.install(|| check(isa, &linear, &x, &place)));
                    // rten-gemm's blocks may follow the threads.
                    if isa.tiles.is_some() {
                        assert_eq!(products[0], products[1], "{place}");
                    }
                }
            }
        }
    }
}
