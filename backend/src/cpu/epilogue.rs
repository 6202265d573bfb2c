// SPDX-License-Identifier: MPL-2.0

//! What is done to a product while its numbers are in a cache: its epilogue, as CUTLASS calls it.

use rayon::prelude::*;

use super::activation::{add_assign, swiglu};
use super::isa::operands::TILE_ROWS;
use super::pieces;

/// What becomes of a product.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Epilogue<'a> {
    /// Is added first, `[n]`.
    pub(super) bias: Option<&'a [f32]>,
    pub(super) then: Then,
}

/// What becomes of a product and its bias, `[rows, n]`.
#[derive(Debug, Clone, Copy, Default)]
pub(super) enum Then {
    /// It is the result.
    #[default]
    Store,
    /// It is added to what is there: a residual connection.
    Add,
    /// This is done to all its numbers.
    Map(fn(&mut [f32])),
    /// The first half of a row, the gate, and the second are made one: `silu(gate) * up`,
    /// `[rows, n / 2]`.
    Swiglu,
}

/// Rows of a matrix that are multiplied in one task: some that follow each other, or some gates and after
/// them their ups, which begin with a tile of their own.
#[derive(Debug, Clone, Copy)]
pub(super) struct TaskRows {
    first: usize,
    len: usize,
    ups: Option<Ups>,
}

/// Where the ups of a task's gates are.
#[derive(Debug, Clone, Copy)]
struct Ups {
    /// Of the task's rows.
    from: usize,
    /// Of the matrix.
    first: usize,
}

impl TaskRows {
    /// How many there are.
    pub(super) fn len(self) -> usize {
        self.len
    }

    /// The row of the matrix that is row `i` here. Those of a tile follow each other, but for what fills the last
    /// one of the gates up, of which there are as many as ups: the last gate once more.
    pub(super) fn row(self, i: usize) -> usize {
        match self.ups {
            Some(ups) if i >= ups.from => ups.first + (i - ups.from),
            Some(ups) => self.first + i.min(self.len - ups.from - 1),
            None => self.first + i,
        }
    }
}

impl Epilogue<'_> {
    /// Numbers in a row of the result, of a matrix of `n` rows.
    pub(super) fn width(self, n: usize) -> usize {
        match self.then {
            Then::Swiglu => n / 2,
            Then::Store | Then::Add | Then::Map(_) => n,
        }
    }

    /// The rows of task `task`, if each has `each` of a matrix of `n`: what they come to follows what those of
    /// the task before do, in each row of the result.
    pub(super) fn rows(self, task: usize, each: usize, n: usize) -> TaskRows {
        let (all, each) = (self.width(n), self.width(each));
        let first = task * each;
        let here = each.min(all - first);
        let ups = match self.then {
            Then::Swiglu => Some(Ups {
                from: here.next_multiple_of(TILE_ROWS),
                first: all + first,
            }),
            Then::Store | Then::Add | Then::Map(_) => None,
        };
        TaskRows {
            first,
            len: ups.map_or(here, |ups| ups.from + here),
            ups,
        }
    }

    /// The bias of some rows.
    pub(super) fn bias_of<const N: usize>(self, rows: TaskRows) -> Option<[f32; N]> {
        self.bias.map(|bias| {
            let mut of = [0.0; N];
            for (i, of) in of.iter_mut().enumerate().take(rows.len()) {
                *of = bias[rows.row(i)];
            }
            of
        })
    }

    /// Whether the product becomes the result where it is.
    pub(super) fn stays(self) -> bool {
        match self.then {
            Then::Store | Then::Map(_) => true,
            Then::Add | Then::Swiglu => false,
        }
    }

    /// Does what is done to a row of a product where it is, or to a task's part of it with its part of the bias:
    /// all, if it [`stays`](Self::stays).
    pub(super) fn end_there(self, bias: Option<&[f32]>, product: &mut [f32]) {
        if let Some(bias) = bias {
            add_assign(product, bias);
        }
        if let Then::Map(f) = self.then {
            f(product);
        }
    }

    /// Ends such a part, to which the result is `y`: gates first, ups last.
    pub(super) fn end(self, bias: Option<&[f32]>, product: &mut [f32], y: &mut [f32]) {
        self.end_there(bias, product);
        match self.then {
            Then::Store | Then::Map(_) => y.copy_from_slice(product),
            Then::Add => add_assign(y, product),
            Then::Swiglu => {
                let ups = product.len() - y.len();
                swiglu(&product[..y.len()], &product[ups..], y);
            }
        }
    }

    /// The same after the whole product, which `multiply` writes `[rows, n]`.
    pub(super) fn after(self, n: usize, y: &mut [f32], multiply: impl FnOnce(&mut [f32])) {
        let at_least = pieces::rows_at_least(n);
        if self.stays() {
            multiply(y);
            if self.bias.is_some() || matches!(self.then, Then::Map(_)) {
                let rows = y.par_chunks_exact_mut(n).with_min_len(at_least);
                rows.for_each(|y| self.end_there(self.bias, y));
            }
            return;
        }
        let width = self.width(n);
        let mut product = vec![0.0; y.len() / width * n];
        multiply(&mut product);
        product
            .par_chunks_exact_mut(n)
            .zip(y.par_chunks_exact_mut(width))
            .with_min_len(at_least)
            .for_each(|(product, y)| self.end(self.bias, product, y));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_of_a_matrix_is_in_one_task() {
        for (n, each) in [
            (64, 64),
            (200, 64),
            (16, 64),
            (36, 16),
            (6840, 32),
            (48, 16),
        ] {
            for then in [Then::Store, Then::Add, Then::Swiglu] {
                let epilogue = Epilogue { bias: None, then };
                let tasks = (0..usize::div_ceil(n, each)).map(|task| epilogue.rows(task, each, n));
                let mut rows: Vec<usize> = Vec::new();
                for task in tasks {
                    assert!(task.len() <= each);
                    let tiles: Vec<usize> = (0..task.len()).map(|i| task.row(i)).collect();
                    for tile in tiles.chunks(TILE_ROWS) {
                        rows.push(tile[0]);
                        for pair in tile.windows(2) {
                            // Or the last gate once more.
                            if pair[1] != pair[0] {
                                assert_eq!(pair[1], pair[0] + 1);
                                rows.push(pair[1]);
                            }
                        }
                    }
                }
                rows.sort_unstable();
                assert_eq!(rows, (0..n).collect::<Vec<_>>(), "{n} by {each}, {then:?}");
            }
        }
    }
}
