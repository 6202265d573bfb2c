// SPDX-License-Identifier: MPL-2.0

//! Matrices of 8-bit weights: W8A8 for many rows, 16-bit activations for few.
//!
//! Weights have a scale per row of the matrix and K-slice, activations one per row and K-slice;
//! the products of a slice are summed exactly and the slices in f32. Columns with outliers stay
//! out of the 8-bit product and are added in f32, after LLM.int8 (arXiv 2208.07339).

use std::io::{self, Read, Write};

use rayon::prelude::*;
use rten_gemm::{GemmExecutor, GemmInputA, GemmInputB, GemmOptions, PackedAMatrix};
use rten_tensor::NdTensorView;
use zerocopy::IntoBytes;

use super::byte_tiles::{BytePanel, ByteTiles};
use super::checksum::Checksummed;
use super::epilogue::Epilogue;
use super::gemm::Gemm;
use super::gemv;
use super::isa::operands::ByteMatrix;
use super::isa::{Isa, TileKernels};
use super::outliers::{column_scales, outlier_columns, without};
use super::pages::Pages;
use super::pieces::columns;
use super::product::Columns;
use super::quantize::{ByteRows, to_bytes, to_words};
use super::slices::Slices;
use crate::Cancel;

/// The blocked product of bytes.
type Executor = GemmExecutor<u8, i8, i32>;

/// Rows of the matrix (columns of the result) that one task multiplies: its 32-bit sums for some
/// hundred rows fit a core's cache.
const CHUNK: usize = 128;

/// More rows than this are multiplied tile by tile, where there are tiles for them.
pub(super) const TILE_FROM: usize = 8;

/// Collects the rows of an [`Int8Matrix`].
pub(super) struct Int8Builder {
    out_features: usize,
    in_features: usize,
    /// `[rows so far, in_features]`
    rows: Vec<f32>,
}

/// Rounds rows as they come: for a table of a whole vocabulary, which is too large to be held in f32
/// until its columns are known.
pub(super) struct Int8Rows {
    matrix: Int8Matrix,
    filled: usize,
}

/// `[out_features, in_features]` in 8 bits.
pub(super) struct Int8Matrix {
    slices: Slices,
    out_features: usize,
    /// `[out_features, in_features]`
    q: Pages<i8>,
    /// `[slices, out_features]`
    scales: Vec<f32>,
    /// Sums of the weights of a slice, `[slices, out_features]`.
    sums: Vec<i32>,
    /// What activations are multiplied by, `[in_features]`; `None` for 1.
    columns: Option<Vec<f32>>,
}

impl Int8Builder {
    /// Makes room for the whole matrix.
    pub(super) fn new(out_features: usize, in_features: usize) -> Self {
        Self {
            out_features,
            in_features,
            rows: Vec::with_capacity(out_features * in_features),
        }
    }

    /// Appends some rows.
    pub(super) fn push(&mut self, rows: &[f32]) {
        self.rows.extend_from_slice(rows);
    }

    /// The rows so far.
    pub(super) fn rows(&self) -> &[f32] {
        &self.rows
    }

    /// Rounds the matrix, once all rows are there.
    ///
    /// Columns of weights that are much larger or smaller than the others would take the others'
    /// digits, or have none: they are brought to the median's size, and activations are multiplied
    /// by what was taken away (SmoothQuant, arXiv 2211.10438, by the weights alone). Where an
    /// activation is an outlier because its weights are small, it is none afterwards.
    pub(super) fn finish(self) -> Int8Matrix {
        let Self {
            out_features,
            in_features: k,
            mut rows,
        } = self;
        debug_assert_eq!(rows.len(), out_features * k);
        let columns = column_scales(&rows, k);
        if let Some(columns) = &columns {
            let inverse: Vec<f32> = columns.iter().map(|scale| 1.0 / scale).collect();
            rows.par_chunks_mut(k).for_each(|row| times(row, &inverse));
        }
        let slices = Slices::new(k);
        let n = slices.count();
        let mut q = Pages::zeros(rows.len());
        let mut by_row = vec![(0.0, 0); out_features * n];
        q.par_chunks_mut(k)
            .zip(rows.par_chunks(k))
            .zip(by_row.par_chunks_mut(n))
            .for_each(|((q, row), by_slice)| {
                for (i, slice) in by_slice.iter_mut().enumerate() {
                    let range = slices.range(i);
                    *slice = (Isa::host().loops.weights_to_i8)(&row[range.clone()], &mut q[range]);
                }
            });
        let transposed = (0..n).flat_map(|i| by_row.iter().skip(i).step_by(n).copied());
        let (scales, sums) = transposed.unzip();
        Int8Matrix {
            slices,
            out_features,
            q,
            scales,
            sums,
            columns,
        }
    }
}

