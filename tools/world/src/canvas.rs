// SPDX-License-Identifier: MPL-2.0

//! Pictures: antialiased shapes on RGB pixels, a blur and a grain.

use serde::Deserialize;

use crate::random::Random;

/// Samples along one side of a pixel, for antialiasing.
const SAMPLES: usize = 4;

/// What an object looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Shape {
    /// Fills its radius.
    Circle,
    /// Half a side is 0.9 of the radius.
    Square,
    /// Its apex is one radius above the centre, its base two radii wide and 0.8 below.
    Triangle,
}

impl Shape {
    /// The word for it in a caption.
    pub fn word(self) -> &'static str {
        match self {
            Shape::Circle => "circle",
            Shape::Square => "square",
            Shape::Triangle => "triangle",
        }
    }

    /// Whether a point is inside; `u` and `v` count from the centre in radii, `v` downwards.
    fn holds(self, u: f32, v: f32) -> bool {
        match self {
            Shape::Circle => u * u + v * v <= 1.0,
            Shape::Square => u.abs() <= 0.9 && v.abs() <= 0.9,
            Shape::Triangle => (-1.0..=0.8).contains(&v) && u.abs() <= (v + 1.0) / 1.8,
        }
    }
}

/// A picture, `[height, width, 3]`, row-major RGB.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Canvas {
    width: usize,
    height: usize,
    rgb: Vec<u8>,
}

impl Canvas {
    /// A picture of one colour.
    pub fn filled(width: usize, height: usize, rgb: [u8; 3]) -> Self {
        Self {
            width,
            height,
            rgb: rgb.repeat(width * height),
        }
    }

    /// Pixels in a row.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Rows.
    pub fn height(&self) -> usize {
        self.height
    }

    /// The pixels, `[height, width, 3]`.
    pub fn rgb(&self) -> &[u8] {
        &self.rgb
    }

    /// The pixels, `[height, width, 3]`, without a copy.
    pub fn into_rgb(self) -> Vec<u8> {
        self.rgb
    }

    /// The colour of one pixel.
    ///
    /// # Panics
    /// If the pixel is outside the picture.
    pub fn pixel(&self, x: usize, y: usize) -> [u8; 3] {
        let at = (y * self.width + x) * 3;
        [self.rgb[at], self.rgb[at + 1], self.rgb[at + 2]]
    }

    /// Gives every pixel the colour that `value` says for it.
    pub(crate) fn fill_with(&mut self, mut value: impl FnMut(usize, usize) -> [u8; 3]) {
        for (index, pixel) in self.rgb.chunks_exact_mut(3).enumerate() {
            pixel.copy_from_slice(&value(index % self.width, index / self.width));
        }
    }

    /// Paints a shape over what is there.
    ///
    /// `centre` is `[x, y]`, where `(0, 0)` is the middle of the first pixel (OpenCV's
    /// convention); `radius` has its extent along x and along y. What is outside is cut off.
    pub fn paint(&mut self, shape: Shape, centre: [f32; 2], radius: [f32; 2], rgb: [u8; 3]) {
        let [columns, rows] = [(0, self.width), (1, self.height)].map(|(axis, size)| {
            let low = (centre[axis] - radius[axis]).floor().max(0.0) as usize;
            let high = (centre[axis] + radius[axis]).ceil().max(-1.0) + 1.0;
            low..(high as usize).min(size)
        });
        for y in rows {
            for x in columns.clone() {
                let covered = coverage(shape, x, y, centre, radius);
                if covered > 0.0 {
                    let at = (y * self.width + x) * 3;
                    for (old, new) in self.rgb[at..at + 3].iter_mut().zip(rgb) {
                        *old = mix(*old, new, covered);
                    }
                }
            }
        }
    }

