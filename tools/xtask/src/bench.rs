// SPDX-License-Identifier: MPL-2.0

//! `cargo xtask bench`: captions of the same clip by this engine and by its peers.

use std::path::PathBuf;

use crate::args::Args;
use crate::{Outcome, python, shell};

const HELP: &str = "\
cargo xtask bench [--python PROGRAM] [options of tools/bench/bench.py]

Measures, in turns and as ratios, a caption of the same 10-frame clip by this engine, by transformers
on torch, by llama.cpp and by OpenVINO: processor time by stage, tokens a second, memory; then
captions through the element. Installs the peers below cargo's output folder (some GB to download, a
build of llama.cpp, 15 GB of weights of noise); one that cannot be installed is said and left out.

  --python PROGRAM   an interpreter that has torch and transformers already
  --peers NAME,...   only these: ours, ours-bf16, transformers, llamacpp, llamacpp-images,
                     llamacpp-q4_k, openvino-genai, openvino, ours-tower, llamacpp-tower,
                     transformers-tower, element
  --rounds N         rounds of ours and those with a target (3), of llamacpp-images at most two;
                     the medians count, and the others are measured once
  --tokens N         tokens of the caption (48)
  --checkpoint DIR   another Qwen3-VL checkpoint than the one of noise";

/// `cargo xtask bench`.
///
/// # Errors
/// A sentence that says which part did not work.
pub fn command(mut args: Args) -> Outcome {
    if args.help(HELP) {
        return Ok(());
    }
    let python = match args.value::<PathBuf>("--python")? {
        Some(python) => python,
        None => python::environment()?,
    };
    shell::run(
        shell::program(python)
            .arg(shell::root().join("tools/bench/bench.py"))
            .arg(shell::target().join("bench"))
            .args(args.rest()),
    )
}
