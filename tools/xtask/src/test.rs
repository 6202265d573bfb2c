// SPDX-License-Identifier: MPL-2.0

//! `cargo xtask test`: every check and every test, with a summary at the end.

use std::fmt;
use std::process::Command;
use std::time::Duration;

use crate::args::Args;
use crate::setup::{self, Level};
use crate::steps::Steps;
use crate::tpu::{self, Extent};
use crate::{Outcome, check, docs, packages, remote, shell};

const HELP: &str = "\
cargo xtask test [--quick] [--tpu | --tpu-minutes N | --tpu-long] [--yes]
cargo xtask test --remote | --remote-long | --remote-only NAME [--yes]

Installs what is missing (see `cargo xtask setup --help`), then runs
  packages                               does each package hold what it is installed for
  fmt, layering, licences, clippy        what `cargo xtask check` does
  tests                                  every test of the workspace, documentation examples included
  docs                                   are the files of cargo xtask docs what the element says
  pipelines                              every script of pipelines/, without a display
  leaks                                  play, pause, seek, flush, caps changes, end, restart, loops
                                         under GST_TRACERS=leaks and G_DEBUG=fatal-criticals
  processes                              captions cross to another process, from GStreamer 1.24 on
  rtsp                                   a real RTSP server on loopback, killed and restarted
  demo                                   twelve seconds of `cargo xtask demo`

  --quick     for a change in the element alone, a few minutes where the rest is built: fmt, layering,
              and of tests/ those that run the element. No clippy, no unit test, no reference vectors
  --tpu       then also Sophgo's TPUs on the vendor's emulator: installs the compiler (3 GB), makes a
              small bmodel of each kind, and compares what each says with transformers
  --tpu-minutes N
              the same, but begins no test on the emulator after so many minutes; which, it says
  --tpu-long  the same with more kinds, fifty clips a chip and the oldest compilers: some hours
  --remote    only these: llama-server, transformers serve and vLLM are installed in the user's cache (4 GB,
              half an hour once) and asked about the committed clips; one of two vLLMs behind
              vllm-router is killed while eight cameras ask
  --remote-long  the same, and a replica of Ray Serve, in a network of its own that has loopback alone
  --remote-only  one of llama, transformers, vllm, router, ray
  --yes       install without asking (so does CI=true)";

/// `cargo xtask test`.
///
/// # Errors
/// The names of the steps that failed.
pub fn command(mut args: Args) -> Outcome {
    if args.help(HELP) {
        return Ok(());
    }
    let quick = args.flag("--quick");
    let minutes: Option<u64> = args.value("--tpu-minutes")?;
    let limit = minutes.map(|minutes| Duration::from_secs(60 * minutes));
    let short = args.flag("--tpu") || limit.is_some();
    let extent = match (short, args.flag("--tpu-long")) {
        (_, true) => Some(Extent::Long),
        (true, false) => Some(Extent::Short),
        (false, false) => None,
    };
    let only: Option<String> = args.value("--remote-only")?;
    let (remote, long) = (args.flag("--remote"), args.flag("--remote-long"));
    let remote = match only {
        Some(name) => Some(remote::Extent::only(&name)?),
        None if long => Some(remote::Extent::Long),
        None if remote => Some(remote::Extent::Short),
        None => None,
    };
    let yes = args.flag("--yes");
    if quick && extent.is_some() {
        return Err("--quick runs nothing on the emulator: leave one of the two out".into());
    }
    args.finish()?;

    setup::ensure(Level::Test, yes)?;
    if extent.is_some() {
        setup::ensure(Level::Tpu, yes)?;
    }
    if let Some(extent) = remote {
        return servers(extent, yes);
    }
    if quick {
        return element();
    }
    let mut steps = Steps::default();
    steps.step(
        "packages",
        "does each hold what it is installed for",
        packages::check,
    );
    check::add(&mut steps);
    // One selection for all that follows: with another one cargo would choose other features of
    // some dependencies, and compile the plugin a second time.
    steps.step(
        "build",
        "the plugin, its tests, and what exercises it",
        || {
            let selection = ["--workspace", "--locked", "--lib", "--bins", "--tests"];
            shell::run(shell::cargo().args(["build", "--timings"]).args(selection))
        },
    );
    let mut tally = Tally::default();
    steps.step("tests", "every test of the workspace", || {
        shell::run_watched(
            shell::cargo().args(["test", "--workspace", "--locked", "--no-fail-fast"]),
            |line| tally.see(line),
        )
    });
    live(&mut steps);
    if let Some(extent) = extent {
        steps.step(
            "emulator",
            "Sophgo's compiler, and a bmodel of each kind",
            || tpu::prepare(extent),
        );
        steps.step("tpu", "each of them against transformers", || {
            tpu::test(extent, limit, |line| tally.see(line))
        });
    }
    println!("\n{tally}");
    steps.finish()
}

