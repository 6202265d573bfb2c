// SPDX-License-Identifier: MPL-2.0

//! Models that were compiled for a device, one file a vendor: the weights are in files of the
//! vendor's, everything else in a folder with the checkpoint's configuration and tokenizer.

mod axera;
mod sophgo;

pub use axera::{Axmodels, find_axmodels};
pub use sophgo::{Bmodel, config_folder, find_bmodel};
