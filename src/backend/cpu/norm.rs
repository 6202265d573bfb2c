// SPDX-License-Identifier: MPL-2.0

//! Layer norm and RMS norm over the rows of a matrix.

use multiversion::multiversion;
use rayon::prelude::*;

/// Rows that one task normalises.
const ROWS_PER_TASK: usize = 32;

/// Sum of `f(x)` over a row, in lanes that vector registers can hold.
#[inline(always)]
fn sum_by(row: &[f32], f: impl Fn(f32) -> f32) -> f32 {
    const LANES: usize = 32;
    let mut sums = [0.0f32; LANES];
    let (chunks, rest) = row.as_chunks::<LANES>();
    for chunk in chunks {
        for lane in 0..LANES {
            sums[lane] += f(chunk[lane]);
        }
    }
    sums.iter().sum::<f32>() + rest.iter().map(|&x| f(x)).sum::<f32>()
}

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
            .for_each(|(y, x)| layer_norm(x, &self.weight, &self.bias, self.eps, y));
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
            .for_each(|(y, x)| rms_norm(x, &self.weight, self.eps, y));
    }

    /// Normalises one row in place.
    pub(super) fn row(&self, row: &mut [f32]) {
        rms_norm_row(row, &self.weight, self.eps);
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

#[multiversion(targets(
    "x86_64+avx2+avx512bw+avx512dq+avx512f+avx512vl+avx512vnni+fma",
    "x86_64+avx2+fma"
))]
fn layer_norm(x: &[f32], weight: &[f32], bias: &[f32], eps: f32, y: &mut [f32]) {
    let width = weight.len();
    for (x, y) in x.chunks_exact(width).zip(y.chunks_exact_mut(width)) {
        let mean = sum_by(x, |v| v) / width as f32;
        let variance = sum_by(x, |v| (v - mean) * (v - mean)) / width as f32;
        let scale = 1.0 / (variance + eps).sqrt();
        for ((y, &x), (&w, &b)) in y.iter_mut().zip(x).zip(weight.iter().zip(bias)) {
            *y = (x - mean) * scale * w + b;
        }
    }
}

#[multiversion(targets(
    "x86_64+avx2+avx512bw+avx512dq+avx512f+avx512vl+avx512vnni+fma",
    "x86_64+avx2+fma"
))]
fn rms_norm(x: &[f32], weight: &[f32], eps: f32, y: &mut [f32]) {
    let width = weight.len();
    for (x, y) in x.chunks_exact(width).zip(y.chunks_exact_mut(width)) {
        let scale = 1.0 / (sum_by(x, |v| v * v) / width as f32 + eps).sqrt();
        for ((y, &x), &w) in y.iter_mut().zip(x).zip(weight) {
            *y = x * scale * w;
        }
    }
}

#[multiversion(targets(
    "x86_64+avx2+avx512bw+avx512dq+avx512f+avx512vl+avx512vnni+fma",
    "x86_64+avx2+fma"
))]
fn rms_norm_row(row: &mut [f32], weight: &[f32], eps: f32) {
    let scale = 1.0 / (sum_by(row, |v| v * v) / weight.len() as f32 + eps).sqrt();
    for (x, &w) in row.iter_mut().zip(weight) {
        *x = *x * scale * w;
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
