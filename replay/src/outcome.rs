// SPDX-License-Identifier: MPL-2.0

//! What a run came to.

/// What a run came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// All that was compared is the same, or nothing was.
    Same,
    /// Something differs.
    Different,
}
