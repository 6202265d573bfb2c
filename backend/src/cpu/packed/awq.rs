// SPDX-License-Identifier: MPL-2.0

//! Matrices of 4 bits as AutoAWQ packs them (`WQLinear_GEMM`), back to f32.
//!
//! ```text
//! qweight  i32 [in, out / 8]        eight outputs of one input in a word
//! qzeros   i32 [groups, out / 8]    the same of their zero points
//! scales   f16 [groups, out]        a group is `group_size` inputs
//! ```
//!
//! A weight is `(q - zero) * scale`. Nibble `i` of a word, from the lowest, is output
//! 0, 2, 4, 6, 1, 3, 5, 7 of the eight.

use super::tensors::{Shapes, by_outputs, numbers, words};
use crate::Error;
use crate::cpu::weights::Reader;

/// Outputs in a word.
const PER_WORD: usize = 8;

/// Where the nibble of each of a word's outputs begins, in bits.
const SHIFTS: [u32; PER_WORD] = [0, 16, 4, 20, 8, 24, 12, 28];

/// The tensors of a matrix `[out_features, in_features]`.
pub(super) fn shapes(group_size: Option<usize>, [out_features, in_features]: [usize; 2]) -> Shapes {
    let (group_size, n_groups) = Shapes::groups(group_size, in_features);
    let n_words = out_features.div_ceil(PER_WORD);
    Shapes {
        group_size,
        packed: [in_features, n_words],
        zeros: [n_groups, n_words],
        scales: [n_groups, out_features],
        names: ["qweight", "qzeros", "scales"],
        needs_zeros: true,
    }
}

/// Reads `{prefix}qweight` with its zero points and scales and hands the matrix
/// `[out_features, in_features]` on in pieces of whole rows, as f32.
///
/// # Errors
/// Those of [`Reader::rows`].
pub(super) fn rows(
    group_size: Option<usize>,
    reader: &mut Reader<'_>,
    prefix: &str,
    [out_features, in_features]: [usize; 2],
    take: &mut dyn FnMut(&[f32]),
) -> Result<(), Error> {
    let shapes = shapes(group_size, [out_features, in_features]);
    let (group_size, n_words) = (shapes.group_size, shapes.packed[1]);
    let packed = words(reader, &format!("{prefix}qweight"), &shapes.packed)?;
    let zeros = words(reader, &format!("{prefix}qzeros"), &shapes.zeros)?;
    let scales = numbers(reader, &format!("{prefix}scales"), &shapes.scales)?;
    let nibble = |words: &[u32], row: usize, out: usize| {
        words[row * n_words + out / PER_WORD] >> SHIFTS[out % PER_WORD] & 15
    };
    let weight = |out: usize, input: usize| {
        let group = input / group_size;
        let q = nibble(&packed, input, out) as i32 - nibble(&zeros, group, out) as i32;
        q as f32 * scales[group * out_features + out]
    };
    by_outputs([out_features, in_features], weight, take);
    Ok(())
}
