// SPDX-License-Identifier: MPL-2.0

//! The last model: from a hidden row to logits.

use axera_sys::{Device, Mem, Model};
use half::bf16;

use super::error::Error;
use super::layout::{HALF, Layout};

/// The head, which the vendor's tools call post, and its memory.
pub(super) struct Head {
    model: Model,
    input: Mem,
    outputs: Vec<Mem>,
    /// The output that holds the logits.
    logits: usize,
    /// In bf16, or in f32.
    is_half: bool,
    bytes: Vec<u8>,
}

impl Head {
    pub(super) fn new(
        device: &mut Device,
        model: Model,
        file: &str,
        layout: &Layout,
        vocab_size: usize,
    ) -> Result<Self, Error> {
        let fail = |reason: String| Error::Unsupported {
            file: file.to_owned(),
            reason,
        };
        let Some(group) = model.groups.first() else {
            return Err(fail("it has no shape group".to_owned()));
        };
        let input = match &group.inputs[..] {
            [input] if input.size_bytes == layout.row_bytes() => input.size_bytes,
            _ => {
                let want = layout.row_bytes();
                return Err(fail(format!(
                    "want one input, a row of {want} bytes like the layers'"
                )));
            }
        };
        let sizes: Vec<usize> = group.outputs.iter().map(|o| o.size_bytes).collect();
        let find = |bytes: usize| sizes.iter().position(|&size| size == bytes);
        let found = find(HALF * vocab_size).map(|at| (at, true));
        let Some((logits, is_half)) = found.or_else(|| find(4 * vocab_size).map(|at| (at, false)))
        else {
            return Err(fail(format!(
                "none of its outputs ({sizes:?} bytes) has a logit for each of {vocab_size} tokens"
            )));
        };
        Ok(Self {
            input: device.alloc(input)?,
            outputs: sizes
                .iter()
                .map(|&size| device.alloc(size))
                .collect::<Result<_, _>>()?,
            logits,
            is_half,
            model,
            bytes: Vec::new(),
        })
    }
    /// What follows a hidden row: a logit for each token.
    ///
    /// # Errors
    /// What the library says.
    pub(super) fn run(
        &mut self,
        device: &mut Device,
        hidden: Mem,
        logits: &mut [f32],
    ) -> Result<(), axera_sys::Error> {
        device.copy(self.input, hidden)?;
        device.run(&self.model, 0, &[self.input], &self.outputs)?;
        let output = self.outputs[self.logits];
        self.bytes.resize(output.size_bytes(), 0);
        device.read(output, 0, &mut self.bytes)?;
        if self.is_half {
            let halves = self.bytes.as_chunks::<2>().0.iter();
            for (logit, &bytes) in logits.iter_mut().zip(halves) {
                *logit = bf16::from_le_bytes(bytes).to_f32();
            }
        } else {
            let floats = self.bytes.as_chunks::<4>().0.iter();
            for (logit, &bytes) in logits.iter_mut().zip(floats) {
                *logit = f32::from_le_bytes(bytes);
            }
        }
        Ok(())
    }
}
