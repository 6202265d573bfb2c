// SPDX-License-Identifier: MPL-2.0

//! `cargo xtask docs`: `docs/properties.md` and the plugin cache of GStreamer's documentation, from what
//! the element says about itself.

use std::path::PathBuf;

use crate::args::Args;
use crate::setup::{self, Level};
use crate::{Outcome, shell};

const HELP: &str = "\
cargo xtask docs [--check]

Builds the plugin and writes docs/properties.md and docs/plugins/gst_plugins_cache.json from the
element's own descriptions. With --check it writes nothing and fails if a file is stale.";

/// The files, each with the program that prints it.
const FILES: [(&str, &str); 2] = [
    ("docs/properties.md", "vlmcaption-properties"),
    (
        "docs/plugins/gst_plugins_cache.json",
        "vlmcaption-plugin-cache",
    ),
];

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
    files(mode)
}

/// Writes or compares the files, with the plugin that was built last.
///
/// # Errors
/// A sentence that says what is stale.
pub fn files(mode: Mode) -> Outcome {
    let debug = shell::target().join("debug");
    for (file, program) in FILES {
        let program = debug.join(program);
        let text = shell::output_of(shell::program(program).env("GST_PLUGIN_PATH", &debug))?;
        compare(mode, file, &text)?;
    }
    Ok(())
}

fn compare(mode: Mode, file: &str, text: &str) -> Outcome {
    let path: PathBuf = shell::root().join(file);
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    if committed == text {
        println!("{file} is what the element says.");
        return Ok(());
    }
    match mode {
        Mode::Check => Err(format!("{file} is stale: run `cargo xtask docs`")),
        Mode::Write => {
            let fail = |error| format!("{}: {error}", path.display());
            if let Some(folder) = path.parent() {
                std::fs::create_dir_all(folder).map_err(fail)?;
            }
            std::fs::write(&path, text).map_err(fail)?;
            println!("Wrote {file}.");
            Ok(())
        }
    }
}
