// SPDX-License-Identifier: MPL-2.0

//! Matrices of 8 bits as words of tiles ([`product`](super::product)), and rounded activations as
//! panels of them.

use std::array;
use std::ops::Range;

use rayon::prelude::*;

use super::epilogue::Epilogue;
use super::isa::operands::{BLOCK_WORDS, ByteForm, LANES, Line, Out, Scaling, TILE_ROWS, Words};
use super::isa::{ByteProduct, Isa, SortedWords, TileKernels};
use super::panel::{Panel, panel};
use super::product::{Block, Columns, Reading, Tiles, product};
use super::slices::Slices;
use super::tiled::line;
use crate::Cancel;

/// Weights in a word.
const PER_WORD: usize = 4;

/// Value of an unsigned byte that stands for 0.
const ZERO: u8 = 128;

/// Rows of activations, rounded.
pub(super) struct BytePanel {
    panel: Panel,
    /// `[slices][lines]`
    scales: Vec<Line<f32>>,
}

/// `[n, in_features]` in 8 bits.
pub(super) struct ByteTiles<'a> {
    pub(super) kernels: &'a TileKernels,
    pub(super) q: &'a [i8],
    pub(super) slices: Slices,
    /// `[slices, n]`
    pub(super) scales: &'a [f32],
    /// `[slices, n]`
    pub(super) sums: &'a [i32],
    pub(super) x: &'a BytePanel,
    /// Columns that are left out here.
    pub(super) columns: Option<Columns<'a>>,
}

impl BytePanel {
    /// Rounds `x` `[rows, in_features]`, with zeros in the columns `left_out`.
    pub(super) fn new(
        kernels: &TileKernels,
        x: &[f32],
        slices: Slices,
        left_out: &[usize],
    ) -> Self {
        let k = slices.in_features();
        let rows = x.len() / k;
        let flip = u32::from_le_bytes([kernels.form.flip(); 4]);
        let (q, by_row) = rounded(x, slices, left_out);
        let panel = panel(kernels, rows, k.div_ceil(PER_WORD), |row, words| {
            fill(&q[row * k..][..k], flip, words);
        });
        let n_lines = rows.div_ceil(LANES);
        let mut scales = vec![Line([0.0; LANES]); slices.count() * n_lines];
        for (row, by_row) in by_row.chunks_exact(slices.count()).enumerate() {
            for (i, scale) in by_row.iter().enumerate() {
                scales[i * n_lines + row / LANES].0[row % LANES] = *scale;
            }
        }
        Self { panel, scales }
    }
}

/// Rows rounded slice by slice, and their scales `[rows, slices]`.
fn rounded(x: &[f32], slices: Slices, left_out: &[usize]) -> (Vec<u8>, Vec<f32>) {
    let loops = Isa::host().loops;
    let (k, n) = (slices.in_features(), slices.count());
    let mut scales = vec![0.0; x.len() / k * n];
    let mut q = vec![0; x.len()];
    q.par_chunks_mut(k)
        .zip(x.par_chunks(k))
        .zip(scales.par_chunks_mut(n))
        .for_each_init(Vec::new, |kept, ((q, x), scales)| {
            let x = if left_out.is_empty() {
                x
            } else {
                kept.clear();
                kept.extend_from_slice(x);
                for &column in left_out {
                    kept[column] = 0.0;
                }
                &kept[..]
            };
            for (i, scale) in scales.iter_mut().enumerate() {
                let range = slices.range(i);
                *scale = (loops.slice_to_bytes)(&x[range.clone()], ZERO, &mut q[range]);
            }
        });
    (q, scales)
}

/// Words of the bytes, the last filled up with zeros, with bits flipped.
#[inline(always)]
fn fill(x: &[u8], flip: u32, words: &mut [u32]) {
    let (chunks, rest) = x.as_chunks();
    for (to, &chunk) in words.iter_mut().zip(chunks) {
        *to = u32::from_le_bytes(chunk) ^ flip;
    }
    if !rest.is_empty() {
        let mut last = [0; PER_WORD];
        last[..rest.len()].copy_from_slice(rest);
        words[chunks.len()] = u32::from_le_bytes(last) ^ flip;
    }
}

/// What belongs to the rows of a tile. Rows beyond the last one have anything.
fn eight<T: Copy + Default>(x: &[T]) -> [T; TILE_ROWS] {
    x.first_chunk().copied().unwrap_or_else(|| {
        let mut filled = [T::default(); TILE_ROWS];
        filled[..x.len()].copy_from_slice(x);
        filled
    })
}

