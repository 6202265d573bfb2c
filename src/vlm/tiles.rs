// SPDX-License-Identifier: MPL-2.0

//! Dynamic tiling: an image becomes tiles of one size, chosen by its aspect ratio.

use super::Error;
use super::image::RgbImage;

/// How an image is cut into tiles.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tiling {
    /// Side of a tile, pixels.
    pub side: usize,
    /// Fewest tiles, without the thumbnail; at least 1.
    pub min: usize,
    /// Most tiles, without the thumbnail; at least `min`.
    pub max: usize,
    /// Whether the whole image goes after its tiles, if they are several.
    pub thumbnail: bool,
}

impl Tiling {
    /// Columns and rows of tiles for an image of this size.
    ///
    /// The grid nearest in aspect ratio; of equally near ones the larger, as long as its area is
    /// less than twice the image's. Follows `get_optimal_tiled_canvas` of `GotOcr2ImageProcessor`,
    /// which is `find_closest_aspect_ratio` of OpenGVLab's code with grids in a set order.
    pub fn grid(&self, width: usize, height: usize) -> (usize, usize) {
        let mut grids: Vec<(usize, usize)> = (1..=self.max)
            .flat_map(|columns| (1..=self.max).map(move |rows| (columns, rows)))
            .filter(|(columns, rows)| (self.min..=self.max).contains(&(columns * rows)))
            .collect();
        grids.sort_by_key(|(columns, rows)| columns * rows);
        let aspect_ratio = width as f64 / height as f64;
        let area = (width * height) as f64;
        let (mut nearest, mut best) = (f64::INFINITY, (1, 1));
        for (columns, rows) in grids {
            let away = (aspect_ratio - columns as f64 / rows as f64).abs();
            let fits = area > 0.5 * (self.side * self.side * columns * rows) as f64;
            if away < nearest || (away == nearest && fits) {
                (nearest, best) = (away, (columns, rows));
            }
        }
        best
    }

    /// Tiles that an image of this size becomes, its thumbnail counted.
    pub fn n_tiles(&self, width: usize, height: usize) -> usize {
        let (columns, rows) = self.grid(width, height);
        let tiles = columns * rows;
        tiles + usize::from(self.thumbnail && tiles > 1)
    }

    /// The tiles of an image, row by row, and then its thumbnail, one below the other: `[n_tiles *
    /// side, side, 3]`.
    ///
    /// # Errors
    /// [`Error::Grid`] if the image is empty or too large.
    pub fn cut(&self, image: &RgbImage) -> Result<RgbImage, Error> {
        let side = self.side;
        // An empty image has no aspect ratio: let the resize refuse it.
        let (columns, rows) = match image.height {
            0 => (1, 1),
            height => self.grid(image.width, height),
        };
        let canvas = image.resize(columns * side, rows * side)?;
        let mut pixels = Vec::with_capacity((columns * rows + 1) * side * side * 3);
        for row in 0..rows {
            for column in 0..columns {
                for y in row * side..(row + 1) * side {
                    let start = (y * canvas.width + column * side) * 3;
                    pixels.extend_from_slice(&canvas.pixels[start..][..side * 3]);
                }
            }
        }
        if self.thumbnail && columns * rows > 1 {
            pixels.extend(image.resize(side, side)?.pixels);
        }
        Ok(RgbImage {
            width: side,
            height: pixels.len() / (side * 3),
            pixels,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FOUR: Tiling = Tiling {
        side: 448,
        min: 1,
        max: 4,
        thumbnail: true,
    };
    const TWELVE: Tiling = Tiling { max: 12, ..FOUR };

    #[test]
    fn a_grid_is_near_the_image_in_shape_and_size() {
        for (size, four, twelve) in [
            ((1920, 1080), 3, 9),
            ((640, 480), 1, 13),
            ((768, 768), 5, 5),
            ((600, 600), 1, 1),
            ((600, 400), 3, 7),
            ((6000, 4000), 5, 7),
            ((4000, 3000), 5, 13),
            ((1080, 1920), 3, 9),
        ] {
            assert_eq!(FOUR.n_tiles(size.0, size.1), four, "{size:?}");
            assert_eq!(TWELVE.n_tiles(size.0, size.1), twelve, "{size:?}");
        }
        assert_eq!(TWELVE.grid(1920, 1080), (4, 2));
        assert_eq!(TWELVE.grid(1080, 1920), (2, 4));
    }

    #[test]
    fn tiles_stand_row_by_row_and_the_thumbnail_last() {
        let tiling = Tiling { side: 2, ..FOUR };
        // 4 x 4 pixels, as large as the canvas: each tile has its own shade.
        let image = RgbImage {
            width: 4,
            height: 4,
            pixels: (0..16)
                .flat_map(|i| [(i / 8 * 2 + i % 4 / 2) as u8 * 80; 3])
                .collect(),
        };
        let stack = tiling.cut(&image).unwrap();
        assert_eq!((stack.width, stack.height), (2, 10));
        let shades: Vec<u8> = stack.pixels.chunks(12).map(|tile| tile[0]).collect();
        assert_eq!(shades[..4], [0, 80, 160, 240]);
        assert_eq!(stack.pixels[48..], image.resize(2, 2).unwrap().pixels);
    }

    #[test]
    fn an_image_of_one_tile_has_no_thumbnail() {
        let image = RgbImage {
            width: 600,
            height: 600,
            pixels: vec![7; 600 * 600 * 3],
        };
        let stack = FOUR.cut(&image).unwrap();
        assert_eq!((stack.width, stack.height), (448, 448));
        let empty = RgbImage {
            width: 0,
            height: 0,
            pixels: vec![],
        };
        assert!(FOUR.cut(&empty).is_err());
    }
}
