// SPDX-License-Identifier: MPL-2.0

//! Masks are painted on every picture that leaves a pipeline, before it is compressed.

use crate::config::file::Mask;

/// One plane of a picture.
pub struct Plane<'a> {
    pub bytes: &'a mut [u8],
    pub stride: usize,
    pub width: usize,
    pub height: usize,
}

/// The grey of the element's own masks.
const GREY: u8 = 128;

/// Paints the masks, `margin` pixels larger on every side and rounded outwards. `full` is the size of
/// the picture; a plane of colour may be smaller.
pub fn paint(plane: &mut Plane, full: (usize, usize), masks: &[Mask], margin: usize) {
    for mask in masks {
        let columns = covered(mask.x, mask.width, full.0, margin, plane.width);
        let rows = covered(mask.y, mask.height, full.1, margin, plane.height);
        for row in rows {
            let line = &mut plane.bytes[row * plane.stride..];
            line[columns.clone()].fill(GREY);
        }
    }
}

/// The pixels of a plane that a part of the picture touches.
fn covered(
    at: f64,
    length: f64,
    full: usize,
    margin: usize,
    plane: usize,
) -> std::ops::Range<usize> {
    if plane == 0 || full == 0 {
        return 0..0;
    }
    let size = full as f64;
    let first = (at * size).floor() - margin as f64;
    let last = ((at + length) * size).ceil() + margin as f64;
    let scale = plane as f64 / size;
    let low = (first * scale).floor().clamp(0.0, plane as f64);
    let high = (last * scale).ceil().clamp(0.0, plane as f64);
    low as usize..high as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    fn painted(
        width: usize,
        height: usize,
        full: (usize, usize),
        mask: Mask,
        margin: usize,
    ) -> Vec<Vec<usize>> {
        let stride = width + 3;
        let mut bytes = vec![0; stride * height];
        paint(
            &mut Plane {
                bytes: &mut bytes,
                stride,
                width,
                height,
            },
            full,
            &[mask],
            margin,
        );
        let row = |row: &[u8]| (0..stride).filter(|x| row[*x] == GREY).collect();
        bytes.chunks(stride).map(row).collect()
    }

    #[test]
    fn edges_are_rounded_outwards_and_the_margin_is_on_every_side() {
        let mask = Mask {
            x: 0.5,
            y: 0.5,
            width: 0.2,
            height: 0.1,
        };
        let rows = painted(10, 10, (10, 10), mask, 1);
        assert_eq!(rows[3], Vec::<usize>::new());
        for row in &rows[4..7] {
            assert_eq!(row, &[4, 5, 6, 7]);
        }
        assert_eq!(rows[7], Vec::<usize>::new());
    }

    #[test]
    fn a_plane_of_colour_is_covered_as_far_as_the_picture_is() {
        let mask = Mask {
            x: 0.0,
            y: 0.0,
            width: 0.3,
            height: 1.0,
        };
        let rows = painted(5, 5, (10, 10), mask, 0);
        assert!(rows.iter().all(|row| row == &[0, 1]));
    }

    #[test]
    fn a_mask_at_the_edge_stays_within_the_lines() {
        let mask = Mask {
            x: 0.9,
            y: 0.9,
            width: 0.1,
            height: 0.1,
        };
        let rows = painted(10, 10, (10, 10), mask, 8);
        assert!(rows.iter().flatten().all(|x| *x < 10));
    }
}
