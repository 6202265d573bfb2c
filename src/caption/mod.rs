// SPDX-License-Identifier: MPL-2.0

//! Frames in, captions out: sampling, windows, and the threads that keep a model busy without
//! ever making a camera wait.
//!
//! ```text
//! streaming thread      prepare thread (one per element)      engine thread (one per model)
//!  Sampler ──Sample──►   read, resize, Windower ──Pair──────►  vision net
//!          mailbox                              ──Window────►  prompt, prefill, decode
//!                                                                  │
//!  element ◄── reporting thread (one per element) ◄── Report ◄─────┘
//! ```
//!
//! Folders, each may use those before it:
//!
//! - `frames`: which frames are looked at, what the model may see of them, how they become windows
//! - `questions`: what is asked about windows, and the alarms that answers raise
//! - `reports`: captions and all else that the element is told, and the thread that tells it
//! - `engine`: a model on its thread, sessions, and whose turn it is
//! - `evidence`: records of captions in a folder, and how they are made again
//! - `captioner`: one element's prepare thread, and how it goes over to another model

pub mod captioner;
pub mod engine;
pub mod evidence;
pub mod frames;
pub mod mailbox;
pub mod panic;
pub mod questions;
pub mod reports;
pub mod trace;

pub use engine::{session, source, standing, succession};
pub use frames::{gate, ladder, mask, picture, rules, sampler, timeline, window};
pub use questions::{alarm, inquiry, prompt, question};
pub use reports::caption::Caption;
pub use reports::report::{DropReason, InquiryReport, ModelReport, Notice, Report, WindowReport};
pub use reports::{outbox, window_info};