    /// Blurs the picture with a Gaussian of this standard deviation, in pixels along x and y.
    pub(crate) fn blur(&mut self, sigma: [f32; 2]) {
        let (width, height) = (self.width as isize, self.height as isize);
        for (sigma, step) in [(sigma[0], [1, 0]), (sigma[1], [0, 1])] {
            if sigma <= 0.0 {
                continue;
            }
            let reach = (3.0 * sigma).ceil() as isize;
            let weight = |d: isize| (-0.5 * (d as f32 / sigma).powi(2)).exp();
            let sum: f32 = (-reach..=reach).map(weight).sum();
            let before = self.clone();
            self.fill_with(|x, y| {
                let mut mean = [0.0; 3];
                for d in -reach..=reach {
                    let column = (x as isize + d * step[0]).clamp(0, width - 1);
                    let row = (y as isize + d * step[1]).clamp(0, height - 1);
                    let pixel = before.pixel(column as usize, row as usize);
                    for (mean, value) in mean.iter_mut().zip(pixel) {
                        *mean += f32::from(value) * weight(d) / sum;
                    }
                }
                mean.map(to_byte)
            });
        }
    }

    /// Adds Gaussian noise of this standard deviation, of 255.
    pub(crate) fn grain(&mut self, sigma: f32, random: &mut Random) {
        if sigma > 0.0 {
            for value in &mut self.rgb {
                *value = to_byte(f32::from(*value) + sigma * random.gaussian());
            }
        }
    }
}

/// The part of a pixel that a shape covers, 0..=1.
fn coverage(shape: Shape, x: usize, y: usize, centre: [f32; 2], radius: [f32; 2]) -> f32 {
    let offset = |sample: usize| (sample as f32 + 0.5) / SAMPLES as f32 - 0.5;
    let mut inside = 0;
    for row in 0..SAMPLES {
        let v = (y as f32 + offset(row) - centre[1]) / radius[1];
        for column in 0..SAMPLES {
            let u = (x as f32 + offset(column) - centre[0]) / radius[0];
            inside += usize::from(shape.holds(u, v));
        }
    }
    inside as f32 / (SAMPLES * SAMPLES) as f32
}

fn mix(old: u8, new: u8, share: f32) -> u8 {
    to_byte(f32::from(old) + (f32::from(new) - f32::from(old)) * share)
}

/// Rounds and clamps to 0..=255.
pub(crate) fn to_byte(value: f32) -> u8 {
    value.round().clamp(0.0, 255.0) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Painted area in pixels.
    fn area(shape: Shape, centre: [f32; 2], radius: f32) -> f32 {
        let mut canvas = Canvas::filled(64, 64, [0; 3]);
        canvas.paint(shape, centre, [radius; 2], [255; 3]);
        canvas.rgb().iter().map(|&v| f32::from(v)).sum::<f32>() / (255.0 * 3.0)
    }

    #[test]
    fn shapes_have_the_area_of_their_geometry() {
        let r = 20.0_f32;
        for (shape, want) in [
            (Shape::Circle, std::f32::consts::PI * r * r),
            (Shape::Square, (1.8 * r).powi(2)),
            (Shape::Triangle, 0.5 * 2.0 * r * 1.8 * r),
        ] {
            let got = area(shape, [31.3, 30.6], r);
            assert!((got / want - 1.0).abs() < 0.01, "{shape:?}: {got} {want}");
        }
    }

    #[test]
    fn an_edge_is_between_both_colours() {
        let mut canvas = Canvas::filled(8, 8, [0; 3]);
        // Half a side is 1.8: the square covers 3 whole pixels and 0.3 of one on either side.
        canvas.paint(Shape::Square, [4.0, 4.0], [2.0, 2.0], [200; 3]);
        assert_eq!(canvas.pixel(4, 4), [200; 3]);
        assert_eq!(canvas.pixel(2, 4), [50; 3]);
        assert_eq!(canvas.pixel(1, 4), [0; 3]);
    }

    #[test]
    fn a_shape_outside_paints_nothing_and_does_not_panic() {
        assert_eq!(area(Shape::Circle, [-40.0, 500.0], 10.0), 0.0);
    }

    #[test]
    fn a_blur_keeps_the_mean() {
        let mut canvas = Canvas::filled(40, 40, [0; 3]);
        canvas.paint(Shape::Circle, [20.0, 20.0], [8.0, 8.0], [240; 3]);
        let sum = |c: &Canvas| c.rgb().iter().map(|&v| f64::from(v)).sum::<f64>();
        let before = sum(&canvas);
        canvas.blur([1.0, 0.7]);
        assert!((sum(&canvas) / before - 1.0).abs() < 0.01);
        assert!(canvas.pixel(20, 12)[0] > 0);
    }
}
