// SPDX-License-Identifier: MPL-2.0

//! The small world of shapes that the demo model knows.
//!
//! A scene is a description, not a picture, so what is true of it is known and never guessed.
//! [`Clip`] is a committed description, as the tests use it; [`Street`] invents one as it goes, for
//! `cargo xtask demo`. Both are drawn by [`Canvas`]. Nothing here knows GStreamer or the plugin.
//!
//! Lengths are in pixels of the *canvas*, the picture that the model sees: 32 pixels a visual
//! token. A picture may be drawn at any other size; everything scales with it.

mod canvas;
mod clip;
mod random;
mod street;
mod words;

pub use canvas::{Canvas, Shape};
pub use clip::{Axis, Clip, ClipError, Gradient, Thing, read_clips};
pub use street::{PAIR_SECONDS, Street};
pub use words::{Direction, Motion, caption};

/// Canvas pixels along one side of a visual token.
pub const CELL: usize = 32;
