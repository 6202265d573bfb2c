// SPDX-License-Identifier: MPL-2.0

//! The plain loops ([`plain`](super::plain)), compiled for each instruction set, as tables.

#![cfg_attr(
    target_arch = "x86_64",
    expect(
        unsafe_code,
        reason = "functions with target features are called where the features were found"
    )
)]

use half::bf16;

use super::operands::ByteMatrix;
use super::plain;

/// Compiles the loops that it lists for one instruction set.
#[cfg(target_arch = "x86_64")]
macro_rules! compiled {
    ($features:tt, $(fn $name:ident($($arg:ident: $type:ty),*) $(-> $result:ty)?;)*) => {
        $(
            #[target_feature(enable = $features)]
            fn $name($($arg: $type),*) $(-> $result)? {
                plain::$name($($arg),*)
            }
        )*

        /// The table of this instruction set, for processors that have it.
        pub(in crate::cpu::isa) static LOOPS: Loops = Loops {
            $($name: |$($arg),*| {
                // SAFETY: `isa` hands a table out where it has found the features.
                unsafe { $name($($arg),*) }
            },)*
        };
    };
}

/// Declares the table, and fills it for each instruction set.
macro_rules! loops {
    ($($(#[$doc:meta])* fn $name:ident($($arg:ident: $type:ty),*) $(-> $result:ty)?;)*) => {
        /// The plain loops of one instruction set.
        #[derive(Debug, Clone, Copy)]
        pub(crate) struct Loops {
            $($(#[$doc])* pub(crate) $name: fn($($type),*) $(-> $result)?,)*
        }

        /// For any processor.
        pub(super) static PORTABLE: Loops = Loops {
            $($name: plain::$name,)*
        };

        #[cfg(target_arch = "x86_64")]
        pub(super) mod avx2 {
            use super::*;

            compiled!("avx2,fma", $(fn $name($($arg: $type),*) $(-> $result)?;)*);
        }

        #[cfg(target_arch = "x86_64")]
        pub(super) mod avx512 {
            use super::*;

            compiled!(
                "avx2,fma,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni",
                $(fn $name($($arg: $type),*) $(-> $result)?;)*
            );
        }
    };
}

loops! {
    /// GELU by the tanh formula, in place: `gelu_pytorch_tanh`.
    fn gelu_tanh(x: &mut [f32]);

    /// GELU by the error function, in place: `torch.nn.GELU()`.
    fn gelu_erf(x: &mut [f32]);

    /// SwiGLU: `y = silu(gate) * up`.
    fn swiglu(gate: &[f32], up: &[f32], y: &mut [f32]);

    /// `x += y`.
    fn add_assign(x: &mut [f32], y: &[f32]);

    /// Softmax without the division: replaces each score by `exp(score - max)` and returns
    /// 1 / their sum, for the caller to apply to the (shorter) weighted sum.
    fn softmax_unscaled(scores: &mut [f32]) -> f32;

    /// `torch.nn.LayerNorm` of rows of the width of `weight`.
    fn layer_norm(x: &[f32], weight: &[f32], bias: &[f32], eps: f32, y: &mut [f32]);

    /// `Qwen3VLTextRMSNorm` of rows of the width of `weight`.
    fn rms_norm(x: &[f32], weight: &[f32], eps: f32, y: &mut [f32]);

    /// The same of one row, in place.
    fn rms_norm_row(row: &mut [f32], weight: &[f32], eps: f32);

    /// Turns one head `[2 * half]` by angles `[half]`, times `scale`.
    fn turn(cos: &[f32], sin: &[f32], head: &[f32], scale: f32, out: &mut [f32]);

    /// `sums += row^2 / |row|^2`
    fn add_squares(row: &[f32], sums: &mut [f32]);

    /// Raises `max` to the largest magnitudes of the columns of `x`; returns the sum of all squares.
    fn note_magnitudes(x: &[f32], max: &mut [f32]) -> f64;

    /// Rounds a slice to bytes around `zero`; returns their scale.
    fn slice_to_bytes(x: &[f32], zero: u8, q: &mut [u8]) -> f32;

    /// Rounds a slice to 16 bits; returns their scale.
    fn slice_to_words(x: &[f32], q: &mut [i16]) -> f32;

    /// Rounds a slice of weights to 8 bits; returns their scale and their sum.
    fn weights_to_i8(w: &[f32], q: &mut [i8]) -> (f32, i32);

    /// `y[i, r] = w[i] . x[r]` for an f32 matrix `[n, in_features]`.
    fn f32_rows(x: &[f32], w: &[f32], in_features: usize, y: &mut [f32]);

    /// `y[i, r] = w[i] . x[r]` for a bf16 matrix `[n, in_features]`.
    fn bf16_rows(x: &[f32], w: &[bf16], in_features: usize, y: &mut [f32]);

    /// `y[i, r] = w[i] . x[r]` for a matrix of bytes, and 16-bit activations `[rows, in_features]` with
    /// `scales` `[rows, slices]`.
    fn words_rows(x: &[i16], scales: &[f32], matrix: ByteMatrix<'_>, y: &mut [f32]);

    /// `y += sum_i p[i] * rows[i]` for `rows` `[p.len(), y.len()]`: the weighted sum of attention.
    fn add_weighted(p: &[f32], rows: &[f32], y: &mut [f32]);

    /// `y = (sums - offsets) * scales * scale`.
    fn scale_sums(sums: &[i32], offsets: &[i32], scales: &[f32], scale: f32, y: &mut [f32]);

    /// `y += (sums - offsets) * scales * scale`.
    fn add_scaled_sums(sums: &[i32], offsets: &[i32], scales: &[f32], scale: f32, y: &mut [f32]);
}
