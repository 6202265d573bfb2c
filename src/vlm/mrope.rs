// SPDX-License-Identifier: MPL-2.0

//! Three-axis rotary positions, as `Qwen3VLModel.get_rope_index` of transformers counts them.
//!
//! Text rows count up on all axes alike. The visual tokens of one temporal patch all start at the
//! same number `p`: time stays at `p`, height and width count the merged rows and columns from
//! `p`. The next text row goes on after the largest of them, at `p + max(height, width)`.
//!
//! A video of Qwen3-VL is several such patches with text (the timestamps) between them. A video of
//! Qwen2.5-VL is one run: all its patches start at `p`, time counts up from patch to patch, and the
//! next text row goes on after the largest number of any axis. So it was trained, and so
//! transformers 4.49 counts; 5.6 goes on after height and width alone, and text then shares numbers
//! with the video.

use crate::backend::{GridThw, Position};

/// A run of rows, as far as positions are concerned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rows {
    /// So many text tokens.
    Text(usize),
    /// The visual tokens of one temporal patch or image; size in patches, before the merge.
    Visual(GridThw),
    /// The visual tokens of a video's temporal patches: their sizes, and their steps on the time
    /// axis from the start of the video.
    Clip(Vec<(GridThw, u32)>),
}

/// Positions of all rows in order, and the number that the next text row gets.
pub fn positions(runs: &[Rows], merge_size: usize) -> (Vec<Position>, u32) {
    let mut positions = Vec::new();
    let mut next = 0u32;
    for run in runs {
        match run {
            Rows::Text(n) => {
                positions.extend((next..).take(*n).map(|p| [p; 3]));
                next += *n as u32;
            }
            Rows::Visual(grid) => {
                next = patch(&mut positions, *grid, merge_size, next, 0);
            }
            Rows::Clip(patches) => {
                let ends = patches
                    .iter()
                    .map(|&(grid, step)| patch(&mut positions, grid, merge_size, next, step));
                next = ends.max().unwrap_or(next);
            }
        }
    }
    (positions, next)
}

/// Adds the visual tokens of a temporal patch that starts at `start`; the number after the largest.
fn patch(
    positions: &mut Vec<Position>,
    grid: GridThw,
    merge_size: usize,
    start: u32,
    step: u32,
) -> u32 {
    let (height, width) = ((grid.h / merge_size) as u32, (grid.w / merge_size) as u32);
    let time = start.saturating_add(step);
    positions
        .extend((0..height).flat_map(|y| (0..width).map(move |x| [time, start + y, start + x])));
    (start + height.max(width)).max(time.saturating_add(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_goes_on_after_the_longer_side_of_a_patch() {
        let grid = GridThw { t: 1, h: 4, w: 6 };
        let (positions, next) = positions(&[Rows::Text(2), Rows::Visual(grid), Rows::Text(1)], 2);
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
        assert_eq!(positions(&[], 2), (vec![], 0));
    }

    #[test]
    fn patches_of_a_clip_start_alike_and_text_goes_on_after_the_largest_number() {
        let grid = GridThw { t: 1, h: 2, w: 4 };
        for (step, after) in [(1, 3), (4, 6)] {
            let clip = Rows::Clip(vec![(grid, 0), (grid, step)]);
            let (positions, next) = positions(&[Rows::Text(1), clip, Rows::Text(1)], 2);
            assert_eq!(
                positions,
                [
                    [0, 0, 0],
                    [1, 1, 1],
                    [1, 1, 2],
                    [1 + step, 1, 1],
                    [1 + step, 1, 2],
                    [after; 3],
                ]
            );
            assert_eq!(next, after + 1);
        }
    }
}
