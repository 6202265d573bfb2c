// SPDX-License-Identifier: MPL-2.0

//! `cargo xtask demo`: from a fresh checkout to captions.

use crate::args::Args;
use crate::setup::{self, Level};
use crate::{Outcome, shell};

const HELP: &str = "\
cargo xtask demo [--show] [--seconds N] [--seed N] [--model DIR] [--yes]

Installs GStreamer if it is missing, builds the plugin, and captions a live street of shapes with
the built-in model: what the street does and what the model says, line by line.

  --show         also open a window, with the captions drawn over the picture
  --seconds N    how long the street runs (44)
  --seed N       another street
  --model DIR    another model: a Qwen3-VL checkpoint as downloaded from Hugging Face
  --yes          install without asking (so does CI=true)";

/// `cargo xtask demo`.
///
/// # Errors
/// A sentence that says what could not be installed, built or played.
pub fn command(mut args: Args) -> Outcome {
    if args.help(HELP) {
        return Ok(());
    }
    let yes = args.flag("--yes");
    setup::ensure(Level::Demo, yes)?;
    let release = shell::target().join("release");
    println!("\nBuilding the plugin and the street. The first time this takes a few minutes.");
    shell::run(shell::cargo().args([
        "build",
        "--release",
        "--locked",
        "--package",
        "gst-plugin-vlmcaption",
        "--package",
        "demo",
    ]))?;
    println!();
    let status = shell::program(release.join("vlmcaption-demo"))
        .env("GST_PLUGIN_PATH", &release)
        .args(args.rest())
        .status()
        .map_err(|error| format!("the demo does not start: {error}"))?;
    if status.success() {
        Ok(())
    } else {
        Err("the demo did not end well; the reason is above".into())
    }
}
