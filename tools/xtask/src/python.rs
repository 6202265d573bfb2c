// SPDX-License-Identifier: MPL-2.0

//! Commands that need the reference implementation: they make a Python environment below cargo's
//! output folder and leave the system's alone.

use std::path::{Path, PathBuf};

use crate::args::Args;
use crate::{Outcome, shell};

const DEMO_MODEL_HELP: &str = "\
cargo xtask demo-model [options of tools/demo-model/make.py]

Trains the built-in demo model again and writes models/demo. Makes a Python environment with
PyTorch first (a few GB to download, once). All options are handed on.";

const GOLDEN_HELP: &str = "\
cargo xtask golden [--seed N]

Remakes the reference vectors with stock transformers, from a fresh seed, into cargo's output
folder, and runs the golden tests against them. Makes a Python environment with PyTorch first
(a few GB to download, once). Committed vectors stay as they are.";

/// `cargo xtask demo-model`.
///
/// # Errors
/// A sentence that says which part did not work.
pub fn demo_model(mut args: Args) -> Outcome {
    if args.help(DEMO_MODEL_HELP) {
        return Ok(());
    }
    let tools = shell::root().join("tools/demo-model");
    let python = environment()?;
    shell::run(
        shell::program(python)
            .arg(tools.join("make.py"))
            .args(args.rest()),
    )
}

/// `cargo xtask golden`.
///
/// # Errors
/// A sentence that says which part did not work.
pub fn golden(mut args: Args) -> Outcome {
    if args.help(GOLDEN_HELP) {
        return Ok(());
    }
    let now = std::time::SystemTime::UNIX_EPOCH
        .elapsed()
        .map_or(1, |time| time.as_secs());
    let seed = args.value::<u64>("--seed")?.unwrap_or(now);
    args.finish()?;
    let tools = shell::root().join("tools/golden");
    let python = environment()?;
    let out = shell::target().join("golden");
    let checkpoints = out.join("checkpoints");
    println!("Seed {seed}");
    let run = |script: &str, arguments: &[&Path]| {
        let mut command = shell::program(&python);
        command.arg(tools.join(script)).args(arguments);
        shell::run(command.args(["--seed", &seed.to_string()]))
    };
    run("checkpoints.py", &[&checkpoints])?;
    run("packed.py", &[&checkpoints])?;
    run("sampling.py", &[Path::new("--out"), &checkpoints])?;
    let made = folders(&checkpoints)?;
    let mut arguments = vec![checkpoints.as_path()];
    arguments.extend(made.iter().map(PathBuf::as_path));
    run("logits.py", &arguments)?;
    shell::run(shell::tests(["golden*"]).env("VLMCAPTION_GOLDEN", &checkpoints))
}

/// The folders in a folder, in order.
fn folders(dir: &Path) -> Result<Vec<PathBuf>, String> {
    let entries = std::fs::read_dir(dir).map_err(|error| format!("{}: {error}", dir.display()))?;
    let mut folders: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.is_dir())
        .collect();
    folders.sort();
    Ok(folders)
}

/// A Python environment with the reference implementation; made once, brought up to date by pip.
///
/// # Errors
/// A sentence if Python or a package is missing.
pub fn environment() -> Result<PathBuf, String> {
    let requirements = shell::root().join("tools/demo-model/requirements.txt");
    let dir = shell::target().join("python");
    let python = dir.join("bin/python");
    if !python.is_file() {
        println!("Making a Python environment in {}", dir.display());
        shell::run(shell::program("python3").args(["-m", "venv"]).arg(&dir)).map_err(|reason| {
            format!(
                "{reason}\nPython 3.11 or newer with its venv module is needed (Debian: apt-get \
                 install python3-venv)"
            )
        })?;
    }
    shell::run(
        shell::program(&python)
            .args(["-m", "pip", "install", "--disable-pip-version-check", "-r"])
            .arg(requirements),
    )?;
    Ok(python)
}
