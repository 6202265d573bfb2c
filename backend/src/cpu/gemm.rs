// SPDX-License-Identifier: MPL-2.0

//! Products of many rows: blocked, with kernels chosen for this processor.

use half::bf16;
use rten_gemm::{GemmExecutor, GemmInputA, GemmInputB, GemmOptions};
use rten_tensor::NdTensorView;

use super::blocked::Kernels;
use super::epilogue::Epilogue;
use super::isa::Isa;
use super::tiled::{Bf16Tiles, FloatTiles};
use crate::Cancel;

/// Rows that `rten-gemm` is given at a time: a product says that it goes on after each such block.
const LIVELY_ROWS: usize = 256;

/// The blocked products, with kernels chosen for this processor: our own where it has tiles for
/// them, those of `rten-gemm` elsewhere.
///
/// Nothing but two tables of functions and whom to tell that a product goes on, and not `Send`: each
/// call of the program makes its own.
pub(super) struct Gemm {
    f32: GemmExecutor<f32, f32, f32>,
    pub(super) int8: GemmExecutor<u8, i8, i32>,
    pub(super) isa: Isa,
    /// Hears of each part of a large product.
    pub(super) life: Cancel,
}

impl Default for Gemm {
    /// The fastest for this processor that round no f32.
    fn default() -> Self {
        Self::new(Isa::host().exact(), &Cancel::default())
    }
}

impl Gemm {
    /// With these kernels; `life` hears that products go on.
    pub(super) fn new(isa: Isa, life: &Cancel) -> Self {
        Self {
            f32: GemmExecutor::default(),
            int8: GemmExecutor::default(),
            isa,
            life: life.clone(),
        }
    }

    /// The kernels of attention in blocks of keys, if this processor has them.
    pub(super) fn blocked(&self) -> Option<Kernels> {
        let pairs = self.isa.bf16.and_then(|bf16| bf16.pairs);
        self.isa.tiles.map(|tiles| Kernels { tiles, pairs })
    }

    /// `x` `[rows, k]` times the transposed `w` `[n, k]`, and what follows: `y`.
    pub(super) fn times_transposed(
        &self,
        x: &[f32],
        w: &[f32],
        k: usize,
        epilogue: Epilogue<'_>,
        y: &mut [f32],
    ) {
        if let Some(kernels) = self.isa.tiles {
            let tiles = FloatTiles {
                kernels,
                matrix: w,
                in_features: k,
            };
            return tiles.forward(x, epilogue, &self.life, y);
        }
        let n = w.len() / k;
        let w = NdTensorView::from_data([n, k], w);
        epilogue.after(n, y, |y| {
            let blocks = x.chunks(LIVELY_ROWS * k).zip(y.chunks_mut(LIVELY_ROWS * n));
            for (x, y) in blocks {
                let x = NdTensorView::from_data([x.len() / k, k], x);
                self.run(x, w.transposed(), y);
                self.life.alive();
            }
        });
    }

    /// [`times_transposed`](Self::times_transposed) for a bf16 matrix. Where the processor multiplies
    /// bf16, the activations are rounded to it too; elsewhere the matrix is widened.
    pub(super) fn times_transposed_bf16(
        &self,
        x: &[f32],
        w: &[bf16],
        k: usize,
        epilogue: Epilogue<'_>,
        y: &mut [f32],
    ) {
        /// Rows of the matrix that are widened at a time.
        const WIDENED: usize = 128;
        let pairs = self.isa.bf16.and_then(|bf16| bf16.pairs);
        if let (Some(kernels), Some(pairs)) = (self.isa.tiles, pairs) {
            let tiles = Bf16Tiles {
                kernels,
                pairs,
                matrix: w,
                in_features: k,
            };
            return tiles.forward(x, epilogue, &self.life, y);
        }
        if let Some(kernels) = self.isa.tiles {
            let tiles = FloatTiles {
                kernels,
                matrix: w,
                in_features: k,
            };
            return tiles.forward(x, epilogue, &self.life, y);
        }
        let (rows, n) = (x.len() / k, w.len() / k);
        let mut widened = Vec::with_capacity(WIDENED.min(n) * k);
        let mut part = vec![0.0; rows * WIDENED.min(n)];
        epilogue.after(n, y, |y| {
            for (i, w) in w.chunks(WIDENED * k).enumerate() {
                widened.clear();
                widened.extend(w.iter().map(|w| w.to_f32()));
                let width = w.len() / k;
                let part = &mut part[..rows * width];
                self.times_transposed(x, &widened, k, Epilogue::default(), part);
                for (y, part) in y.chunks_exact_mut(n).zip(part.chunks_exact(width)) {
                    y[i * WIDENED..][..width].copy_from_slice(part);
                }
            }
        });
    }

    /// `y` `[rows, n]` = `x` `[rows, k]` times `w` `[k, n]`.
    pub(super) fn times(&self, x: &[f32], w: &[f32], n: usize, y: &mut [f32]) {
        let k = w.len() / n;
        let x = NdTensorView::from_data([x.len() / k, k], x);
        let w = NdTensorView::from_data([k, n], w);
        self.run(x, w, y);
    }

    fn run(&self, x: NdTensorView<'_, f32, 2>, w: NdTensorView<'_, f32, 2>, y: &mut [f32]) {
        let (x, w) = (GemmInputA::Unpacked(x), GemmInputB::Unpacked(w));
        // The only errors are sizes that do not fit, and the views were made to fit.
        self.f32
            .gemm(y, x, w, GemmOptions::default())
            .expect("sizes that fit");
    }
}
