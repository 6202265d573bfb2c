// SPDX-License-Identifier: MPL-2.0

//! Matrices of 8 bits as words of tiles ([`product`](super::product)), and rounded activations as
//! panels of them.

use std::array;
use std::ops::Range;

use rayon::prelude::*;

use super::epilogue::Epilogue;
use super::isa::operands::{ByteForm, LANES, Line, Out, Scaling, TILE_ROWS, Words};
use super::isa::{Isa, TileKernels};
use super::panel::{Panel, panel};
use super::product::{BLOCK_WORDS, Block, Columns, Tiles, product};
use super::slices::Slices;
use super::tiled::line;
use crate::Cancel;

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
        let loops = Isa::host().loops;
        let k = slices.in_features();
        let rows = x.len() / k;
        let (panel, by_row) = match kernels.form {
            ByteForm::Quads | ByteForm::SignedQuads => {
                let flip = u32::from_le_bytes([kernels.form.flip(); 4]);
                let (q, scales) = rounded(x, slices, left_out, |x, q| {
                    (loops.slice_to_bytes)(x, ZERO, q)
                });
                let panel = panel(kernels, rows, k.div_ceil(4), |row, words| {
                    fill(&q[row * k..][..k], words, |bytes| {
                        u32::from_le_bytes(bytes) ^ flip
                    });
                });
                (panel, scales)
            }
            ByteForm::Pairs => {
                let (q, scales) = rounded(x, slices, left_out, loops.slice_to_words);
                let panel = panel(kernels, rows, k.div_ceil(2), |row, words| {
                    fill(&q[row * k..][..k], words, pair);
                });
                (panel, scales)
            }
        };
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
fn rounded<T: Copy + Default + Send>(
    x: &[f32],
    slices: Slices,
    left_out: &[usize],
    round: impl Fn(&[f32], &mut [T]) -> f32 + Sync,
) -> (Vec<T>, Vec<f32>) {
    let (k, n) = (slices.in_features(), slices.count());
    let mut scales = vec![0.0; x.len() / k * n];
    let mut q = vec![T::default(); x.len()];
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
                *scale = round(&x[range.clone()], &mut q[range]);
            }
        });
    (q, scales)
}

/// Words of `N` numbers each, the last filled up with zeros.
#[inline(always)]
fn fill<T: Copy + Default, const N: usize>(
    x: &[T],
    words: &mut [u32],
    word: impl Fn([T; N]) -> u32,
) {
    let (chunks, rest) = x.as_chunks::<N>();
    for (to, chunk) in words.iter_mut().zip(chunks) {
        *to = word(*chunk);
    }
    if !rest.is_empty() {
        let mut last = [T::default(); N];
        last[..rest.len()].copy_from_slice(rest);
        words[chunks.len()] = word(last);
    }
}

/// A word of two numbers, the first in the low half.
#[inline(always)]
fn pair([a, b]: [i16; 2]) -> u32 {
    u32::from(a.cast_unsigned()) | u32::from(b.cast_unsigned()) << 16
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

    /// Weights in a word.
    fn per_word(&self) -> usize {
        match self.kernels.form {
            ByteForm::Quads | ByteForm::SignedQuads => 4,
            ByteForm::Pairs => 2,
        }
    }

    /// The weights of some words of a row.
    fn bytes(&self, row: usize, words: &Range<usize>) -> &[i8] {
        let (k, n) = (self.slices.in_features(), self.per_word());
        &self.q[row * k..][n * words.start..k.min(n * words.end)]
    }

    /// Blocks of words in a slice, but for the last slice.
    fn per_slice(&self) -> usize {
        self.slices
            .range(0)
            .len()
            .div_ceil(self.per_word() * BLOCK_WORDS)
    }
}

impl Tiles for ByteTiles<'_> {
    fn n_rows(&self) -> usize {
        self.q.len() / self.slices.in_features()
    }

    fn blocks(&self) -> Vec<Range<usize>> {
        let n = self.per_word();
        let slices = (0..self.slices.count()).map(|i| self.slices.range(i));
        // Slices begin at multiples of 64 columns.
        let words = slices.map(|range| range.start / n..range.end.div_ceil(n));
        let cut = |words: Range<usize>| {
            let end = words.end;
            words
                .step_by(BLOCK_WORDS)
                .map(move |at| at..(at + BLOCK_WORDS).min(end))
        };
        words.flat_map(cut).collect()
    }

    fn in_place(&self, words: &Range<usize>) -> bool {
        self.kernels.byte_rows.is_some() && self.per_word() * words.end <= self.slices.in_features()
    }

    fn words(&self, row: usize, from: usize) -> Line<u32> {
        let k = self.slices.in_features();
        let row = &self.q[row * k..][self.per_word() * from..k];
        match self.kernels.form {
            ByteForm::Quads | ByteForm::SignedQuads => line(row, 0, |bytes: [i8; 4]| {
                u32::from_le_bytes(bytes.map(i8::cast_unsigned))
            }),
            ByteForm::Pairs => line(row, 0, |bytes: [i8; 2]| pair(bytes.map(i16::from))),
        }
    }

    fn tile_words(
        &self,
        rows: [usize; TILE_ROWS],
        block: &Range<usize>,
        to: &mut [Words],
    ) -> usize {
        let Some(byte_words) = self.kernels.byte_words else {
            return 0;
        };
        let k = self.slices.in_features();
        let rows = rows.map(|row| &self.q[row * k..][self.per_word() * block.start..k]);
        byte_words(rows, to)
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
            ByteForm::SignedQuads | ByteForm::Pairs => 0,
        };
        let scaling = Scaling {
            offsets: eight(&self.sums[at..]).map(|sum| zero * sum),
            scales: eight(&self.scales[at..]),
            row_scales: &self.x.scales[slice * n_lines..][lines],
        };
        match self.kernels.byte_rows {
            Some(byte_rows) if block.gathered.is_empty() => {
                // Rows beyond the last one are multiplied, and what comes of it is not read.
                let rows = array::from_fn(|r| self.bytes((row + r).min(n - 1), &block.words));
                byte_rows(rows, b, &scaling, out);
            }
            _ => (self.kernels.bytes)(block.gathered, b, &scaling, out),
        }
    }
}
