// SPDX-License-Identifier: MPL-2.0

//! One file a family: only what it does differently.

mod qwen3vl;

use super::config::model_type;
use super::files::ModelFiles;
use super::json::Document;
use super::{Checkpoint, Error};

/// Opens a checkpoint with the family that its `config.json` names.
pub(super) fn open(files: ModelFiles) -> Result<Checkpoint, Error> {
    files.check_place()?;
    let config = Document::require(&files, "config.json")?;
    match model_type(&config)? {
        "qwen3_vl" => qwen3vl::open(files, &config),
        other => Err(Error::Family(other.to_owned())),
    }
}
