// SPDX-License-Identifier: MPL-2.0

//! Products of a matrix with many rows, tile by tile ([`TileKernels`]).
//!
//! ```text
//! for 64 rows of the matrix (a task):
//!   for each block of its columns, 128 words:
//!     the block's words, 8 rows side by side (32 KB), sorted (84 KB), or read where they are (`Reading`)
//!     for each tile of 48 rows of activations:                   (24 KB, in the first cache)
//!       for 8 of the 64 rows: multiply, scale, add to the sums
//!   turn the sums over into rows, and do what follows to them (`Epilogue`)
//! ```

use std::array;
use std::cell::RefCell;
use std::ops::Range;

use rayon::prelude::*;

use super::epilogue::{Epilogue, TaskRows};
use super::isa::operands::{BLOCK_WORDS, LANES, Line, Out, TILE_ROWS, Words};
use super::isa::{SortedWords, TileKernels};
use super::panel::{Panel, panel};
use super::pieces::columns;
use crate::Cancel;

/// Rows of a matrix that one task multiplies, at most.
const TASK_ROWS: usize = 64;

/// Tasks that a thread should have of a product: the slowest of them, an efficiency core, holds the others up
/// for one task.
const TASKS_PER_THREAD: usize = 8;

/// Matrix rows in a task's tiles.
const TASK_TILES: usize = TASK_ROWS / TILE_ROWS;

/// Rows of a matrix of `n` that a task multiplies, if so many threads share them: as many as leave each its tasks,
/// and at least a quarter of [`TASK_ROWS`], for the activations are read from the second cache once for each 8.
fn task_rows(n: usize, threads: usize) -> usize {
    // Gates and their ups are whole tiles.
    const LEAST: usize = TASK_ROWS / 4;
    const { assert!(LEAST.is_multiple_of(2 * TILE_ROWS)) }
    let mut rows = TASK_ROWS;
    while rows > LEAST && n.div_ceil(rows) < TASKS_PER_THREAD * threads {
        rows /= 2;
    }
    rows
}

/// Rows of a block that are asked for before they are sorted.
const SORTED_AHEAD: usize = 4;

/// A block of some rows.
pub(super) struct Block<'a> {
    /// Which of [`blocks`](Tiles::blocks).
    pub(super) number: usize,
    /// Where it is in its rows.
    pub(super) words: Range<usize>,
    /// Its words of 8 rows side by side, if they were gathered.
    pub(super) gathered: &'a [Words],
    /// Its words of up to 8 rows, if they were sorted.
    pub(super) sorted: &'a [SortedWords],
}

/// How the words of a block are read by what multiplies them.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Reading {
    /// Side by side, from where they were gathered.
    Gathered,
    /// Where they are in the matrix.
    InPlace,
    /// Sorted, each row's by itself.
    Sorted,
}

/// A matrix that can be multiplied tile by tile.
pub(super) trait Tiles: Sync {
    /// Rows.
    fn n_rows(&self) -> usize;

    /// The words of a row, cut into blocks of at most [`BLOCK_WORDS`].
    fn blocks(&self) -> Vec<Range<usize>>;

    /// How [`multiply`](Self::multiply) reads the words of a block.
    fn reading(&self, _: &Range<usize>) -> Reading {
        Reading::Gathered
    }

    /// Sorts the words of a block of row `row`, if they are read so.
    fn sort(&self, _row: usize, _: &Range<usize>, _: &mut SortedWords) {}

    /// 16 words of row `row` from word `from` on; those beyond its end are 0.
    fn words(&self, row: usize, from: usize) -> Line<u32>;

    /// Writes the words of 8 rows of some block to `to`, as far as there is a faster way than by
    /// [`words`](Self::words), and says how many those are.
    fn tile_words(&self, _: [usize; TILE_ROWS], _: &Range<usize>, _: &mut [Words]) -> usize {
        0
    }

    /// Asks for some words of row `row`, which will be needed soon.
    fn prefetch(&self, row: usize, words: &Range<usize>);

    /// Columns that are multiplied in f32 besides, if any.
    fn columns(&self) -> Option<&Columns<'_>> {
        None
    }

    /// Multiplies rows `row..row + 8` of a block.
    fn multiply(
        &self,
        row: usize,
        block: &Block<'_>,
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
    fn add(&self, rows: TaskRows, sums: &mut [Line<f32>]) {
        let n_lines = self.panel.n_lines();
        let mut words = [[0; TILE_ROWS]; BLOCK_WORDS];
        let blocks = sums.chunks_mut(TILE_ROWS * n_lines);
        for (row, sums) in (0..rows.len()).step_by(TILE_ROWS).zip(blocks) {
            for (i, words) in words.iter_mut().enumerate().take(self.n) {
                for (row, word) in (row..rows.len()).zip(words) {
                    *word = (self.weight)(rows.row(row), i).to_bits();
                }
            }
            for tile in 0..self.panel.n_tiles() {
                let out = Out {
                    lines: &mut sums[self.panel.lines(tile).start..],
                    stride: n_lines,
                    add: true,
                };
                let b = self.panel.tile(tile, 0, self.n);
                (self.kernels.floats)(&words[..self.n], b, out);
            }
        }
    }
}

