// SPDX-License-Identifier: MPL-2.0

//! Why a folder of axmodels cannot be run, in words that say what to do.

use crate::TableError;

/// Why a folder of axmodels cannot be run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file could not be read.
    #[error("{file}: {source}")]
    Io {
        /// The file.
        file: String,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A file is still the pointer that git-lfs puts in its place.
    #[error(
        "{file} is a Git LFS pointer, not the model; run `git lfs pull` in its folder, or fetch it \
         with `hf download`"
    )]
    LfsPointer {
        /// The file.
        file: String,
    },
    /// Files that must be there are not, or there are too many of them.
    #[error("{folder}: {reason}")]
    Folder {
        /// The folder.
        folder: String,
        /// What is missing or in doubt, and what to do.
        reason: String,
    },
    /// A `config.json` of AXLLM that does not say what it must.
    #[error("{file}: {reason}")]
    Config {
        /// The file.
        file: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Files that do not belong together.
    #[error("{file} does not belong to the others: {what} is {got}, that of {first} is {want}")]
    Mixed {
        /// The file.
        file: String,
        /// What differs.
        what: &'static str,
        /// In this file.
        got: String,
        /// In the first one.
        want: String,
        /// The first file.
        first: String,
    },
    /// A model whose tensors are not those of a language model for this chip.
    #[error("{file} cannot be run: {reason}")]
    Unsupported {
        /// The file.
        file: String,
        /// What is not as it should be, and what to convert anew.
        reason: String,
    },
    /// The file of embeddings cannot be used.
    #[error(transparent)]
    Embedding(#[from] TableError),
    /// A vision model of another size than was assumed before it was loaded.
    #[error(
        "{file} takes {got} bytes of pixels, {width}x{height} images have {want}; set vision_width \
         and vision_height in the config.json beside it{hint}"
    )]
    Frame {
        /// The file.
        file: String,
        /// Bytes of its input.
        got: usize,
        /// Bytes of the assumed size.
        want: usize,
        /// Assumed width.
        width: usize,
        /// Assumed height.
        height: usize,
        /// The size that its input has, if it is a square.
        hint: String,
    },
    /// Too little memory for the NPU, said before loading.
    #[error(
        "the models in {folder} need about {needed_mib} MiB of the NPU's memory (CMM), device \
         {device} has {free_mib} MiB free of {total_mib}; {fix}"
    )]
    Memory {
        /// The folder.
        folder: String,
        /// The device's number.
        device: usize,
        /// Models and buffers.
        needed_mib: u64,
        /// Free now.
        free_mib: u64,
        /// There at all.
        total_mib: u64,
        /// What to do.
        fix: &'static str,
    },
    /// A model that the library did not load.
    #[error("{file} ({size_mib} MiB) was not loaded: {source}; {memory}, {library}; {hint}")]
    Load {
        /// The file.
        file: String,
        /// Its size.
        size_mib: u64,
        /// What the library said.
        source: Box<axera_sys::Error>,
        /// What was free before.
        memory: String,
        /// The library and its version.
        library: String,
        /// What to do.
        hint: &'static str,
    },
    /// A run that failed.
    #[error("{file} failed on device {device}: {source}; {hint}")]
    Run {
        /// The model.
        file: String,
        /// The device's number.
        device: usize,
        /// What the library said.
        source: Box<axera_sys::Error>,
        /// What to do.
        hint: &'static str,
    },
    /// What a library call said.
    #[error(transparent)]
    Api(#[from] axera_sys::Error),
}
