// SPDX-License-Identifier: MPL-2.0

//! Greedy, temperature, top-k, top-p, penalties, seed.

/// How a token is chosen from logits.
#[derive(Debug, Clone, PartialEq)]
pub struct Sampling {
    /// 0 takes the likeliest token; otherwise logits are divided by it.
    pub temperature: f32,
    /// Keeps the likeliest tokens up to this sum of probabilities; 1.0 keeps all.
    pub top_p: f32,
    /// Keeps this many of the likeliest tokens; 0 keeps all.
    pub top_k: usize,
    /// Divides positive and multiplies negative logits of tokens already there; 1.0 for none.
    pub repetition_penalty: f32,
    /// Start of the random numbers.
    pub seed: u64,
}
