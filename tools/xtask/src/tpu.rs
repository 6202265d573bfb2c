// SPDX-License-Identifier: MPL-2.0

//! Sophgo TPUs: compiles checkpoints, and prepares the emulator for the tests.
//!
//! The work is done by the scripts of `tools/tpu`; they install the vendor's compiler below cargo's
//! output folder. This is their face on the command line.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

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
  --out DIR            where to (<checkpoint>-<chip> in the current folder); is made with its parents
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

const RELEASE_HELP: &str = "\
cargo xtask release [--out DIR]

Makes the files that a release has beside the plugin, in target/release-files: the demo model compiled
for Sophgo's BM1684X and BM1688, an archive each, with MANIFEST.md and SHA256SUMS. Installs the vendor's
compiler first, as `cargo xtask bmodel` does.

  --out DIR    where to; files of these names are written over: `cargo xtask dist --boards` puts them
               beside the packages";

/// How many of the variants the tests run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// Those that take the emulator little time.
    Short,
    /// All, with InternVL3's vision net, fifty clips and the oldest compilers.
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
    if !shell::on_path("python3") {
        setup::ensure(Level::Tpu, yes)?;
    }
    // Before packages are installed and a download of minutes: would the compiler take this?
    let mut check = script("bmodel.py");
    check.arg(folder()).args(&words).arg("--check");
    said_why(check.current_dir(&here))?;
    setup::ensure(Level::Tpu, yes)?;
    said_why(script("install.py").arg(folder()))?;
    let mut compile = script("bmodel.py");
    compile.arg(folder()).args(&words);
    said_why(compile.current_dir(&here))
}

/// `cargo xtask release`.
///
/// # Errors
/// A sentence that says what is missing, or that the compiler did not end well.
pub fn release(mut args: Args) -> Outcome {
    if args.help(RELEASE_HELP) {
        return Ok(());
    }
    let yes = args.flag("--yes");
    let out = args.value::<PathBuf>("--out")?;
    args.finish()?;
    let out = match out {
        Some(out) => std::path::absolute(out).map_err(|error| format!("--out: {error}"))?,
        None => shell::target().join("release-files"),
    };
    demo_models(&out, env!("CARGO_PKG_VERSION"), yes)
}

/// Compiles the demo model for each of Sophgo's chips into `out`, with `MANIFEST.md` and `SHA256SUMS`.
///
/// # Errors
/// A sentence that says what is missing, or that the compiler did not end well.
pub fn demo_models(out: &Path, version: &str, yes: bool) -> Outcome {
    setup::ensure(Level::Tpu, yes)?;
    said_why(script("install.py").arg(folder()))?;
    let commit = shell::output_of(shell::program("git").args(["describe", "--always", "--dirty"]));
    let mut make = script("release.py");
    make.arg(folder()).arg(out);
    make.args(["--version", version, "--commit"]);
    said_why(make.arg(commit.as_deref().map_or("no repository", str::trim)))
}

/// Runs a script that says itself what it does and why it fails.
fn said_why(command: &mut Command) -> Outcome {
    match command.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(_) => Err("nothing was made; the reason is above".into()),
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

/// What runs without `--tpu-long`, the most telling first.
const SHORT: [&str; 26] = [
    "every_bmodel_that_was_compiled_is_understood",
    "failures::a_chip_that_does_not_copy_is_told_what_is_not_installed",
    "failures::a_launch_that_fails_names_the_net_and_the_next_prompt_is_computed",
    "q3_static",
    "worker::says_the_same_and_is_begun_anew_after_it_was_killed",
    "q3_kv",
    "drafts::a_draft_saves_launches_and_changes_no_token",
    "demo_clips_are_captioned_as_on_the_cpu",
    "q3_1688",
    "demo_clips_are_captioned_on_two_cores",
    "counts::two_elements_load_a_1688_bmodel_once_and_say_the_same",
    "q25_kv",
    "drafts::a_draft_of_qwen25_saves_launches_and_changes_no_token",
    "windows_of_a_history_bmodel_do_not_touch_each_other",
    "counts::a_caption_asks_less_of_the_device_than_the_vendors_demo",
    "counts::a_caption_of_the_demo_model_sends_its_pixels_and_little_else",
    "q3_dyn",
    "q3_stages",
    "counts::a_caption_of_a_wide_bmodel_sends_less_than_half",
    "q3_sample",
    "q3_embdisk",
    "q3_w4",
    "q3_f16",
    "q25_static",
    "iv3_kv",
    "windows_of_a_static_bmodel_do_not_touch_each_other",
];

/// What runs on the emulator, each in a process of its own: an emulator is one chip for good, and
/// ends its process at what it does not like.
///
/// # Errors
/// The names of the tests that failed.
pub fn test(extent: Extent, limit: Option<Duration>, mut see: impl FnMut(&str)) -> Outcome {
    let program = built()?;
    let names = match extent {
        Extent::Short => SHORT.map(str::to_owned).to_vec(),
        Extent::Long => {
            let mut list = shell::program(&program);
            let list = shell::output_of(list.args(["--list", "--ignored"]))?;
            let names = list.lines().filter_map(|line| line.strip_suffix(": test"));
            names.map(str::to_owned).collect()
        }
    };
    let shim = shim()?;
    let began = Instant::now();
    let mut failed = Vec::new();
    for name in &names {
        if limit.is_some_and(|limit| began.elapsed() >= limit) {
            println!("{name}: NOT RUN, the minutes are over");
            continue;
        }
        let start = Instant::now();
        let mut command = shell::program(&program);
        command.args(["--ignored", "--nocapture", "--exact", name.as_str()]);
        // The emulator of BM1688 has no copies on the device: the shim makes them through the host.
        let two_cores = name.contains("1688") || name.contains("two_cores");
        let library = match (two_cores, old(name)) {
            (true, _) => folder().join("lib/bm1688"),
            (_, Some(version)) => folder()
                .join(version)
                .join("lib/python3.10/site-packages/tpu_mlir/lib"),
            _ => folder().join("lib/bm1684x"),
        };
        command
            .env("VLMCAPTION_SOPHON_LIB", library)
            .env("VLMCAPTION_TPU_MODELS", folder().join("models"));
        if two_cores {
            command.env("TPU_HOST_COPIES", "1");
        }
        if name.contains("_sends_") {
            command.env("TPU_COUNT_ONLY", "1");
        }
        let counted = ["counts::", "drafts::", "failures::"];
        if two_cores || counted.iter().any(|part| name.starts_with(part)) {
            command
                .env("LD_PRELOAD", &shim)
                .env("TPU_COUNT_OUT", folder().join("counts.json"));
        }
        if extent == Extent::Long {
            command.env("VLMCAPTION_TPU_LONG", "1");
        }
        // The emulator prints of its own; what the tests print is shown if they fail.
        let output = command.output().map_err(|e| format!("{name}: {e}"))?;
        let text = String::from_utf8_lossy(&output.stdout);
        text.lines().for_each(&mut see);
        let seconds = start.elapsed().as_secs();
        if output.status.success() {
            println!("{name}: ok, {seconds} s");
            for line in text.lines().filter(|line| line.contains("compared")) {
                println!("  {}", line.trim());
            }
        } else {
            println!("{text}\n{}", String::from_utf8_lossy(&output.stderr));
            println!("{name}: FAILED after {seconds} s ({})", output.status);
            failed.push(name.as_str());
        }
    }
    match failed.is_empty() {
        true => Ok(()),
        false => Err(format!("failed: {}", failed.join(", "))),
    }
}

/// The compiler of an old bmodel whose dynamic nets only its own emulator runs.
fn old(name: &str) -> Option<&'static str> {
    match name.rsplit_once('_') {
        Some((kind, "124")) if kind.ends_with("dyn") => Some("1.24"),
        Some((kind, "121")) if kind.ends_with("dyn") => Some("1.21"),
        _ => None,
    }
}

