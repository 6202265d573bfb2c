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

use super::{InWords, by_outputs, expect_all, groups, numbers, words};
use crate::Error;
use crate::cpu::weights::Reader;

/// The shapes of the tensors that a packed matrix is made of.
struct Shapes {
    group_size: usize,
    packed: [usize; 2],
    zeros: [usize; 2],
    scales: [usize; 2],
}

impl Shapes {
    /// Of a matrix `[out_features, in_features]`.
    fn new(
        words: InWords,
        group_size: Option<usize>,
        [out_features, in_features]: [usize; 2],
    ) -> Self {
        let group_size = group_size.unwrap_or(in_features);
        let n_groups = in_features.div_ceil(group_size);
        Self {
            group_size,
            packed: [words.n_words(in_features), out_features],
            zeros: [n_groups, words.n_words(out_features)],
            scales: [n_groups, out_features],
        }
    }
}

/// That the tensors of a matrix `[out_features, in_features]` are there in their shapes.
pub(super) fn expect(
    bits: u32,
    group_size: Option<usize>,
    reader: &Reader<'_>,
    prefix: &str,
    shape: [usize; 2],
) -> Result<(), Error> {
    let shapes = Shapes::new(InWords { bits }, group_size, shape);
    let parts = [
        ("qweight", shapes.packed),
        ("qzeros", shapes.zeros),
        ("scales", shapes.scales),
    ];
    expect_all(reader, prefix, &parts)
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
    let shapes = Shapes::new(in_words, group_size, [out_features, in_features]);
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

#[cfg(test)]
mod tests {
    use half::f16;
    use safetensors::Dtype;

    use super::super::unpacked;
    use super::*;
    use crate::spec::{GptqZeros, Packing};

    const LEGACY: Packing = Packing::Gptq {
        bits: 8,
        group_size: Some(2),
        zeros: GptqZeros::LessOne,
    };

    /// Two outputs of four inputs in two groups, inputs 0 and 3 in the second.
    fn matrix(g_idx: [i32; 4], packing: Packing) -> Result<Vec<f32>, Error> {
        let packed: Vec<u8> = [[10u8, 20, 30, 40], [1, 2, 3, 255]].concat();
        // Four zero points in a word; the file has one less than they are, and -1 for 0.
        let zeros: Vec<u8> = [[9u8, 0, 0, 0], [19, 255, 0, 0]].concat();
        let scales: Vec<u8> = [1.0, 2.0, 0.5, 4.0]
            .iter()
            .flat_map(|&scale| f16::from_f32(scale).to_le_bytes())
            .collect();
        let g_idx: Vec<u8> = g_idx.iter().flat_map(|group| group.to_le_bytes()).collect();
        unpacked(
            packing,
            [2, 4],
            &[
                ("m.qweight", Dtype::I32, &[1, 2], &packed),
                ("m.qzeros", Dtype::I32, &[2, 1], &zeros),
                ("m.scales", Dtype::F16, &[2, 2], &scales),
                ("m.g_idx", Dtype::I32, &[4], &g_idx),
            ],
        )
    }

    #[test]
    fn words_written_by_hand_are_unpacked() {
        let rows = matrix([1, 0, 0, 1], LEGACY).expect("a readable matrix");
        let want = [
            // Zero points 20 and 10, scales 0.5 and 1.
            [-5.0, 10.0, 20.0, 10.0],
            // Zero points 0 and 1, scales 4 and 2.
            [4.0, 2.0, 4.0, 1020.0],
        ];
        assert_eq!(rows, want.as_flattened());
        let second = Packing::Gptq {
            bits: 8,
            group_size: Some(2),
            zeros: GptqZeros::AsTheyAre,
        };
        let rows = matrix([1, 0, 0, 1], second).expect("a readable matrix");
        assert_eq!(rows[..4], [-4.5, 11.0, 21.0, 10.5]);
    }

    #[test]
    fn a_group_that_there_is_not_is_told() {
        for wrong in [2, -1] {
            let error = matrix([0, 0, wrong, 1], LEGACY).expect_err("a wrong group");
            let said = error.to_string();
            assert!(
                said.contains("m.g_idx") && said.contains(&wrong.to_string()),
                "{said}"
            );
        }
    }
}
