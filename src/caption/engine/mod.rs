// SPDX-License-Identifier: MPL-2.0

//! One model, many cameras: an engine owns a model on a thread of its own; sessions of elements
//! take weighted turns on it.
//!
//! ```text
//! handle      Engine: found or begun, dropped by the last element
//! run         its threads: load, take turns, load anew
//! session     one element's place; what it does is done to its state, under the engine's lock
//! schedule    the lock's contents: all sessions, and whose turn it is
//! turn        what a turn is about, and what it comes to
//! answerer    what makes turns: a model on a device, or a server
//! worker      what a device does in one turn; prompts: what fits into the model
//! remote      what is done to ask a server
//! succession  which of several engines answers, by what is seen of them; breakers: which may be tried
//! batch       several turns side by side, their tokens made together
//! charge      what of the time of a turn is put down to its session
//! ```

mod answerer;
mod asked;
mod batch;
mod breakers;
mod charge;
mod drafters;
mod error;
pub mod examiner;
mod exhibit;
mod handle;
pub mod identity;
mod opened;
pub(crate) mod pairs;
mod prompts;
mod remote;
mod run;
mod schedule;
pub mod session;
mod shared;
pub mod source;
pub mod standing;
mod state;
mod stop;
pub mod succession;
mod taker;
#[cfg(test)]
mod tests;
pub(crate) mod turn;
mod watched;
mod worker;

pub use error::Error;
pub use handle::Engine;
