// SPDX-License-Identifier: MPL-2.0

//! What lets somebody in.

/// What somebody shows to be let in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Proof {
    /// A cookie.
    Session(String),
    /// A program's.
    Token(String),
    /// A name that a trusted proxy vouches for.
    Proxy(String),
}
