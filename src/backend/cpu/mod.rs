// SPDX-License-Identifier: MPL-2.0

//! The embedded engine: transformer graphs on the host's cores.

mod spec;

use std::path::PathBuf;

pub use spec::{Spec, TextSpec, VisionSpec};

use super::{Cancel, Error, Program};

/// Weight files in the order of the index.
#[derive(Debug, Clone)]
pub enum Weights {
    /// Safetensors files on disk; one, or the shards of `model.safetensors.index.json`.
    Files(Vec<PathBuf>),
    /// One safetensors file in memory.
    Bytes(&'static [u8]),
}

/// Number type that the large matrices are multiplied in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Precision {
    /// f32 below 100 M parameters, int8 above.
    #[default]
    Auto,
    /// The reference.
    F32,
    /// W8A8: a scale per weight column and per activation row and K-slice.
    Int8,
}

/// What a user may choose.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Options {
    /// Number type of the large matrices.
    pub precision: Precision,
    /// Threads of the engine; `None` takes all cores but one.
    pub threads: Option<usize>,
}

/// Reads the weights and readies the engine.
pub fn load(
    spec: &Spec,
    weights: &Weights,
    options: &Options,
    progress: &mut dyn FnMut(f32),
    cancel: &Cancel,
) -> Result<Box<dyn Program>, Error> {
    let _ = (spec, weights, options, progress, cancel);
    Err(Error::Cancelled)
}
