// SPDX-License-Identifier: MPL-2.0

//! A device program in a process of its own: what a vendor's library does there, the application
//! survives.
//!
//! ```text
//! application                                    vlmcaption-worker
//! Isolated: Program ── calls, Unix socket ─────► the device's Program
//!   link      one call at a time, its deadline     loop in worker/
//!   ward      one thread a child: its death,
//!             its heartbeat, its last words ◄───── heartbeat, stderr
//!   arena     shared memory: pixels there, logits back, cancel, signs of life
//! ```
//!
//! Features stay in the worker; what the application holds of them is a number. Nothing that comes from
//! the worker is believed: lengths and numbers are held against what was asked, floats are copied out of
//! the shared memory before they are looked at, texts are made printable.

pub mod arena;
mod error;
mod find;
mod link;
mod patience;
mod program;
pub mod protocol;
mod silence;
mod spawn;
mod text;
mod ward;

pub use error::Error;
pub use find::find;
pub use patience::Patience;
pub use program::Isolated;
pub use ward::on_output;
