// SPDX-License-Identifier: MPL-2.0

//! Rows side by side in vector registers: the form in which the tile products read activations.
//!
//! A *word* is 32 bits of a row: 4 bytes, 2 bf16 or one f32. A *line* holds the same word of 16
//! rows, one in each lane. A *panel* has the words of all rows as lines, three lines (48 rows) to a
//! tile:
//!
//! ```text
//! tile 0: word 0 of rows 0..16 | of rows 16..32 | of rows 32..48 | word 1 of rows 0..16 | ...
//! tile 1: word 0 of rows 48..64 | ...
//! ```

use rayon::slice::ParallelSliceMut;

/// Lanes of a line.
pub(super) const LANES: usize = 16;

/// Lines of a whole tile.
pub(super) const TILE_LINES: usize = 3;

/// One number of each of 16 rows, in one cache line.
#[derive(Debug, Clone, Copy, PartialEq)]
#[repr(C, align(64))]
pub(super) struct Line<T>(pub(super) [T; LANES]);

/// The words of some rows as lines.
pub(super) struct Panel {
    words: usize,
    n_lines: usize,
    lines: Vec<Line<u32>>,
}

impl Panel {
    /// Room for `rows` rows of `words` words, all zero.
    pub(super) fn new(rows: usize, words: usize) -> Self {
        let n_lines = rows.div_ceil(LANES);
        Self {
            words,
            n_lines,
            lines: vec![Line([0; LANES]); n_lines * words],
        }
    }

    /// Lines that a word of all rows takes.
    pub(super) fn n_lines(&self) -> usize {
        self.n_lines
    }

    /// Tiles, the last of which may have fewer lines.
    pub(super) fn n_tiles(&self) -> usize {
        self.n_lines.div_ceil(TILE_LINES)
    }

    /// Lines of a tile.
    pub(super) fn width(&self, tile: usize) -> usize {
        TILE_LINES.min(self.n_lines - tile * TILE_LINES)
    }

    /// Words `from..to` of the rows of a tile.
    pub(super) fn tile(&self, tile: usize, from: usize, to: usize) -> &[Line<u32>] {
        let (first, width) = (tile * TILE_LINES * self.words, self.width(tile));
        &self.lines[first + from * width..first + to * width]
    }

    /// The tiles, for filling: each with its lines, `[words, width]`.
    pub(super) fn tiles_mut(&mut self) -> rayon::slice::ChunksMut<'_, Line<u32>> {
        self.lines.par_chunks_mut((TILE_LINES * self.words).max(1))
    }
}
