// SPDX-License-Identifier: MPL-2.0

//! The vision tower of Qwen3-VL: `Qwen3VLVisionModel`.

use super::activation::{add_assign, gelu_erf, gelu_tanh};
use super::linear::{Gemm, Linear};
use super::loader::Loader;
use super::norm::LayerNorm;
use super::rope::Rotation;
use super::spec::VisionSpec;
use super::{Cancel, Error, attention};
use crate::backend::vit::{Interpolation, levels, merge_block_order};
use crate::backend::{Features, GridThw, Patches, VisualTokens};

use rayon::prelude::*;

/// Patches that are normalised and embedded at a time.
const EMBED_ROWS: usize = 512;

/// `Qwen3VLVisionBlock`.
struct Block {
    norm1: LayerNorm,
    qkv: Linear,
    proj: Linear,
    norm2: LayerNorm,
    fc1: Linear,
    fc2: Linear,
}

/// Where a merger normalises.
#[derive(Clone, Copy, PartialEq, Eq)]
enum MergerNorm {
    /// Each patch, before the patches of a block are joined: the last merger.
    Patch,
    /// The joined row: deepstack.
    Joined,
}

/// `Qwen3VLVisionPatchMerger`.
struct Merger {
    norm: LayerNorm,
    fc1: Linear,
    fc2: Linear,
}

/// The tower with its mergers.
pub(super) struct Vision {
    spec: VisionSpec,
    patch_embed: Linear,
    /// `[num_position_embeddings, hidden_size]`
    positions: Vec<f32>,
    blocks: Vec<Block>,
    merger: Merger,
    deepstack: Vec<Merger>,
}

impl Vision {
    /// Reads the tower's weights.
    pub(super) fn load(spec: &VisionSpec, loader: &mut Loader<'_>) -> Result<Self, Error> {
        let (hidden, inner) = (spec.hidden_size, spec.intermediate_size);
        let (patch, frames) = (spec.patch_size, spec.temporal_patch_size);
        let name = loader.visual("patch_embed.proj");
        let shape = [hidden, spec.in_channels, frames, patch, patch];
        let patch_embed = loader.convolution(&name, shape)?;
        let name = loader.visual("pos_embed.weight");
        let positions = loader.rows(&name, [spec.num_position_embeddings, hidden])?;
        let mut blocks = Vec::with_capacity(spec.depth);
        for i in 0..spec.depth {
            let name = |part: &str| format!("{}.{part}", loader.visual(&format!("blocks.{i}")));
            let [norm1, norm2] = [name("norm1"), name("norm2")];
            let [qkv, proj] = [name("attn.qkv"), name("attn.proj")];
            let [fc1, fc2] = [name("mlp.linear_fc1"), name("mlp.linear_fc2")];
            blocks.push(Block {
                norm1: loader.layer_norm(&norm1, hidden)?,
                qkv: loader.linear(&qkv, [3 * hidden, hidden])?,
                proj: loader.linear(&proj, [hidden, hidden])?,
                norm2: loader.layer_norm(&norm2, hidden)?,
                fc1: loader.linear(&fc1, [inner, hidden])?,
                fc2: loader.linear(&fc2, [hidden, inner])?,
            });
        }
        let merger = Merger::load(spec, loader, "merger", MergerNorm::Patch)?;
        let deepstack = (0..spec.deepstack_visual_indexes.len())
            .map(|i| {
                let name = format!("deepstack_merger_list.{i}");
                Merger::load(spec, loader, &name, MergerNorm::Joined)
            })
            .collect::<Result<_, _>>()?;
        Ok(Self {
            spec: spec.clone(),
            patch_embed,
            positions,
            blocks,
            merger,
            deepstack,
        })
    }

    /// Bytes of the weights.
    pub(super) fn size_bytes(&self) -> usize {
        let blocks: usize = self.blocks.iter().map(Block::size_bytes).sum();
        let mergers = self.deepstack.iter().chain([&self.merger]);
        self.patch_embed.size_bytes()
            + 4 * self.positions.len()
            + blocks
            + mergers.map(Merger::size_bytes).sum::<usize>()
    }

