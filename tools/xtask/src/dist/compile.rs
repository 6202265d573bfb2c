// SPDX-License-Identifier: MPL-2.0

//! Compiles the plugin, from the archive of the sources and without a network.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use super::arch::Arch;
use super::release::Release;
use crate::{Outcome, shell};

/// The Debian whose Rust compiles where this machine's Rust has no library for an architecture.
const SUITE: &str = "forky";

/// Compiles the plugin of the sources of `build`.
///
/// # Errors
/// A sentence that says what is missing, or that cargo did not end well.
pub fn plugin(release: &Release, build: &str, arch: Arch) -> Result<PathBuf, String> {
    compile(release, build, arch, &[])?;
    let folder = release.target(build).join(arch.triple()).join("release");
    Ok(folder.join("libgstvlmcaption.so"))
}

/// Compiles a test program of the sources of `build`.
///
/// # Errors
/// A sentence that says what is missing, or that cargo did not end well.
pub fn test(release: &Release, build: &str, arch: Arch, name: &str) -> Result<PathBuf, String> {
    let words = ["test", "--release", "--no-run", "--test", name];
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
        if file.starts_with(&format!("{name}-")) && !file.contains('.') {
            let time = entry.metadata().and_then(|data| data.modified());
            found.push((time.map_err(fail)?, entry.path()));
        }
    }
    found.sort();
    let newest = found.pop().ok_or("cargo made no test program")?;
    Ok(newest.1)
}

/// The folder that the plugin is linked against; it is made if it is not there.
///
/// # Errors
/// A sentence if packages cannot be fetched.
pub fn sysroot(release: &Release, arch: Arch) -> Result<PathBuf, String> {
    let folder = release.cache().join(format!("sysroot-{}", arch.debian()));
    if !folder.is_dir() {
        println!(
            "Fetching what the plugin is linked against, for {}",
            arch.debian()
        );
        let mut make = shell::program(shell::root().join("packaging/sysroot"));
        shell::run(make.arg(arch.debian()).arg(&folder))?;
    }
    Ok(folder)
}

/// Runs a command of cargo for an architecture, `build` of the plugin if there are no `words`.
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
