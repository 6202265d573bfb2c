// SPDX-License-Identifier: MPL-2.0

//! Puts the plugin and what belongs to it into a Debian package and into an archive.

use std::fs;
use std::path::{Path, PathBuf};

use super::arch::Arch;
use super::inventory::{self, DEB};
use super::manual;
use super::release::Release;
use super::source;
use crate::{Outcome, shell};

/// Where files are made that the packages take, in the sources; `Cargo.toml` names them there.
const MADE: &str = "packaging/made";

/// Folders and files of the sources that the archive holds.
const TAKEN: [&str; 4] = ["docs", "pipelines", "LICENSE", "CHANGELOG.md"];

/// Makes what both packages hold: the man page, the licences, the bill of materials, Debian's changelog.
///
/// # Errors
/// A sentence that names the step that did not end well.
pub fn prepare(release: &Release, build: &str, arch: Arch) -> Outcome {
    let sources = release.unpacked(build);
    let made = sources.join(MADE);
    fs::create_dir_all(&made).map_err(|error| format!("{}: {error}", made.display()))?;
    let read = |file: &str| {
        let path = sources.join(file);
        fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))
    };
    let write = |file: &str, text: String| {
        let path = made.join(file);
        fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()))
    };
    let summary = "tells what a camera sees, with a vision-language model";
    let documents = [read("docs/element.md")?, read("docs/properties.md")?];
    let date = date(release, "+%Y-%m-%d")?;
    let documents = [documents[0].as_str(), documents[1].as_str()];
    let page = manual::page(&release.version, &date, summary, &documents);
    write("vlmcaption.7", page)?;
    let stamp = self::date(release, "+%a, %d %b %Y %H:%M:%S +0000")?;
    write("changelog", changelog(&release.version, &stamp))?;
    inventory::licences(release, build, &made.join("THIRD-PARTY-LICENSES.md"))?;
    let materials = made.join("vlmcaption.cdx.json");
    inventory::materials(release, build, arch, &materials)
}

/// Makes the Debian package, with `version` in place of the release's if there is one.
///
/// # Errors
/// A sentence if `cargo-deb` does not end well.
pub fn deb(
    release: &Release,
    build: &str,
    arch: Arch,
    version: Option<&str>,
) -> Result<PathBuf, String> {
    let file = match version {
        None => release.deb(arch),
        Some(version) => {
            let name = format!("older_{version}_{}.deb", arch.debian());
            release.cache().join(name)
        }
    };
    let mut command = DEB.command(release, build)?;
    command
        .args(["deb", "--no-build", "--no-strip", "--offline", "--quiet"])
        .args(["--package", "gst-plugin-vlmcaption"])
        .args(["--multiarch", "same", "--target", arch.triple()])
        .arg("--deb-version")
        .arg(format!("{}-1", version.unwrap_or(&release.version)))
        .arg("--output")
        .arg(&file);
    shell::run(&mut command)?;
    Ok(file)
}

/// Makes the archive for systems without apt.
///
/// # Errors
/// A sentence that names the step that did not end well.
pub fn tarball(release: &Release, build: &str, arch: Arch, plugin: &Path) -> Outcome {
    let name = format!("{}-{}", release.name(), arch.debian());
    let parent = release.cache().join("archive");
    source::remove(&parent)?;
    let folder = parent.join(&name);
    let plugins = folder.join("gstreamer-1.0");
    fs::create_dir_all(&plugins).map_err(|error| format!("{}: {error}", plugins.display()))?;
    let copy = |from: &Path, to: PathBuf| {
        let mut copy = shell::program("cp");
        shell::run(copy.arg("--recursive").arg(from).arg(to))
    };
    let sources = release.unpacked(build);
    copy(plugin, plugins)?;
    for name in TAKEN {
        copy(&sources.join(name), folder.join(name))?;
    }
    copy(
        &sources.join("packaging/archive.md"),
        folder.join("README.md"),
    )?;
    for name in [
        "vlmcaption.7",
        "THIRD-PARTY-LICENSES.md",
        "vlmcaption.cdx.json",
    ] {
        copy(&sources.join(MADE).join(name), folder.join(name))?;
    }
    source::pack(release, &parent, &name, &release.tarball(arch))?;
    source::remove(&parent)
}

/// Puts the bill of materials beside the packages.
///
/// # Errors
/// A sentence if it is not there.
pub fn materials(release: &Release, build: &str, arch: Arch) -> Outcome {
    let made = release
        .unpacked(build)
        .join(MADE)
        .join("vlmcaption.cdx.json");
    let name = format!("{}-{}.cdx.json", release.name(), arch.debian());
    fs::copy(&made, release.out.join(name))
        .map(|_| ())
        .map_err(|error| format!("{}: {error}", made.display()))
}

/// The time of the commit, as `date` writes it.
fn date(release: &Release, format: &str) -> Result<String, String> {
    let mut date = shell::program("date");
    date.env("LC_ALL", "C").arg("--utc");
    let text = shell::output_of(date.arg(format!("--date=@{}", release.epoch)).arg(format))?;
    Ok(text.trim().to_owned())
}

/// Debian's changelog; what changed is in `CHANGELOG.md` beside it.
fn changelog(version: &str, stamp: &str) -> String {
    format!(
        "gstreamer1.0-vlmcaption ({version}-1) unstable; urgency=medium\n\n  \
         * What changed is in /usr/share/doc/gstreamer1.0-vlmcaption/NEWS.md.\n\n \
         -- vlmcaption maintainers <vlmcaption@users.noreply.github.com>  {stamp}\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_changelog_has_debians_form() {
        let text = changelog("1.0", "Thu, 01 Jan 2026 00:00:00 +0000");
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
