// SPDX-License-Identifier: MPL-2.0

//! What is kept: captions in a database a week, everything else in `state.db`, pictures in packs.
//!
//! ```text
//! lock                           held by the one writer; says "running" until a clean end
//! state.db                       events, what became of cameras, how likely alarms were
//! captions/2026-W48.db           captions, and an index of their words
//! thumbs/CAMERA/2026-11-29T13.pack   small pictures, one after the other
//! clips/CAMERA/17.mp4            the clip of an event; 17.part while it grows
//! ```
//!
//! One thread writes ([`writer`]), in batches; anybody may read meanwhile ([`reader`]). Keeping less is
//! deleting files.

pub mod backup;
pub mod db;
pub mod error;
pub mod events;
pub mod files;
pub mod finding;
pub mod keeper;
pub mod outbox;
pub mod pack;
pub mod reader;
pub mod retention;
pub mod state;
pub mod timeline;
pub mod tracing;
pub mod week;
pub mod writer;

pub use error::Error;
