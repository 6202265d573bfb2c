// SPDX-License-Identifier: MPL-2.0

//! `cargo xtask quant-check`: what int8 does to a checkpoint.

use crate::args::Args;
use crate::{Outcome, shell};

/// Builds and runs `examples/quant_check.rs`, which has the options and their help.
///
/// # Errors
/// A sentence if it cannot be built, or if a precision is too far from f32.
pub fn command(args: Args) -> Outcome {
    let build = ["build", "--release", "--locked", "--example", "quant_check"];
    shell::run(shell::cargo().args(build))?;
    let program = shell::target().join("release/examples/quant_check");
    let status = shell::program(&program)
        .args(args.rest())
        .status()
        .map_err(|error| format!("{}: {error}", program.display()))?;
    match status.success() {
        true => Ok(()),
        false => Err("the check did not pass; what it found is above".into()),
    }
}
