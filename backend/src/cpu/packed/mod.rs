// SPDX-License-Identifier: MPL-2.0

//! Matrices that a checkpoint keeps in fewer bits, back to f32: one file for each way of packing.
//!
//! All of them are a number of a few bits, minus a zero point, times a scale; they differ in how the
//! numbers lie in words and in what shares a scale.

mod awq;
mod bytes;
mod gptq;
mod pack_quantized;

use safetensors::Dtype;

use super::weights::Reader;
use crate::Error;
use crate::spec::{GptqZeros, Packing};

/// Columns of a matrix that is kept by its inputs that are unpacked together: a cache line of words
/// of 4-bit numbers.
const OUTPUTS: usize = 128;

/// Inputs that are unpacked together, so that reads and writes stay in the cache.
const INPUTS: usize = 64;

/// A matrix `[out_features, in_features]` that is packed.
pub(super) struct PackedMatrix<'n> {
    packing: Packing,
    /// What the names of its tensors begin with, with the dot.
    prefix: &'n str,
    shape: [usize; 2],
}

impl<'n> PackedMatrix<'n> {
    /// The matrix `name` of this shape, if it is packed this way; `name` ends in `weight`.
    pub(super) fn find(
        packing: Packing,
        reader: &Reader<'_>,
        name: &'n str,
        shape: &[usize],
    ) -> Option<Self> {
        let prefix = name.strip_suffix("weight")?;
        let shape = <[usize; 2]>::try_from(shape).ok()?;
        is_packed(packing, reader, prefix).then_some(Self {
            packing,
            prefix,
            shape,
        })
    }

    /// That its tensors are there in their shapes.
    ///
    /// # Errors
    /// Those of [`Reader::expect`], for the first that is not.
    pub(super) fn expect(&self, reader: &Reader<'_>) -> Result<(), Error> {
        let (prefix, shape) = (self.prefix, self.shape);
        match self.packing {
            Packing::Awq { group_size } => awq::expect(group_size, reader, prefix, shape),
            Packing::Gptq {
                bits, group_size, ..
            } => gptq::expect(bits, group_size, reader, prefix, shape),
            Packing::PackQuantized { bits, group_size } => {
                pack_quantized::expect(bits, group_size, reader, prefix, shape)
            }
            Packing::Bytes { block } => bytes::expect(block, reader, prefix, shape),
        }
    }

    /// Hands it on in pieces of whole rows, as f32.
    ///
    /// # Errors
    /// Those of [`Reader::rows`].
    pub(super) fn rows(
        &self,
        reader: &mut Reader<'_>,
        take: &mut dyn FnMut(&[f32]),
    ) -> Result<(), Error> {
        self.expect(reader)?;
        let (prefix, shape) = (self.prefix, self.shape);
        match self.packing {
            Packing::Awq { group_size } => awq::rows(group_size, reader, prefix, shape, take),
            Packing::Gptq {
                bits,
                group_size,
                zeros,
            } => {
                let minus = match zeros {
                    GptqZeros::LessOne => 1,
                    GptqZeros::AsTheyAre => 0,
                };
                gptq::rows(bits, group_size, minus, reader, prefix, shape, take)
            }
            Packing::PackQuantized { bits, group_size } => {
                pack_quantized::rows(bits, group_size, reader, prefix, shape, take)
            }
            Packing::Bytes { block } => bytes::rows(block, reader, prefix, shape, take),
        }
    }
}

/// Whether there is a packed matrix under `prefix`, which ends with a dot.
pub(super) fn is_packed(packing: Packing, reader: &Reader<'_>, prefix: &str) -> bool {
    match packing {
        Packing::Awq { .. } | Packing::Gptq { .. } => reader.has(&format!("{prefix}qweight")),
        Packing::PackQuantized { .. } => reader.has(&format!("{prefix}weight_packed")),
        Packing::Bytes { .. } => bytes::scale_name(reader, prefix).is_some(),
    }
}

/// How numbers of a few bits lie in 32-bit words: the first in the lowest bits, none in two words.
#[derive(Clone, Copy)]
struct InWords {
    bits: u32,
}

impl InWords {
    /// Numbers in a word.
    fn per_word(self) -> usize {
        (32 / self.bits) as usize
    }

    /// Words of so many numbers.
    fn n_words(self, n_numbers: usize) -> usize {
        n_numbers.div_ceil(self.per_word())
    }

    /// Number `index` of a row, of which this is the word.
    fn number(self, word: u32, index: usize) -> u32 {
        word >> (self.bits * (index % self.per_word()) as u32) & self.mask()
    }

