// SPDX-License-Identifier: MPL-2.0

//! `cargo xtask docs`: `docs/properties.md` from what the element says about itself.

use std::path::PathBuf;

use crate::args::Args;
use crate::setup::{self, Level};
use crate::{Outcome, shell};

const HELP: &str = "\
cargo xtask docs [--check]

Builds the plugin and writes docs/properties.md from the element's own descriptions.
With --check it writes nothing and fails if the file is stale.";

/// Whether the file is written or only compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Write it.
    Write,
    /// Fail if it is stale.
    Check,
}

/// `cargo xtask docs`.
///
/// # Errors
/// A sentence that says what is stale, or what could not be built.
pub fn command(mut args: Args) -> Outcome {
    if args.help(HELP) {
        return Ok(());
    }
    let mode = if args.flag("--check") {
        Mode::Check
    } else {
        Mode::Write
    };
    let yes = args.flag("--yes");
    args.finish()?;
    setup::ensure(Level::Demo, yes)?;
    shell::run(shell::cargo().args(["build", "--workspace", "--locked"]))?;
    properties(mode)
}

/// Writes or compares the page, with the plugin that was built last.
///
/// # Errors
/// A sentence that says what is stale.
pub fn properties(mode: Mode) -> Outcome {
    let debug = shell::target().join("debug");
    let page = shell::output_of(
        shell::program(debug.join("vlmcaption-properties")).env("GST_PLUGIN_PATH", &debug),
    )?;
    let path: PathBuf = shell::root().join("docs/properties.md");
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    if committed == page {
        println!("docs/properties.md is what the element says.");
        return Ok(());
    }
    match mode {
        Mode::Check => Err("docs/properties.md is stale: run `cargo xtask docs`".into()),
        Mode::Write => {
            std::fs::write(&path, page).map_err(|error| format!("{}: {error}", path.display()))?;
            println!("Wrote docs/properties.md.");
            Ok(())
        }
    }
}
