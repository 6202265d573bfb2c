// SPDX-License-Identifier: MPL-2.0

//! `cargo xtask bindings`: the committed bindings of the vendors' libraries from our headers.

use crate::args::Args;
use crate::{Outcome, shell};

const HELP: &str = "\
cargo xtask bindings [--check]

Makes the committed bindings of axera-sys and sophgo-sys from their headers, with bindgen. Needs
libclang (Debian: libclang1) and rustfmt; LIBCLANG_PATH names the folder of another libclang.
With --check it writes nothing and fails if a file is not what bindgen makes.";

/// `cargo xtask bindings`.
///
/// # Errors
/// A sentence that says what could not be made.
pub fn command(mut args: Args) -> Outcome {
    if args.help(HELP) {
        return Ok(());
    }
    let check = args.flag("--check");
    args.finish()?;
    let mut cargo = shell::cargo();
    cargo.args(["test", "--locked", "--test", "layout"]);
    for package in ["axera-sys", "sophgo-sys"] {
        cargo.args(["--package", package]);
        cargo.args(["--features", &format!("{package}/bindgen")]);
    }
    if !check {
        cargo.env("UPDATE_BINDINGS", "1");
    }
    shell::run(cargo.arg("the_committed_bindings"))
}
