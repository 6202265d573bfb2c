// SPDX-License-Identifier: MPL-2.0

//! The sources with all crates they need, so that they build without a network.

use std::collections::HashSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use super::release::Release;
use crate::{Outcome, shell};

/// The machines that the sources build on; crates that none of them needs are left empty.
const TARGETS: [&str; 3] = [
    "x86_64-unknown-linux-gnu",
    "aarch64-unknown-linux-gnu",
    "riscv64gc-unknown-linux-gnu",
];

/// Writes the archive of the sources.
///
/// # Errors
/// A sentence that names the step that did not end well.
pub fn make(release: &Release) -> Outcome {
    if release.is_named_by_commit() && release.source().is_file() {
        println!("{} is there", release.source().display());
        return Ok(());
    }
    let parent = release.cache().join("stage");
    let stage = parent.join(release.name());
    remove(&parent)?;
    fs::create_dir_all(&parent).map_err(|error| format!("{}: {error}", parent.display()))?;
    let plain = parent.join("plain.tar");
    shell::run(
        shell::program("git")
            .args(["archive", "--format=tar"])
            .arg(format!("--prefix={}/", release.name()))
            .arg(format!("--output={}", plain.display()))
            .arg(&release.commit),
    )?;
    shell::run(
        Command::new("tar")
            .arg("-xf")
            .arg(&plain)
            .arg("-C")
            .arg(&parent),
    )?;
    vendor(&stage)?;
    let archive = release.source();
    pack(release, &parent, &release.name(), &archive)?;
    remove(&parent)
}

/// Unpacks the archive of the sources for `build`, in place of what was there.
///
/// # Errors
/// A sentence if it cannot be unpacked.
pub fn unpack(release: &Release, build: &str) -> Outcome {
    let folder = release.unpacked(build);
    remove(&folder)?;
    fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    shell::run(
        Command::new("tar")
            .args(["--strip-components=1", "-xf"])
            .arg(release.source())
            .arg("-C")
            .arg(&folder),
    )?;
    // Crates do not change with the commit: with its time on them they would all be compiled anew.
    shell::run(
        Command::new("find")
            .arg(folder.join("vendor"))
            .args(["-type", "f", "-exec", "touch", "--date=2000-01-01"])
            .args(["{}", "+"]),
    )
}

/// Whether the sources of this commit are unpacked for `build`.
pub fn is_unpacked(release: &Release, build: &str) -> bool {
    let commit = release.unpacked(build).join("packaging/commit");
    fs::read_to_string(commit).is_ok_and(|text| text.starts_with(&release.commit))
}

/// Packs `folder`, which is in `parent`, so that the same files give the same bytes.
///
/// # Errors
/// A sentence if `tar` does not end well.
pub fn pack(release: &Release, parent: &Path, folder: &str, archive: &Path) -> Outcome {
    let part = archive.with_extension("part");
    shell::run(
        Command::new("tar")
            .args(["--sort=name", "--owner=0", "--group=0", "--numeric-owner"])
            .args(["--format=gnu", "--mode=u=rwX,go=rX"])
            .arg(format!("--mtime=@{}", release.epoch))
            // Two threads give other bytes than one, but the same on any number of cores.
            .args(["--use-compress-program", "xz -T2 -6"])
            .arg("-cf")
            .arg(&part)
            .arg("-C")
            .arg(parent)
            .arg(folder),
    )?;
    fs::rename(&part, archive).map_err(|error| format!("{}: {error}", part.display()))
}

/// Removes a folder of the cache, if it is there.
///
/// # Errors
/// A sentence if it cannot be removed.
pub fn remove(folder: &Path) -> Outcome {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(format!("{}: {error}", folder.display()))
        }
        _ => Ok(()),
    }
}

