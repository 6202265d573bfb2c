// SPDX-License-Identifier: MPL-2.0

//! `tests/golden_logits.rs` once more, of the same compiled crates as the packages: `cargo xtask dist --check`
//! runs it under qemu.

#[cfg(test)]
#[path = "../../../tests/golden_logits.rs"]
mod golden_logits;
