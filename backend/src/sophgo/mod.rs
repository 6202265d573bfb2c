// SPDX-License-Identifier: MPL-2.0

//! Sophgo TPUs: BM1684X and BM1688, `.bmodel` files of TPU-MLIR's `llm_convert.py`.
//!
//! A bmodel holds one graph per decoder layer and phase: `block_*` for the prompt, `block_cache_*`
//! for one token, `vit`, `embedding`, `lm_head` and a few more. This module binds their inputs and
//! outputs, keeps the counters, and sends as little as it can over the bus:
//!
//! - **rows and positions are separate**: a picture of 576 tokens takes 576 rows of the cache but
//!   moves the position by 24;
//! - masks, positions of the vision net and the like are sent when they change, not at every launch;
//! - visual tokens stay on the device from the vision net to the prompt;
//! - exactly the rows that were computed enter the cache, and rows that begin a prompt as they began
//!   the one before are not computed again where the bmodel can continue from rows.

mod bmodel;
mod board;
mod chunk;
mod described;
mod error;
mod flatbuffer;
mod half_type;
mod layout;
mod options;
mod passes;
mod prefill;
mod prefix;
mod program;
mod signatures;
mod tensor;
mod vision;

pub use bmodel::{Bmodel, DataType, Net, Stage, Tensor};
pub use described::Described;
pub use error::Error;
pub use half_type::HalfType;
pub use layout::{Embedding, Family, Head, History, Layout, Prefill, Vision};
pub use options::Options;
pub use program::{Sophgo, Tap};
pub use vision::Tables;
