// SPDX-License-Identifier: MPL-2.0

//! `cargo xtask demo`: from a fresh checkout to captions, in a terminal or on a page.

use crate::args::Args;
use crate::setup::{self, Level};
use crate::{Outcome, shell};

const HELP: &str = "\
cargo xtask demo [--show] [--seconds N] [--seed N] [--model DIR] [--yes]
cargo xtask demo --web [--seconds N] [--listen ADDRESS:PORT] [--yes]

Installs GStreamer if it is missing, builds the plugin, and captions a live street of shapes with
the built-in model: what the street does and what the model says, line by line.

  --show         also open a window, with the captions drawn over the picture
  --seconds N    how long the street runs (44)
  --seed N       another street
  --model DIR    another model: a Qwen3-VL checkpoint as downloaded from Hugging Face
  --web          the page of vlmcaption-watch with two test cameras instead, on loopback: its address is printed
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
    let web = args.flag("--web");
    setup::ensure(Level::Demo, yes)?;
    let (package, program) = if web {
        ("vlmcaption-watch", "vlmcaption-watch")
    } else {
        ("demo", "vlmcaption-demo")
    };
    let release = shell::target().join("release");
    println!("\nBuilding the plugin and {program}. The first time this takes a few minutes.");
    shell::run(shell::cargo().args([
        "build",
        "--release",
        "--locked",
        "--package",
        "gst-plugin-vlmcaption",
        "--package",
        package,
    ]))?;
    println!();
    let status = shell::program(release.join(program))
        .env("GST_PLUGIN_PATH", &release)
        .args(web.then_some("demo"))
        .args(args.rest())
        .status()
        .map_err(|error| format!("the demo does not start: {error}"))?;
    if status.success() {
        Ok(())
    } else {
        Err("the demo did not end well; the reason is above".into())
    }
}
