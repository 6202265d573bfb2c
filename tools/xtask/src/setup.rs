// SPDX-License-Identifier: MPL-2.0

//! What has to be on the machine besides Rust: looks for it, and installs it from Debian's packages.
//!
//! Every need is looked for by trying it (`pkg-config`, `gst-inspect-1.0`, a Python import), not by
//! its package, so a machine with another package manager or a self-built GStreamer is fine.

use std::io::{IsTerminal, Write};
use std::path::Path;
use std::process::Command;

use crate::args::Args;
use crate::{Outcome, shell};

/// Oldest GStreamer that has what the plugin calls.
const GSTREAMER: &str = "1.20";

/// The Python that Debian's `python3-gi` belongs to.
pub const PYTHON: &str = "/usr/bin/python3";

const HELP: &str = "\
cargo xtask setup [--for build|demo|test|tpu] [--yes]

Looks for everything the project needs besides Rust and installs what is missing with apt-get:
  build   pkg-config and the development files of GStreamer >= 1.20
  demo    also GStreamer's tools, basic plugins and what draws text
  test    also the plugins, RTSP server and Python bindings that pipelines/ use (default)
  tpu     what the compiler for Sophgo's TPUs starts, and nothing else

It prints the apt-get line before it runs it, and asks once; with --yes or CI=true, and where nobody is
there to answer, it goes on without. It needs root or sudo for that. Where it cannot install, it says
which packages to install.";

/// How much of it a command needs; each level holds the one before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// To compile the plugin.
    Build,
    /// To run it in a pipeline.
    Demo,
    /// To run everything in `pipelines/` and `tests/`.
    Test,
    /// To compile for Sophgo's TPUs; apart from the others.
    Tpu,
}

impl Level {
    /// Whether what `need` names is part of this.
    fn holds(self, need: Self) -> bool {
        if self == Self::Tpu || need == Self::Tpu {
            self == need
        } else {
            need <= self
        }
    }
}

