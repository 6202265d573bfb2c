// SPDX-License-Identifier: MPL-2.0

//! Why a device program did not do what it was asked.

use std::borrow::Cow;

use super::{axera, isolation, sophgo};

/// Why a device program did not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The result was no longer wanted.
    #[error("cancelled")]
    Cancelled,
    /// A sequence would outgrow the KV cache.
    #[error("{needed} rows do not fit the context of {context}")]
    Context {
        /// Rows asked for.
        needed: usize,
        /// Rows there are.
        context: usize,
    },
    /// An input does not have the shape that the net was built for.
    #[error("{what}: expected {want}, got {got}")]
    Shape {
        /// The input.
        what: Cow<'static, str>,
        /// What the net takes.
        want: String,
        /// What it was given.
        got: String,
    },
    /// A weight that the configuration calls for is not in the file.
    #[error("weight {name} is missing from {file}")]
    MissingWeight {
        /// Name of the tensor.
        name: String,
        /// Where it was looked for.
        file: String,
    },
    /// A number of the configuration is not that of the weights.
    #[error(
        "config.json: {key} is {said}, but {found}; are configuration and weights of one checkpoint?"
    )]
    Size {
        /// The key, with the section that it stands in.
        key: &'static str,
        /// What the configuration says.
        said: usize,
        /// What the weights say.
        found: String,
    },
    /// A weight has another shape than the configuration says.
    #[error("weight {name}: config.json calls for shape {want:?}, the file has {got:?}")]
    WeightShape {
        /// Name of the tensor.
        name: String,
        /// Shape by the configuration.
        want: Vec<usize>,
        /// Shape in the file.
        got: Vec<usize>,
    },
    /// A weight has a number type that is not read.
    #[error("weight {name} has type {dtype}; {read} are read here")]
    WeightType {
        /// Name of the tensor.
        name: String,
        /// Its type in the file.
        dtype: String,
        /// Types that it may have.
        read: &'static str,
    },
    /// A packed weight names a group of inputs that has no scale.
    #[error("{name} names group {index} of {n_groups}; the file is damaged, fetch it again")]
    PackedIndex {
        /// Name of the tensor.
        name: String,
        /// The group.
        index: i32,
        /// Groups that there are.
        n_groups: usize,
    },
    /// A weight file is damaged.
    #[error("{file} is not a whole safetensors file ({reason}); fetch it again")]
    Damaged {
        /// The file.
        file: String,
        /// What the reader says.
        reason: String,
    },
    /// A weight file is still the pointer that git-lfs puts in its place.
    #[error("{file} is a git-lfs pointer, not the file; run `git lfs pull` in its folder")]
    LfsPointer {
        /// The file.
        file: String,
    },
    /// A file of quantised matrices is damaged; whoever loads makes it anew.
    #[error("the file of quantised matrices is damaged")]
    Cache,
    /// NaN or infinity where a number should be.
    #[error(
        "the model computed no number (NaN or infinity) in {place}: its files are damaged, or its \
         numbers are too large for the type they are held in; fetch the checkpoint again, or choose \
         another precision"
    )]
    NotANumber {
        /// Where it was found first.
        place: String,
    },
    /// The environment names an instruction set that this processor does not have.
    #[error("{0}")]
    Isa(String),
    /// A script of the mock backend is not one.
    #[error("mock script {file}: {reason}")]
    Script {
        /// The file.
        file: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The mock backend was told to fail.
    #[error("{0}")]
    Scripted(String),
    /// What an Axera device, its libraries or a folder of axmodels said.
    #[error(transparent)]
    Axera(#[from] axera::Error),
    /// What a Sophgo device, its libraries or a bmodel said.
    #[error(transparent)]
    Sophgo(#[from] sophgo::Error),
    /// What became of the process that a device program runs in.
    #[error(transparent)]
    Isolation(#[from] isolation::Error),
    /// A file could not be read.
    #[error("{file}: {source}")]
    Io {
        /// The file.
        file: String,
        /// The system's reason.
        source: std::io::Error,
    },
}
