// SPDX-License-Identifier: MPL-2.0

//! Transformer blocks and mergers of the vision towers.

use super::super::activation::{gelu_erf, gelu_tanh};
use super::super::attention::{Spans, in_spans};
use super::super::epilogue::Then;
use super::super::gemm::Gemm;
use super::super::linear::Linear;
use super::super::norm::Norm;
use crate::spec::VisionSpec;
use crate::{Cancel, Error};

/// `Qwen3VLVisionBlock`, `Qwen2_5_VLVisionBlock`, `InternVLVisionLayer`.
pub(super) struct Block {
    pub(super) norm1: Norm,
    pub(super) qkv: Linear,
    pub(super) proj: Linear,
    pub(super) norm2: Norm,
    pub(super) mlp: Mlp,
}

/// What follows the attention.
pub(super) enum Mlp {
    /// Two layers with a GELU between them.
    Gelu {
        form: Gelu,
        fc1: Linear,
        fc2: Linear,
    },
    /// Gate and up projections in one matrix, and the way back.
    Swiglu { gate_up: Linear, down: Linear },
}

/// By which formula.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Gelu {
    /// `gelu_pytorch_tanh`
    Tanh,
    /// `gelu`
    Erf,
}

/// Buffers that the blocks share.
pub(super) struct Scratch {
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
    /// For so many rows.
    pub(super) fn new(rows: usize, spec: &VisionSpec) -> Self {
        Self {
            normed: vec![0.0; rows * spec.hidden_size],
            qkv: vec![0.0; rows * 3 * spec.hidden_size],
            out: vec![0.0; rows * spec.hidden_size],
            inner: vec![0.0; rows * spec.intermediate_size],
        }
    }
}

impl Block {
    pub(super) fn size_bytes(&self) -> usize {
        self.norm1.size_bytes()
            + self.norm2.size_bytes()
            + self.qkv.size_bytes()
            + self.proj.size_bytes()
            + self.mlp.size_bytes()
    }

    /// Passes `x` `[rows, hidden]` through the block.
    pub(super) fn forward(
        &self,
        gemm: &Gemm,
        spans: Spans<'_>,
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
        in_spans(gemm, qkv, spans, cancel, out)?;
        self.proj.forward_then(gemm, out, Then::Add, x);
        self.norm2.forward(x, normed);
        cancel.check()?;
        self.mlp.add(gemm, normed, inner, x);
        Ok(())
    }
}

impl Mlp {
    fn size_bytes(&self) -> usize {
        let (first, second) = match self {
            Mlp::Gelu { fc1, fc2, .. } => (fc1, fc2),
            Mlp::Swiglu { gate_up, down } => (gate_up, down),
        };
        first.size_bytes() + second.size_bytes()
    }

    /// Adds what it makes of `x` `[rows, hidden]` to `y` `[rows, hidden]`; `inner` is scratch.
    fn add(&self, gemm: &Gemm, x: &[f32], inner: &mut [f32], y: &mut [f32]) {
        match self {
            Mlp::Gelu { form, fc1, fc2 } => {
                let gelu = match form {
                    Gelu::Tanh => gelu_tanh,
                    Gelu::Erf => gelu_erf,
                };
                fc1.forward_then(gemm, x, Then::Map(gelu), inner);
                fc2.forward_then(gemm, inner, Then::Add, y);
            }
            Mlp::Swiglu { gate_up, down } => {
                gate_up.forward_then(gemm, x, Then::Swiglu, inner);
                down.forward_then(gemm, inner, Then::Add, y);
            }
        }
    }
}

/// `Qwen3VLVisionPatchMerger`, `Qwen2_5_VLPatchMerger`, `InternVLMultiModalProjector`: the patches of
/// a merge block to one visual token.
pub(super) struct Merger {
    /// Of each patch, or of the joined row: its width says which.
    pub(super) norm: Norm,
    pub(super) fc1: Linear,
    pub(super) fc2: Linear,
}

impl Merger {
    pub(super) fn size_bytes(&self) -> usize {
        self.norm.size_bytes() + self.fc1.size_bytes() + self.fc2.size_bytes()
    }

    /// Visual tokens of the rows `x` `[rows, hidden]`. A merge block's patches follow each other,
    /// so joining them moves nothing, and both norms read the same memory in rows of their width.
    pub(super) fn forward(&self, gemm: &Gemm, x: &[f32]) -> Vec<f32> {
        let mut normed = vec![0.0; x.len()];
        self.norm.forward(x, &mut normed);
        let n_tokens = x.len() / self.fc1.in_features();
        let mut inner = vec![0.0; n_tokens * self.fc1.out_features()];
        self.fc1
            .forward_then(gemm, &normed, Then::Map(gelu_erf), &mut inner);
        let mut out = vec![0.0; n_tokens * self.fc2.out_features()];
        self.fc2.forward(gemm, &inner, &mut out);
        out
    }
}