impl Int8Rows {
    /// Makes room for the whole matrix.
    pub(super) fn new(out_features: usize, in_features: usize) -> Self {
        let slices = Slices::new(in_features);
        let per_slice = slices.count() * out_features;
        Self {
            matrix: Int8Matrix {
                slices,
                out_features,
                q: Pages::zeros(out_features * in_features),
                scales: vec![0.0; per_slice],
                sums: vec![0; per_slice],
                columns: None,
            },
            filled: 0,
        }
    }

    /// Rounds and appends some rows.
    pub(super) fn push(&mut self, rows: &[f32]) {
        let matrix = &mut self.matrix;
        let k = matrix.slices.in_features();
        for row in rows.chunks_exact(k) {
            let q = &mut matrix.q[self.filled * k..][..k];
            for i in 0..matrix.slices.count() {
                let range = matrix.slices.range(i);
                let (scale, sum) =
                    (Isa::host().loops.weights_to_i8)(&row[range.clone()], &mut q[range]);
                matrix.scales[i * matrix.out_features + self.filled] = scale;
                matrix.sums[i * matrix.out_features + self.filled] = sum;
            }
            self.filled += 1;
        }
    }

    /// The matrix, once all rows are there.
    pub(super) fn finish(self) -> Int8Matrix {
        debug_assert_eq!(self.filled, self.matrix.out_features);
        self.matrix
    }
}

/// `row *= scales`
fn times(row: &mut [f32], scales: &[f32]) {
    for (x, scale) in row.iter_mut().zip(scales) {
        *x *= scale;
    }
}

impl Int8Matrix {
    /// Writes numbers, scales and sums.
    pub(super) fn write(&self, file: &mut Checksummed<impl Write>) -> io::Result<()> {
        const PIECE: usize = 1 << 16;
        file.write_all(self.q.as_bytes())?;
        let mut bytes = Vec::with_capacity(4 * PIECE);
        for scales in self.scales.chunks(PIECE) {
            bytes.clear();
            bytes.extend(scales.iter().flat_map(|scale| scale.to_le_bytes()));
            file.write_all(&bytes)?;
        }
        for sums in self.sums.chunks(PIECE) {
            bytes.clear();
            bytes.extend(sums.iter().flat_map(|sum| sum.to_le_bytes()));
            file.write_all(&bytes)?;
        }
        let columns = self.columns.as_deref().unwrap_or_default();
        file.write_all(&[u8::from(!columns.is_empty())])?;
        bytes.clear();
        bytes.extend(columns.iter().flat_map(|scale| scale.to_le_bytes()));
        file.write_all(&bytes)
    }

    /// Reads what [`write`](Self::write) wrote of a matrix of this shape.
    pub(super) fn read(
        [out_features, in_features]: [usize; 2],
        file: &mut Checksummed<impl Read>,
    ) -> io::Result<Self> {
        let slices = Slices::new(in_features);
        let per_slice = slices.count() * out_features;
        let mut q = Pages::zeros(out_features * in_features);
        file.read_exact(q.as_mut_bytes())?;
        let mut words = vec![0; 4 * per_slice];
        file.read_exact(&mut words)?;
        let scales = floats(&words);
        file.read_exact(&mut words)?;
        let sums = words.as_chunks::<4>().0.iter();
        let sums = sums.map(|&word| i32::from_le_bytes(word)).collect();
        let mut has_columns = [0];
        file.read_exact(&mut has_columns)?;
        let columns = match has_columns {
            [0] => None,
            _ => {
                words.resize(4 * in_features, 0);
                file.read_exact(&mut words)?;
                Some(floats(&words))
            }
        };
        Ok(Self {
            slices,
            out_features,
            q,
            scales,
            sums,
            columns,
        })
    }

