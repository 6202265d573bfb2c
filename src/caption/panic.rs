// SPDX-License-Identifier: MPL-2.0

//! A panic on a thread of ours ends in a message, not in silence.

use std::panic::{AssertUnwindSafe, catch_unwind};

/// Runs something; a panic in it becomes a reason, which names `place`.
///
/// # Errors
/// What the panic said.
pub fn caught<T>(place: &str, run: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(run)).map_err(|panic| {
        let what = panic
            .downcast_ref::<&str>()
            .map(|s| (*s).to_owned())
            .or_else(|| panic.downcast_ref::<String>().cloned())
            .unwrap_or_default();
        format!("internal error in {place}: {what}; please report it")
    })
}
