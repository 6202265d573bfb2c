// SPDX-License-Identifier: MPL-2.0

//! Three-axis rotary positions, as `Qwen3VLModel.get_rope_index` of transformers counts them.
//!
//! Text rows count up on all axes alike. The visual tokens of one temporal patch all start at the
//! same number `p`: time stays at `p`, height and width count the merged rows and columns from
//! `p`. The next text row goes on at `p + max(height, width)`. A video is several such patches
//! with text (the timestamps) between them.

use crate::backend::{GridThw, Position};

/// A run of rows, as far as positions are concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rows {
    /// So many text tokens.
    Text(usize),
    /// The visual tokens of one temporal patch or image; size in patches, before the merge.
    Visual(GridThw),
}

/// Positions of all rows in order, and the number that the next text row gets.
pub fn positions(runs: impl IntoIterator<Item = Rows>, merge_size: usize) -> (Vec<Position>, u32) {
    let mut positions = Vec::new();
    let mut next = 0u32;
    for run in runs {
        match run {
            Rows::Text(n) => {
                positions.extend((next..).take(n).map(|p| [p; 3]));
                next += n as u32;
            }
            Rows::Visual(grid) => {
                let (height, width) = ((grid.h / merge_size) as u32, (grid.w / merge_size) as u32);
                positions.extend(
                    (0..height).flat_map(|y| (0..width).map(move |x| [next, next + y, next + x])),
                );
                next += height.max(width);
            }
        }
    }
    (positions, next)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_goes_on_after_the_longer_side_of_a_patch() {
        let grid = GridThw { t: 1, h: 4, w: 6 };
        let (positions, next) = positions([Rows::Text(2), Rows::Visual(grid), Rows::Text(1)], 2);
        assert_eq!(
            positions,
            [
                [0, 0, 0],
                [1, 1, 1],
                [2, 2, 2],
                [2, 2, 3],
                [2, 2, 4],
                [2, 3, 2],
                [2, 3, 3],
                [2, 3, 4],
                [5, 5, 5],
            ]
        );
        assert_eq!(next, 6);
    }

    #[test]
    fn nothing_has_no_positions() {
        assert_eq!(positions([], 2), (vec![], 0));
    }
}
