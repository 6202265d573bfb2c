// SPDX-License-Identifier: MPL-2.0

//! Checks that run nothing of the plugin: formatting, clippy, licences, layering, circles.

use crate::args::Args;
use crate::setup::{self, Level};
use crate::steps::Steps;
use crate::{Outcome, apart, circles, features, layers, shell};

/// The release of cargo-deny that is installed where there is none.
const DENY: &str = "0.20.2";

const HELP: &str = "\
cargo xtask check [--quick]

Formatting (cargo fmt), clippy with warnings as errors, licences and sources of all dependencies
(cargo deny, deny.toml), a build without the network code of the feature openai, and the rules of
docs/architecture.md: layers, and no two files of a crate that import each other.

  --quick  formatting, layers and circles alone: what needs no build";

/// `cargo xtask check`.
///
/// # Errors
/// The names of the checks that failed.
pub fn command(mut args: Args) -> Outcome {
    if args.help(HELP) {
        return Ok(());
    }
    let yes = args.flag("--yes");
    let quick = args.flag("--quick");
    args.finish()?;
    let mut steps = Steps::default();
    if quick {
        add_quick(&mut steps);
    } else {
        setup::ensure(Level::Build, yes)?;
        add(&mut steps);
    }
    steps.finish()
}

/// Adds the checks that compile nothing and need nothing.
pub fn add_quick(steps: &mut Steps) {
    steps.step("fmt", "is the code formatted", || {
        shell::run(shell::cargo().args(["fmt", "--all", "--check"]))
    });
    steps.step("layering", "do dependencies run one way", || {
        layers::check(&shell::root())
    });
    steps.step("apart", "does no program depend on the plugin", || {
        apart::check(&shell::root())
    });
    steps.step("circles", "do no two files import each other", || {
        circles::check(&shell::root())
    });
}

/// Adds the checks, the quickest first.
pub fn add(steps: &mut Steps) {
    add_quick(steps);
    steps.step("licences", "may we ship every dependency", licences);
    steps.step(
        "features",
        "has the plugin no network code without the feature openai",
        features::check,
    );
    steps.step("clippy", "warnings are errors", || {
        shell::run(shell::cargo().args([
            "clippy",
            "--workspace",
            "--all-targets",
            "--locked",
            "--",
            "-D",
            "warnings",
        ]))
    });
}

/// `cargo deny check`, without the advisories, whose database needs the network at every run.
fn licences() -> Outcome {
    if !shell::succeeds(shell::cargo().args(["deny", "--version"])) {
        println!(
            "cargo-deny is not there: installing it into cargo's own folder. This is done once and \
             takes about three minutes on two cores."
        );
        shell::run(shell::cargo().args(["install", "--locked", "cargo-deny", "--version", DENY]))?;
    }
    let what = ["check", "licenses", "bans", "sources"];
    shell::run(
        shell::cargo()
            .args(["deny", "--workspace", "--locked"])
            .args(what),
    )
}
