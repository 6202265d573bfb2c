// SPDX-License-Identifier: MPL-2.0

//! `cargo xtask`: the commands of this project.
//!
//! `demo` and `test` are for everybody: each installs what is missing, builds and runs. The others
//! are parts of `test` on their own, or remake committed files.

mod apart;
mod args;
mod bench;
mod bindings;
mod campaign;
mod check;
mod circles;
mod demo;
mod dist;
mod docs;
mod features;
mod fuzz;
mod imports;
mod layers;
#[cfg(test)]
mod named;
mod names;
mod outcome;
mod packages;
mod python;
mod quant;
mod remote;
mod setup;
mod shell;
mod sources;
mod steps;
mod test;
mod tpu;

use std::process::ExitCode;

use args::Args;
pub use outcome::Outcome;

const HELP: &str = "\
cargo xtask <command> [options]

For everybody:
  demo         build the plugin and caption a live street of shapes
  test         install what is missing, then run every check and every test
  bmodel       compile a checkpoint for a Sophgo BM1684X or BM1688

Parts of `test`:
  setup        look for the system packages and install those that are missing
  check        formatting, clippy, licences, layering, circles
  docs         write docs/properties.md and the plugin cache (--check: fail if one is stale)

To look for trouble:
  quant-check  how far a checkpoint's answers in int8 are from those in f32
  campaign     devices in processes of their own, ended in every way at every stage
  fuzz         damaged files against the readers, with libFuzzer

To publish:
  dist         packages: .deb, archive and sources, for amd64 and arm64 (--check: install them in bare roots)
  release      the files that a release has beside the plugin: the demo model for Sophgo's chips

To compare:
  bench        a caption by this engine, transformers, llama.cpp and OpenVINO, in CPU time

To remake committed files:
  demo-model   train the built-in demo model again
  golden       remake the reference vectors with a fresh seed and test against them
  bindings     make the bindings of the vendors' libraries from our headers (--check: compare)

`cargo xtask <command> --help` says more.";

fn main() -> ExitCode {
    let mut args = Args::new(std::env::args().skip(1));
    let command = args.word().unwrap_or_default();
    let outcome = match command.as_str() {
        "setup" => setup::command(args),
        "demo" => demo::command(args),
        "test" => test::command(args),
        "bmodel" => tpu::bmodel(args),
        "release" => tpu::release(args),
        "dist" => dist::command(args),
        "check" => check::command(args),
        "docs" => docs::command(args),
        "quant-check" => quant::command(args),
        "campaign" => campaign::command(args),
        "fuzz" => fuzz::command(args),
        "demo-model" => python::demo_model(args),
        "golden" => python::golden(args),
        "bench" => bench::command(args),
        "bindings" => bindings::command(args),
        "" | "help" | "--help" | "-h" => {
            println!("{HELP}");
            Ok(())
        }
        other => Err(format!("there is no command `{other}`\n\n{HELP}")),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            eprintln!("\nxtask: {reason}");
            ExitCode::FAILURE
        }
    }
}