    /// Runs the tower on one temporal patch.
    pub(super) fn encode(
        &self,
        gemm: &Gemm,
        patches: &Patches,
        cancel: &Cancel,
    ) -> Result<VisualTokens, Error> {
        self.check(patches)?;
        let spec = &self.spec;
        let (grid, hidden) = (patches.grid, spec.hidden_size);
        let rows = grid.n_patches();
        let n_tokens = grid.n_tokens(spec.spatial_merge_size);
        let rotation = Rotation::vision(grid, spec.spatial_merge_size, hidden / spec.num_heads);

        let mut x = vec![0.0; rows * hidden];
        self.embed(gemm, patches, &mut x, cancel)?;
        self.add_positions(grid, &mut x);
        let mut scratch = Scratch::new(rows, spec);
        let mut deepstack = vec![Vec::new(); self.deepstack.len()];
        for (i, block) in self.blocks.iter().enumerate() {
            cancel.check()?;
            block.forward(
                gemm,
                spec.num_heads,
                &rotation,
                &mut x,
                &mut scratch,
                cancel,
            )?;
            let level = spec
                .deepstack_visual_indexes
                .iter()
                .position(|&index| index == i);
            if let Some(level) = level {
                deepstack[level] = self.deepstack[level].forward(gemm, &x);
            }
        }
        cancel.check()?;
        Ok(VisualTokens {
            grid,
            n_tokens,
            features: Features::Host {
                embeds: self.merger.forward(gemm, &x),
                deepstack,
            },
        })
    }

    fn check(&self, patches: &Patches) -> Result<(), Error> {
        let GridThw { t, h, w } = patches.grid;
        let merge = self.spec.spatial_merge_size;
        if t != 1 || h == 0 || w == 0 || h % merge != 0 || w % merge != 0 {
            return Err(Error::Shape {
                what: "grid of a temporal patch",
                want: format!("t 1, h and w multiples of {merge}"),
                got: format!("t {t}, h {h}, w {w}"),
            });
        }
        let want = patches.grid.n_patches() * self.patch_len();
        if patches.pixels.len() != want {
            return Err(Error::Shape {
                what: "bytes of a temporal patch",
                want: want.to_string(),
                got: patches.pixels.len().to_string(),
            });
        }
        Ok(())
    }

    /// Numbers in one patch row.
    fn patch_len(&self) -> usize {
        let spec = &self.spec;
        spec.in_channels * spec.temporal_patch_size * spec.patch_size * spec.patch_size
    }

    /// Normalises the pixels and multiplies them with the patch matrix, into `x` `[rows, hidden]`.
    fn embed(
        &self,
        gemm: &Gemm,
        patches: &Patches,
        x: &mut [f32],
        cancel: &Cancel,
    ) -> Result<(), Error> {
        let patch_len = self.patch_len();
        let channel_len = patch_len / self.spec.in_channels;
        let levels = levels(patches);
        let mut floats = vec![0.0; EMBED_ROWS.min(patches.grid.n_patches()) * patch_len];
        let step = EMBED_ROWS * patch_len;
        let blocks = patches.pixels.chunks(step);
        for (pixels, x) in blocks.zip(x.chunks_mut(EMBED_ROWS * self.spec.hidden_size)) {
            cancel.check()?;
            let floats = &mut floats[..pixels.len()];
            floats
                .par_chunks_mut(channel_len)
                .zip(pixels.par_chunks(channel_len))
                .enumerate()
                .for_each(|(i, (floats, pixels))| {
                    let levels = &levels[i % levels.len()];
                    for (float, &pixel) in floats.iter_mut().zip(pixels) {
                        *float = levels[usize::from(pixel)];
                    }
                });
            self.patch_embed.forward(gemm, floats, x);
        }
        Ok(())
    }

