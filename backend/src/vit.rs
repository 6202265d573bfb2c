// SPDX-License-Identifier: MPL-2.0

//! What vision nets read beside pixels: the order of their rows and the points of their position
//! table. Computed on the host, whatever the net runs on.

use super::{GridThw, Patches};

/// Row and column of each patch, in the order of the vision net's rows: merge blocks in raster
/// order, the patches of a block in raster order.
pub(super) fn merge_block_order(
    grid: GridThw,
    merge_size: usize,
) -> impl ExactSizeIterator<Item = (usize, usize)> {
    let (rows, columns) = (grid.h / merge_size, grid.w / merge_size);
    (0..rows * columns * merge_size * merge_size).map(move |i| place(i, columns, merge_size))
}

/// Row and column of patch `i` in merge-block order, of a grid of so many columns of blocks.
fn place(i: usize, columns: usize, merge_size: usize) -> (usize, usize) {
    let (block, inner) = (i / (merge_size * merge_size), i % (merge_size * merge_size));
    (
        block / columns * merge_size + inner / merge_size,
        block % columns * merge_size + inner % merge_size,
    )
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

/// The order in which Qwen2.5-VL's tower takes merge blocks, so that a window's patches follow each
/// other: `Qwen2_5_VisionTransformerPretrainedModel.get_window_index`.
///
/// A block is `merge_size` x `merge_size` patches and later one visual token; blocks are numbered
/// in raster order, one temporal patch after the other. The patches of a block stay together:
/// rows `k * n .. (k + 1) * n` of the reordered input, with n the patches of a block, are those of
/// block `index[k]`, and so are their rotary positions. Position tables and rows before the
/// reordering are in [`merge_block_order`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct WindowOrder {
    /// `window_index`: the block at each place.
    pub(super) index: Vec<usize>,
    /// `cu_window_seqlens`: the first patch row of each window that is not empty, and the number
    /// of rows.
    pub(super) bounds: Vec<usize>,
}

impl WindowOrder {
    /// For windows of `window` x `window` blocks; those at the right and lower edges are smaller.
    pub(super) fn new(grid: GridThw, merge_size: usize, window: usize) -> Self {
        let (rows, columns) = (grid.h / merge_size, grid.w / merge_size);
        let patches = merge_size * merge_size;
        let mut index = Vec::with_capacity(grid.t * rows * columns);
        let mut bounds = vec![0];
        for t in 0..grid.t {
            for top in (0..rows).step_by(window) {
                for left in (0..columns).step_by(window) {
                    for row in top..(top + window).min(rows) {
                        let first = (t * rows + row) * columns;
                        index.extend(first + left..first + (left + window).min(columns));
                    }
                    bounds.push(index.len() * patches);
                }
            }
        }
        Self { index, bounds }
    }

    /// `reverse_index`, `argsort(window_index)`: the place of each block. Visual tokens that come
    /// out in window order stand in raster order after `tokens[reverse[i]]`.
    pub(super) fn reverse(&self) -> Vec<usize> {
        let mut reverse = vec![0; self.index.len()];
        for (place, &block) in self.index.iter().enumerate() {
            reverse[block] = place;
        }
        reverse
    }
}

