// SPDX-License-Identifier: MPL-2.0

//! The vision tower of Qwen2.5-VL: `Qwen2_5_VisionTransformerPretrainedModel`.

use super::super::attention::Spans;
use super::super::gemm::Gemm;
use super::super::loader::{Bias, Loader};
use super::super::norm::Norm;
use super::super::rope::Rotation;
use super::block::{Block, Merger, Mlp, Scratch};
use super::trunk::{Encoded, Trunk};
use crate::GridThw;
use crate::spec::VisionSpec;
use crate::vit::{WindowOrder, merge_block_order};
use crate::{Cancel, Error};

/// Epsilon of every norm.
const EPS: f32 = 1e-6;

/// Which blocks see how far: see [`Tower::Qwen25Vl`](super::Tower).
pub(super) struct Qwen25Vl {
    pub(super) window: usize,
    pub(super) fullatt_block_indexes: Vec<usize>,
}

/// Reads the tower's weights.
pub(super) fn load(spec: &VisionSpec, loader: &mut Loader<'_>) -> Result<Trunk, Error> {
    let (hidden, inner) = (spec.hidden_size, spec.intermediate_size);
    let (patch, frames) = (spec.patch_size, spec.temporal_patch_size);
    let name = loader.visual("patch_embed.proj");
    let shape = [hidden, spec.in_channels, frames, patch, patch];
    let patch_embed = loader.convolution(&name, &shape, Bias::Without)?;
    let mut blocks = Vec::new();
    for i in 0..spec.depth {
        let block = loader.visual(&format!("blocks.{i}"));
        let name = |part: &str| format!("{block}.{part}");
        let gate_up = [(name("mlp.gate_proj"), inner), (name("mlp.up_proj"), inner)];
        blocks.push(loader.block(i, |loader| {
            Ok(Block {
                norm1: Norm::Rms(loader.rms_norm(&name("norm1"), hidden, EPS)?),
                qkv: loader.linear(&name("attn.qkv"), [3 * hidden, hidden])?,
                proj: loader.linear(&name("attn.proj"), [hidden, hidden])?,
                norm2: Norm::Rms(loader.rms_norm(&name("norm2"), hidden, EPS)?),
                mlp: Mlp::Swiglu {
                    gate_up: loader.joined(&gate_up, hidden, Bias::With)?,
                    down: loader.linear(&name("mlp.down_proj"), [hidden, inner])?,
                },
            })
        })?);
    }
    let joined = hidden * spec.spatial_merge_size.pow(2);
    let merger = loader.visual("merger");
    let shape = [spec.out_hidden_size, joined];
    let merger = Merger {
        norm: Norm::Rms(loader.rms_norm(&format!("{merger}.ln_q"), hidden, EPS)?),
        fc1: loader.linear(&format!("{merger}.mlp.0"), [joined, joined])?,
        fc2: loader.linear(&format!("{merger}.mlp.2"), shape)?,
    };
    Ok(Trunk {
        spec: spec.clone(),
        patch_embed,
        blocks,
        merger,
    })
}

impl Qwen25Vl {
    /// Visual tokens of the embedded rows `x` `[rows, hidden]` of one temporal patch.
    ///
    /// The blocks see the rows window after window; the visual tokens come out in raster order.
    pub(super) fn forward(
        &self,
        trunk: &Trunk,
        gemm: &Gemm,
        grid: GridThw,
        x: Vec<f32>,
        cancel: &Cancel,
    ) -> Result<Encoded, Error> {
        let spec = &trunk.spec;
        let rows = grid.n_patches();
        let order = WindowOrder::new(grid, spec.spatial_merge_size, self.window);
        let n_patches = spec.spatial_merge_size.pow(2);
        let mut x = gather(&x, &order.index, n_patches * spec.hidden_size);
        let raster: Vec<_> = merge_block_order(grid, spec.spatial_merge_size).collect();
        let places = gather(&raster, &order.index, n_patches);
        let rotation = Rotation::vision(places.into_iter(), spec.hidden_size / spec.num_heads);
        let mut scratch = Scratch::new(rows, spec);
        for (i, block) in trunk.blocks.iter().enumerate() {
            cancel.check()?;
            let spans = Spans {
                n_heads: spec.num_heads,
                rotation: Some(&rotation),
                bounds: if self.fullatt_block_indexes.contains(&i) {
                    &[0, rows]
                } else {
                    &order.bounds
                },
            };
            block.forward(gemm, spans, &mut x, &mut scratch, cancel)?;
        }
        cancel.check()?;
        let tokens = trunk.merger.forward(gemm, &x);
        let embeds = gather(&tokens, &order.reverse(), spec.out_hidden_size);
        Ok((embeds, Vec::new()))
    }
}

/// The groups of `width` items that `index` names, in its order.
fn gather<T: Copy>(items: &[T], index: &[usize], width: usize) -> Vec<T> {
    index
        .iter()
        .flat_map(|&i| &items[i * width..][..width])
        .copied()
        .collect()
}