    /// `fast_pos_embed_interpolate`: the learned table, bilinear at the grid's points.
    fn add_positions(&self, grid: GridThw, x: &mut [f32]) {
        let hidden = self.spec.hidden_size;
        let side = self.spec.num_position_embeddings.isqrt();
        let points = Interpolation::new(grid, side);
        let order: Vec<_> = merge_block_order(grid, self.spec.spatial_merge_size).collect();
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

/// Buffers that the blocks share.
struct Scratch {
    /// `[rows, hidden]`
    normed: Vec<f32>,
    /// `[rows, 3 * hidden]`
    qkv: Vec<f32>,
    /// `[rows, hidden]`
    out: Vec<f32>,
    /// `[rows, intermediate]`
    inner: Vec<f32>,
}

impl Scratch {
    fn new(rows: usize, spec: &VisionSpec) -> Self {
        Self {
            normed: vec![0.0; rows * spec.hidden_size],
            qkv: vec![0.0; rows * 3 * spec.hidden_size],
            out: vec![0.0; rows * spec.hidden_size],
            inner: vec![0.0; rows * spec.intermediate_size],
        }
    }
}

impl Block {
    fn size_bytes(&self) -> usize {
        let linears = [&self.qkv, &self.proj, &self.fc1, &self.fc2];
        self.norm1.size_bytes()
            + self.norm2.size_bytes()
            + linears.map(Linear::size_bytes).iter().sum::<usize>()
    }

    fn forward(
        &self,
        gemm: &Gemm,
        n_heads: usize,
        rotation: &Rotation,
        x: &mut [f32],
        scratch: &mut Scratch,
        cancel: &Cancel,
    ) -> Result<(), Error> {
        let Scratch {
            normed,
            qkv,
            out,
            inner,
        } = scratch;
        self.norm1.forward(x, normed);
        self.qkv.forward(gemm, normed, qkv);
        attention::full(gemm, qkv, n_heads, rotation, cancel, out)?;
        self.proj.forward(gemm, out, normed);
        add_assign(x, normed);
        self.norm2.forward(x, normed);
        cancel.check()?;
        self.fc1.forward(gemm, normed, inner);
        inner.par_chunks_mut(1 << 14).for_each(gelu_tanh);
        self.fc2.forward(gemm, inner, out);
        add_assign(x, out);
        Ok(())
    }
}

impl Merger {
    fn load(
        spec: &VisionSpec,
        loader: &mut Loader<'_>,
        name: &str,
        norm: MergerNorm,
    ) -> Result<Self, Error> {
        let name = loader.visual(name);
        let joined = spec.hidden_size * spec.spatial_merge_size.pow(2);
        let width = match norm {
            MergerNorm::Patch => spec.hidden_size,
            MergerNorm::Joined => joined,
        };
        Ok(Self {
            norm: loader.layer_norm(&format!("{name}.norm"), width)?,
            fc1: loader.linear(&format!("{name}.linear_fc1"), [joined, joined])?,
            fc2: loader.linear(
                &format!("{name}.linear_fc2"),
                [spec.out_hidden_size, joined],
            )?,
        })
    }

    fn size_bytes(&self) -> usize {
        self.norm.size_bytes() + self.fc1.size_bytes() + self.fc2.size_bytes()
    }

    /// Visual tokens of the rows `x` `[rows, hidden]`. A merge block's patches follow each other,
    /// so joining them moves nothing, and both norms read the same memory in rows of their width.
    fn forward(&self, gemm: &Gemm, x: &[f32]) -> Vec<f32> {
        let mut normed = vec![0.0; x.len()];
        self.norm.forward(x, &mut normed);
        let mut inner = vec![0.0; x.len()];
        self.fc1.forward(gemm, &normed, &mut inner);
        inner.par_chunks_mut(1 << 14).for_each(gelu_erf);
        let n_tokens = x.len() / self.fc1.out_features();
        let mut out = vec![0.0; n_tokens * self.fc2.out_features()];
        self.fc2.forward(gemm, &inner, &mut out);
        out
    }
}
