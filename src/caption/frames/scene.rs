// SPDX-License-Identifier: MPL-2.0

//! Where one scene ends and another begins: a switched camera, a preset of a dome, an edit.
//!
//! A window must not span a cut. The model takes its frames for one scene and tells a story that
//! joins them (somebody who is in the first half "leaves" in the second), and nothing in the text
//! shows that it never happened. Two short captions are less than one of a whole window, but each
//! is true.

use super::motion::Cells;

/// Share of the picture that must have changed.
const CHANGED: f64 = 0.5;
/// Below this likeness two pictures show different places: light that is switched on changes all of
/// a picture and leaves its edges where they were.
const LIKENESS: f32 = 0.5;

/// Looks for cuts between samples.
#[derive(Debug, Default)]
pub struct Scenes {
    last: Option<Cells>,
    /// The last two pictures showed one place. Where every picture differs from the one before (a
    /// camera that is carried, snow on the screen) there is no scene that could end.
    settled: bool,
}

impl Scenes {
    /// Whether this picture begins another scene than the ones before it.
    pub fn is_cut(&mut self, cells: &Cells) -> bool {
        let other = self
            .last
            .as_ref()
            .is_some_and(|last| last.changed(cells) >= CHANGED && last.likeness(cells) < LIKENESS);
        let cut = other && self.settled;
        self.settled = self.last.is_some() && !other;
        self.last = Some(cells.clone());
        cut
    }

    /// Forgets what was seen.
    pub fn reset(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::super::motion::tests::yard;
    use super::*;
    use crate::vlm::image::RgbImage;

    fn stripes(width: usize) -> Cells {
        let mut image = yard(9, 3.0, None);
        let columns = image.width;
        for (i, pixel) in image.pixels.chunks_mut(3).enumerate() {
            if (i % columns / width).is_multiple_of(2) {
                pixel.fill(200);
            }
        }
        Cells::of(&image)
    }

    fn cuts(pictures: &[Cells]) -> Vec<usize> {
        let mut scenes = Scenes::default();
        let cuts = pictures.iter().enumerate();
        cuts.filter(|(_, cells)| scenes.is_cut(cells))
            .map(|(i, _)| i)
            .collect()
    }

    fn flat(value: u8) -> Cells {
        Cells::of(&RgbImage {
            width: 64,
            height: 48,
            pixels: vec![value; 64 * 48 * 3],
        })
    }

    #[test]
    fn another_place_is_a_cut_once() {
        let yards: Vec<Cells> = (0..3).map(|s| Cells::of(&yard(s, 8.0, None))).collect();
        let pictures = [&yards[..], &vec![stripes(40); 3]].concat();
        assert_eq!(cuts(&pictures), [3]);
        assert_eq!(
            cuts(&[vec![flat(20); 2], vec![stripes(90); 2]].concat()),
            [2]
        );
    }

    #[test]
    fn a_person_noise_and_light_are_no_cuts() {
        let mut lit = yard(5, 8.0, None);
        lit.pixels
            .iter_mut()
            .for_each(|value| *value = value.saturating_mul(3));
        let pictures = [
            yard(1, 16.0, None),
            yard(2, 16.0, None),
            yard(3, 16.0, Some(300)),
            yard(4, 16.0, None),
            lit,
        ];
        assert!(cuts(&pictures.iter().map(Cells::of).collect::<Vec<_>>()).is_empty());
    }

    #[test]
    fn where_every_picture_is_another_there_is_no_cut() {
        let pictures: Vec<Cells> = (1..20).map(|n| stripes(10 + 17 * (n % 5))).collect();
        assert!(cuts(&pictures).is_empty());
    }
}
