// SPDX-License-Identifier: MPL-2.0

//! Products of a matrix with many rows, tile by tile ([`TileKernels`]).
//!
//! ```text
//! for 64 rows of the matrix (a task):
//!   for each block of its columns, 128 words:
//!     the block's words, 8 rows side by side                     (32 KB)
//!     for each tile of 48 rows of activations:                   (24 KB, in the first cache)
//!       for 8 of the 64 rows: multiply, scale, add to the sums
//!   turn the sums over into rows of the result
//! ```

use std::cell::RefCell;
use std::ops::Range;

use rayon::prelude::*;

use super::activation::add_assign;
use super::isa::TileKernels;
use super::isa::operands::{LANES, Line, Out, TILE_LINES, TILE_ROWS, Words};
use super::panel::{Panel, panel};
use crate::Cancel;

/// Rows of a matrix that one task multiplies, at most.
const TASK_ROWS: usize = 64;

/// Tasks that a thread should have of a product: the slowest of them, an efficiency core, holds the others up
/// for one task.
const TASKS_PER_THREAD: usize = 8;

/// Words of a row that are multiplied at a time.
pub(super) const BLOCK_WORDS: usize = 128;

/// Matrix rows in a task's tiles.
const TASK_TILES: usize = TASK_ROWS / TILE_ROWS;

/// Rows of a matrix of `n` that a task multiplies, if so many threads share them: as many as leave each its tasks,
/// and at least a quarter of [`TASK_ROWS`], for the activations are read from the second cache once for each 8.
fn task_rows(n: usize, threads: usize) -> usize {
    let mut rows = TASK_ROWS;
    while rows > TASK_ROWS / 4 && n.div_ceil(rows) < TASKS_PER_THREAD * threads {
        rows /= 2;
    }
    rows
}

/// A matrix that can be multiplied tile by tile.
pub(super) trait Tiles: Sync {
    /// Rows.
    fn n_rows(&self) -> usize;

    /// The words of a row, cut into blocks of at most [`BLOCK_WORDS`].
    fn blocks(&self) -> Vec<Range<usize>>;

    /// 16 words of row `row` from word `from` on; those beyond its end are 0.
    fn words(&self, row: usize, from: usize) -> Line<u32>;

    /// Asks for 16 words of row `row` from word `from` on, which will be needed soon.
    fn prefetch(&self, row: usize, from: usize);

    /// Columns that are multiplied in f32 besides, if any.
    fn columns(&self) -> Option<&Columns<'_>> {
        None
    }

    /// Multiplies rows `row..row + 8`, whose words of block `block` are `a`.
    fn multiply(
        &self,
        row: usize,
        block: usize,
        a: &[Words],
        b: &[Line<u32>],
        lines: Range<usize>,
        out: Out<'_>,
    );
}

/// Columns of a matrix and of the activations that are multiplied in f32, besides the others.
pub(super) struct Columns<'a> {
    kernels: &'a TileKernels,
    /// The activations of these columns.
    panel: Panel,
    n: usize,
    /// Weight `(row, column)`, the column counted among these.
    weight: Box<dyn Fn(usize, usize) -> f32 + Sync + 'a>,
}

impl<'a> Columns<'a> {
    /// `columns` of `x` `[rows, k]`, at most [`BLOCK_WORDS`], and their weights.
    pub(super) fn new(
        kernels: &'a TileKernels,
        x: &[f32],
        k: usize,
        columns: &[usize],
        weight: impl Fn(usize, usize) -> f32 + Sync + 'a,
    ) -> Self {
        let panel = panel(kernels, x.len() / k, columns.len(), |row, words| {
            for (word, column) in words.iter_mut().zip(columns) {
                *word = x[row * k + column].to_bits();
            }
        });
        Self {
            kernels,
            panel,
            n: columns.len(),
            weight: Box::new(weight),
        }
    }

    /// Adds the products of the matrix rows `rows` to `sums` `[rows][lines]`.
    fn add(&self, rows: Range<usize>, sums: &mut [Line<f32>]) {
        let n_lines = self.panel.n_lines();
        let mut words = [[0; TILE_ROWS]; BLOCK_WORDS];
        let blocks = sums.chunks_mut(TILE_ROWS * n_lines);
        for (row, sums) in rows.clone().step_by(TILE_ROWS).zip(blocks) {
            for (i, words) in words.iter_mut().enumerate().take(self.n) {
                for (row, word) in (row..rows.end).zip(words) {
                    *word = (self.weight)(row, i).to_bits();
                }
            }
            for tile in 0..self.panel.n_tiles() {
                let out = Out {
                    lines: &mut sums[tile * TILE_LINES..],
                    stride: n_lines,
                    add: true,
                };
                let b = self.panel.tile(tile, 0, self.n);
                (self.kernels.floats)(&words[..self.n], b, out);
            }
        }
    }
}