/// Puts the crates into `vendor`, and tells cargo.
fn vendor(stage: &Path) -> Outcome {
    // What cargo prints is what is to be written to its settings; `--quiet` would hide that.
    let mut vendor = shell::cargo();
    vendor.args(["vendor", "--locked", "--versioned-dirs", "vendor"]);
    let config = shell::output_of(vendor.current_dir(stage))?;
    if !config.contains("[source.vendored-sources]") {
        return Err(format!("cargo vendor printed no settings: {config:?}"));
    }
    let path = stage.join(".cargo/config.toml");
    let fail = |error| format!("{}: {error}", path.display());
    let before = fs::read_to_string(&path).map_err(fail)?;
    fs::write(&path, format!("{before}\n{config}")).map_err(fail)?;
    let mut needed = HashSet::new();
    for target in TARGETS {
        let tree = shell::output_of(shell::cargo().current_dir(stage).args([
            "tree",
            "--workspace",
            "--locked",
            "--offline",
            "--quiet",
            "--prefix=none",
            "--format={p}",
            "--edges=normal,build,dev",
            "--target",
            target,
        ]))?;
        needed.extend(tree.lines().filter_map(versioned));
    }
    let vendored = stage.join("vendor");
    let fail = |error| format!("{}: {error}", vendored.display());
    for entry in fs::read_dir(&vendored).map_err(fail)? {
        let entry = entry.map_err(fail)?;
        if !needed.contains(&*entry.file_name().to_string_lossy()) {
            empty(&entry.path()).map_err(|error| format!("{}: {error}", entry.path().display()))?;
        }
    }
    Ok(())
}

/// The folder of a crate that `cargo tree` prints as `name v1.2.3 (…)`.
fn versioned(line: &str) -> Option<String> {
    let mut words = line.split_whitespace();
    let name = words.next()?;
    let version = words.next()?.strip_prefix('v')?;
    Some(format!("{name}-{version}"))
}

/// Takes everything out of a crate but what cargo reads to find out that it needs it not.
fn empty(folder: &Path) -> std::io::Result<()> {
    let checksum = folder.join(".cargo-checksum.json");
    let sums = fs::read_to_string(&checksum)?;
    let whole = package_checksum(&sums);
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            fs::remove_dir_all(entry.path())?;
        } else if entry.file_name() != "Cargo.toml" {
            fs::remove_file(entry.path())?;
        }
    }
    fs::create_dir(folder.join("src"))?;
    fs::write(folder.join("src/lib.rs"), "")?;
    fs::write(
        checksum,
        format!("{{\"files\":{{}},\"package\":\"{whole}\"}}"),
    )
}

/// The checksum of the whole crate in cargo's list of checksums.
fn package_checksum(json: &str) -> &str {
    json.rsplit("\"package\":\"")
        .next()
        .and_then(|rest| rest.split('"').next())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crate_of_the_tree_is_found_by_its_folder() {
        assert_eq!(versioned("half v2.7.1"), Some("half-2.7.1".into()));
        assert_eq!(
            versioned("quote v1.0.9+meta (proc-macro) (*)"),
            Some("quote-1.0.9+meta".into())
        );
        assert_eq!(versioned(""), None);
    }

    #[test]
    fn an_emptied_crate_keeps_its_manifest_and_its_checksum() {
        let folder = std::env::temp_dir().join("vlmcaption-dist-empty");
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(folder.join("src/deep")).unwrap();
        fs::create_dir_all(folder.join("lib")).unwrap();
        for file in [
            "Cargo.toml",
            "README.md",
            "src/lib.rs",
            "src/deep/a.rs",
            "lib/big.a",
        ] {
            fs::write(folder.join(file), "x").unwrap();
        }
        let sums = r#"{"files":{"src/lib.rs":"11"},"package":"abc"}"#;
        fs::write(folder.join(".cargo-checksum.json"), sums).unwrap();
        empty(&folder).unwrap();
        let left = |file: &str| fs::read_to_string(folder.join(file)).ok();
        assert_eq!(left("Cargo.toml").as_deref(), Some("x"));
        assert_eq!(left("src/lib.rs").as_deref(), Some(""));
        assert_eq!(left("lib/big.a"), None);
        assert_eq!(left("README.md"), None);
        assert_eq!(
            left(".cargo-checksum.json").as_deref(),
            Some(r#"{"files":{},"package":"abc"}"#)
        );
        fs::remove_dir_all(&folder).unwrap();
    }
}
