// SPDX-License-Identifier: MPL-2.0

//! A camera's own video, never decoded: held in memory for a little while ([`ring`]), put into boxes
//! ([`fmp4`], [`movie`]) for browsers and for the clips of alarms ([`clip`], [`clips`]).

pub mod boxes;
pub mod clip;
pub mod clips;
pub mod fmp4;
pub mod format;
pub mod movie;
pub mod order;
pub mod packer;
pub mod ring;
