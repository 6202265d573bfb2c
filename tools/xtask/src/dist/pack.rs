// SPDX-License-Identifier: MPL-2.0

//! Puts what was compiled and what belongs to it into Debian packages and into an archive.

use std::fs;
use std::path::{Path, PathBuf};

use super::arch::Arch;
use super::compile;
use super::inventory::{self, DEB};
use super::manual::{self, Head};
use super::package::{self, PLUGIN, PROGRAMS, Package, REPLAY, WATCH};
use super::release::Release;
use super::source;
use crate::{Outcome, shell};

/// Where files are made that the packages take, in the sources, in a folder for each; manifests name them.
const MADE: &str = "packaging/made";
const LICENCES: &str = "THIRD-PARTY-LICENSES.md";
const MATERIALS: &str = "materials.cdx.json";

/// What `vlmcaption-watch generate` takes for each of its papers.
const WORDS: [&str; 4] = ["man", "bash", "fish", "zsh"];

/// Folders and files of the sources that the archive holds.
const TAKEN: [&str; 4] = ["docs", "pipelines", "LICENSE", "CHANGELOG.md"];

/// Makes what the packages hold: the man page, the licences, the bill of materials, Debian's changelog.
///
/// # Errors
/// A sentence that names the step that did not end well.
pub fn prepare(release: &Release, build: &str, arch: Arch) -> Outcome {
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
    papers(release, build, arch)
}

/// Makes the man pages, and what shells complete with.
fn papers(release: &Release, build: &str, arch: Arch) -> Outcome {
    let sources = release.unpacked(build);
    let date = date(release, "+%Y-%m-%d")?;
    let plugin = Head {
        name: "vlmcaption",
        section: 7,
        manual: "GStreamer elements",
        version: &release.version,
        date: &date,
        summary: "tells what a camera sees, with a vision-language model",
        usage: None,
    };
    let documents = [
        read(&sources.join("docs/element.md"))?,
        read(&sources.join("docs/properties.md"))?,
    ];
    let page = manual::page(&plugin, &documents.each_ref().map(String::as_str));
    write(&made(release, build, &PLUGIN).join(PLUGIN.papers[0]), &page)?;

    let program = compile::native(release, arch, build, REPLAY.files[0])?;
    let help = shell::output_of(shell::program(&program).arg("--help"))?;
    let replay = Head {
        name: REPLAY.name,
        section: 1,
        manual: "vlmcaption",
        summary: "makes captions again from their records",
        usage: Some(&help),
        ..plugin
    };
    let page = manual::page(&replay, &[&read(&sources.join("docs/evidence.md"))?]);
    write(&made(release, build, &REPLAY).join(REPLAY.papers[0]), &page)?;

    let program = compile::native(release, arch, build, WATCH.files[0])?;
    for (word, name) in WORDS.into_iter().zip(WATCH.papers) {
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
    if version.is_some() {
        // It is installed once, and thrown away.
        command.arg("--fast");
    }
    shell::run(&mut command)?;
    Ok(file)
}

/// Makes the archive for systems without apt, of what was compiled into `folder`.
///
/// # Errors
/// A sentence that names the step that did not end well.
pub fn tarball(release: &Release, build: &str, arch: Arch, folder: &Path) -> Outcome {
    let name = format!("{}-{}", release.name(), arch.debian());
    let parent = release.cache().join(build).join("archive");
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
    let others = [LICENCES, MATERIALS];
    for name in PLUGIN.papers.iter().chain(&others) {
        copy(
            &made(release, build, &PLUGIN).join(name),
            archive.join(name),
        )?;
    }
    for program in PROGRAMS {
        let folder_of_it = archive.join(program.folder);
        fs::create_dir_all(&folder_of_it)
            .map_err(|error| format!("{}: {error}", folder_of_it.display()))?;
        for name in program.papers.iter().chain(&others) {
            let from = made(release, build, program).join(name);
            copy(&from, folder_of_it.join(name))?;
        }
        for name in program.beside {
            let from = sources.join("packaging").join(name);
            copy(&from, folder_of_it.join(name))?;
        }
        for file in program.compiled(folder) {
            copy(&file, folder_of_it.clone())?;
        }
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
