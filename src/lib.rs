// SPDX-License-Identifier: MPL-2.0

//! `vlmcaption`: a GStreamer element that tells what a camera sees.

pub mod backend;
pub mod vlm;