/// All rows of the matrix with all rows of the panel, `[rows, n]`, and what follows: `y`
/// `[rows, epilogue.width(n)]`; `life` hears of each task.
pub(super) fn product(
    kernels: &TileKernels,
    matrix: &impl Tiles,
    panel: &Panel,
    epilogue: Epilogue<'_>,
    life: &Cancel,
    y: &mut [f32],
) {
    let n = matrix.n_rows();
    let width = epilogue.width(n);
    let task_rows = task_rows(n, rayon::current_num_threads());
    let tasks = columns(y, width, epilogue.width(task_rows));
    let blocks = matrix.blocks();
    let n_lines = panel.n_lines();
    let multiply = |(task, mut y): (usize, Vec<&mut [f32]>)| {
        SCRATCH.with_borrow_mut(|scratch| {
            let (prepared, sums) = scratch.of(task_rows * n_lines);
            let rows = epilogue.rows(task, task_rows, n);
            for (i, words) in blocks.iter().enumerate() {
                let reading = prepared.prepare(kernels, matrix, rows, words);
                // A part of the next block beside each tile of activations, and of the first, for which nothing was
                // asked before, a tile while that before it is multiplied.
                let mut soon = (0..rows.len()).map(|row| rows.row(row));
                let mut now = soon.clone();
                let share = rows.len().div_ceil(panel.n_tiles());
                let cold = reading == Reading::InPlace && i == 0;
                if cold {
                    ask(matrix, &mut now, TILE_ROWS, words);
                }
                for tile in 0..panel.n_tiles() {
                    if let Some(next) = blocks.get(i + 1)
                        && reading != Reading::Sorted
                    {
                        ask(matrix, &mut soon, share, next);
                    }
                    let lines = panel.lines(tile);
                    let b = panel.tile(tile, words.start, words.end);
                    for first in (0..rows.len()).step_by(TILE_ROWS) {
                        if cold {
                            ask(matrix, &mut now, TILE_ROWS, words);
                        }
                        let out = Out {
                            lines: &mut sums[first * n_lines + lines.start..],
                            stride: n_lines,
                            add: i > 0,
                        };
                        let block = prepared.block(reading, i, words, first..rows.len());
                        matrix.multiply(rows.row(first), &block, b, lines.clone(), out);
                    }
                }
            }
            if let Some(columns) = matrix.columns() {
                columns.add(rows, sums);
            }
            end(kernels, sums, n_lines, rows, epilogue, &mut y);
        });
        life.alive();
    };
    // One by one: several to a leaf would be left to one thread, and the others wait for it.
    let tasks = tasks.into_par_iter().enumerate().with_max_len(1);
    tasks.for_each(multiply);
}

/// Asks for the words of a block of the next `n` of some rows.
fn ask(
    matrix: &impl Tiles,
    rows: &mut impl Iterator<Item = usize>,
    n: usize,
    words: &Range<usize>,
) {
    for row in rows.take(n) {
        matrix.prefetch(row, words);
    }
}