/// Builds the test program; its path.
fn built() -> Result<PathBuf, String> {
    let mut build = shell::tests(["sophgo"]);
    let messages = shell::output_of(build.args(["--no-run", "--message-format=json"]))?;
    let program = messages.lines().rev().find_map(|line| {
        let (_, rest) = line.split_once("\"executable\":\"")?;
        line.contains("\"name\":\"sophgo\"")
            .then(|| rest.split('"').next())
            .flatten()
    });
    let program = program.ok_or("cargo named no program of the test sophgo")?;
    Ok(PathBuf::from(program))
}

/// Compiles what counts calls.
fn shim() -> Result<PathBuf, String> {
    let source = shell::root().join("tools/tpu/count.c");
    let shim = folder().join("count.so");
    let mut compiler = shell::program("cc");
    compiler.args(["-O2", "-shared", "-fPIC", "-o"]).arg(&shim);
    shell::run(compiler.arg(source).arg("-ldl"))?;
    Ok(shim)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::path::Path;

    use super::*;

    /// A folder for one test, removed with it.
    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("{name}-{}", std::process::id()));
            fs::create_dir_all(&path).unwrap();
            Self(path)
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    /// A search path with `python3` and nothing else.
    fn only_python(folder: &Path) -> PathBuf {
        let bin = folder.join("bin");
        fs::create_dir_all(&bin).unwrap();
        let python = shell::program("python3")
            .args(["-c", "import sys; print(sys.executable)"])
            .output()
            .unwrap();
        let python = String::from_utf8(python.stdout).unwrap();
        symlink(python.trim(), bin.join("python3")).unwrap();
        bin
    }

    /// Runs `bmodel.py` on a checkpoint without weights, for an output whose parents are not there.
    fn bmodel(folder: &Path, options: &[&str]) -> (bool, String) {
        let checkpoint = folder.join("checkpoint");
        fs::create_dir_all(&checkpoint).unwrap();
        fs::write(
            checkpoint.join("config.json"),
            r#"{"model_type": "qwen3_vl"}"#,
        )
        .unwrap();
        fs::write(checkpoint.join("model.safetensors"), [0; 2000]).unwrap();
        let fake_python310 = folder.join("fake-python3.10");
        fs::write(&fake_python310, "#!/bin/sh\n").unwrap();
        fs::set_permissions(&fake_python310, fs::Permissions::from_mode(0o755)).unwrap();
        let mut command = script("bmodel.py");
        command
            .arg(folder.join("tools"))
            .arg(&checkpoint)
            .args(["--chip", "bm1688", "--force", "--out"])
            .arg(folder.join("not/there/yet"))
            .args(options)
            .env("PATH", only_python(folder))
            .env("PYTHON310", &fake_python310);
        let output = command.output().unwrap();
        (
            output.status.success(),
            String::from_utf8_lossy(&output.stderr).into_owned(),
        )
    }

    #[test]
    fn programs_that_can_be_installed_and_folders_that_can_be_made_are_no_reason_to_refuse() {
        let folder = Folder::new("vlmcaption-bmodel-check");
        let (passed, said) = bmodel(&folder.0, &["--check"]);
        assert!(passed, "{said}");
        assert!(!folder.0.join("not").exists(), "a check makes nothing");
    }

    #[test]
    fn a_script_that_is_run_alone_names_what_installs_the_programs() {
        let folder = Folder::new("vlmcaption-bmodel-alone");
        let (passed, said) = bmodel(&folder.0, &[]);
        assert!(!passed);
        assert!(said.contains("cargo xtask setup --for tpu"), "{said}");
    }
}
