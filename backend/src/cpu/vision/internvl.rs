// SPDX-License-Identifier: MPL-2.0

//! The vision tower of InternVL3: `InternVLVisionModel` and its projector.

use rayon::prelude::*;

use super::super::activation::add_assign;
use super::super::attention::Spans;
use super::super::gemm::Gemm;
use super::super::layout::Names;
use super::super::loader::{Bias, Loader};
use super::super::norm::Norm;
use super::block::{Block, Gelu, Merger, Mlp, Scratch};
use super::trunk::{Encoded, Trunk};
use crate::GridThw;
use crate::spec::VisionSpec;
use crate::vit::merge_block_order;
use crate::{Cancel, Error};

/// Epsilon of the projector's norm: the default of `torch.nn.LayerNorm`.
const PROJECTOR_EPS: f32 = 1e-5;

/// What other towers do not have.
pub(super) struct InternVl {
    /// Patches along a side of a tile.
    side: usize,
    /// The class token at its position, `[hidden_size]`.
    class: Vec<f32>,
    /// Positions of the patches of a tile, `[side * side, hidden_size]`, in merge-block order.
    positions: Vec<f32>,
}

/// What the tensors are called.
struct TensorNames {
    class: &'static str,
    positions: &'static str,
    patch: &'static str,
    blocks: &'static str,
    norm1: &'static str,
    qkv: &'static [&'static str],
    proj: &'static str,
    scale1: &'static str,
    norm2: &'static str,
    scale2: &'static str,
    /// Norm and two layers of the projector.
    projector: [&'static str; 3],
}

const TRANSFORMERS: TensorNames = TensorNames {
    class: "embeddings.cls_token",
    positions: "embeddings.position_embeddings",
    patch: "embeddings.patch_embeddings.projection",
    blocks: "encoder.layer",
    norm1: "layernorm_before",
    qkv: &["attention.q_proj", "attention.k_proj", "attention.v_proj"],
    proj: "attention.projection_layer",
    scale1: "lambda_1",
    norm2: "layernorm_after",
    scale2: "lambda_2",
    projector: ["layer_norm", "linear_1", "linear_2"],
};

const OPENGVLAB: TensorNames = TensorNames {
    class: "embeddings.class_embedding",
    positions: "embeddings.position_embedding",
    patch: "embeddings.patch_embedding",
    blocks: "encoder.layers",
    norm1: "norm1",
    qkv: &["attn.qkv"],
    proj: "attn.proj",
    scale1: "ls1",
    norm2: "norm2",
    scale2: "ls2",
    projector: ["0", "1", "3"],
};

impl InternVl {
    /// Reads the tower's weights; the other arguments are those of
    /// [`Tower::InternVl`](super::Tower).
    pub(super) fn load(
        spec: &VisionSpec,
        side: usize,
        qkv_bias: Bias,
        eps: f32,
        loader: &mut Loader<'_>,
    ) -> Result<(Trunk, Self), Error> {
        let names = match loader.layout().names {
            Names::Transformers => TRANSFORMERS,
            Names::OpenGvLab => OPENGVLAB,
        };
        let (hidden, patch) = (spec.hidden_size, spec.patch_size);
        let name = loader.visual(names.class);
        let mut class = loader.rows(&name, &[1, 1, hidden])?;
        let name = loader.visual(names.positions);
        let table = loader.rows(&name, &[1, 1 + side * side, hidden])?;
        add_assign(&mut class, &table[..hidden]);
        let name = loader.visual(names.patch);
        let shape = [hidden, spec.in_channels, patch, patch];
        let patch_embed = loader.convolution(&name, &shape, Bias::With)?;
        let blocks = (0..spec.depth)
            .map(|i| loader.block(i, |loader| block(&names, i, spec, qkv_bias, eps, loader)))
            .collect::<Result<_, _>>()?;
        let merger = projector(&names, spec, loader)?;
        let tile = GridThw {
            t: 1,
            h: side,
            w: side,
        };
        let positions = merge_block_order(tile, spec.spatial_merge_size)
            .flat_map(|(row, column)| &table[(1 + row * side + column) * hidden..][..hidden])
            .copied()
            .collect();
        let trunk = Trunk {
            spec: spec.clone(),
            patch_embed,
            blocks,
            merger,
        };
        let own = Self {
            side,
            class,
            positions,
        };
        Ok((trunk, own))
    }

