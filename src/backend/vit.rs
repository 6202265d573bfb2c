// SPDX-License-Identifier: MPL-2.0

//! What vision nets read beside pixels: the order of their rows and the points of their position
//! table. Computed on the host, whatever the net runs on.

use super::{GridThw, Patches};

/// Row and column of each patch, in the order of the vision net's rows: merge blocks in raster
/// order, the patches of a block in raster order.
pub(super) fn merge_block_order(
    grid: GridThw,
    merge_size: usize,
) -> impl Iterator<Item = (usize, usize)> {
    let (rows, columns) = (grid.h / merge_size, grid.w / merge_size);
    (0..rows * columns * merge_size * merge_size).map(move |i| {
        let (block, inner) = (i / (merge_size * merge_size), i % (merge_size * merge_size));
        (
            block / columns * merge_size + inner / merge_size,
            block % columns * merge_size + inner % merge_size,
        )
    })
}

/// The learned position table of Qwen3-VL, bilinear at a grid's points:
/// `fast_pos_embed_interpolate`.
pub(super) struct Interpolation {
    side: usize,
    rows: Vec<([usize; 2], f32)>,
    columns: Vec<([usize; 2], f32)>,
}

impl Interpolation {
    /// For a table of `side` x `side` entries.
    pub(super) fn new(grid: GridThw, side: usize) -> Self {
        Self {
            side,
            rows: axis_points(grid.h, side),
            columns: axis_points(grid.w, side),
        }
    }

    /// The four entries around a patch and their weights: top left, top right, bottom left, bottom
    /// right.
    pub(super) fn corners(&self, row: usize, column: usize) -> [(usize, f32); 4] {
        let ([top, bottom], dh) = self.rows[row];
        let ([left, right], dw) = self.columns[column];
        let entry = |row: usize, column: usize| row * self.side + column;
        [
            (entry(top, left), (1.0 - dh) * (1.0 - dw)),
            (entry(top, right), (1.0 - dh) * dw),
            (entry(bottom, left), dh * (1.0 - dw)),
            (entry(bottom, right), dh * dw),
        ]
    }
}

/// For each of `n` points evenly over `0..=side - 1`: the neighbours below and above, and the way
/// from one to the other, as `torch.linspace` places the points.
fn axis_points(n: usize, side: usize) -> Vec<([usize; 2], f32)> {
    let end = (side - 1) as f32;
    let step = if n > 1 { end / (n - 1) as f32 } else { 0.0 };
    (0..n)
        .map(|i| {
            // torch counts the upper half down from the end
            let point = if i < n.div_ceil(2) {
                step * i as f32
            } else {
                end - step * (n - 1 - i) as f32
            };
            let below = point as usize;
            ([below, (below + 1).min(side - 1)], point - below as f32)
        })
        .collect()
}

/// What each of the 256 values of a pixel becomes, by channel: `(p / 255 - mean) / std`, rounded as
/// the processor rounds it.
pub(super) fn levels(patches: &Patches) -> [[f32; 256]; 3] {
    std::array::from_fn(|channel| {
        let (mean, std) = (patches.mean[channel], patches.std[channel]);
        std::array::from_fn(|p| (p as f32 / 255.0 - mean) / std)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patches_of_a_merge_block_are_neighbours() {
        let grid = GridThw { t: 1, h: 4, w: 6 };
        let order: Vec<_> = merge_block_order(grid, 2).collect();
        assert_eq!(order.len(), 24);
        assert_eq!(order[..4], [(0, 0), (0, 1), (1, 0), (1, 1)]);
        assert_eq!(order[4..6], [(0, 2), (0, 3)]);
        assert_eq!(order[12], (2, 0));
    }

    #[test]
    fn points_reach_from_the_first_to_the_last_entry() {
        let points = axis_points(4, 8);
        let at: Vec<f32> = points.iter().map(|(at, way)| at[0] as f32 + way).collect();
        for (got, want) in at.iter().zip([0.0, 7.0 / 3.0, 14.0 / 3.0, 7.0]) {
            assert!((got - want).abs() < 1e-6);
        }
        assert_eq!(points[3].0, [7, 7]);
        assert_eq!(axis_points(1, 8), [([0, 1], 0.0)]);
    }

    #[test]
    fn a_grid_as_large_as_the_table_takes_its_entries() {
        for (i, (at, way)) in axis_points(48, 48).into_iter().enumerate() {
            assert!((at[0] as f32 + way - i as f32).abs() < 1e-5);
        }
    }

    #[test]
    fn corners_weigh_by_nearness() {
        // gh 4, gw 6 on a table of 48 x 48: patch (0, 1) lies 0.4 of the way from entry 9 to 10.
        let grid = GridThw { t: 1, h: 4, w: 6 };
        let corners = Interpolation::new(grid, 48).corners(1, 1);
        assert_eq!(corners.map(|(entry, _)| entry), [729, 730, 777, 778]);
        for ((_, got), want) in corners.iter().zip([0.2, 0.1333, 0.4, 0.2667]) {
            assert!((got - want).abs() < 1e-4, "{got} {want}");
        }
    }
}
