// SPDX-License-Identifier: MPL-2.0

//! What transformers says of the small checkpoints: `tools/tpu/reference.py` writes it.

use std::fs;
use std::path::Path;

use safetensors::SafeTensors;
use serde::Deserialize;

use gstvlmcaption::backend::{GridThw, Patches, Position};

/// A choice of the reference counts if its margin is so many times the noise of bf16.
///
/// Two logits carry that noise, in the reference and on the device: their difference has twice the
/// deviation, so this is three of them. The processor that computes the reference has a say in which
/// steps are near the edge.
pub const SURE: f32 = 6.0;

/// `reference.json`.
#[derive(Debug, Deserialize)]
pub struct Reference {
    pub vocab_size: usize,
    pub visuals: Vec<VisualInfo>,
    pub cases: Vec<Case>,
    #[serde(skip)]
    tensors: Vec<u8>,
}

#[derive(Debug, Deserialize)]
pub struct VisualInfo {
    pub grid: [usize; 3],
    pub mean: [f32; 3],
    pub std: [f32; 3],
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub enum Case {
    Turns {
        name: String,
        turns: Vec<Turn>,
    },
    One {
        name: String,
        #[serde(flatten)]
        turn: Turn,
    },
}

#[derive(Debug, Deserialize)]
pub struct Turn {
    pub segments: Vec<Part>,
    pub positions: Vec<Position>,
    pub next_position: u32,
    pub greedy: Vec<Choice>,
    /// Tokens of the answer that the next turn builds on.
    pub kept: Option<usize>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Part {
    Tokens(Vec<u32>),
    Visual(usize),
}

#[derive(Debug, Clone, Copy, Deserialize)]
pub struct Choice {
    pub token: u32,
    pub margin: f32,
    pub noise: f32,
}

impl Choice {
    /// Whether another order of the same sums would choose the same.
    pub fn is_sure(&self) -> bool {
        self.margin >= SURE * self.noise
    }
}

impl Reference {
    pub fn read(folder: &Path) -> Self {
        let read = |name: &str| {
            let path = folder.join(name);
            fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
        };
        let mut reference: Self = serde_json::from_slice(&read("reference.json")).unwrap();
        reference.tensors = read("reference.safetensors");
        reference
    }

    /// Pixels of visual `k` as a program takes them.
    pub fn patches(&self, k: usize) -> Patches {
        let info = &self.visuals[k];
        let [t, h, w] = info.grid;
        let tensors = SafeTensors::deserialize(&self.tensors).unwrap();
        let pixels = tensors.tensor(&format!("visual.{k}.pixels")).unwrap();
        let pixels = match pixels.shape() {
            [3, height, width] => tile_rows(pixels.data(), *height, *width),
            _ => pixels.data().to_vec(),
        };
        Patches {
            grid: GridThw { t, h, w },
            pixels: pixels.into(),
            mean: info.mean,
            std: info.std,
        }
    }

    /// A tensor of floats; `None` if there is none of this name.
    pub fn floats(&self, name: &str) -> Option<Vec<f32>> {
        let tensors = SafeTensors::deserialize(&self.tensors).unwrap();
        let tensor = tensors.tensor(name).ok()?;
        assert_eq!(tensor.dtype(), safetensors::Dtype::F32, "{name}");
        let floats = tensor.data().as_chunks::<4>().0.iter();
        Some(floats.map(|&b| f32::from_le_bytes(b)).collect())
    }
}

/// Planes `[3, height, width]` of a tile of InternVL as patch rows in merge-block order.
fn tile_rows(planes: &[u8], height: usize, width: usize) -> Vec<u8> {
    const PATCH: usize = 14;
    let mut rows = Vec::with_capacity(planes.len());
    for block in 0..(height / PATCH / 2) * (width / PATCH / 2) {
        let (top, left) = (block / (width / PATCH / 2), block % (width / PATCH / 2));
        for (y, x) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
            let (patch_y, patch_x) = (2 * top + y, 2 * left + x);
            for channel in 0..3 {
                for line in 0..PATCH {
                    let at = (channel * height + patch_y * PATCH + line) * width + patch_x * PATCH;
                    rows.extend_from_slice(&planes[at..at + PATCH]);
                }
            }
        }
    }
    rows
}

/// The least cosine of any row `[rows, width]`.
pub fn least_cosine(a: &[f32], b: &[f32], width: usize) -> f32 {
    assert_eq!(a.len(), b.len());
    let rows = a.chunks(width).zip(b.chunks(width));
    let cosine = |(a, b): (&[f32], &[f32])| {
        let dot = |a: &[f32], b: &[f32]| -> f64 {
            let products = a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b));
            products.sum()
        };
        (dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()) as f32
    };
    rows.map(cosine).fold(f32::INFINITY, |least, c| {
        if c.is_nan() {
            f32::NEG_INFINITY
        } else {
            least.min(c)
        }
    })
}