/// Turns a task's `sums` `[rows][lines]` over, 16 rows of the result at a time, and does what follows to them.
fn end(
    kernels: &TileKernels,
    sums: &[Line<f32>],
    n_lines: usize,
    rows: TaskRows,
    epilogue: Epilogue<'_>,
    y: &mut [&mut [f32]],
) {
    let bias = epilogue.bias_of::<TASK_ROWS>(rows);
    let bias = bias.as_ref().map(|bias| &bias[..rows.len()]);
    let mut turned = [[0.0; TASK_ROWS]; LANES];
    let (mut rest, mut line) = (y, 0);
    while !rest.is_empty() {
        let (y, next) = rest.split_at_mut(LANES.min(rest.len()));
        for row in next.iter().take(LANES) {
            (kernels.prefetch)(row.as_ptr().cast(), size_of_val(&**row));
        }
        if epilogue.stays() {
            scatter(kernels, &sums[line..], n_lines, y);
            y.iter_mut().for_each(|y| epilogue.end_there(bias, y));
        } else {
            let mut turned = turned.each_mut().map(|row| &mut row[..rows.len()]);
            scatter(kernels, &sums[line..], n_lines, &mut turned[..y.len()]);
            for (product, y) in turned.iter_mut().zip(y) {
                epilogue.end(bias, product, y);
            }
        }
        (rest, line) = (next, line + 1);
    }
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// What a thread's tasks write before they read it, kept from one to the next.
#[derive(Default)]
struct Scratch {
    prepared: Prepared,
    sums: Vec<Line<f32>>,
}

/// The words of a block of a task's rows.
#[derive(Default)]
struct Prepared {
    words: Vec<Words>,
    sorted: Vec<SortedWords>,
}

impl Scratch {
    /// Room for the words of a block, and so many lines of sums.
    fn of(&mut self, n_sums: usize) -> (&mut Prepared, &mut [Line<f32>]) {
        if self.sums.len() < n_sums {
            self.sums.resize(n_sums, Line([0.0; LANES]));
        }
        (&mut self.prepared, &mut self.sums[..n_sums])
    }
}

impl Prepared {
    /// Gathers or sorts the words of a block, if they are not read where they are.
    fn prepare(
        &mut self,
        kernels: &TileKernels,
        matrix: &impl Tiles,
        rows: TaskRows,
        block: &Range<usize>,
    ) -> Reading {
        let reading = matrix.reading(block);
        match reading {
            Reading::InPlace => (),
            Reading::Gathered => {
                self.words.resize(TASK_TILES * BLOCK_WORDS, [0; TILE_ROWS]);
                gather(kernels, matrix, rows, block, &mut self.words);
            }
            Reading::Sorted => {
                self.sorted.resize_with(TASK_ROWS, SortedWords::default);
                let mut soon = (0..rows.len()).map(|row| rows.row(row));
                ask(matrix, &mut soon, SORTED_AHEAD, block);
                for (row, to) in (0..rows.len()).zip(&mut self.sorted) {
                    ask(matrix, &mut soon, 1, block);
                    matrix.sort(rows.row(row), block, to);
                }
            }
        }
        reading
    }

    /// Block `number` of up to 8 of the task's `rows`.
    fn block(
        &self,
        reading: Reading,
        number: usize,
        words: &Range<usize>,
        rows: Range<usize>,
    ) -> Block<'_> {
        let first = rows.start / TILE_ROWS * BLOCK_WORDS;
        let (gathered, sorted): (&[_], &[_]) = match reading {
            Reading::InPlace => (&[], &[]),
            Reading::Gathered => (&self.words[first..][..words.len()], &[]),
            Reading::Sorted => {
                let end = rows.end.min(rows.start + TILE_ROWS);
                (&[], &self.sorted[rows.start..end])
            }
        };
        Block {
            number,
            words: words.clone(),
            gathered,
            sorted,
        }
    }
}

/// The words of `block` of some rows, 8 rows side by side: `[tiles][BLOCK_WORDS]`.
fn gather(
    kernels: &TileKernels,
    matrix: &impl Tiles,
    rows: TaskRows,
    block: &Range<usize>,
    words: &mut [Words],
) {
    let mut tiles = words.chunks_mut(2 * BLOCK_WORDS);
    let mut square = [Line([0; LANES]); LANES];
    for first in (0..rows.len()).step_by(LANES) {
        let Some(tiles) = tiles.next() else { break };
        let (low, high) = tiles.split_at_mut(BLOCK_WORDS);
        let tile = |first: usize| {
            // Rows beyond the last one are multiplied, and what comes of it is not read.
            array::from_fn(|i| rows.row((first + i).min(rows.len() - 1)))
        };
        let mut done = matrix.tile_words(tile(first), block, &mut low[..block.len()]);
        if first + TILE_ROWS < rows.len() {
            done = done.min(matrix.tile_words(
                tile(first + TILE_ROWS),
                block,
                &mut high[..block.len()],
            ));
        }
        for at in (done..block.len()).step_by(LANES) {
            let len = LANES.min(block.len() - at);
            for (row, line) in (first..rows.len()).zip(&mut square) {
                *line = matrix.words(rows.row(row), block.start + at);
            }
            (kernels.transpose)(&mut square);
            for (i, line) in square.iter().enumerate().take(len) {
                low[at + i].copy_from_slice(&line.0[..TILE_ROWS]);
                high[at + i].copy_from_slice(&line.0[TILE_ROWS..]);
            }
        }
    }
}

/// Turns `sums` `[columns][lines]` over into rows of `y`.
pub(super) fn scatter(
    kernels: &TileKernels,
    sums: &[Line<f32>],
    n_lines: usize,
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
    }
}