    /// Rows of the matrix.
    pub(super) fn out_features(&self) -> usize {
        self.out_features
    }

    /// Row `id` in f32.
    pub(super) fn look_up(&self, id: usize, row: &mut [f32]) {
        let q = &self.q[id * self.slices.in_features()..][..self.slices.in_features()];
        for slice in 0..self.slices.count() {
            let range = self.slices.range(slice);
            let scale = self.scales[slice * self.out_features + id];
            for (x, &q) in row[range.clone()].iter_mut().zip(&q[range]) {
                *x = f32::from(q) * scale;
            }
        }
        if let Some(columns) = &self.columns {
            times(row, columns);
        }
    }

    /// One weight.
    fn weight(&self, row: usize, column: usize) -> f32 {
        let slice = self.slices.slice_of(column);
        let q = self.q[row * self.slices.in_features() + column];
        f32::from(q) * self.scales[slice * self.out_features + row]
    }

    /// Bytes of the weights.
    pub(super) fn size_bytes(&self) -> usize {
        let columns = self.columns.as_ref().map_or(0, Vec::len);
        self.q.len() + 4 * (self.scales.len() + self.sums.len() + columns)
    }

    /// The product `[rows, out_features]` for `x` `[rows, in_features]`, and what follows: `y`.
    pub(super) fn forward(&self, gemm: &Gemm, x: &[f32], epilogue: Epilogue<'_>, y: &mut [f32]) {
        let mut scaled = Vec::new();
        let x = match &self.columns {
            None => x,
            Some(columns) => {
                scaled.extend_from_slice(x);
                let rows = scaled.par_chunks_mut(columns.len());
                rows.for_each(|row| times(row, columns));
                &scaled
            }
        };
        let rows = x.len() / self.slices.in_features();
        let many = if gemm.isa.tiles.is_some() {
            rows > TILE_FROM
        } else {
            rows > gemv::MAX_ROWS
        };
        match gemm.isa.tiles {
            Some(kernels) if many => self.forward_tiled(kernels, x, epilogue, &gemm.life, y),
            _ => epilogue.after(self.out_features, y, |y| {
                if many {
                    // Without VNNI the product adds pairs in 16 bits, which 7-bit activations cannot fill.
                    let zero = if gemm.int8.may_saturate() { 64 } else { 128 };
                    self.forward_many(gemm, zero, x, y);
                } else {
                    self.forward_few(gemm.isa, x, y);
                }
            }),
        }
    }

    fn forward_tiled(
        &self,
        kernels: &TileKernels,
        x: &[f32],
        epilogue: Epilogue<'_>,
        life: &Cancel,
        y: &mut [f32],
    ) {
        let k = self.slices.in_features();
        let outliers = outlier_columns(x, k);
        let panel = BytePanel::new(kernels, x, self.slices, &outliers);
        let columns = (!outliers.is_empty()).then(|| {
            let weight = |row: usize, i: usize| self.weight(row, outliers[i]);
            Columns::new(kernels, x, k, &outliers, weight)
        });
        let tiles = ByteTiles {
            kernels,
            q: &self.q,
            slices: self.slices,
            scales: &self.scales,
            sums: &self.sums,
            x: &panel,
            columns,
        };
        tiles.forward(epilogue, life, y);
    }

    fn forward_few(&self, isa: Isa, x: &[f32], y: &mut [f32]) {
        let k = self.slices.in_features();
        let rows = x.len() / k;
        let words = to_words(x, self.slices);
        let few = isa
            .tiles
            .map(|tiles| (tiles, tiles.words(&words.q, k, &words.scales)));
        gemv::share(rows, self.out_features, k, y, |first, y| {
            let n = y.len() / rows;
            let matrix = ByteMatrix {
                q: &self.q[first * k..][..n * k],
                scales: &self.scales[first..],
                sums: &self.sums[first..],
                out_features: self.out_features,
                slices: self.slices,
            };
            match &few {
                Some((tiles, few)) => (tiles.few_words)(few, matrix, y),
                None => (isa.loops.words_rows)(&words.q, &words.scales, matrix, y),
            }
        });
    }

