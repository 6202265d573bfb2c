// SPDX-License-Identifier: MPL-2.0

//! Vision towers: what they share. Each family's own part is a file below.

mod block;
mod internvl;
mod qwen25vl;
mod qwen3vl;

use rayon::prelude::*;

use super::linear::{Gemm, Linear};
use super::loader::{Bias, Loader};
use super::{Cancel, Error};
use crate::backend::spec::{Tower, VisionSpec};
use crate::backend::vit::levels;
use crate::backend::{Features, GridThw, Patches, VisualTokens, finite, next_launch};

use block::{Block, Merger};
use internvl::InternVl;
use qwen3vl::Qwen3Vl;
use qwen25vl::Qwen25Vl;

/// Patches that are normalised and embedded at a time.
const EMBED_ROWS: usize = 512;

/// A tower with its mergers.
pub(super) struct Vision {
    stem: Stem,
    family: Family,
}

/// What only one family has.
enum Family {
    Qwen3(Qwen3Vl),
    Qwen25(Qwen25Vl),
    Intern(InternVl),
}

/// What all towers have.
struct Stem {
    spec: VisionSpec,
    patch_embed: Linear,
    blocks: Vec<Block>,
    merger: Merger,
}

/// Visual tokens `[n_tokens, out_hidden_size]`, and one such matrix per deepstack level.
type Encoded = (Vec<f32>, Vec<Vec<f32>>);

impl Vision {
    /// Reads the tower's weights.
    pub(super) fn load(spec: &VisionSpec, loader: &mut Loader<'_>) -> Result<Self, Error> {
        let (stem, family) = match &spec.tower {
            Tower::Qwen3Vl {
                num_position_embeddings,
                deepstack_visual_indexes,
            } => {
                let (entries, indexes) = (*num_position_embeddings, deepstack_visual_indexes);
                let (stem, own) = Qwen3Vl::load(spec, entries, indexes, loader)?;
                (stem, Family::Qwen3(own))
            }
            Tower::Qwen25Vl {
                window,
                fullatt_block_indexes,
            } => {
                let stem = qwen25vl::load(spec, loader)?;
                let own = Qwen25Vl {
                    window: *window,
                    fullatt_block_indexes: fullatt_block_indexes.clone(),
                };
                (stem, Family::Qwen25(own))
            }
            Tower::InternVl {
                side,
                qkv_bias,
                layer_norm_eps,
            } => {
                let bias = if *qkv_bias { Bias::With } else { Bias::Without };
                let (stem, own) = InternVl::load(spec, *side, bias, *layer_norm_eps, loader)?;
                (stem, Family::Intern(own))
            }
        };
        Ok(Self { stem, family })
    }

    /// Bytes of the weights.
    pub(super) fn size_bytes(&self) -> usize {
        let own = match &self.family {
            Family::Qwen3(own) => own.size_bytes(),
            Family::Qwen25(_) => 0,
            Family::Intern(own) => own.size_bytes(),
        };
        self.stem.size_bytes() + own
    }

    /// Runs the tower on one temporal patch.
    pub(super) fn encode(
        &self,
        gemm: &Gemm,
        patches: &Patches,
        cancel: &Cancel,
    ) -> Result<VisualTokens, Error> {
        self.stem.check(patches)?;
        if let Family::Intern(own) = &self.family {
            own.check(patches.grid)?;
        }
        let x = self.stem.embed(gemm, patches, cancel)?;
        let grid = patches.grid;
        let (embeds, deepstack) = match &self.family {
            Family::Qwen3(own) => own.forward(&self.stem, gemm, grid, x, cancel)?,
            Family::Qwen25(own) => own.forward(&self.stem, gemm, grid, x, cancel)?,
            Family::Intern(own) => own.forward(&self.stem, gemm, grid, &x, cancel)?,
        };
        for features in deepstack.iter().chain([&embeds]) {
            finite::check(features, || "the vision tower".to_owned())?;
        }
        Ok(VisualTokens {
            grid,
            n_tokens: grid.n_tokens(self.stem.spec.spatial_merge_size),
            features: Features::Host {
                launch: next_launch(),
                embeds,
                deepstack,
            },
        })
    }
}

impl Stem {
    fn size_bytes(&self) -> usize {
        self.patch_embed.size_bytes()
            + self.blocks.iter().map(Block::size_bytes).sum::<usize>()
            + self.merger.size_bytes()
    }

    fn check(&self, patches: &Patches) -> Result<(), Error> {
        let GridThw { t, h, w } = patches.grid;
        let merge = self.spec.spatial_merge_size;
        // The slices of a temporal patch are the tiles of an image; only one family has them.
        let slices = matches!(self.spec.tower, Tower::InternVl { .. }) && t > 0;
        if (t != 1 && !slices) || h == 0 || w == 0 || h % merge != 0 || w % merge != 0 {
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

    /// Normalises the pixels and multiplies them with the patch matrix: `[rows, hidden]`.
    fn embed(&self, gemm: &Gemm, patches: &Patches, cancel: &Cancel) -> Result<Vec<f32>, Error> {
        let (patch_len, hidden) = (self.patch_len(), self.spec.hidden_size);
        let channel_len = patch_len / self.spec.in_channels;
        let levels = levels(patches);
        let rows = patches.grid.n_patches();
        let mut x = vec![0.0; rows * hidden];
        let mut floats = vec![0.0; EMBED_ROWS.min(rows) * patch_len];
        let blocks = patches.pixels.chunks(EMBED_ROWS * patch_len);
        for (pixels, x) in blocks.zip(x.chunks_mut(EMBED_ROWS * hidden)) {
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
        Ok(x)
    }
}
