// SPDX-License-Identifier: MPL-2.0

//! The vision tower of Qwen3-VL: `Qwen3VLVisionModel`.

use rayon::prelude::*;

use super::super::attention::Spans;
use super::super::gemm::Gemm;
use super::super::loader::{Bias, Loader};
use super::super::norm::Norm;
use super::super::rope::Rotation;
use super::block::{Block, Gelu, Merger, Mlp, Scratch};
use super::trunk::{Encoded, Trunk};
use crate::GridThw;
use crate::spec::VisionSpec;
use crate::vit::{Interpolation, merge_block_order};
use crate::{Cancel, Error};

/// Epsilon of every norm.
const EPS: f32 = 1e-6;

/// What other towers do not have.
pub(super) struct Qwen3Vl {
    /// `[side * side, hidden_size]`
    positions: Vec<f32>,
    side: usize,
    /// Blocks whose output also goes to the decoder, and the mergers that take it there.
    deepstack: Vec<(usize, Merger)>,
}

/// Where a merger normalises.
#[derive(Clone, Copy, PartialEq, Eq)]
enum MergerNorm {
    /// Each patch, before the patches of a block are joined: the last merger.
    Patch,
    /// The joined row: deepstack.
    Joined,
}

impl Qwen3Vl {
    /// Reads the tower's weights; `n_positions` and `indexes` are those of [`Tower::Qwen3Vl`](super::Tower).
    pub(super) fn load(
        spec: &VisionSpec,
        n_positions: usize,
        indexes: &[usize],
        loader: &mut Loader<'_>,
    ) -> Result<(Trunk, Self), Error> {
        let (hidden, inner) = (spec.hidden_size, spec.intermediate_size);
        let (patch, frames) = (spec.patch_size, spec.temporal_patch_size);
        let name = loader.visual("patch_embed.proj");
        let shape = [hidden, spec.in_channels, frames, patch, patch];
        let patch_embed = loader.convolution(&name, &shape, Bias::With)?;
        let name = loader.visual("pos_embed.weight");
        let positions = loader.rows(&name, &[n_positions, hidden])?;
        let mut blocks = Vec::new();
        for i in 0..spec.depth {
            let block = loader.visual(&format!("blocks.{i}"));
            let name = |part: &str| format!("{block}.{part}");
            blocks.push(loader.block(i, |loader| {
                Ok(Block {
                    norm1: Norm::Layer(loader.layer_norm(&name("norm1"), hidden, EPS)?),
                    qkv: loader.linear(&name("attn.qkv"), [3 * hidden, hidden])?,
                    proj: loader.linear(&name("attn.proj"), [hidden, hidden])?,
                    norm2: Norm::Layer(loader.layer_norm(&name("norm2"), hidden, EPS)?),
                    mlp: Mlp::Gelu {
                        form: Gelu::Tanh,
                        fc1: loader.linear(&name("mlp.linear_fc1"), [inner, hidden])?,
                        fc2: loader.linear(&name("mlp.linear_fc2"), [hidden, inner])?,
                    },
                })
            })?);
        }
        let name = loader.visual("merger");
        let merger = load_merger(spec, loader, &name, MergerNorm::Patch)?;
        let mut deepstack = Vec::new();
        for (level, &index) in indexes.iter().enumerate() {
            let name = loader.visual(&format!("deepstack_merger_list.{level}"));
            let merger = load_merger(spec, loader, &name, MergerNorm::Joined)?;
            deepstack.push((index, merger));
        }
        let trunk = Trunk {
            spec: spec.clone(),
            patch_embed,
            blocks,
            merger,
        };
        let own = Self {
            positions,
            side: n_positions.isqrt(),
            deepstack,
        };
        Ok((trunk, own))
    }

    /// Bytes of the weights that other towers do not have.
    pub(super) fn size_bytes(&self) -> usize {
        let mergers = self.deepstack.iter().map(|(_, merger)| merger.size_bytes());
        4 * self.positions.len() + mergers.sum::<usize>()
    }

    /// Visual tokens of the embedded rows `x` `[rows, hidden]` of one temporal patch.
    pub(super) fn forward(
        &self,
        trunk: &Trunk,
        gemm: &Gemm,
        grid: GridThw,
        mut x: Vec<f32>,
        cancel: &Cancel,
    ) -> Result<Encoded, Error> {
        let spec = &trunk.spec;
        let rows = grid.n_patches();
        self.add_positions(spec, grid, &mut x);
        let order = merge_block_order(grid, spec.spatial_merge_size);
        let spans = Spans {
            n_heads: spec.num_heads,
            rotation: Some(&Rotation::vision(order, spec.hidden_size / spec.num_heads)),
            bounds: &[0, rows],
        };
        let mut scratch = Scratch::new(rows, spec);
        let mut deepstack = Vec::with_capacity(self.deepstack.len());
        for (i, block) in trunk.blocks.iter().enumerate() {
            cancel.check()?;
            block.forward(gemm, spans, &mut x, &mut scratch, cancel)?;
            if let Some((_, merger)) = self.deepstack.iter().find(|(index, _)| *index == i) {
                deepstack.push(merger.forward(gemm, &x));
            }
        }
        cancel.check()?;
        Ok((trunk.merger.forward(gemm, &x), deepstack))
    }

    /// `fast_pos_embed_interpolate`: the learned table, bilinear at the grid's points.
    fn add_positions(&self, spec: &VisionSpec, grid: GridThw, x: &mut [f32]) {
        let hidden = spec.hidden_size;
        let points = Interpolation::new(grid, self.side);
        let order: Vec<_> = merge_block_order(grid, spec.spatial_merge_size).collect();
        x.par_chunks_mut(hidden)
            .zip(order)
            .for_each(|(x, (row, column))| {
                let corners = points
                    .corners(row, column)
                    .map(|(entry, weight)| (&self.positions[entry * hidden..][..hidden], weight));
                for (i, x) in x.iter_mut().enumerate() {
                    *x += corners
                        .iter()
                        .map(|(values, weight)| values[i] * weight)
                        .sum::<f32>();
                }
            });
    }
}

fn load_merger(
    spec: &VisionSpec,
    loader: &mut Loader<'_>,
    name: &str,
    norm: MergerNorm,
) -> Result<Merger, Error> {
    let joined = spec.hidden_size * spec.spatial_merge_size.pow(2);
    let width = match norm {
        MergerNorm::Patch => spec.hidden_size,
        MergerNorm::Joined => joined,
    };
    let shape = [spec.out_hidden_size, joined];
    Ok(Merger {
        norm: Norm::Layer(loader.layer_norm(&format!("{name}.norm"), width, EPS)?),
        fc1: loader.linear(&format!("{name}.linear_fc1"), [joined, joined])?,
        fc2: loader.linear(&format!("{name}.linear_fc2"), shape)?,
    })
}
