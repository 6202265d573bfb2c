// SPDX-License-Identifier: MPL-2.0

//! Axera NPUs: AX650N on a board or on a card, folders of `.axmodel` files of Pulsar2.
//!
//! A folder holds one model per decoder layer, each with a shape group for one token and one per
//! chunk of the prompt, a head, a vision model of one picture size, and the table of embeddings.
//! This module finds them, reads every size from them, and runs them: chunk by chunk, layer by
//! layer, with one set of positions, mask and hidden rows for all layers and one cache a layer that
//! every group reads the beginning of.
//!
//! Nothing here has run on a chip yet; see `docs/axera.md` for what it was proven on.

mod described;
mod error;
mod folder;
mod head;
mod layout;
mod options;
mod program;
mod vision;

pub use described::Described;
pub use error::Error;
pub use folder::Folder;
pub use layout::{Layout, Shape};
pub use options::{Options, Pixels};
pub use program::Axera;