impl ByteTiles<'_> {
    /// The product `[rows, n]`, and what follows: `y`.
    pub(super) fn forward(&self, epilogue: Epilogue<'_>, life: &Cancel, y: &mut [f32]) {
        product(self.kernels, self, &self.x.panel, epilogue, life, y);
    }

    /// The weights of some words of a row.
    fn bytes(&self, row: usize, words: &Range<usize>) -> &[i8] {
        let k = self.slices.in_features();
        &self.q[row * k..][PER_WORD * words.start..k.min(PER_WORD * words.end)]
    }

    /// Blocks of words in a slice, but for the last slice.
    fn per_slice(&self) -> usize {
        self.slices.range(0).len().div_ceil(PER_WORD * BLOCK_WORDS)
    }
}

impl Tiles for ByteTiles<'_> {
    fn n_rows(&self) -> usize {
        self.q.len() / self.slices.in_features()
    }

    fn blocks(&self) -> Vec<Range<usize>> {
        let slices = (0..self.slices.count()).map(|i| self.slices.range(i));
        // Slices begin at multiples of 64 columns.
        let words = slices.map(|range| range.start / PER_WORD..range.end.div_ceil(PER_WORD));
        let cut = |words: Range<usize>| {
            let end = words.end;
            words
                .step_by(BLOCK_WORDS)
                .map(move |at| at..(at + BLOCK_WORDS).min(end))
        };
        words.flat_map(cut).collect()
    }

    fn reading(&self, words: &Range<usize>) -> Reading {
        let whole = PER_WORD * words.end <= self.slices.in_features();
        match self.kernels.bytes {
            ByteProduct::Sorted { .. } => Reading::Sorted,
            ByteProduct::InPlace { .. } if whole => Reading::InPlace,
            ByteProduct::InPlace { .. } | ByteProduct::Gathered { .. } => Reading::Gathered,
        }
    }

    fn sort(&self, row: usize, words: &Range<usize>, to: &mut SortedWords) {
        if let ByteProduct::Sorted { sort, .. } = self.kernels.bytes {
            sort(self.bytes(row, words), to);
        }
    }

    fn words(&self, row: usize, from: usize) -> Line<u32> {
        let k = self.slices.in_features();
        let row = &self.q[row * k..][PER_WORD * from..k];
        line(row, 0, |bytes: [i8; PER_WORD]| {
            u32::from_le_bytes(bytes.map(i8::cast_unsigned))
        })
    }

    fn tile_words(
        &self,
        rows: [usize; TILE_ROWS],
        block: &Range<usize>,
        to: &mut [Words],
    ) -> usize {
        let ByteProduct::Gathered {
            gather: Some(gather),
            ..
        } = self.kernels.bytes
        else {
            return 0;
        };
        let k = self.slices.in_features();
        gather(
            rows.map(|row| &self.q[row * k..][PER_WORD * block.start..k]),
            to,
        )
    }

    fn prefetch(&self, row: usize, words: &Range<usize>) {
        let bytes = self.bytes(row, words);
        (self.kernels.prefetch)(bytes.as_ptr().cast(), bytes.len());
    }

    fn columns(&self) -> Option<&Columns<'_>> {
        self.columns.as_ref()
    }

    fn multiply(
        &self,
        row: usize,
        block: &Block<'_>,
        b: &[Line<u32>],
        lines: Range<usize>,
        out: Out<'_>,
    ) {
        let n = self.n_rows();
        let n_lines = self.x.scales.len() / self.slices.count();
        let slice = block.number / self.per_slice();
        let at = slice * n + row;
        let zero = match self.kernels.form {
            ByteForm::Quads => i32::from(ZERO),
            ByteForm::SignedQuads => 0,
        };
        let scaling = Scaling {
            offsets: eight(&self.sums[at..]).map(|sum| zero * sum),
            scales: eight(&self.scales[at..]),
            row_scales: &self.x.scales[slice * n_lines..][lines],
        };
        // Rows beyond the last one are multiplied, and what comes of it is not read.
        match self.kernels.bytes {
            ByteProduct::InPlace { multiply, .. } if block.gathered.is_empty() => {
                let rows = array::from_fn(|r| self.bytes((row + r).min(n - 1), &block.words));
                multiply(rows, b, &scaling, out);
            }
            ByteProduct::InPlace {
                gathered: multiply, ..
            }
            | ByteProduct::Gathered { multiply, .. } => multiply(block.gathered, b, &scaling, out),
            ByteProduct::Sorted { multiply, .. } => {
                let rows = array::from_fn(|r| &block.sorted[r.min(block.sorted.len() - 1)]);
                multiply(rows, b, &scaling, out);
            }
        }
    }
}