    /// Bytes of the weights that other towers do not have.
    pub(super) fn size_bytes(&self) -> usize {
        4 * (self.class.len() + self.positions.len())
    }

    /// That the slices of a grid are tiles of the only size there is.
    pub(super) fn check(&self, grid: GridThw) -> Result<(), Error> {
        let side = self.side;
        if (grid.h, grid.w) == (side, side) {
            return Ok(());
        }
        Err(Error::Shape {
            what: "patches of a tile".into(),
            want: format!("{side}x{side}"),
            got: format!("{}x{}", grid.h, grid.w),
        })
    }

    /// Visual tokens of the embedded rows `x` `[tiles, side * side, hidden]`, tile by tile.
    ///
    /// Pixel shuffle joins the patches of a merge block, which follow each other already.
    pub(super) fn forward(
        &self,
        trunk: &Trunk,
        gemm: &Gemm,
        grid: GridThw,
        x: &[f32],
        cancel: &Cancel,
    ) -> Result<Encoded, Error> {
        let spec = &trunk.spec;
        let hidden = spec.hidden_size;
        let rows = 1 + self.side * self.side;
        let spans = Spans {
            n_heads: spec.num_heads,
            rotation: None,
            bounds: &[0, rows],
        };
        let mut scratch = Scratch::new(rows, spec);
        let n_tokens = grid.n_tokens(spec.spatial_merge_size);
        let mut embeds = Vec::with_capacity(n_tokens * spec.out_hidden_size);
        for tile in x.chunks_exact(self.positions.len()) {
            let mut x = Vec::with_capacity(rows * hidden);
            x.extend_from_slice(&self.class);
            x.extend_from_slice(tile);
            x[hidden..]
                .par_chunks_mut(hidden)
                .zip(self.positions.par_chunks(hidden))
                .for_each(|(x, position)| add_assign(x, position));
            for block in &trunk.blocks {
                cancel.check()?;
                block.forward(gemm, spans, &mut x, &mut scratch, cancel)?;
            }
            cancel.check()?;
            embeds.extend(trunk.merger.forward(gemm, &x[hidden..]));
        }
        Ok((embeds, Vec::new()))
    }
}

/// Reads block `i`.
fn block(
    names: &TensorNames,
    i: usize,
    spec: &VisionSpec,
    qkv_bias: Bias,
    eps: f32,
    loader: &mut Loader<'_>,
) -> Result<Block, Error> {
    let (hidden, inner) = (spec.hidden_size, spec.intermediate_size);
    let block = loader.visual(&format!("{}.{i}", names.blocks));
    let name = |part: &str| format!("{block}.{part}");
    let qkv_names = names.qkv.iter();
    let qkv: Vec<_> = qkv_names
        .map(|part| (name(part), 3 * hidden / names.qkv.len()))
        .collect();
    let (proj, fc2) = (name(names.proj), name("mlp.fc2"));
    Ok(Block {
        norm1: Norm::Layer(loader.layer_norm(&name(names.norm1), hidden, eps)?),
        qkv: loader.joined(&qkv, hidden, qkv_bias)?,
        proj: loader.scaled(&proj, [hidden, hidden], &name(names.scale1))?,
        norm2: Norm::Layer(loader.layer_norm(&name(names.norm2), hidden, eps)?),
        mlp: Mlp::Gelu {
            form: Gelu::Erf,
            fc1: loader.linear(&name("mlp.fc1"), [inner, hidden])?,
            fc2: loader.scaled(&fc2, [hidden, inner], &name(names.scale2))?,
        },
    })
}

/// Reads the projector.
fn projector(
    names: &TensorNames,
    spec: &VisionSpec,
    loader: &mut Loader<'_>,
) -> Result<Merger, Error> {
    let joined = spec.hidden_size * spec.spatial_merge_size.pow(2);
    let prefix = loader.layout().projector;
    let [norm, fc1, fc2] = names.projector.map(|part| format!("{prefix}{part}"));
    let out = spec.out_hidden_size;
    Ok(Merger {
        norm: Norm::Layer(loader.layer_norm(&norm, joined, PROJECTOR_EPS)?),
        fc1: loader.linear(&fc1, [out, joined])?,
        fc2: loader.linear(&fc2, [out, out])?,
    })
}
