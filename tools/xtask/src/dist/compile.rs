// SPDX-License-Identifier: MPL-2.0

//! Compiles what is packed, from the archive of the sources and without a network.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::arch::Arch;
use super::package;
use super::release::Release;
use super::source;
use crate::{Outcome, shell};

/// The Debian whose Rust compiles where this machine's Rust has no library for an architecture.
const SUITE: &str = "forky";

/// Compiles the packages' programs of the sources of `build`; the folder where they are.
///
/// # Errors
/// A sentence that says what is missing, or that cargo did not end well.
pub fn packages(release: &Release, build: &str, arch: Arch) -> Result<PathBuf, String> {
    // One after the other: together, each would get the features that another asks of a crate.
    for package in package::ALL {
        for name in package.crates {
            compile(
                release,
                build,
                arch,
                &["build", "--release", "--package", name],
            )?;
        }
    }
    Ok(release.target(build).join(arch.triple()).join("release"))
}

/// A program of the packages that runs on this machine. For another architecture than this machine's the
/// packages' programs are compiled for this one as well.
///
/// # Errors
/// A sentence if no packages are made for this machine, or cargo did not end well.
pub fn native(release: &Release, arch: Arch, build: &str, name: &str) -> Result<PathBuf, String> {
    let here = Arch::here().ok_or("no packages are made for this machine's architecture")?;
    let folder = if here == arch {
        release.target(build).join(arch.triple()).join("release")
    } else {
        let build = super::release::build(here);
        println!("Compiling {name} for this machine, which says what is in its man page");
        // What was made beside these sources is in this machine's packages.
        if !source::is_unpacked(release, build) {
            source::unpack(release, build)?;
        }
        packages(release, build, here)?
    };
    Ok(folder.join(name))
}

/// Compiles the test program that compares logits and tokens with the reference. Its crates are those of the
/// packages, which are compiled.
///
/// # Errors
/// A sentence that says what is missing, or that cargo did not end well.
pub fn golden(release: &Release, build: &str, arch: Arch) -> Result<PathBuf, String> {
    let words = [
        "test",
        "--release",
        "--no-run",
        "--package",
        "golden-check",
        "--lib",
    ];
    compile(release, build, arch, &words)?;
    let folder = release
        .target(build)
        .join(arch.triple())
        .join("release/deps");
    // The newest: one of another commit may lie beside it.
    let fail = |error| format!("{}: {error}", folder.display());
    let mut found = Vec::new();
    for entry in fs::read_dir(&folder).map_err(fail)? {
        let entry = entry.map_err(fail)?;
        let file = entry.file_name().to_string_lossy().into_owned();
        if file.starts_with("golden_check-") && !file.contains('.') {
            let time = entry.metadata().and_then(|data| data.modified());
            found.push((time.map_err(fail)?, entry.path()));
        }
    }
    found.sort();
    let newest = found.pop().ok_or("cargo made no test program")?;
    Ok(newest.1)
}

/// The folder that the plugin is linked against; it is made if it is not there, or was by another script.
///
/// # Errors
/// A sentence if packages cannot be fetched.
pub fn sysroot(release: &Release, arch: Arch) -> Result<PathBuf, String> {
    let folder = release.cache().join(format!("sysroot-{}", arch.debian()));
    let script = shell::root().join("packaging/sysroot");
    let read = |path: &Path| fs::read(path).unwrap_or_default();
    if read(&folder.join("made-by")) != read(&script) {
        println!(
            "Fetching what the plugin is linked against, for {}",
            arch.debian()
        );
        let mut make = shell::program(script);
        shell::run(make.arg(arch.debian()).arg(&folder))?;
    }
    Ok(folder)
}

/// Runs a command of cargo for an architecture.
fn compile(release: &Release, build: &str, arch: Arch, words: &[&str]) -> Outcome {
    let sysroot = sysroot(release, arch)?;
    let script = release.unpacked(build).join("packaging/compile");
    let mut command = if has_library(arch) {
        Command::new(&script)
    } else {
        println!(
            "This Rust has no standard library of {}: Debian's compiles, in a root of {SUITE}",
            arch.triple()
        );
        let mut bare = shell::program(shell::root().join(".ci/bare"));
        bare.args(["--plain", "--show"])
            .arg(release.cache())
            .args([SUITE, "env", "VLMCAPTION_DEBIAN_RUST=yes"])
            .arg(&script);
        bare
    };
    command
        .arg(arch.debian())
        .arg(sysroot)
        .arg(release.target(build))
        .args(words);
    shell::run(&mut command)
}

/// Whether Rust on this machine compiles for `arch`.
fn has_library(arch: Arch) -> bool {
    let mut rustc = shell::program("rustc");
    rustc.args(["--print", "target-libdir", "--target", arch.triple()]);
    shell::output_of(&mut rustc).is_ok_and(|folder| PathBuf::from(folder.trim()).is_dir())
}