/// `y` `[rows, n]`: all rows of the matrix with all rows of the panel, plus `bias` `[n]`; `life` hears
/// of each task.
pub(super) fn product(
    kernels: &TileKernels,
    matrix: &impl Tiles,
    panel: &Panel,
    bias: Option<&[f32]>,
    life: &Cancel,
    y: &mut [f32],
) {
    let n = matrix.n_rows();
    let rows = y.len() / n;
    let task_rows = task_rows(n, rayon::current_num_threads());
    // The columns of the result that each task writes, row by row.
    let mut tasks: Vec<Vec<&mut [f32]>> = Vec::new();
    tasks.resize_with(n.div_ceil(task_rows), || Vec::with_capacity(rows));
    for row in y.chunks_exact_mut(n) {
        for (task, part) in tasks.iter_mut().zip(row.chunks_mut(task_rows)) {
            task.push(part);
        }
    }
    let blocks = matrix.blocks();
    let n_lines = panel.n_lines();
    let multiply = |(task, mut y): (usize, Vec<&mut [f32]>)| {
        SCRATCH.with_borrow_mut(|scratch| {
            let (words, sums) = scratch.of(task_rows * n_lines);
            let first = task * task_rows;
            let n_rows = task_rows.min(n - first);
            for (i, block) in blocks.iter().enumerate() {
                let len = block.len();
                gather(kernels, matrix, first..first + n_rows, block, words);
                let ahead = blocks.get(i + 1);
                let mut soon = (first..first + n_rows).flat_map(|row| {
                    let words = ahead.cloned().unwrap_or(0..0);
                    words.step_by(LANES).map(move |from| (row, from))
                });
                let share = (task_rows * BLOCK_WORDS / LANES).div_ceil(panel.n_tiles());
                for tile in 0..panel.n_tiles() {
                    for (row, from) in soon.by_ref().take(share) {
                        matrix.prefetch(row, from);
                    }
                    let lines = tile * TILE_LINES..tile * TILE_LINES + panel.width(tile);
                    let b = panel.tile(tile, block.start, block.end);
                    for (j, a) in words.chunks(BLOCK_WORDS).enumerate() {
                        if j * TILE_ROWS >= n_rows {
                            break;
                        }
                        let out = Out {
                            lines: &mut sums[j * TILE_ROWS * n_lines + lines.start..],
                            stride: n_lines,
                            add: i > 0,
                        };
                        let row = first + j * TILE_ROWS;
                        matrix.multiply(row, i, &a[..len], b, lines.clone(), out);
                    }
                }
            }
            if let Some(columns) = matrix.columns() {
                columns.add(first..first + n_rows, sums);
            }
            let bias = bias.map(|bias| &bias[first..first + n_rows]);
            scatter(kernels, sums, n_lines, bias, &mut y);
        });
        life.alive();
    };
    // One by one: several to a leaf would be left to one thread, and the others wait for it.
    let tasks = tasks.into_par_iter().enumerate().with_max_len(1);
    tasks.for_each(multiply);
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// What a thread's tasks write before they read it, kept from one to the next.
#[derive(Default)]
struct Scratch {
    words: Vec<Words>,
    sums: Vec<Line<f32>>,
}

impl Scratch {
    /// Words of a block, and so many lines of sums.
    fn of(&mut self, n_sums: usize) -> (&mut [Words], &mut [Line<f32>]) {
        self.words.resize(TASK_TILES * BLOCK_WORDS, [0; TILE_ROWS]);
        if self.sums.len() < n_sums {
            self.sums.resize(n_sums, Line([0.0; LANES]));
        }
        (&mut self.words, &mut self.sums[..n_sums])
    }
}

/// The words of `block` of some rows, 8 rows side by side: `[tiles][BLOCK_WORDS]`.
fn gather(
    kernels: &TileKernels,
    matrix: &impl Tiles,
    rows: Range<usize>,
    block: &Range<usize>,
    words: &mut [Words],
) {
    let mut tiles = words.chunks_mut(2 * BLOCK_WORDS);
    let mut square = [Line([0; LANES]); LANES];
    for first in rows.clone().step_by(LANES) {
        let Some(tiles) = tiles.next() else { break };
        let (low, high) = tiles.split_at_mut(BLOCK_WORDS);
        for at in (0..block.len()).step_by(LANES) {
            let len = LANES.min(block.len() - at);
            for (row, line) in (first..rows.end).zip(&mut square) {
                *line = matrix.words(row, block.start + at);
            }
            (kernels.transpose)(&mut square);
            for (i, line) in square.iter().enumerate().take(len) {
                low[at + i].copy_from_slice(&line.0[..TILE_ROWS]);
                high[at + i].copy_from_slice(&line.0[TILE_ROWS..]);
            }
        }
    }
}

/// Turns `sums` `[columns][lines]` over into rows of `y`, plus `bias`.
pub(super) fn scatter(
    kernels: &TileKernels,
    sums: &[Line<f32>],
    n_lines: usize,
    bias: Option<&[f32]>,
    y: &mut [&mut [f32]],
) {
    let width = y.first().map_or(0, |y| y.len());
    let mut square = [Line([0; LANES]); LANES];
    for (line, y) in y.chunks_mut(LANES).enumerate() {
        for column in (0..width).step_by(LANES) {
            for (i, to) in (column..width).zip(&mut square) {
                to.0 = sums[i * n_lines + line].0.map(f32::to_bits);
            }
            (kernels.transpose)(&mut square);
            for (y, from) in y.iter_mut().zip(&square) {
                match y[column..].first_chunk_mut::<LANES>() {
                    Some(y) => *y = from.0.map(f32::from_bits),
                    None => {
                        for (y, from) in y[column..].iter_mut().zip(&from.0) {
                            *y = f32::from_bits(*from);
                        }
                    }
                }
            }
        }
        if let Some(bias) = bias {
            for y in y {
                add_assign(y, bias);
            }
        }
    }
}
