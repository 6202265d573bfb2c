// SPDX-License-Identifier: MPL-2.0

//! Resize, patch rows.

/// An RGB picture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RgbImage {
    /// Pixels in a row.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// `[height, width, 3]`, row-major, 0..=255, no padding.
    pub pixels: Vec<u8>,
}
