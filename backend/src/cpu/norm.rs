// SPDX-License-Identifier: MPL-2.0

//! Layer norm and RMS norm over the rows of a matrix.

use rayon::prelude::*;

use super::isa::Isa;

/// Rows that one task normalises.
const ROWS_PER_TASK: usize = 32;

/// `torch.nn.LayerNorm` over the last dimension.
pub(super) struct LayerNorm {
    pub(super) weight: Vec<f32>,
    pub(super) bias: Vec<f32>,
    pub(super) eps: f32,
}

impl LayerNorm {
    /// Bytes of the weights.
    pub(super) fn size_bytes(&self) -> usize {
        4 * (self.weight.len() + self.bias.len())
    }

    /// Normalises the rows of `x` `[rows, width]` into `y`.
    pub(super) fn forward(&self, x: &[f32], y: &mut [f32]) {
        let step = ROWS_PER_TASK * self.weight.len();
        y.par_chunks_mut(step)
            .zip(x.par_chunks(step))
            .for_each(|(y, x)| {
                (Isa::host().loops.layer_norm)(x, &self.weight, &self.bias, self.eps, y);
            });
    }
}

/// `Qwen3VLTextRMSNorm` and its like: no mean, no bias.
pub(super) struct RmsNorm {
    pub(super) weight: Vec<f32>,
    pub(super) eps: f32,
}

impl RmsNorm {
    /// Bytes of the weights.
    pub(super) fn size_bytes(&self) -> usize {
        4 * self.weight.len()
    }

    /// Normalises the rows of `x` `[rows, width]` into `y`.
    pub(super) fn forward(&self, x: &[f32], y: &mut [f32]) {
        let step = ROWS_PER_TASK * self.weight.len();
        y.par_chunks_mut(step)
            .zip(x.par_chunks(step))
            .for_each(|(y, x)| (Isa::host().loops.rms_norm)(x, &self.weight, self.eps, y));
    }

    /// Normalises one row in place.
    pub(super) fn row(&self, row: &mut [f32]) {
        (Isa::host().loops.rms_norm_row)(row, &self.weight, self.eps);
    }
}

/// One of the two.
pub(super) enum Norm {
    Layer(LayerNorm),
    Rms(RmsNorm),
}

impl Norm {
    /// Bytes of the weights.
    pub(super) fn size_bytes(&self) -> usize {
        match self {
            Norm::Layer(norm) => norm.size_bytes(),
            Norm::Rms(norm) => norm.size_bytes(),
        }
    }

    /// Normalises the rows of `x` `[rows, width]` into `y`.
    pub(super) fn forward(&self, x: &[f32], y: &mut [f32]) {
        match self {
            Norm::Layer(norm) => norm.forward(x, y),
            Norm::Rms(norm) => norm.forward(x, y),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_layer_norm_has_mean_bias_and_unit_variance() {
        for width in [3, 32, 40, 100] {
            let x: Vec<f32> = (0..2 * width)
                .map(|i| (i as f32).cos() * 3.0 + 7.0)
                .collect();
            let norm = LayerNorm {
                weight: vec![1.0; width],
                bias: vec![0.25; width],
                eps: 1e-6,
            };
            let mut y = vec![0.0; x.len()];
            norm.forward(&x, &mut y);
            for row in y.chunks(width) {
                let mean = row.iter().sum::<f32>() / width as f32;
                let variance =
                    row.iter().map(|v| (v - mean) * (v - mean)).sum::<f32>() / width as f32;
                assert!((mean - 0.25).abs() < 1e-5, "mean {mean} at width {width}");
                assert!((variance - 1.0).abs() < 1e-4, "variance {variance}");
            }
        }
    }

    #[test]
    fn both_forms_of_the_rms_norm_agree() {
        let norm = RmsNorm {
            weight: (0..37).map(|i| 1.0 + i as f32 * 0.01).collect(),
            eps: 1e-6,
        };
        let x: Vec<f32> = (0..37).map(|i| (i as f32).sin()).collect();
        let mut y = vec![0.0; 37];
        norm.forward(&x, &mut y);
        let rms = (x.iter().map(|v| v * v).sum::<f32>() / 37.0 + 1e-6).sqrt();
        let mut z = x.clone();
        norm.row(&mut z);
        assert_eq!(y, z);
        assert!((y[5] - x[5] / rms * 1.05).abs() < 1e-6);
    }
}
