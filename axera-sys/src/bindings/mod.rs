// SPDX-License-Identifier: MPL-2.0

//! The raw tier: types and functions as the two C APIs have them, made by
//! `cargo xtask bindings`.

pub mod card;
pub mod soc;
