// SPDX-License-Identifier: MPL-2.0

//! Encode; streaming decode that never splits a character.

/// Text to tokens and back.
pub struct Tokenizer;