    /// All bits of a number.
    fn mask(self) -> u32 {
        u32::MAX >> (32 - self.bits)
    }
}

/// That there are these tensors in these shapes, their names behind `prefix`.
fn expect_all(
    reader: &Reader<'_>,
    prefix: &str,
    parts: &[(&str, [usize; 2])],
) -> Result<(), Error> {
    for (part, shape) in parts {
        reader.expect(&format!("{prefix}{part}"), shape)?;
    }
    Ok(())
}

/// A tensor of 32-bit words of this shape.
fn words(reader: &mut Reader<'_>, name: &str, shape: &[usize]) -> Result<Vec<u32>, Error> {
    let mut words = Vec::with_capacity(shape.iter().product());
    reader.pieces(name, shape, Dtype::I32, &mut |bytes| {
        let (items, _) = bytes.as_chunks::<4>();
        words.extend(items.iter().map(|&b| u32::from_le_bytes(b)));
    })?;
    Ok(words)
}

/// A tensor of numbers of this shape.
fn numbers(reader: &mut Reader<'_>, name: &str, shape: &[usize]) -> Result<Vec<f32>, Error> {
    let mut numbers = Vec::with_capacity(shape.iter().product());
    reader.rows(name, shape, &mut |piece| numbers.extend_from_slice(piece))?;
    Ok(numbers)
}

/// Which group each input belongs to: `name` `[in_features]` says so if it is there, else as many as
/// `group_size` that follow each other are one.
///
/// # Errors
/// [`Error::PackedIndex`] for a group that there is not.
fn groups(
    reader: &mut Reader<'_>,
    name: &str,
    in_features: usize,
    group_size: usize,
) -> Result<Vec<usize>, Error> {
    if !reader.has(name) {
        return Ok((0..in_features).map(|input| input / group_size).collect());
    }
    let n_groups = in_features.div_ceil(group_size);
    let indexes = words(reader, name, &[in_features])?;
    indexes
        .into_iter()
        .map(|index| match usize::try_from(index) {
            Ok(group) if group < n_groups => Ok(group),
            _ => Err(Error::PackedIndex {
                name: name.to_owned(),
                index: index.cast_signed(),
                n_groups,
            }),
        })
        .collect()
}

/// Hands a matrix on in pieces of whole rows that the file keeps by its inputs; `weight` is that of
/// an output and an input.
fn by_outputs(
    [out_features, in_features]: [usize; 2],
    weight: impl Fn(usize, usize) -> f32,
    take: &mut dyn FnMut(&[f32]),
) {
    let mut rows = Vec::new();
    for first in (0..out_features).step_by(OUTPUTS) {
        let outputs = first..(first + OUTPUTS).min(out_features);
        rows.clear();
        rows.resize(outputs.len() * in_features, 0.0);
        for begin in (0..in_features).step_by(INPUTS) {
            let inputs = begin..(begin + INPUTS).min(in_features);
            for (output, row) in outputs.clone().zip(rows.chunks_exact_mut(in_features)) {
                for (input, place) in inputs.clone().zip(&mut row[inputs.clone()]) {
                    *place = weight(output, input);
                }
            }
        }
        take(&rows);
    }
}

/// A file of these tensors in memory, for tests.
#[cfg(test)]
fn file_of(tensors: &[(&str, Dtype, &[usize], &[u8])]) -> crate::cpu::Weights {
    use safetensors::tensor::{TensorView, serialize};

    let views = tensors.iter().map(|&(name, dtype, shape, data)| {
        let view = TensorView::new(dtype, shape.to_vec(), data).expect("a good tensor");
        (name.to_owned(), view)
    });
    let bytes = serialize(views, None).expect("a good file");
    crate::cpu::Weights::Bytes(bytes.leak())
}

/// What becomes of the matrix `m.weight` of this shape, for tests.
#[cfg(test)]
fn unpacked(
    packing: Packing,
    shape: [usize; 2],
    tensors: &[(&str, Dtype, &[usize], &[u8])],
) -> Result<Vec<f32>, Error> {
    let (weights, cancel, mut ignore) = (file_of(tensors), crate::Cancel::default(), |_| ());
    let mut reader = Reader::open(&weights, &mut ignore, &cancel).expect("a good file");
    let matrix = PackedMatrix::find(packing, &reader, "m.weight", &shape).expect("a packed matrix");
    let mut rows = Vec::new();
    matrix.rows(&mut reader, &mut |piece| rows.extend_from_slice(piece))?;
    Ok(rows)
}
