// SPDX-License-Identifier: MPL-2.0

//! How much of a picture changed: a coarse grid of mean brightness, and the share of its cells that
//! differ.
//!
//! Why not the mean difference of all pixels: the noise of a dark picture is everywhere and what
//! moves is small. With sensor noise of 16 levels on a 1080p camera the mean difference of two
//! pictures of nothing is 4.8 levels, and 4.9 with somebody in one of them who fills a hundredth of
//! it; of the cells none differs without and 1.2 % differ with them. A cell is the same share of
//! every picture, so noise is averaged alike whatever size the model sees.

use crate::vlm::image::RgbImage;

/// Cells across and down.
const SIDE: usize = 48;
/// Levels of brightness, of 255, by which a cell must differ to count as changed.
const DELTA: f32 = 10.0;
/// Below this variance of its cells a picture has nothing in it to be recognised by.
const FLAT: f32 = 1.0;

/// Mean brightness of each cell of a picture, 0..=255.
#[derive(Debug, Clone, PartialEq)]
pub struct Cells(Vec<f32>);

impl Cells {
    /// The cells of a picture; one that is empty is black.
    pub fn of(image: &RgbImage) -> Self {
        let (width, height) = (image.width, image.height);
        if width == 0 || height == 0 || image.pixels.len() < width * height * 3 {
            return Self(vec![0.0; SIDE * SIDE]);
        }
        // A side of less than 48 pixels has cells that share a pixel.
        let span = |cell: usize, side: usize| {
            let first = cell * side / SIDE;
            first..((cell + 1) * side / SIDE).max(first + 1)
        };
        let mut cells = Vec::with_capacity(SIDE * SIDE);
        for row in 0..SIDE {
            for column in 0..SIDE {
                let (rows, columns) = (span(row, height), span(column, width));
                let n_pixels = rows.len() * columns.len();
                let mut sum = 0u32;
                for y in rows {
                    let line = (y * width + columns.start) * 3..(y * width + columns.end) * 3;
                    for pixel in image.pixels[line].chunks_exact(3) {
                        let [r, g, b] = [pixel[0], pixel[1], pixel[2]].map(u32::from);
                        // BT.601 in 8 bits, as JPEG has it.
                        sum += (77 * r + 150 * g + 29 * b) >> 8;
                    }
                }
                cells.push(sum as f32 / n_pixels as f32);
            }
        }
        Self(cells)
    }

    /// Share of the picture that differs from another one, 0..=1.
    pub fn changed(&self, other: &Cells) -> f64 {
        let pairs = self.0.iter().zip(&other.0);
        let n_changed = pairs.filter(|(a, b)| (**a - **b).abs() > DELTA).count();
        n_changed as f64 / self.0.len() as f64
    }

    /// How alike the structure of two pictures is whatever their light: the correlation of their
    /// cells, -1..=1; 0 if there is nothing in one of them.
    pub fn likeness(&self, other: &Cells) -> f32 {
        let mean = |cells: &Cells| cells.0.iter().sum::<f32>() / cells.0.len() as f32;
        let (a, b) = (mean(self), mean(other));
        let (mut both, mut of_a, mut of_b) = (0.0, 0.0, 0.0);
        for (x, y) in self.0.iter().zip(&other.0) {
            let (x, y) = (x - a, y - b);
            both += x * y;
            of_a += x * x;
            of_b += y * y;
        }
        if of_a.min(of_b) < FLAT * self.0.len() as f32 {
            return 0.0;
        }
        both / (of_a * of_b).sqrt()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use rand_chacha::ChaCha8Rng;
    use rand_chacha::rand_core::{RngCore, SeedableRng};

    use super::*;

    /// A dark yard of 512 x 288 with noise, as it is after the resize, and a person of a hundredth
    /// of the picture at `person`.
    pub(in crate::caption) fn yard(seed: u64, noise: f32, person: Option<usize>) -> RgbImage {
        let (width, height) = (512, 288);
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let mut pixels = Vec::with_capacity(width * height * 3);
        for y in 0..height {
            for x in 0..width {
                let wall = 35.0 + 20.0 * (x as f32 / 57.0).sin() * (y as f32 / 41.0).cos();
                let at = person.is_some_and(|left| (left..left + 27).contains(&x));
                let light = wall
                    + if at && (100..154).contains(&y) {
                        25.0
                    } else {
                        0.0
                    };
                // Twelve even draws make a bell of variance 1.
                let bell: f32 = (0..12).map(|_| random.next_u32() as f32 / 4.295e9).sum();
                let value = (light + noise * (bell - 6.0)).clamp(0.0, 255.0) as u8;
                pixels.extend([value; 3]);
            }
        }
        RgbImage {
            width,
            height,
            pixels,
        }
    }

    #[test]
    fn noise_of_a_dark_picture_is_no_change_and_a_person_in_it_is() {
        for seed in 0..4 {
            let before = Cells::of(&yard(seed, 12.0, None));
            let after = Cells::of(&yard(seed + 100, 12.0, None));
            let person = Cells::of(&yard(seed + 200, 12.0, Some(200)));
            assert!(before.changed(&after) < 0.001, "{}", before.changed(&after));
            let share = before.changed(&person);
            assert!((0.006..0.015).contains(&share), "{share}");
        }
    }

    #[test]
    fn the_share_is_that_of_the_picture_at_any_size() {
        for (width, height) in [(96, 96), (512, 288), (33, 1001), (7, 5)] {
            let dark = RgbImage {
                width,
                height,
                pixels: vec![10; width * height * 3],
            };
            let mut half = dark.clone();
            for (i, pixel) in half.pixels.chunks_mut(3).enumerate() {
                if i % width < width / 2 {
                    pixel.fill(90);
                }
            }
            let share = Cells::of(&dark).changed(&Cells::of(&half));
            let want = (width / 2) as f64 / width as f64;
            assert!((share - want).abs() < 0.03, "{width}x{height}: {share}");
        }
    }

    #[test]
    fn likeness_does_not_go_by_the_light() {
        let day = yard(1, 2.0, None);
        let mut dusk = yard(2, 2.0, None);
        dusk.pixels.iter_mut().for_each(|value| *value /= 2);
        let likeness = Cells::of(&day).likeness(&Cells::of(&dusk));
        assert!(likeness > 0.9, "{likeness}");
        let flat = RgbImage {
            pixels: vec![200; day.pixels.len()],
            ..day.clone()
        };
        assert_eq!(Cells::of(&day).likeness(&Cells::of(&flat)), 0.0);
    }
}
