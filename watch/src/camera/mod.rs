// SPDX-License-Identifier: MPL-2.0

//! Cameras: what is decided about them ([`machine`], [`gop`], [`paint`]), who looks after one
//! ([`supervisor`]), and the pipeline that he opens and closes ([`pipeline`], [`session`]).

pub mod elements;
pub mod gop;
pub mod machine;
pub mod paint;
pub mod pipeline;
pub mod session;
pub mod supervisor;
mod tap;