/// How to find out whether something is there.
enum Probe {
    /// A program on the search path.
    Program(&'static str),
    /// A library that `pkg-config` knows, of at least [`GSTREAMER`].
    Library(&'static str),
    /// A GStreamer element.
    Element(&'static str),
    /// A name space of GObject introspection of version 1.0, and what has to be there of it.
    Python(&'static str, &'static str),
}

struct Need {
    level: Level,
    probe: Probe,
    package: &'static str,
}

const fn need(level: Level, probe: Probe, package: &'static str) -> Need {
    Need {
        level,
        probe,
        package,
    }
}

const NEEDS: &[Need] = &[
    need(Level::Build, Probe::Program("cc"), "gcc"),
    need(Level::Build, Probe::Program("pkg-config"), "pkg-config"),
    need(
        Level::Build,
        Probe::Library("gstreamer-1.0"),
        "libgstreamer1.0-dev",
    ),
    need(
        Level::Build,
        Probe::Library("gstreamer-video-1.0"),
        "libgstreamer-plugins-base1.0-dev",
    ),
    need(
        Level::Demo,
        Probe::Program("gst-inspect-1.0"),
        "gstreamer1.0-tools",
    ),
    need(
        Level::Demo,
        Probe::Element("videotestsrc"),
        "gstreamer1.0-plugins-base",
    ),
    need(
        Level::Demo,
        Probe::Element("autovideosink"),
        "gstreamer1.0-plugins-good",
    ),
    need(Level::Demo, Probe::Element("textoverlay"), "gstreamer1.0-x"),
    need(
        Level::Test,
        Probe::Element("webvttenc"),
        "gstreamer1.0-plugins-bad",
    ),
    need(
        Level::Test,
        Probe::Element("x264enc"),
        "gstreamer1.0-plugins-ugly",
    ),
    // Looks at the files that pipelines/ write.
    need(Level::Test, Probe::Program("ffprobe"), "ffmpeg"),
    need(
        Level::Test,
        Probe::Element("avdec_h264"),
        "gstreamer1.0-libav",
    ),
    // Lists of structures as properties: introspection alone has the type, and cannot make one.
    need(
        Level::Test,
        Probe::Python("Gst", "Gst.ValueArray([])"),
        "python3-gst-1.0",
    ),
    need(
        Level::Test,
        Probe::Python("GstRtspServer", "GstRtspServer.RTSPServer"),
        "gir1.2-gst-rtsp-server-1.0",
    ),
    // With GStreamer 1.24 and newer the same package has GstAnalytics.
    need(
        Level::Test,
        Probe::Python("GstPlay", "GstPlay.Play"),
        "gir1.2-gst-plugins-bad-1.0",
    ),
    need(Level::Tpu, Probe::Program("python3"), "python3"),
    need(Level::Tpu, Probe::Program("g++"), "g++"),
    need(Level::Tpu, Probe::Program("make"), "make"),
    need(Level::Tpu, Probe::Program("readelf"), "binutils"),
    // With GNU's parallel, and not with the program of that name in moreutils.
    need(Level::Tpu, Probe::Program("sem"), "parallel"),
];

impl Need {
    /// What it is, for the user.
    fn name(&self) -> String {
        match self.probe {
            Probe::Program(name) => format!("program {name}"),
            Probe::Library(name) => format!("library {name} >= {GSTREAMER}, with headers"),
            Probe::Element(name) => format!("GStreamer element {name}"),
            Probe::Python(name, _) => format!("Python binding of {name}"),
        }
    }

    fn is_met(&self) -> bool {
        match self.probe {
            Probe::Program(name) => shell::on_path(name),
            Probe::Library(name) => {
                shell::succeeds(shell::program("pkg-config").arg(format!("{name} >= {GSTREAMER}")))
            }
            Probe::Element(name) => {
                shell::succeeds(shell::program("gst-inspect-1.0").args(["--exists", name]))
            }
            Probe::Python(name, expression) => shell::succeeds(shell::program(PYTHON).args([
                "-c",
                &format!(
                    "import gi; gi.require_version('{name}', '1.0')\n\
                     from gi.repository import {name}; {expression}"
                ),
            ])),
        }
    }
}

/// The packages that a level installs.
#[cfg(test)]
pub fn packages(level: Level) -> Vec<&'static str> {
    let needs = NEEDS.iter().filter(|need| level.holds(need.level));
    needs.map(|need| need.package).collect()
}

/// `cargo xtask setup`.
///
/// # Errors
/// A sentence that names what is missing and how to get it.
pub fn command(mut args: Args) -> Outcome {
    if args.help(HELP) {
        return Ok(());
    }
    let level = match args.value::<String>("--for")?.as_deref() {
        Some("build") => Level::Build,
        Some("demo") => Level::Demo,
        Some("test") | None => Level::Test,
        Some("tpu") => Level::Tpu,
        Some(other) => return Err(format!("--for cannot be `{other}`")),
    };
    let yes = args.flag("--yes");
    args.finish()?;
    ensure(level, yes)
}

/// Makes sure that everything up to `level` is there.
///
/// # Errors
/// A sentence that names what is missing and how to get it.
pub fn ensure(level: Level, yes: bool) -> Outcome {
    if level == Level::Tpu {
        println!("Looking for what the compiler for TPUs needs");
    } else {
        println!("Looking for GStreamer >= {GSTREAMER} and what goes with it");
    }
    let missing = missing(level);
    if missing.is_empty() {
        println!("Everything is there.");
        return Ok(());
    }
    println!("Missing:");
    for need in &missing {
        println!("  {:<52} {}", need.name(), need.package);
    }
    let packages: Vec<&str> = missing.iter().map(|need| need.package).collect();
    install(&packages, yes)?;
    let still: Vec<&Need> = NEEDS
        .iter()
        .filter(|need| level.holds(need.level) && !need.is_met())
        .collect();
    match still.first() {
        None => {
            println!("Everything is there now.");
            Ok(())
        }
        Some(need) => Err(format!(
            "{} is still missing after {} was installed; vlmcaption needs GStreamer {GSTREAMER} or \
             newer (Debian 12, Ubuntu 22.04)",
            need.name(),
            need.package
        )),
    }
}

fn missing(level: Level) -> Vec<&'static Need> {
    NEEDS
        .iter()
        .filter(|need| level.holds(need.level) && !need.is_met())
        .collect()
}

/// Installs Debian packages, after asking where somebody can answer.
fn install(packages: &[&str], yes: bool) -> Outcome {
    let by_hand = format!(
        "apt-get install --no-install-recommends {}",
        packages.join(" ")
    );
    if !shell::on_path("apt-get") {
        let system = system_name().unwrap_or_else(|| "this system".into());
        return Err(format!(
            "I can install packages on Debian and Ubuntu only, and {system} has no apt-get.\nInstall \
             what is listed above with your package manager (the names are Debian's), then run this \
             again."
        ));
    }
    let way = Way::choose(Rights::look(), std::io::stdin().is_terminal())
        .map_err(|reason| format!("{reason} As root, run\n  {by_hand}\nthen run this again."))?;
    let sudo = if way.prefix.is_empty() { "" } else { "sudo " };
    println!("To install them I run\n  {sudo}apt-get update\n  {sudo}{by_hand}");
    if !way.asks {
        println!("Nobody is there to ask, so I go on.");
    } else if !yes && !shell::unattended() && !ask("Shall I? [Y/n] ")? {
        return Err("then install them yourself, and run this again".into());
    }
    let apt = |arguments: &[&str]| {
        let mut words = way.prefix.to_vec();
        words.extend(["env", "DEBIAN_FRONTEND=noninteractive", "apt-get"]);
        words.extend(["-o", "DPkg::Lock::Timeout=120"]);
        words.extend(arguments);
        let mut command: Command = shell::program(words[0]);
        command.args(&words[1..]);
        shell::run(&mut command)
    };
    let updated = apt(&["update"]);
    let mut arguments = vec!["install", "--yes", "--no-install-recommends"];
    arguments.extend(packages);
    apt(&arguments).map_err(|reason| {
        let network = if updated.is_err() {
            " The package lists could not be fetched either: is this machine offline?"
        } else {
            ""
        };
        format!(
            "{reason}.{network}\nThe packages are {}.\nInstall them with `{sudo}{by_hand}`, then run \
             this again.",
            packages.join(", ")
        )
    })
}

/// What this user may do to the system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rights {
    /// Everything.
    Root,
    /// Everything, with sudo and no password.
    Sudo,
    /// What sudo allows whoever knows the password.
    Password,
    /// There is no sudo.
    None,
}