/// What `--remote` runs.
fn servers(extent: remote::Extent, yes: bool) -> Outcome {
    setup::ensure(Level::Test, yes)?;
    // The servers are installed with the same programs: a C++ compiler and binutils.
    setup::ensure(Level::Tpu, yes)?;
    let mut steps = Steps::default();
    steps.step("build", "the plugin, and what exercises it", || {
        // The selection of the whole run, for the same features of dependencies.
        let selection = ["--workspace", "--locked", "--lib", "--bins"];
        shell::run(shell::cargo().arg("build").args(selection))
    });
    remote::add(&mut steps, extent);
    steps.finish()
}

/// What `--quick` runs.
fn element() -> Outcome {
    let names = element_tests()?;
    let mut steps = Steps::default();
    check::add_quick(&mut steps);
    let mut tally = Tally::default();
    steps.step("tests", "the tests that run the element", || {
        let mut test = shell::tests(names.iter().map(String::as_str));
        shell::run_watched(test.arg("--no-fail-fast"), |line| tally.see(line))
    });
    println!("\n{tally}");
    steps.finish()
}

/// The files of `tests/` that use GStreamer.
fn element_tests() -> Result<Vec<String>, String> {
    let folder = shell::root().join("tests");
    let say = |error| format!("{}: {error}", folder.display());
    let mut names = Vec::new();
    for entry in std::fs::read_dir(&folder).map_err(say)? {
        let path = entry.map_err(say)?.path();
        if path.extension().is_none_or(|end| end != "rs") {
            continue;
        }
        let text = std::fs::read_to_string(&path).map_err(say)?;
        let name = path.file_stem().unwrap_or_default().to_string_lossy();
        if text.contains("gst::") {
            names.push(name.into_owned());
        }
    }
    names.sort();
    Ok(names)
}

/// The steps that run pipelines.
fn live(steps: &mut Steps) {
    steps.step("docs", "are the generated files fresh", || {
        docs::files(docs::Mode::Check)
    });
    steps.step("pipelines", "every script of pipelines/", || {
        shell::run(&mut with_plugin("tests/pipelines.sh"))
    });
    steps.step("leaks", "no leak and no critical in any transition", || {
        shell::run(&mut with_plugin("tests/leaks.sh"))
    });
    steps.step("rtsp", "a camera that goes away and comes back", || {
        shell::run(&mut with_plugin("tests/rtsp.sh"))
    });
    steps.step("processes", "captions in another process", || {
        if shell::succeeds(shell::program("gst-inspect-1.0").args(["--exists", "unixfdsink"])) {
            return shell::run(&mut with_plugin("tests/unixfd.sh"));
        }
        println!(
            "NOT RUN: unixfdsink needs GStreamer 1.24, which is in Debian 13 and Ubuntu 24.04"
        );
        Ok(())
    });
    steps.step(
        "analytics",
        "detections and alarms of GStreamer's own",
        || shell::run(&mut with_plugin("tests/analytics.py")),
    );
    steps.step("network", "captions without one socket", || {
        shell::run(&mut with_plugin("tests/no_network.py"))
    });
    steps.step("demo", "twelve seconds of the street", || {
        let demo = shell::target().join("debug/vlmcaption-demo");
        shell::run(with_plugin(demo).args(["--seconds", "12", "--expect", "4"]))
    });
}

/// A program that finds the plugin of the last `cargo build`.
fn with_plugin(name: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = shell::program(name);
    command.env("VLMCAPTION_PLUGIN_PATH", shell::target().join("debug"));
    command.env("GST_PLUGIN_PATH", shell::target().join("debug"));
    command
}

/// Sums up the result lines of `cargo test`.
#[derive(Debug, Default, PartialEq, Eq)]
struct Tally {
    passed: u32,
    failed: u32,
    ignored: u32,
}

impl fmt::Display for Tally {
    fn fmt(&self, out: &mut fmt::Formatter) -> fmt::Result {
        write!(
            out,
            "{} tests passed, {} failed, {} ignored (they need hardware or a model; each says which)",
            self.passed, self.failed, self.ignored
        )
    }
}

impl Tally {
    /// Reads `test result: ok. 12 passed; 0 failed; 1 ignored; ...`; other lines say nothing.
    fn see(&mut self, line: &str) {
        let Some(result) = line.strip_prefix("test result: ") else {
            return;
        };
        for part in result.split(['.', ';']) {
            let mut words = part.split_whitespace();
            if let (Some(Ok(count)), Some(what)) =
                (words.next().map(str::parse::<u32>), words.next())
            {
                match what {
                    "passed" => self.passed += count,
                    "failed" => self.failed += count,
                    "ignored" => self.ignored += count,
                    _ => {}
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_of_the_element_is_tested_by_what_runs_it() {
        let names = element_tests().unwrap();
        for name in ["element", "policy", "text"] {
            assert!(names.iter().any(|n| n == name), "{name}: {names:?}");
        }
        assert!(!names.iter().any(|name| name.starts_with("golden")));
    }

    #[test]
    fn result_lines_of_several_binaries_add_up() {
        let mut tally = Tally::default();
        tally.see("running 12 tests");
        tally.see("test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.5s");
        tally.see("test result: FAILED. 3 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1.0s");
        assert_eq!(
            tally,
            Tally {
                passed: 15,
                failed: 2,
                ignored: 1
            }
        );
    }
}
