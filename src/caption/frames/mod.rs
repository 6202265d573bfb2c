// SPDX-License-Identifier: MPL-2.0

//! Which frames are looked at, what the model may see of them, and how they become windows: plain
//! values and functions, without a thread or a clock.

pub mod gate;
pub mod ladder;
pub mod mask;
pub(crate) mod motion;
pub mod picture;
pub mod processor;
pub mod rules;
pub mod sampler;
pub(crate) mod scene;
pub mod timeline;
pub mod visual;
pub mod window;
