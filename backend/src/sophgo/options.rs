// SPDX-License-Identifier: MPL-2.0

//! What the bmodel itself does not say.

use std::path::PathBuf;

use super::vision::Tables;

/// What the bmodel itself does not say.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Options {
    /// Number of the device, as `bm-smi` counts.
    pub device: usize,
    /// Entries of the vocabulary, by `config.json`.
    pub vocab_size: usize,
    /// Numbers of the vision net.
    pub tables: Tables,
    /// `embedding.bin`, for a bmodel without embedding nets.
    pub embedding: Option<PathBuf>,
}
