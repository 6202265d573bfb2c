// SPDX-License-Identifier: MPL-2.0

//! Puts what was compiled and what belongs to it into Debian packages and into an archive.

use std::fs;
use std::path::{Path, PathBuf};

use super::arch::Arch;
use super::compile;
use super::inventory::{self, DEB};
use super::manual;
use super::package::{self, PLUGIN, Package, WATCH};
use super::release::Release;
use super::source;
use crate::{Outcome, shell};

/// Where files are made that the packages take, in the sources, in a folder for each; manifests name them.
const MADE: &str = "packaging/made";
const MANUAL: &str = "vlmcaption.7";
const LICENCES: &str = "THIRD-PARTY-LICENSES.md";
const MATERIALS: &str = "materials.cdx.json";

/// What `vlmcaption-watch generate` writes, by its word for it.
const PAPERS: [(&str, &str); 4] = [
    ("man", "vlmcaption-watch.1"),
    ("bash", "vlmcaption-watch.bash"),
    ("fish", "vlmcaption-watch.fish"),
    ("zsh", "_vlmcaption-watch"),
];

/// Folders and files of the sources that the archive holds.
const TAKEN: [&str; 4] = ["docs", "pipelines", "LICENSE", "CHANGELOG.md"];

/// Makes what the packages hold: the man page, the licences, the bill of materials, Debian's changelog.
///
/// # Errors
/// A sentence that names the step that did not end well.
pub fn prepare(release: &Release, build: &str, arch: Arch) -> Outcome {
    let sources = release.unpacked(build);
    let stamp = date(release, "+%a, %d %b %Y %H:%M:%S +0000")?;
    for package in package::ALL {
        let made = made(release, build, package);
        fs::create_dir_all(&made).map_err(|error| format!("{}: {error}", made.display()))?;
        let changelog = changelog(package.name, &release.version, &stamp);
        write(&made.join("changelog"), &changelog)?;
        inventory::licences(release, build, package, &made.join(LICENCES))?;
    }
    inventory::materials(release, build, arch, |package| {
        made(release, build, package).join(MATERIALS)
    })?;
    let summary = "tells what a camera sees, with a vision-language model";
    let documents = [
        read(&sources.join("docs/element.md"))?,
        read(&sources.join("docs/properties.md"))?,
    ];
    let date = date(release, "+%Y-%m-%d")?;
    let page = manual::page(
        &release.version,
        &date,
        summary,
        &documents.each_ref().map(String::as_str),
    );
    write(&made(release, build, &PLUGIN).join(MANUAL), &page)?;
    papers(release, build, arch)
}

/// Has `vlmcaption-watch` write its man page and what shells complete it with.
fn papers(release: &Release, build: &str, arch: Arch) -> Outcome {
    let program = compile::native(release, arch, build, WATCH.files[0])?;
    for (word, name) in PAPERS {
        let text = shell::output_of(shell::program(&program).args(["generate", word]))?;
        write(&made(release, build, &WATCH).join(name), &text)?;
    }
    Ok(())
}

/// Makes the Debian packages of an architecture.
///
/// # Errors
/// A sentence if `cargo-deb` does not end well.
pub fn debs(release: &Release, build: &str, arch: Arch) -> Outcome {
    for package in package::ALL {
        deb(release, build, package, arch, None)?;
    }
    Ok(())
}

/// Makes a Debian package, with `version` in place of the release's if there is one.
///
/// # Errors
/// A sentence if `cargo-deb` does not end well.
pub fn deb(
    release: &Release,
    build: &str,
    package: &Package,
    arch: Arch,
    version: Option<&str>,
) -> Result<PathBuf, String> {
    let file = match version {
        None => release.deb(package, arch),
        Some(version) => {
            let name = format!("older-{}_{version}_{}.deb", package.name, arch.debian());
            release.cache().join(name)
        }
    };
    let mut command = DEB.command(release, build)?;
    command
        .args(["deb", "--no-build", "--no-strip", "--offline", "--quiet"])
        .args(["--package", package.manifest()])
        .args(["--multiarch", package.multiarch, "--target", arch.triple()])
        .arg("--deb-version")
        .arg(format!("{}-1", version.unwrap_or(&release.version)))
        .arg("--output")
        .arg(&file);
    shell::run(&mut command)?;
    Ok(file)
}

