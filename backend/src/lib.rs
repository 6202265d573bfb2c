// SPDX-License-Identifier: MPL-2.0

//! What runs a model: the interface of a *device program*, and its implementations.
//!
//! A backend does not know model families. It offers a [`Program`]: encode one temporal patch of
//! pixels, extend a sequence by rows at given positions, say what follows, forget rows. Everything
//! else (sizes, prompts, positions, sampling) belongs to the crate that knows model families.

pub mod axera;
mod cancel;
pub mod cpu;
mod embedding;
mod error;
mod finite;
pub mod header;
pub mod isolation;
pub mod json;
pub mod lfs;
pub mod mock;
mod program;
mod recipe;
mod rows;
mod sequence;
pub mod sophgo;
pub mod spec;
mod visual;
mod vit;

pub use cancel::{Caller, Cancel, Woken};
pub use embedding::TableError;
pub use error::Error;
pub use program::{
    Arithmetic, Health, Launch, Limits, Next, Position, Program, Segment, SequenceId, Step,
};
pub use recipe::{Recipe, Surroundings};
pub use visual::{Features, GridThw, Patches, PixelBytes, VisualTokens, next_launch};
