// SPDX-License-Identifier: MPL-2.0

//! Matrices that were packed by GPTQ as AutoGPTQ and GPTQModel keep them, back to f32.
//!
//! ```text
//! qweight  i32 [in / n, out]        n = 32 / bits inputs of one output in a word
//! qzeros   i32 [groups, out / n]    n outputs' zero points in a word
//! scales   f16 [groups, out]
//! g_idx    i32 [in]                 the group of each input, if they are not in order (`desc_act`)
//! ```
//!
//! A weight is `(q - zero) * scale`; the lowest bits of a word are the first number. Files of the
//! format `gptq` keep `zero - 1`, those of `gptq_v2` the zero point.

use super::tensors::{InWords, Shapes, by_outputs, groups, numbers, words};
use crate::Error;
use crate::cpu::weights::Reader;

/// The tensors of a matrix `[out_features, in_features]`.
pub(super) fn shapes(
    bits: u32,
    group_size: Option<usize>,
    [out_features, in_features]: [usize; 2],
) -> Shapes {
    let words = InWords { bits };
    let (group_size, n_groups) = Shapes::groups(group_size, in_features);
    Shapes {
        group_size,
        packed: [words.n_words(in_features), out_features],
        zeros: [n_groups, words.n_words(out_features)],
        scales: [n_groups, out_features],
        names: ["qweight", "qzeros", "scales"],
        needs_zeros: true,
    }
}

/// Reads `{prefix}qweight` and what belongs to it and hands the matrix `[out_features, in_features]`
/// on in pieces of whole rows, as f32; the zero points in the file are `minus` too small.
///
/// # Errors
/// Those of [`Reader::rows`] and [`groups`].
pub(super) fn rows(
    bits: u32,
    group_size: Option<usize>,
    minus: u32,
    reader: &mut Reader<'_>,
    prefix: &str,
    [out_features, in_features]: [usize; 2],
    take: &mut dyn FnMut(&[f32]),
) -> Result<(), Error> {
    let in_words = InWords { bits };
    let shapes = shapes(bits, group_size, [out_features, in_features]);
    let per_word = in_words.per_word();
    let packed = words(reader, &format!("{prefix}qweight"), &shapes.packed)?;
    let zeros = words(reader, &format!("{prefix}qzeros"), &shapes.zeros)?;
    let scales = numbers(reader, &format!("{prefix}scales"), &shapes.scales)?;
    let groups = groups(
        reader,
        &format!("{prefix}g_idx"),
        in_features,
        shapes.group_size,
    )?;
    let weight = |out: usize, input: usize| {
        let group = groups[input];
        let q = in_words.number(packed[input / per_word * out_features + out], input);
        let kept = in_words.number(zeros[group * shapes.zeros[1] + out / per_word], out);
        let zero = (kept + minus) & in_words.mask();
        (q as i32 - zero as i32) as f32 * scales[group * out_features + out]
    };
    by_outputs([out_features, in_features], weight, take);
    Ok(())
}
