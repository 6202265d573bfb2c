// SPDX-License-Identifier: MPL-2.0

//! What the ways of packing have in common: words, scales, groups.

use safetensors::Dtype;

use crate::Error;
use crate::cpu::weights::Reader;

/// Columns of a matrix that is kept by its inputs that are unpacked together: a cache line of words
/// of 4-bit numbers.
const OUTPUTS: usize = 128;

/// Inputs that are unpacked together, so that reads and writes stay in the cache.
const INPUTS: usize = 64;

/// How numbers of a few bits lie in 32-bit words: the first in the lowest bits, none in two words.
#[derive(Clone, Copy)]
pub(super) struct InWords {
    pub(super) bits: u32,
}

impl InWords {
    /// Numbers in a word.
    pub(super) fn per_word(self) -> usize {
        (32 / self.bits) as usize
    }

    /// Words of so many numbers.
    pub(super) fn n_words(self, n_numbers: usize) -> usize {
        n_numbers.div_ceil(self.per_word())
    }

    /// Number `index` of a row, of which this is the word.
    pub(super) fn number(self, word: u32, index: usize) -> u32 {
        word >> (self.bits * (index % self.per_word()) as u32) & self.mask()
    }

    /// All bits of a number.
    pub(super) fn mask(self) -> u32 {
        u32::MAX >> (32 - self.bits)
    }
}

/// The tensors that a matrix in groups of inputs is made of.
pub(super) struct Shapes {
    /// Inputs of a group.
    pub(super) group_size: usize,
    pub(super) packed: [usize; 2],
    pub(super) zeros: [usize; 2],
    pub(super) scales: [usize; 2],
    /// Their names, in this order.
    pub(super) names: [&'static str; 3],
    /// Whether zero points must be there.
    pub(super) needs_zeros: bool,
}

impl Shapes {
    /// The size of a group of these inputs, all of them unless said, and how many groups there are.
    pub(super) fn groups(group_size: Option<usize>, in_features: usize) -> (usize, usize) {
        let group_size = group_size.unwrap_or(in_features);
        (group_size, in_features.div_ceil(group_size))
    }

    /// That the tensors are there, their names behind `prefix`.
    pub(super) fn expect(&self, reader: &Reader<'_>, prefix: &str) -> Result<(), Error> {
        let [packed, zeros, scales] = self.names.map(|name| format!("{prefix}{name}"));
        reader.expect(&packed, &self.packed)?;
        if self.needs_zeros || reader.has(&zeros) {
            reader.expect(&zeros, &self.zeros)?;
        }
        reader.expect(&scales, &self.scales)
    }
}

/// A tensor of 32-bit words of this shape.
pub(super) fn words(
    reader: &mut Reader<'_>,
    name: &str,
    shape: &[usize],
) -> Result<Vec<u32>, Error> {
    let mut words = Vec::with_capacity(shape.iter().product());
    reader.pieces(name, shape, Dtype::I32, &mut |bytes| {
        let (items, _) = bytes.as_chunks::<4>();
        words.extend(items.iter().map(|&b| u32::from_le_bytes(b)));
    })?;
    Ok(words)
}

/// A tensor of numbers of this shape.
pub(super) fn numbers(
    reader: &mut Reader<'_>,
    name: &str,
    shape: &[usize],
) -> Result<Vec<f32>, Error> {
    let mut numbers = Vec::with_capacity(shape.iter().product());
    reader.rows(name, shape, &mut |piece| numbers.extend_from_slice(piece))?;
    Ok(numbers)
}

/// Which group each input belongs to: `name` `[in_features]` says so if it is there, else as many as
/// `group_size` that follow each other are one.
///
/// # Errors
/// [`Error::PackedIndex`] for a group that there is not.
pub(super) fn groups(
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
pub(super) fn by_outputs(
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
