// SPDX-License-Identifier: MPL-2.0

//! Matrices that a checkpoint keeps in fewer bits, back to f32: one file for each way of packing.
//!
//! All of them are a number of a few bits, minus a zero point, times a scale; they differ in how the
//! numbers lie in words and in what shares a scale.

mod awq;
mod bytes;
mod gptq;
mod pack_quantized;
mod tensors;
#[cfg(test)]
mod tests;

use super::weights::Reader;
use crate::Error;
use crate::spec::{GptqZeros, Packing};

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
        let shapes = match self.packing {
            Packing::Awq { group_size } => awq::shapes(group_size, shape),
            Packing::Gptq {
                bits, group_size, ..
            } => gptq::shapes(bits, group_size, shape),
            Packing::PackQuantized { bits, group_size } => {
                pack_quantized::shapes(bits, group_size, shape)
            }
            Packing::Bytes { block } => return bytes::expect(block, reader, prefix, shape),
        };
        shapes.expect(reader, prefix)
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
