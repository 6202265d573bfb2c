// SPDX-License-Identifier: MPL-2.0

//! Element-wise functions: GELU, SwiGLU, softmax, sums.

use super::isa::Isa;

/// GELU by the tanh formula, in place: `gelu_pytorch_tanh`.
pub(super) fn gelu_tanh(x: &mut [f32]) {
    (Isa::host().loops.gelu_tanh)(x);
}

/// GELU by the error function, in place: `torch.nn.GELU()`.
pub(super) fn gelu_erf(x: &mut [f32]) {
    (Isa::host().loops.gelu_erf)(x);
}

/// SwiGLU: `y = silu(gate) * up`.
pub(super) fn swiglu(gate: &[f32], up: &[f32], y: &mut [f32]) {
    (Isa::host().loops.swiglu)(gate, up, y);
}

/// `x += y`.
pub(super) fn add_assign(x: &mut [f32], y: &[f32]) {
    (Isa::host().loops.add_assign)(x, y);
}

/// Softmax without the division: replaces each score by `exp(score - max)` and returns
/// 1 / their sum, for the caller to apply to the (shorter) weighted sum.
pub(super) fn softmax_unscaled(scores: &mut [f32]) -> f32 {
    (Isa::host().loops.softmax_unscaled)(scores)
}
