// SPDX-License-Identifier: MPL-2.0

//! Rows side by side in vector registers: the form in which the tile products read activations.
//!
//! A *panel* has the words of all rows as lines ([`operands`](super::isa::operands)), three lines
//! (48 rows) to a tile, and two or one to the last ([`least_lines`](TileKernels::least_lines)):
//!
//! ```text
//! tile 0: word 0 of rows 0..16 | of rows 16..32 | of rows 32..48 | word 1 of rows 0..16 | ...
//! tile 1: word 0 of rows 48..64 | ...
//! ```

use std::iter;
use std::ops::Range;

use rayon::prelude::*;

use super::isa::TileKernels;
use super::isa::operands::{LANES, Line, TILE_LINES};

/// The words of some rows as lines.
pub(super) struct Panel {
    n_lines: usize,
    /// Of each tile its lines and `[words, lines]`.
    tiles: Vec<(Range<usize>, Vec<Line<u32>>)>,
}

impl Panel {
    /// Lines that a word of all rows takes.
    pub(super) fn n_lines(&self) -> usize {
        self.n_lines
    }

    /// Tiles, the last of which may have fewer lines, and that before it two.
    pub(super) fn n_tiles(&self) -> usize {
        self.tiles.len()
    }

    /// Which of a word's lines are in a tile.
    pub(super) fn lines(&self, tile: usize) -> Range<usize> {
        self.tiles[tile].0.clone()
    }

    /// Words `from..to` of the rows of a tile.
    pub(super) fn tile(&self, tile: usize, from: usize, to: usize) -> &[Line<u32>] {
        let (lines, words) = &self.tiles[tile];
        &words[from * lines.len()..to * lines.len()]
    }
}

/// The lines of each tile, of so many in all. Where the kernels want two in a tile at least (`least`, 1 or 2), the
/// last two tiles share theirs out if there are four.
fn tiles(n_lines: usize, least: usize) -> Vec<Range<usize>> {
    debug_assert!((1..=2).contains(&least));
    let mut ends: Vec<usize> = (TILE_LINES..n_lines).step_by(TILE_LINES).collect();
    if let Some(last) = ends.last_mut() {
        *last -= least.saturating_sub(n_lines - *last);
    }
    let starts = iter::once(0).chain(ends.clone());
    let ends = ends.into_iter().chain((n_lines > 0).then_some(n_lines));
    starts.zip(ends).map(|(start, end)| start..end).collect()
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
    let tile = |of_tile: Range<usize>| {
        let width = of_tile.len();
        // Each made by the thread that fills it: all of them are megabytes of zeros.
        let mut lines = vec![Line([0; LANES]); words * width];
        let mut encoded = vec![0u32; LANES * padded];
        let mut square = [Line([0; LANES]); LANES];
        for line in 0..width {
            let row = (of_tile.start + line) * LANES;
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
        (of_tile, lines)
    };
    let tiles = tiles(n_lines, kernels.least_lines).into_par_iter();
    let tiles = tiles.with_max_len(1).map(tile).collect();
    Panel { n_lines, tiles }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Where the tiles of so many lines end, each of which begins where that before it ends.
    fn ends(n_lines: usize, least: usize) -> Vec<usize> {
        let tiles = tiles(n_lines, least);
        let starts: Vec<usize> = tiles.iter().map(|lines| lines.start).collect();
        let ends: Vec<usize> = tiles.iter().map(|lines| lines.end).collect();
        assert!(starts.iter().skip(1).eq(ends.iter().take(starts.len() - 1)));
        ends
    }

    #[test]
    fn tiles_have_three_lines_but_for_the_last() {
        assert_eq!(ends(2, 1), [2]);
        assert_eq!(ends(3, 1), [3]);
        assert_eq!(ends(7, 1), [3, 6, 7]);
        assert_eq!(ends(9, 2), [3, 6, 9]);
    }

    #[test]
    fn no_line_has_a_tile_of_its_own_where_two_are_the_least() {
        assert_eq!(ends(1, 2), [1]);
        assert_eq!(ends(4, 2), [2, 4]);
        assert_eq!(ends(10, 2), [3, 6, 8, 10]);
    }
}