impl Rights {
    fn look() -> Self {
        if shell::output_of(shell::program("id").arg("-u")).is_ok_and(|id| id.trim() == "0") {
            Self::Root
        } else if !shell::on_path("sudo") {
            Self::None
        } else if shell::succeeds(shell::program("sudo").args(["--non-interactive", "true"])) {
            Self::Sudo
        } else {
            Self::Password
        }
    }
}

/// How packages are installed.
#[derive(Debug, PartialEq, Eq)]
struct Way {
    /// What stands before `apt-get`.
    prefix: &'static [&'static str],
    /// Whether somebody is there who can be asked.
    asks: bool,
}

impl Way {
    /// The way for these rights; without a terminal nobody can be asked, nor type a password.
    ///
    /// # Errors
    /// A sentence that says why there is none.
    fn choose(rights: Rights, terminal: bool) -> Result<Self, &'static str> {
        let prefix: &[&str] = match (rights, terminal) {
            (Rights::Root, _) => &[],
            (Rights::Sudo, _) => &["sudo", "--non-interactive"],
            (Rights::Password, true) => &["sudo"],
            (Rights::Password, false) => {
                return Err(
                    "Installing packages needs root: sudo wants a password, and there is no \
                            terminal to type it.",
                );
            }
            (Rights::None, _) => {
                return Err("Installing packages needs root, and there is no sudo.");
            }
        };
        Ok(Self {
            prefix,
            asks: terminal,
        })
    }
}

/// Asks a yes-or-no question; an empty answer is yes.
fn ask(question: &str) -> Result<bool, String> {
    print!("{question}");
    let read = || -> std::io::Result<String> {
        std::io::stdout().flush()?;
        let mut answer = String::new();
        std::io::stdin().read_line(&mut answer)?;
        Ok(answer)
    };
    let answer = read().map_err(|error| format!("no answer: {error}"))?;
    Ok(matches!(
        answer.trim().to_ascii_lowercase().as_str(),
        "" | "y" | "yes"
    ))
}

/// The name that the system gives itself, `Debian GNU/Linux 12 (bookworm)`.
fn system_name() -> Option<String> {
    let text = std::fs::read_to_string(Path::new("/etc/os-release")).ok()?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("PRETTY_NAME="))?;
    Some(line.trim_matches('"').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_higher_level_asks_for_everything_below_it() {
        assert!(Level::Test.holds(Level::Build) && Level::Test.holds(Level::Demo));
        assert!(Level::Demo.holds(Level::Build) && !Level::Build.holds(Level::Demo));
    }

    #[test]
    fn the_compiler_for_tpus_is_nobodys_need_but_its_own() {
        assert!(Level::Tpu.holds(Level::Tpu));
        assert!(!Level::Test.holds(Level::Tpu) && !Level::Tpu.holds(Level::Build));
    }

    #[test]
    fn who_may_install_and_cannot_be_asked_goes_on() {
        for rights in [Rights::Root, Rights::Sudo] {
            let way = Way::choose(rights, false).unwrap();
            assert!(!way.asks);
            assert!(way.prefix.is_empty() || way.prefix.contains(&"--non-interactive"));
        }
    }

    #[test]
    fn it_stops_only_where_it_cannot_install() {
        assert!(Way::choose(Rights::Password, false).is_err());
        assert!(Way::choose(Rights::None, false).is_err());
        assert!(Way::choose(Rights::None, true).is_err());
        assert_eq!(
            Way::choose(Rights::Password, true),
            Ok(Way {
                prefix: &["sudo"],
                asks: true
            })
        );
    }

    #[test]
    fn somebody_at_a_terminal_is_asked() {
        assert!(Way::choose(Rights::Root, true).unwrap().asks);
        assert!(Way::choose(Rights::Sudo, true).unwrap().asks);
    }

    #[test]
    fn no_package_is_named_twice() {
        let mut packages: Vec<&str> = NEEDS.iter().map(|need| need.package).collect();
        packages.sort_unstable();
        let count = packages.len();
        packages.dedup();
        assert_eq!(packages.len(), count);
    }
}
