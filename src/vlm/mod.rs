// SPDX-License-Identifier: MPL-2.0

//! What a model family is: everything about a vision-language model that no device needs to know.
//!
//! A [`Vlm`] says how large a frame becomes, how it is cut into patches, what the prompt is and at
//! which positions its rows stand. A [`Program`](crate::backend::Program) does the arithmetic;
//! [`generate`](generate::generate) drives it.

mod answer;
pub mod chat;
mod checkpoint;
mod choice;
pub mod compiled;
pub mod config;
mod count;
mod decode;
pub mod drafter;
mod error;
mod family;
pub mod files;
pub mod generate;
pub mod grammar;
pub mod grid;
pub mod hub;
pub mod image;
pub mod interview;
mod json;
mod json_answer;
pub mod models;
pub mod mrope;
pub mod preprocessor;
mod prompt;
pub mod quote;
pub mod request;
pub mod sampling;
pub mod tiles;
pub mod tokenizer;

pub use checkpoint::Checkpoint;
pub use error::Error;
pub use family::{FrameBounds, PixelBudget, Vlm};
pub use prompt::{Prompt, PromptRequest, PromptRun, Turn, VisualInput, VisualKind};
