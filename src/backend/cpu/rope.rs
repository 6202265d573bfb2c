// SPDX-License-Identifier: MPL-2.0

//! Rotary positions: two axes for the vision tower, three interleaved ones for the decoder.

use crate::backend::vit::merge_block_order;
use crate::backend::{GridThw, Position};

use super::spec::TextSpec;

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

    /// `Qwen3VLVisionModel.rot_pos_emb`: rows in merge-block order; the first half of the angles
    /// turns with the patch's row, the second with its column.
    pub(super) fn vision(grid: GridThw, merge_size: usize, head_dim: usize) -> Self {
        let frequencies = inverse_frequencies(10_000.0, head_dim / 2);
        let mut rotation = Self::with_capacity(grid.h * grid.w, head_dim / 2);
        for (row, column) in merge_block_order(grid, merge_size) {
            for axis in [row, column] {
                for &frequency in &frequencies {
                    rotation.push(axis as f32 * frequency);
                }
            }
        }
        rotation
    }

    /// `Qwen3VLTextRotaryEmbedding`: frequency `j` turns with height if `j % 3 == 1`, with width if
    /// `j % 3 == 2`, as far as their sections reach, and with time elsewhere.
    pub(super) fn text(positions: &[Position], spec: &TextSpec) -> Self {
        let half = spec.head_dim / 2;
        let frequencies = inverse_frequencies(spec.rope_theta, spec.head_dim);
        let [_, height, width] = spec.mrope_section;
        let axes: Vec<usize> = (0..half)
            .map(|j| match j % 3 {
                1 if j < 3 * height => 1,
                2 if j < 3 * width => 2,
                _ => 0,
            })
            .collect();
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
        let (a, b) = head.split_at(half);
        let (out_a, out_b) = out.split_at_mut(half);
        for j in 0..half {
            let (c, s) = (cos[j] * scale, sin[j] * scale);
            out_a[j] = a[j] * c - b[j] * s;
            out_b[j] = b[j] * c + a[j] * s;
        }
    }
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
        let spec = TextSpec {
            num_hidden_layers: 1,
            hidden_size: 16,
            intermediate_size: 16,
            num_attention_heads: 1,
            num_key_value_heads: 1,
            head_dim: 16,
            vocab_size: 8,
            rms_norm_eps: 1e-6,
            rope_theta: 1.0,
            mrope_section: [4, 2, 2],
            tie_word_embeddings: true,
            max_position_embeddings: 16,
        };
        // With theta 1 every frequency is 1, so each angle is the position of its axis.
        let rotation = Rotation::text(&[[1, 2, 3]], &spec);
        let axes: Vec<f32> = [1, 2, 3, 1, 2, 3, 1, 1]
            .map(|p: i32| (p as f32).cos())
            .into();
        assert_eq!(rotation.cos, axes);
    }

    #[test]
    fn a_turn_keeps_the_length() {
        let grid = GridThw { t: 1, h: 2, w: 2 };
        let rotation = Rotation::vision(grid, 2, 8);
        let head = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0];
        let mut out = [0.0; 8];
        rotation.apply(3, &head, 1.0, &mut out);
        let length = |v: &[f32]| v.iter().map(|x| x * x).sum::<f32>();
        assert!((length(&out) - length(&head)).abs() < 1e-4);
        assert_ne!(out, head);
    }
}
