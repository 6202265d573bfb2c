// SPDX-License-Identifier: MPL-2.0

//! Which commit is packed, what it is called, and where its files are.

use std::fs;
use std::path::{Path, PathBuf};

use super::arch::Arch;
use super::package::Package;
use crate::shell;

/// Where the sources are unpacked and compiled, in the cache: a place for each architecture, so that both
/// can be made at once.
pub fn build(arch: Arch) -> &'static str {
    match arch {
        Arch::Amd64 => "build",
        Arch::Arm64 => "build-arm64",
    }
}

/// One commit on its way into packages.
pub struct Release {
    /// As Debian compares versions: `0.1.0`, or `0.1.0~git20261129143000.58c4a9c12` before its tag.
    pub version: String,
    /// The whole name of the commit.
    pub commit: String,
    /// When the commit was made, in seconds since 1970; the time of every file in the packages.
    pub epoch: String,
    /// What is published.
    pub out: PathBuf,
    /// What the next run need not do again.
    cache: PathBuf,
}

impl Release {
    /// The commit that is checked out.
    ///
    /// # Errors
    /// A sentence if this is no clone of the repository.
    pub fn of_head(out: Option<PathBuf>) -> Result<Self, String> {
        let manifest = shell::root().join("Cargo.toml");
        let manifest =
            fs::read_to_string(&manifest).map_err(|e| format!("{}: {e}", manifest.display()))?;
        let next = workspace_version(&manifest).ok_or("Cargo.toml has no version")?;
        let commit = git(&["rev-parse", "HEAD"])?;
        let epoch = git(&["log", "-1", "--format=%ct"])?;
        let time = git(&[
            "log",
            "-1",
            "--format=%cd",
            "--date=format-local:%Y%m%d%H%M%S",
        ])?;
        let tagged = git(&["tag", "--points-at", "HEAD"])?
            .lines()
            .any(|tag| tag == format!("v{next}"));
        let out = match out {
            Some(out) => std::path::absolute(out).map_err(|e| format!("--out: {e}"))?,
            None => shell::target().join("dist"),
        };
        let cache = cache()?;
        for folder in [&out, &cache] {
            fs::create_dir_all(folder).map_err(|e| format!("{}: {e}", folder.display()))?;
        }
        Ok(Self {
            version: version(next, tagged, &time, &commit),
            commit,
            epoch,
            out,
            cache,
        })
    }

    /// Whether no other commit can have files of these names.
    pub fn is_named_by_commit(&self) -> bool {
        self.version.ends_with(short(&self.commit))
    }

    /// The folder in archives, and the first part of their names.
    pub fn name(&self) -> String {
        format!("vlmcaption-{}", self.version)
    }

    /// A package of an architecture.
    pub fn deb(&self, package: &Package, arch: Arch) -> PathBuf {
        let (name, version, arch) = (package.name, &self.version, arch.debian());
        self.out.join(format!("{name}_{version}-1_{arch}.deb"))
    }

    /// The archive for systems without apt.
    pub fn tarball(&self, arch: Arch) -> PathBuf {
        self.out
            .join(format!("{}-{}.tar.xz", self.name(), arch.debian()))
    }

    /// The archive of the sources.
    pub fn source(&self) -> PathBuf {
        self.out.join(format!("{}-source.tar.xz", self.name()))
    }

    /// The folder for what is kept between runs.
    pub fn cache(&self) -> &Path {
        &self.cache
    }

    /// Where the sources are unpacked for `build`: the same for all commits, so that crates need not be
    /// compiled again.
    pub fn unpacked(&self, build: &str) -> PathBuf {
        self.cache.join(build).join("source")
    }

    /// Cargo's output folder of `build`.
    pub fn target(&self, build: &str) -> PathBuf {
        self.cache.join(build).join("target")
    }
}

/// `${XDG_CACHE_HOME:-~/.cache}/vlmcaption-dist`.
fn cache() -> Result<PathBuf, String> {
    let folder = shell::cache().map(|folder| folder.join("vlmcaption-dist"));
    folder.ok_or_else(|| "HOME is not set".into())
}

/// What git prints, without the end of the line.
fn git(words: &[&str]) -> Result<String, String> {
    let mut command = shell::program("git");
    command.args(words).env("TZ", "UTC");
    Ok(shell::output_of(&mut command)?.trim().to_owned())
}

/// The version that the packages of the workspace have.
fn workspace_version(manifest: &str) -> Option<&str> {
    let section = manifest.split("[workspace.package]").nth(1)?;
    let section = section.split("\n[").next()?;
    let line = section
        .lines()
        .find_map(|line| line.strip_prefix("version = "))?;
    Some(line.trim().trim_matches('"'))
}

/// Debian's `~` sorts before the end: what comes before `next` is replaced by it.
fn version(next: &str, tagged: bool, time: &str, commit: &str) -> String {
    if tagged {
        next.to_owned()
    } else {
        format!("{next}~git{time}.{}", short(commit))
    }
}

/// The beginning of a commit's name.
fn short(commit: &str) -> &str {
    &commit[..commit.len().min(9)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_gives_the_plain_version_and_any_other_commit_one_before_it() {
        assert_eq!(version("1.2.0", true, "20260102030405", "abc"), "1.2.0");
        assert_eq!(
            version("1.2.0", false, "20260102030405", "0123456789abcdef"),
            "1.2.0~git20260102030405.012345678"
        );
    }

    #[test]
    fn the_version_is_that_of_the_workspace() {
        let manifest = "[workspace]\nversion = \"9\"\n[workspace.package]\nedition = \"2024\"\n\
                        version = \"0.3.1\"\n[package]\nversion = \"8\"\n";
        assert_eq!(workspace_version(manifest), Some("0.3.1"));
    }
}
