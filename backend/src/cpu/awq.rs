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

use safetensors::Dtype;

use super::weights::Reader;
use crate::Error;
use crate::spec::Awq;

/// Outputs in a word.
const PER_WORD: usize = 8;

/// Where the nibble of each of a word's outputs begins, in bits.
const SHIFTS: [u32; PER_WORD] = [0, 16, 4, 20, 8, 24, 12, 28];

/// Words of a row of `qweight` that are unpacked together: a cache line.
const WORDS: usize = 16;

/// Inputs that are unpacked together, so that reads and writes stay in the cache.
const INPUTS: usize = 64;

/// The shapes of the tensors that a packed matrix is made of.
struct Shapes {
    group_size: usize,
    packed: [usize; 2],
    zeros: [usize; 2],
    scales: [usize; 2],
}

impl Shapes {
    /// Of a matrix `[out_features, in_features]`.
    fn new(awq: Awq, [out_features, in_features]: [usize; 2]) -> Self {
        let group_size = awq.group_size.unwrap_or(in_features);
        let (n_groups, n_words) = (
            in_features.div_ceil(group_size),
            out_features.div_ceil(PER_WORD),
        );
        Self {
            group_size,
            packed: [in_features, n_words],
            zeros: [n_groups, n_words],
            scales: [n_groups, out_features],
        }
    }
}

/// That the tensors of a matrix `[out_features, in_features]` are there in their shapes.
pub(super) fn expect(
    awq: Awq,
    reader: &Reader<'_>,
    prefix: &str,
    shape: [usize; 2],
) -> Result<(), Error> {
    let shapes = Shapes::new(awq, shape);
    for (part, shape) in [
        ("qweight", shapes.packed),
        ("qzeros", shapes.zeros),
        ("scales", shapes.scales),
    ] {
        reader.expect(&format!("{prefix}{part}"), &shape)?;
    }
    Ok(())
}

/// Reads `{prefix}qweight` with its zero points and scales and hands the matrix
/// `[out_features, in_features]` on in pieces of whole rows, as f32.
///
/// # Errors
/// Those of [`Reader::rows`].
pub(super) fn rows(
    awq: Awq,
    reader: &mut Reader<'_>,
    prefix: &str,
    [out_features, in_features]: [usize; 2],
    take: &mut dyn FnMut(&[f32]),
) -> Result<(), Error> {
    expect(awq, reader, prefix, [out_features, in_features])?;
    let shapes = Shapes::new(awq, [out_features, in_features]);
    let (group_size, n_words) = (shapes.group_size, shapes.packed[1]);
    let packed = words(reader, &format!("{prefix}qweight"), shapes.packed)?;
    let zeros = words(reader, &format!("{prefix}qzeros"), shapes.zeros)?;
    let mut scales = Vec::with_capacity(shapes.scales.iter().product());
    reader.rows(&format!("{prefix}scales"), &shapes.scales, &mut |piece| {
        scales.extend_from_slice(piece);
    })?;
    let mut rows = Vec::new();
    for first in (0..n_words).step_by(WORDS) {
        let n = WORDS.min(n_words - first);
        let columns = first * PER_WORD..((first + n) * PER_WORD).min(out_features);
        rows.clear();
        rows.resize(columns.len() * in_features, 0.0);
        for begin in (0..in_features).step_by(INPUTS) {
            let inputs = begin..(begin + INPUTS).min(in_features);
            for (out, row) in columns.clone().zip(rows.chunks_exact_mut(in_features)) {
                let (word, shift) = (out / PER_WORD, SHIFTS[out % PER_WORD]);
                let nibble = |words: &[u32], row: usize| words[row * n_words + word] >> shift & 15;
                for (input, weight) in inputs.clone().zip(&mut row[inputs.clone()]) {
                    let group = input / group_size;
                    let q = nibble(&packed, input) as i32 - nibble(&zeros, group) as i32;
                    *weight = q as f32 * scales[group * out_features + out];
                }
            }
        }
        take(&rows);
    }
    Ok(())
}

/// A packed tensor of this shape, which it has.
fn words(reader: &mut Reader<'_>, name: &str, shape: [usize; 2]) -> Result<Vec<u32>, Error> {
    let mut words = Vec::with_capacity(shape[0] * shape[1]);
    reader.pieces(name, &shape, Dtype::I32, &mut |bytes| {
        let (items, _) = bytes.as_chunks::<4>();
        words.extend(items.iter().map(|&b| u32::from_le_bytes(b)));
    })?;
    Ok(words)
}

#[cfg(test)]
mod tests {
    use half::f16;
    use safetensors::tensor::{TensorView, serialize};

    use super::*;
    use crate::Cancel;
    use crate::cpu::Weights;

    fn le(words: &[u32]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_le_bytes()).collect()
    }

    #[test]
    fn a_word_written_by_hand_is_unpacked() {
        // Outputs 0..8 of input 0 are 1..=8, in the order of the nibbles 1 3 5 7 2 4 6 8; those of
        // input 1 are all 15, in a group of their own. Zero points are 1 and 15, scales 0.5 and 2.
        let packed = le(&[0x8642_7531, 0xffff_ffff]);
        let zeros = le(&[0x1111_1111, 0xfff0_ffff]);
        let scales: Vec<u8> = [[0.5; 8], [2.0; 8]]
            .as_flattened()
            .iter()
            .flat_map(|&scale| f16::from_f32(scale).to_le_bytes())
            .collect();
        let tensors = [
            ("m.qweight", Dtype::I32, [2, 1], &packed),
            ("m.qzeros", Dtype::I32, [2, 1], &zeros),
            ("m.scales", Dtype::F16, [2, 8], &scales),
        ];
        let views = tensors.map(|(name, dtype, shape, data)| {
            let view = TensorView::new(dtype, shape.to_vec(), data).expect("a good tensor");
            (name.to_owned(), view)
        });
        let bytes = serialize(views, None).expect("a good file");
        let weights = Weights::Bytes(bytes.leak());
        let (cancel, mut ignore) = (Cancel::default(), |_| ());
        let mut reader = Reader::open(&weights, &mut ignore, &cancel).expect("a good file");
        // Packed numbers count as what they stand for: 16 weights, 16 zero points, 16 scales.
        assert_eq!(reader.n_parameters(), 48);
        let awq = Awq {
            group_size: Some(1),
        };
        let mut unpacked = Vec::new();
        let mut take = |piece: &[f32]| unpacked.extend_from_slice(piece);
        rows(awq, &mut reader, "m.", [8, 2], &mut take).expect("a readable matrix");
        // Zero point 0 of input 1 is that of nibble 4, which is output 1.
        let want = [
            [0.0, 0.0],
            [0.5, 30.0],
            [1.0, 0.0],
            [1.5, 0.0],
            [2.0, 0.0],
            [2.5, 0.0],
            [3.0, 0.0],
            [3.5, 0.0],
        ];
        assert_eq!(unpacked, want.as_flattened());

        let whole = Awq { group_size: None };
        let error = rows(whole, &mut reader, "m.", [8, 2], &mut |_| ());
        assert!(matches!(
            error,
            Err(Error::WeightShape { name, .. }) if name == "m.qzeros"
        ));
    }
}
