// SPDX-License-Identifier: MPL-2.0

//! The part of a vision tower that all families have.

use rayon::prelude::*;

use super::super::gemm::Gemm;
use super::super::linear::Linear;
use super::block::{Block, Merger};
use crate::spec::{Tower, VisionSpec};
use crate::vit::levels;
use crate::{Cancel, Error, GridThw, Patches};

/// Patches that are normalised and embedded at a time.
const EMBED_ROWS: usize = 512;

/// Visual tokens `[n_tokens, out_hidden_size]`, and one such matrix per deepstack level.
pub(super) type Encoded = (Vec<f32>, Vec<Vec<f32>>);

/// What all towers have.
pub(super) struct Trunk {
    pub(super) spec: VisionSpec,
    pub(super) patch_embed: Linear,
    pub(super) blocks: Vec<Block>,
    pub(super) merger: Merger,
}

impl Trunk {
    /// Bytes of the weights.
    pub(super) fn size_bytes(&self) -> usize {
        self.patch_embed.size_bytes()
            + self.blocks.iter().map(Block::size_bytes).sum::<usize>()
            + self.merger.size_bytes()
    }

    /// That the rows are those of a grid that the tower takes.
    pub(super) fn check(&self, patches: &Patches) -> Result<(), Error> {
        let GridThw { t, h, w } = patches.grid;
        let merge = self.spec.spatial_merge_size;
        // The slices of a temporal patch are the tiles of an image; only one family has them.
        let slices = matches!(self.spec.tower, Tower::InternVl { .. }) && t > 0;
        if (t != 1 && !slices) || h == 0 || w == 0 || h % merge != 0 || w % merge != 0 {
            return Err(Error::Shape {
                what: "grid of a temporal patch".into(),
                want: format!("t 1, h and w multiples of {merge}"),
                got: format!("t {t}, h {h}, w {w}"),
            });
        }
        let want = patches.grid.n_patches() * self.patch_len();
        if patches.pixels.len() != want {
            return Err(Error::Shape {
                what: "bytes of a temporal patch".into(),
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
    pub(super) fn embed(
        &self,
        gemm: &Gemm,
        patches: &Patches,
        cancel: &Cancel,
    ) -> Result<Vec<f32>, Error> {
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
