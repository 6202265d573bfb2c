// SPDX-License-Identifier: MPL-2.0

//! The store as a whole: what is written is found again, whatever happened in between.

pub mod common;
mod day;
mod far;
mod faults;
mod kept;
mod old;
mod timeline;
