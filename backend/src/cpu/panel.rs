// SPDX-License-Identifier: MPL-2.0

//! Rows side by side in vector registers: the form in which the tile products read activations.
//!
//! A *panel* has the words of all rows as lines ([`operands`](super::isa::operands)), three lines
//! (48 rows) to a tile:
//!
//! ```text
//! tile 0: word 0 of rows 0..16 | of rows 16..32 | of rows 32..48 | word 1 of rows 0..16 | ...
//! tile 1: word 0 of rows 48..64 | ...
//! ```

use rayon::prelude::*;

use super::isa::TileKernels;
use super::isa::operands::{LANES, Line, TILE_LINES};

/// The words of some rows as lines.
pub(super) struct Panel {
    n_lines: usize,
    /// Of each tile `[words, lines]`.
    tiles: Vec<Vec<Line<u32>>>,
}

impl Panel {
    /// Lines that a word of all rows takes.
    pub(super) fn n_lines(&self) -> usize {
        self.n_lines
    }

    /// Tiles, the last of which may have fewer lines.
    pub(super) fn n_tiles(&self) -> usize {
        self.tiles.len()
    }

    /// Lines of a tile.
    pub(super) fn width(&self, tile: usize) -> usize {
        width(self.n_lines, tile)
    }

    /// Words `from..to` of the rows of a tile.
    pub(super) fn tile(&self, tile: usize, from: usize, to: usize) -> &[Line<u32>] {
        let width = self.width(tile);
        &self.tiles[tile][from * width..to * width]
    }
}

/// Lines of a tile, of so many in all.
fn width(n_lines: usize, tile: usize) -> usize {
    TILE_LINES.min(n_lines - tile * TILE_LINES)
}

/// Rows of words, written by `encode(row, words)`, as a panel.
pub(super) fn panel(
    kernels: &TileKernels,
    rows: usize,
    words: usize,
    encode: impl Fn(usize, &mut [u32]) + Sync,
) -> Panel {
    let n_lines = rows.div_ceil(LANES);
    let padded = words.next_multiple_of(LANES);
    let tile = |tile: usize| {
        let width = width(n_lines, tile);
        // Each made by the thread that fills it: all of them are megabytes of zeros.
        let mut lines = vec![Line([0; LANES]); words * width];
        let mut encoded = vec![0u32; LANES * padded];
        let mut square = [Line([0; LANES]); LANES];
        for line in 0..width {
            let row = (tile * TILE_LINES + line) * LANES;
            for (lane, words_of) in encoded.chunks_exact_mut(padded).enumerate() {
                if row + lane < rows {
                    encode(row + lane, &mut words_of[..words]);
                } else {
                    words_of.fill(0);
                }
            }
            for at in (0..words).step_by(LANES) {
                for (line, encoded) in square.iter_mut().zip(encoded.chunks_exact(padded)) {
                    line.0.copy_from_slice(&encoded[at..at + LANES]);
                }
                (kernels.transpose)(&mut square);
                let to = lines[at * width..].iter_mut().skip(line).step_by(width);
                for (to, from) in to.zip(&square) {
                    *to = *from;
                }
            }
        }
        lines
    };
    let n_tiles = n_lines.div_ceil(TILE_LINES);
    let tiles = (0..n_tiles).into_par_iter().with_max_len(1);
    let tiles = tiles.map(tile).collect();
    Panel { n_lines, tiles }
}
