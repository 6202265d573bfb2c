// SPDX-License-Identifier: MPL-2.0

//! Which weights are loaded, and how.

use std::path::PathBuf;

/// Weight files in the order of the index.
#[derive(Debug, Clone)]
pub enum Weights {
    /// Safetensors files on disk; one, or the shards of `model.safetensors.index.json`.
    Files(Vec<PathBuf>),
    /// One safetensors file in memory.
    Bytes(&'static [u8]),
}

/// Number type that the large matrices are multiplied in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Precision {
    /// f32 below 100 M parameters, int8 above.
    #[default]
    Auto,
    /// The reference.
    F32,
    /// Weights, and where the processor multiplies it the activations, in bf16.
    Bf16,
    /// W8A8: a scale per weight column and per activation row and K-slice; the first block of the
    /// tower and the first layer of the decoder, where errors weigh most, in bf16.
    Int8,
}

/// What a user may choose.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Options {
    /// Number type of the large matrices.
    pub precision: Precision,
    /// Threads of the engine; `None` takes all cores but one.
    pub threads: Option<usize>,
    /// Folder in which int8 matrices are kept for the next start; `None` keeps none. What cannot be
    /// kept is no error.
    pub cache: Option<PathBuf>,
}
