// SPDX-License-Identifier: MPL-2.0

//! What is in the packages: a bill of materials for programs, and the licences for people.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::arch::Arch;
use super::package::{self, Package};
use super::release::Release;
use crate::{Outcome, shell};

/// A program of cargo's that is installed into the cache, in this version.
pub struct Tool {
    /// The crate; the program has the same name.
    pub name: &'static str,
    version: &'static str,
    features: &'static str,
}

/// Makes the Debian packages.
pub const DEB: Tool = Tool {
    name: "cargo-deb",
    version: "3.8.0",
    features: "",
};
const CYCLONEDX: Tool = Tool {
    name: "cargo-cyclonedx",
    version: "0.5.9",
    features: "",
};
const ABOUT: Tool = Tool {
    name: "cargo-about",
    version: "0.9.3",
    features: "cli",
};

impl Tool {
    /// The program, which is compiled if it is not there in this version.
    ///
    /// # Errors
    /// A sentence if it cannot be installed.
    pub fn ready(&self, release: &Release) -> Result<PathBuf, String> {
        let root = release.cache().join("tools");
        let listed = fs::read_to_string(root.join(".crates.toml")).unwrap_or_default();
        if !listed.contains(&format!("\"{} {} ", self.name, self.version)) {
            println!(
                "Installing {} {} into {}: once",
                self.name,
                self.version,
                root.display()
            );
            let mut install = shell::cargo();
            install
                .args(["install", "--locked", "--quiet", self.name])
                .args(["--version", self.version, "--features", self.features])
                .arg("--root")
                .arg(&root)
                // They run for seconds: to optimise them across crates takes longer.
                .env("CARGO_PROFILE_RELEASE_LTO", "off")
                // Not among what is built of this project.
                .env("CARGO_TARGET_DIR", release.cache().join("tools-target"));
            shell::run(&mut install)?;
            super::source::remove(&release.cache().join("tools-target"))?;
        }
        Ok(root.join("bin").join(self.name))
    }

    /// The program in the sources of `build`, so that it works without a network and stamps the time of
    /// the commit.
    ///
    /// # Errors
    /// A sentence if it cannot be installed.
    pub fn command(&self, release: &Release, build: &str) -> Result<Command, String> {
        let mut command = Command::new(self.ready(release)?);
        command
            .current_dir(release.unpacked(build))
            .env("SOURCE_DATE_EPOCH", &release.epoch)
            .env("CARGO_NET_OFFLINE", "true")
            .env("CARGO_TARGET_DIR", release.target(build));
        Ok(command)
    }
}

/// Writes the bill of materials of each package for an architecture, in CycloneDX's JSON.
///
/// # Errors
/// A sentence if `cargo-cyclonedx` does not end well.
pub fn materials(
    release: &Release,
    build: &str,
    arch: Arch,
    file: impl Fn(&Package) -> PathBuf,
) -> Outcome {
    let mut command = CYCLONEDX.command(release, build)?;
    let name = "vlmcaption-materials";
    command
        .args(["cyclonedx", "--format", "json", "--quiet"])
        .args(["--spec-version", "1.5", "--no-build-deps"])
        .args(["--override-filename", name, "--target", arch.triple()]);
    shell::run(&mut command)?;
    // Where it was built is nobody's business, and would differ from folder to folder.
    let here = format!("path+file://{}", release.unpacked(build).display());
    for package in package::ALL {
        // There is one for each crate of the workspace.
        let folder = release.unpacked(build).join(package.folder);
        let made = folder.join(format!("{name}.json"));
        let fail = |error| format!("{}: {error}", made.display());
        let text = fs::read_to_string(&made).map_err(fail)?;
        let text = text.replace(&here, "path+file:///vlmcaption");
        let file = file(package);
        fs::write(&file, text).map_err(|error| format!("{}: {error}", file.display()))?;
    }
    Ok(())
}

/// Writes the licences of what is in a package.
///
/// # Errors
/// A sentence if `cargo-about` does not end well, or a licence is not accepted.
pub fn licences(release: &Release, build: &str, package: &Package, file: &Path) -> Outcome {
    let mut command = ABOUT.command(release, build)?;
    command
        .args(["about", "generate", "--locked", "--offline", "--fail"])
        .args(["--config", "packaging/about.toml", "--manifest-path"])
        .arg(Path::new(package.folder).join("Cargo.toml"))
        .arg("--output-file")
        .arg(file)
        .arg("packaging/about.hbs");
    shell::run(&mut command)
}
