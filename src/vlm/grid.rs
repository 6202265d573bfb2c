// SPDX-License-Identifier: MPL-2.0

//! `grid_thw` and everything that is counted from it.

use super::Error;
use crate::backend::GridThw;

/// How a family cuts pixels: sides of a patch and of a merge, frames of a temporal patch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Geometry {
    /// Side of a patch, pixels.
    pub patch_size: usize,
    /// Frames of a temporal patch.
    pub temporal_patch_size: usize,
    /// Side of the merge, patches.
    pub merge_size: usize,
}

impl Geometry {
    /// Side of what becomes one visual token, pixels: both sides of a frame are multiples of it.
    pub fn factor(&self) -> usize {
        self.patch_size * self.merge_size
    }

    /// Numbers in a patch row: three channels of `temporal_patch_size` patches.
    pub fn row_len(&self) -> usize {
        3 * self.temporal_patch_size * self.patch_size * self.patch_size
    }

    /// The grid of one temporal patch of `width` x `height` frames.
    ///
    /// # Errors
    /// [`Error::Grid`] if a side is not a multiple of [`factor`](Self::factor), or 0.
    pub fn grid(&self, width: usize, height: usize) -> Result<GridThw, Error> {
        let factor = self.factor();
        if width == 0
            || height == 0
            || !width.is_multiple_of(factor)
            || !height.is_multiple_of(factor)
        {
            return Err(Error::Grid(format!(
                "a {width}x{height} frame does not fit the grid: both sides must be multiples of \
                 {factor} pixels"
            )));
        }
        Ok(GridThw {
            t: 1,
            h: height / self.patch_size,
            w: width / self.patch_size,
        })
    }

    /// That a grid is one temporal patch and can be merged.
    ///
    /// # Errors
    /// [`Error::Grid`] if not.
    pub fn check(&self, grid: GridThw) -> Result<(), Error> {
        let merge = self.merge_size;
        if grid.t != 1
            || grid.h == 0
            || grid.w == 0
            || !grid.h.is_multiple_of(merge)
            || !grid.w.is_multiple_of(merge)
        {
            return Err(Error::Grid(format!(
                "a grid of {}x{}x{} patches cannot be merged: want 1 temporal patch and sides that \
                 are multiples of {merge}",
                grid.t, grid.h, grid.w
            )));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QWEN: Geometry = Geometry {
        patch_size: 16,
        temporal_patch_size: 2,
        merge_size: 2,
    };

    #[test]
    fn a_grid_counts_patches_before_the_merge() {
        let grid = QWEN.grid(512, 288).unwrap();
        assert_eq!(grid, GridThw { t: 1, h: 18, w: 32 });
        assert_eq!(grid.n_tokens(2), 144);
        assert_eq!(QWEN.row_len(), 1536);
    }

    #[test]
    fn odd_grid_is_refused() {
        assert!(QWEN.grid(512, 290).is_err());
        assert!(QWEN.grid(0, 32).is_err());
        assert!(QWEN.check(GridThw { t: 1, h: 3, w: 4 }).is_err());
        assert!(QWEN.check(GridThw { t: 2, h: 4, w: 4 }).is_err());
        assert!(QWEN.check(GridThw { t: 1, h: 2, w: 4 }).is_ok());
    }
}
