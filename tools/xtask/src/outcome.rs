// SPDX-License-Identifier: MPL-2.0

//! What a command, and each of its steps, hands back.

/// Nothing, or a sentence for the user.
pub type Outcome = Result<(), String>;
