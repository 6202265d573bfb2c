// SPDX-License-Identifier: MPL-2.0

//! Vision towers: what they share. Each family's own part is a file below.

mod block;
mod internvl;
mod qwen25vl;
mod qwen3vl;
mod trunk;

use super::gemm::Gemm;
use super::loader::{Bias, Loader};
use super::pieces;
use crate::spec::{Tower, VisionSpec};
use crate::{Cancel, Error, Features, Patches, VisualTokens, next_launch};

use internvl::InternVl;
use qwen3vl::Qwen3Vl;
use qwen25vl::Qwen25Vl;
use trunk::Trunk;

/// A tower with its mergers.
pub(super) struct Vision {
    trunk: Trunk,
    family: Family,
}

/// What only one family has.
enum Family {
    Qwen3(Qwen3Vl),
    Qwen25(Qwen25Vl),
    Intern(InternVl),
}

impl Vision {
    /// Reads the tower's weights.
    pub(super) fn load(spec: &VisionSpec, loader: &mut Loader<'_>) -> Result<Self, Error> {
        let (trunk, family) = match &spec.tower {
            Tower::Qwen3Vl {
                num_position_embeddings,
                deepstack_visual_indexes,
            } => {
                let (entries, indexes) = (*num_position_embeddings, deepstack_visual_indexes);
                let (trunk, own) = Qwen3Vl::load(spec, entries, indexes, loader)?;
                (trunk, Family::Qwen3(own))
            }
            Tower::Qwen25Vl {
                window,
                fullatt_block_indexes,
            } => {
                let trunk = qwen25vl::load(spec, loader)?;
                let own = Qwen25Vl {
                    window: *window,
                    fullatt_block_indexes: fullatt_block_indexes.clone(),
                };
                (trunk, Family::Qwen25(own))
            }
            Tower::InternVl {
                side,
                qkv_bias,
                layer_norm_eps,
            } => {
                let bias = if *qkv_bias { Bias::With } else { Bias::Without };
                let (trunk, own) = InternVl::load(spec, *side, bias, *layer_norm_eps, loader)?;
                (trunk, Family::Intern(own))
            }
        };
        Ok(Self { trunk, family })
    }

    /// Bytes of the weights.
    pub(super) fn size_bytes(&self) -> usize {
        let own = match &self.family {
            Family::Qwen3(own) => own.size_bytes(),
            Family::Qwen25(_) => 0,
            Family::Intern(own) => own.size_bytes(),
        };
        self.trunk.size_bytes() + own
    }

    /// Runs the tower on one temporal patch.
    pub(super) fn encode(
        &self,
        gemm: &Gemm,
        patches: &Patches,
        cancel: &Cancel,
    ) -> Result<VisualTokens, Error> {
        self.trunk.check(patches)?;
        if let Family::Intern(own) = &self.family {
            own.check(patches.grid)?;
        }
        let x = self.trunk.embed(gemm, patches, cancel)?;
        let grid = patches.grid;
        let (embeds, deepstack) = match &self.family {
            Family::Qwen3(own) => own.forward(&self.trunk, gemm, grid, x, cancel)?,
            Family::Qwen25(own) => own.forward(&self.trunk, gemm, grid, x, cancel)?,
            Family::Intern(own) => own.forward(&self.trunk, gemm, grid, &x, cancel)?,
        };
        for features in deepstack.iter().chain([&embeds]) {
            pieces::check_finite(features, || "the vision tower".to_owned())?;
        }
        Ok(VisualTokens {
            grid,
            n_tokens: grid.n_tokens(self.trunk.spec.spatial_merge_size),
            features: Features::Host {
                launch: next_launch(),
                embeds,
                deepstack,
            },
        })
    }
}