    fn forward_many(&self, gemm: &Gemm, zero: u8, x: &[f32], y: &mut [f32]) {
        let (k, n) = (self.slices.in_features(), self.out_features);
        let rows = x.len() / k;
        let outliers = outlier_columns(x, k);
        let bytes = if outliers.is_empty() {
            to_bytes(x, self.slices, zero)
        } else {
            to_bytes(&without(x, k, &outliers), self.slices, zero)
        };
        let q = NdTensorView::from_data([rows, k], &bytes.q[..]);
        let packed: Vec<PackedAMatrix<u8>> = (0..self.slices.count())
            .into_par_iter()
            .map(|i| {
                Gemm::default()
                    .int8
                    .prepack_a(q.slice((.., self.slices.range(i))))
            })
            .collect();
        let tasks = columns(y, n, CHUNK);
        tasks.into_par_iter().enumerate().for_each(|(task, mut y)| {
            let first = task * CHUNK;
            self.multiply(&gemm.int8, &bytes, &packed, first, &mut y);
            self.add_outliers(x, &outliers, first, &mut y);
            gemm.life.alive();
        });
    }

    /// Columns `first..` of the 8-bit product; `y` holds the part of each row.
    fn multiply(
        &self,
        executor: &Executor,
        bytes: &ByteRows,
        packed: &[PackedAMatrix<u8>],
        first: usize,
        y: &mut [&mut [f32]],
    ) {
        let (k, rows, width) = (self.slices.in_features(), y.len(), y[0].len());
        let loops = Isa::host().loops;
        let weights = NdTensorView::from_data([width, k], &self.q[first * k..][..width * k]);
        let mut sums = vec![0i32; rows * width];
        let mut offsets = vec![0i32; width];
        for (i, packed) in packed.iter().enumerate() {
            let slice = weights.slice((.., self.slices.range(i)));
            let b = GemmInputB::Unpacked(slice.transposed());
            // The only errors are sizes that do not fit, and the views were made to fit.
            executor
                .gemm(
                    &mut sums,
                    GemmInputA::Packed(packed),
                    b,
                    GemmOptions::default(),
                )
                .expect("sizes that fit");
            let at = i * self.out_features + first;
            for (offset, sum) in offsets.iter_mut().zip(&self.sums[at..]) {
                *offset = bytes.zero * sum;
            }
            let scales = &self.scales[at..][..width];
            let row_scales = &bytes.scales[i * rows..][..rows];
            for ((y, sums), &scale) in y.iter_mut().zip(sums.chunks_exact(width)).zip(row_scales) {
                if i == 0 {
                    (loops.scale_sums)(sums, &offsets, scales, scale, y);
                } else {
                    (loops.add_scaled_sums)(sums, &offsets, scales, scale, y);
                }
            }
        }
    }

    /// Adds the products of the columns that were left out.
    fn add_outliers(&self, x: &[f32], outliers: &[usize], first: usize, y: &mut [&mut [f32]]) {
        let (k, width) = (self.slices.in_features(), y[0].len());
        let mut column_weights = vec![0.0; width];
        for &column in outliers {
            for (j, weight) in column_weights.iter_mut().enumerate() {
                *weight = self.weight(first + j, column);
            }
            for (y, x) in y.iter_mut().zip(x.chunks_exact(k)) {
                gemv::add_weighted(&[x[column]], &column_weights, y);
            }
        }
    }
}

/// Numbers in some bytes of a file.
fn floats(bytes: &[u8]) -> Vec<f32> {
    let words = bytes.as_chunks::<4>().0.iter();
    words.map(|&word| f32::from_le_bytes(word)).collect()
}

#[cfg(test)]
mod tests;
