// SPDX-License-Identifier: MPL-2.0

//! A broker: what is known of cameras as retained messages, events with an acknowledgement, what Home
//! Assistant needs, and questions if they are allowed.

pub mod client;
pub mod discovery;
pub mod line;
pub mod topics;