/// Makes the archive for systems without apt, of what was compiled into `folder`.
///
/// # Errors
/// A sentence that names the step that did not end well.
pub fn tarball(release: &Release, build: &str, arch: Arch, folder: &Path) -> Outcome {
    let name = format!("{}-{}", release.name(), arch.debian());
    let parent = release.cache().join("archive");
    source::remove(&parent)?;
    let archive = parent.join(&name);
    let plugins = archive.join("gstreamer-1.0");
    fs::create_dir_all(&plugins).map_err(|error| format!("{}: {error}", plugins.display()))?;
    let copy = |from: &Path, to: PathBuf| {
        let mut copy = shell::program("cp");
        shell::run(copy.arg("--recursive").arg(from).arg(to))
    };
    let sources = release.unpacked(build);
    for file in PLUGIN.compiled(folder) {
        copy(&file, plugins.clone())?;
    }
    for name in TAKEN {
        copy(&sources.join(name), archive.join(name))?;
    }
    copy(
        &sources.join("packaging/archive.md"),
        archive.join("README.md"),
    )?;
    for name in [MANUAL, LICENCES, MATERIALS] {
        copy(
            &made(release, build, &PLUGIN).join(name),
            archive.join(name),
        )?;
    }
    let watch = archive.join("watch");
    fs::create_dir_all(&watch).map_err(|error| format!("{}: {error}", watch.display()))?;
    let papers = PAPERS.map(|(_, name)| name);
    for name in papers.into_iter().chain([LICENCES, MATERIALS]) {
        copy(&made(release, build, &WATCH).join(name), watch.join(name))?;
    }
    for name in ["vlmcaption-watch.service", "vlmcaption-watch.toml"] {
        copy(&sources.join("packaging").join(name), watch.join(name))?;
    }
    for file in WATCH.compiled(folder) {
        copy(&file, watch.clone())?;
    }
    source::pack(release, &parent, &name, &release.tarball(arch))?;
    source::remove(&parent)
}

/// Puts the bills of materials beside the packages.
///
/// # Errors
/// A sentence if one is not there.
pub fn materials(release: &Release, build: &str, arch: Arch) -> Outcome {
    for package in package::ALL {
        let from = made(release, build, package).join(MATERIALS);
        let (name, version, arch) = (package.name, &release.version, arch.debian());
        let to = release
            .out
            .join(format!("{name}-{version}-{arch}.cdx.json"));
        fs::copy(&from, to).map_err(|error| format!("{}: {error}", from.display()))?;
    }
    Ok(())
}

/// Where files of a package are made.
fn made(release: &Release, build: &str, package: &Package) -> PathBuf {
    release.unpacked(build).join(MADE).join(package.name)
}

fn read(path: &Path) -> Result<String, String> {
    fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))
}

fn write(path: &Path, text: &str) -> Outcome {
    fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()))
}

/// The time of the commit, as `date` writes it.
fn date(release: &Release, format: &str) -> Result<String, String> {
    let mut date = shell::program("date");
    date.env("LC_ALL", "C").arg("--utc");
    let text = shell::output_of(date.arg(format!("--date=@{}", release.epoch)).arg(format))?;
    Ok(text.trim().to_owned())
}

/// Debian's changelog; what changed is in `CHANGELOG.md` beside it.
fn changelog(package: &str, version: &str, stamp: &str) -> String {
    format!(
        "{package} ({version}-1) unstable; urgency=medium\n\n  \
         * What changed is in /usr/share/doc/{package}/NEWS.md.\n\n \
         -- vlmcaption maintainers <vlmcaption@users.noreply.github.com>  {stamp}\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_changelog_has_debians_form() {
        let text = changelog(
            "gstreamer1.0-vlmcaption",
            "1.0",
            "Thu, 01 Jan 2026 00:00:00 +0000",
        );
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(
            lines[0],
            "gstreamer1.0-vlmcaption (1.0-1) unstable; urgency=medium"
        );
        assert!(lines[2].starts_with("  * "));
        assert!(
            lines[4].starts_with(" -- ")
                && lines[4].ends_with(">  Thu, 01 Jan 2026 00:00:00 +0000")
        );
    }
}