/// The patches of frames back in planes: `[grid.t, 3, height, width]`, raw, for nets that read a
/// frame whole (InternVL). For a `temporal_patch_size` of 1.
pub(super) fn planes(patches: &Patches, patch_size: usize, merge_size: usize) -> Vec<u8> {
    let GridThw { t, h, w } = patches.grid;
    let (width, plane) = (w * patch_size, h * w * patch_size * patch_size);
    let mut planes = vec![0; t * 3 * plane];
    let lines = patches.pixels.chunks_exact(patch_size);
    for (i, line) in lines.enumerate() {
        let (row, y) = (i / patch_size, i % patch_size);
        let (row, channel) = (row / 3, row % 3);
        let (tile, row) = (row / (h * w), row % (h * w));
        let (patch_y, patch_x) = place(row, w / merge_size, merge_size);
        let at = (patch_y * patch_size + y) * width + patch_x * patch_size;
        planes[(tile * 3 + channel) * plane + at..][..patch_size].copy_from_slice(line);
    }
    planes
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
    fn windows_follow_each_other_and_those_at_the_edges_are_smaller() {
        let order = WindowOrder::new(GridThw { t: 1, h: 12, w: 10 }, 2, 4);
        assert_eq!(
            order.index,
            [
                0, 1, 2, 3, 5, 6, 7, 8, 10, 11, 12, 13, 15, 16, 17, 18, 4, 9, 14, 19, 20, 21, 22,
                23, 25, 26, 27, 28, 24, 29
            ]
        );
        assert_eq!(order.bounds, [0, 64, 80, 112, 120]);
        assert_eq!(
            order.reverse(),
            [
                0, 1, 2, 3, 16, 4, 5, 6, 7, 17, 8, 9, 10, 11, 18, 12, 13, 14, 15, 19, 20, 21, 22,
                23, 28, 24, 25, 26, 27, 29
            ]
        );
    }

    #[test]
    fn a_grid_of_whole_windows_has_no_empty_ones() {
        let order = WindowOrder::new(GridThw { t: 1, h: 48, w: 64 }, 2, 4);
        let want: Vec<usize> = (0..=48).map(|window| window * 64).collect();
        assert_eq!(order.bounds, want);
        assert_eq!(order.index[..8], [0, 1, 2, 3, 32, 33, 34, 35]);
    }

    #[test]
    fn windows_are_those_of_transformers() {
        #[derive(serde::Deserialize)]
        struct Case {
            grid: [usize; 3],
            window: usize,
            index: Vec<usize>,
            bounds: Vec<usize>,
            reverse: Vec<usize>,
        }
        #[derive(serde::Deserialize)]
        struct Vectors {
            windows: Vec<Case>,
        }
        let text = include_str!("../../tests/data/processor/qwen25.json");
        let vectors: Vectors = serde_json::from_str(text).expect("vectors");
        assert!(vectors.windows.len() >= 24);
        for case in vectors.windows {
            let [t, h, w] = case.grid;
            let order = WindowOrder::new(GridThw { t, h, w }, 2, case.window);
            assert_eq!(order.index, case.index, "{t}x{h}x{w}");
            assert_eq!(order.bounds, case.bounds, "{t}x{h}x{w}");
            assert_eq!(order.reverse(), case.reverse, "{t}x{h}x{w}");
        }
    }

    #[test]
    fn each_temporal_patch_has_windows_of_its_own() {
        let one = WindowOrder::new(GridThw { t: 1, h: 10, w: 4 }, 2, 4);
        let two = WindowOrder::new(GridThw { t: 2, h: 10, w: 4 }, 2, 4);
        let shifted: Vec<usize> = one.index.iter().map(|block| block + 10).collect();
        assert_eq!(two.index, [one.index, shifted].concat());
        assert_eq!(two.bounds, [0, 32, 40, 72, 80]);
    }

    #[test]
    fn patches_go_back_into_planes() {
        // Two tiles of 4 x 4 pixels, patches of 2, merge 2: the patches are 0 1 / 2 3.
        let grid = GridThw { t: 2, h: 2, w: 2 };
        let patches = Patches {
            grid,
            pixels: (0..2 * 4 * 3 * 4).collect(),
            mean: [0.5; 3],
            std: [0.5; 3],
        };
        let planes = planes(&patches, 2, 2);
        assert_eq!(planes.len(), 96);
        assert_eq!(planes[..8], [0, 1, 12, 13, 2, 3, 14, 15]);
        assert_eq!(planes[8..12], [24, 25, 36, 37]);
        // Green, and the second tile.
        assert_eq!(planes[16..20], [4, 5, 16, 17]);
        assert_eq!(planes[48..52], [48, 49, 60, 61]);
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
