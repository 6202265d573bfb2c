// SPDX-License-Identifier: MPL-2.0

//! Rotary positions: two axes for the vision towers, three for the decoders.

use super::isa::Isa;
use crate::Position;
use crate::spec::{Rope, TextSpec};

/// Cosines and sines of the rotation of each row, `[rows, half]`: component `j` of a head turns
/// with component `j + half`.
pub(super) struct Rotation {
    pub(super) half: usize,
    cos: Vec<f32>,
    sin: Vec<f32>,
}

impl Rotation {
    fn with_capacity(rows: usize, half: usize) -> Self {
        Self {
            half,
            cos: Vec::with_capacity(rows * half),
            sin: Vec::with_capacity(rows * half),
        }
    }

    fn push(&mut self, angle: f32) {
        self.cos.push(angle.cos());
        self.sin.push(angle.sin());
    }

    /// `Qwen3VLVisionModel.rot_pos_emb`: the first half of the angles turns with a patch's row, the
    /// second with its column. `patches` gives row and column in the order of the net's rows.
    pub(super) fn vision(
        patches: impl ExactSizeIterator<Item = (usize, usize)>,
        head_dim: usize,
    ) -> Self {
        let frequencies = inverse_frequencies(10_000.0, head_dim / 2);
        let mut rotation = Self::with_capacity(patches.len(), head_dim / 2);
        for (row, column) in patches {
            for axis in [row, column] {
                for &frequency in &frequencies {
                    rotation.push(axis as f32 * frequency);
                }
            }
        }
        rotation
    }

    /// `Qwen3VLTextRotaryEmbedding`, `apply_multimodal_rotary_pos_emb` of Qwen2.5-VL.
    pub(super) fn text(positions: &[Position], spec: &TextSpec) -> Self {
        let half = spec.head_dim / 2;
        let frequencies = inverse_frequencies(spec.rope_theta, spec.head_dim);
        let axes = axes(spec.rope, half);
        let mut rotation = Self::with_capacity(positions.len(), half);
        for position in positions {
            for (&frequency, &axis) in frequencies.iter().zip(&axes) {
                rotation.push(position[axis] as f32 * frequency);
            }
        }
        rotation
    }

    /// Turns one head `[2 * half]` of row `row`, times `scale`, into `out`.
    #[inline]
    pub(super) fn apply(&self, row: usize, head: &[f32], scale: f32, out: &mut [f32]) {
        let half = self.half;
        let cos = &self.cos[row * half..][..half];
        let sin = &self.sin[row * half..][..half];
        (Isa::host().loops.turn)(cos, sin, head, scale, out);
    }
}

/// The axis (time, height, width) that each of `half` frequencies turns with.
fn axes(rope: Rope, half: usize) -> Vec<usize> {
    let axis = |j: usize| match rope {
        Rope::Plain => 0,
        Rope::Interleaved([_, height, width]) => match j % 3 {
            1 if j < 3 * height => 1,
            2 if j < 3 * width => 2,
            _ => 0,
        },
        Rope::Contiguous([time, height, _]) => {
            usize::from(j >= time) + usize::from(j >= time + height)
        }
    };
    (0..half).map(axis).collect()
}

/// `theta ^ (-2 i / dim)` for i in 0..dim / 2, rounded to f32 where torch rounds.
fn inverse_frequencies(theta: f64, dim: usize) -> Vec<f32> {
    (0..dim / 2)
        .map(|i| {
            let exponent = (2 * i) as f32 / dim as f32;
            1.0 / theta.powf(f64::from(exponent)) as f32
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_interleave_up_to_their_sections() {
        let got = axes(Rope::Interleaved([4, 2, 2]), 8);
        assert_eq!(got, [0, 1, 2, 0, 1, 2, 0, 0]);
    }

    #[test]
    fn contiguous_sections_follow_each_other() {
        let got = axes(Rope::Contiguous([2, 3, 3]), 8);
        assert_eq!(got, [0, 0, 1, 1, 1, 2, 2, 2]);
    }

    #[test]
    fn a_turn_keeps_the_length() {
        let patches = [(0, 0), (0, 1), (1, 0), (1, 1)];
        let rotation = Rotation::vision(patches.into_iter(), 8);
        let head = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0];
        let mut out = [0.0; 8];
        rotation.apply(3, &head, 1.0, &mut out);
        let length = |v: &[f32]| v.iter().map(|x| x * x).sum::<f32>();
        assert!((length(&out) - length(&head)).abs() < 1e-4);
        assert_ne!(out, head);
    }
}
