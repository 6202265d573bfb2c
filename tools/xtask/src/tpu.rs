// SPDX-License-Identifier: MPL-2.0

//! Sophgo TPUs: compiles checkpoints, and prepares the emulator for the tests.
//!
//! The work is done by the scripts of `tools/tpu`; they install the vendor's compiler below cargo's
//! output folder. This is their face on the command line.

use std::path::PathBuf;
use std::process::Command;

use crate::args::Args;
use crate::setup::{self, Level};
use crate::{Outcome, shell};

const BMODEL_HELP: &str = "\
cargo xtask bmodel <checkpoint> --chip bm1684x|bm1688 [options]

Compiles a Qwen3-VL, Qwen2.5-VL or InternVL3 checkpoint, as downloaded from Hugging Face, into a
folder for `vlmcaption backend=sophgo model=<folder>`. The defaults suit captions of video. Installs
the vendor's compiler below cargo's output folder first (a few GB, once). Linux on x86-64 with
Python 3.10; no board is needed.

  --chip NAME          what the bmodel is for
  --out DIR            where to (<checkpoint>-<chip> in the current folder)
  --max-pixels W,H     the largest picture: its product counts, in multiples of 32 (Qwen3-VL: 640,384)
                       or 28 (Qwen2.5-VL: 616,392) a side. InternVL3 always takes 448,448
  --seq-length N       tokens of prompt and answer together (4096)
  --input-length N     tokens of the prompt (as many as --seq-length); fewer need less memory
  --history            keep what was said before: prompts are taken in pieces of N/4 tokens
  --static             always compute whole windows: for firmware that cannot do dynamic nets
  --dynamic            compute what is there (this is the default)
  -q NAME              w4bf16, w8bf16 or bf16; with f16 for f16 where the weights are f16 (w4bf16).
                       A quantised checkpoint (AWQ, GPTQ) keeps its bits
  -g N                 weights that share a scale, with w4 (64)
  --sample             leave the choice of a token to the plugin: temperature, top-k, penalties
  --cores N            cores of a BM1688 that one answer takes (2)
  --force              try although disk or memory seem too small

For example: cargo xtask bmodel Qwen3-VL-2B-Instruct --chip bm1688 --seq-length 2048";

/// How many of the variants the tests run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// Those that take the emulator little time.
    Short,
    /// All, with InternVL3's vision net and the oldest compilers.
    Long,
}

/// Where compilers, emulators and bmodels are.
fn folder() -> PathBuf {
    shell::target().join("tpu")
}

/// A script of `tools/tpu`, for any Python 3.
fn script(name: &str) -> Command {
    let mut command = shell::program("python3");
    command
        .arg(shell::root().join("tools/tpu").join(name))
        .env("PYTHONDONTWRITEBYTECODE", "1");
    command
}

/// `cargo xtask bmodel`.
///
/// # Errors
/// A sentence that says what is missing, or that the compiler did not end well.
pub fn bmodel(mut args: Args) -> Outcome {
    if args.help(BMODEL_HELP) {
        return Ok(());
    }
    let yes = args.flag("--yes");
    if args.is_empty() {
        return Err(format!("which checkpoint?\n\n{BMODEL_HELP}"));
    }
    // Paths are meant from where the user stands, and the scripts run there.
    let here = std::env::current_dir().map_err(|error| format!("no current folder: {error}"))?;
    let words = args.rest();
    // Before a download of minutes: would the compiler take this?
    let mut check = script("bmodel.py");
    check.arg(folder()).args(&words).arg("--check");
    said_why(check.current_dir(&here))?;
    setup::ensure(Level::Tpu, yes)?;
    said_why(script("install.py").arg(folder()))?;
    let mut compile = script("bmodel.py");
    compile.arg(folder()).args(&words);
    said_why(compile.current_dir(&here))
}

/// Runs a script that says itself what it does and why it fails.
fn said_why(command: &mut Command) -> Outcome {
    match command.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(_) => Err("the bmodel was not made; the reason is above".into()),
        Err(error) => Err(format!("{} does not start: {error}", shell::line(command))),
    }
}

/// Makes everything that the tests on the emulator need.
///
/// # Errors
/// A sentence that names the part that did not work.
pub fn prepare(extent: Extent) -> Outcome {
    let mut command = script("prepare.py");
    command.arg(folder());
    if extent == Extent::Long {
        command.arg("--long");
    }
    shell::run(&mut command)
}

/// `cargo test` of what runs on the emulator.
///
/// # Errors
/// A sentence if a test fails.
pub fn test(extent: Extent, see: impl FnMut(&str)) -> Outcome {
    let mut command = shell::cargo();
    command
        .args(["test", "--locked", "--test", "sophgo", "--"])
        .arg("--include-ignored")
        .env("VLMCAPTION_SOPHON_LIB", folder().join("lib/bm1684x"))
        .env("VLMCAPTION_TPU_LIBS", folder().join("lib"))
        .env("VLMCAPTION_TPU_MODELS", folder().join("models"));
    if extent == Extent::Long {
        command.env("VLMCAPTION_TPU_LONG", "1");
    }
    shell::run_watched(&mut command, see)
}
