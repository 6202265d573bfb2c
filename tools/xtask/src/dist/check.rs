// SPDX-License-Identifier: MPL-2.0

//! Installs the packages where nothing is, and compares what they say.

use std::fs;
use std::path::{Path, PathBuf};

use super::arch::Arch;
use super::release::{Release, build};
use super::{compile, pack, package, source};
use crate::steps::Steps;
use crate::{Outcome, shell};

/// The Debians that a package is installed in, each with the name of its step.
const SUITES: [(&str, Arch, &str); 3] = [
    ("bookworm", Arch::Amd64, "bookworm"),
    ("trixie", Arch::Amd64, "trixie"),
    ("bookworm", Arch::Arm64, "bookworm-arm"),
];

/// What a root makes, to be the same everywhere.
const SAME: [&str; 2] = ["bus.txt", "captions.vtt"];

/// What a root's folder is called until it has all of that, or where it failed.
const MAKING: &str = "making";

/// A version before every other, for the package that is upgraded.
const OLDER: &str = "0.0.1";

/// `cargo xtask dist --check`, in all roots or in those of one Debian.
///
/// # Errors
/// The names of the steps that failed.
pub fn packages(release: &Release, archs: &[Arch], only: Option<&str>) -> Outcome {
    let is_wanted =
        |suite: &str, arch: Arch| archs.contains(&arch) && only.is_none_or(|only| only == suite);
    let roots = SUITES
        .iter()
        .filter(|(suite, arch, _)| is_wanted(suite, *arch));
    let roots: Vec<_> = roots.collect();
    if roots.is_empty() {
        return Err(format!(
            "no root of {} is checked, with these architectures",
            only.unwrap_or_default()
        ));
    }
    for deb in debs(release, archs) {
        if !deb.is_file() {
            return Err(format!(
                "{} is not there: make the packages first, cargo xtask dist",
                deb.display()
            ));
        }
    }
    let seen = seen(release)?;
    let mut steps = Steps::default();
    for deb in debs(release, archs) {
        steps.step("lintian", "no errors in the package", || lintian(&deb));
    }
    for (suite, arch, name) in &roots {
        steps.step(name, "install, use, upgrade and remove the package", || {
            in_root(release, suite, *arch, &seen.join(name))
        });
    }
    steps.step("same", "all roots gave the same captions", || {
        compare(&seen)
    });
    steps.finish()
}

/// The folder for what the roots of this version make: a run for another architecture is compared with it.
fn seen(release: &Release) -> Result<PathBuf, String> {
    let all = release.cache().join("seen");
    let own = all.join(&release.version);
    let fail = |error| format!("{}: {error}", all.display());
    fs::create_dir_all(&own).map_err(fail)?;
    for entry in fs::read_dir(&all).map_err(fail)? {
        let other = entry.map_err(fail)?.path();
        if other != own {
            source::remove(&other)?;
        }
    }
    Ok(own)
}

/// All packages of these architectures.
fn debs(release: &Release, archs: &[Arch]) -> Vec<PathBuf> {
    let debs = |arch: &Arch| package::ALL.map(|package| release.deb(package, *arch));
    archs.iter().flat_map(debs).collect()
}

/// `lintian`, whose errors fail; warnings are printed.
fn lintian(deb: &Path) -> Outcome {
    if !shell::on_path("lintian") {
        return Err("there is no lintian: apt-get install lintian".into());
    }
    shell::run(
        shell::program("lintian")
            .args(["--allow-root", "--fail-on", "error"])
            .arg(deb),
    )
}

/// Runs `packaging/check-install` in a bare root; `out` is there afterwards if all went well.
fn in_root(release: &Release, suite: &str, arch: Arch, out: &Path) -> Outcome {
    let made = out.with_extension(MAKING);
    for folder in [out, &made] {
        source::remove(folder)?;
    }
    fs::create_dir_all(&made).map_err(|error| format!("{}: {error}", made.display()))?;
    let mut bare = shell::program(shell::root().join(".ci/bare"));
    bare.args(["--plain", "--show"]).arg(release.cache());
    bare.arg("--show").arg(&release.out);
    if Some(arch) != Arch::here() {
        bare.args(["--arch", arch.debian()]);
    }
    bare.arg(suite).arg("packaging/check-install").arg(&made);
    for package in package::ALL {
        let older = pack::deb(release, build(arch), package, arch, Some(OLDER))?;
        bare.arg(release.deb(package, arch)).arg(older);
    }
    if arch == Arch::Arm64 {
        bare.arg(compile::golden(release, build(arch), arch)?);
    }
    shell::run(&mut bare)?;
    fs::rename(&made, out).map_err(|error| format!("{}: {error}", made.display()))
}

/// Compares what the roots made with the first one.
fn compare(seen: &Path) -> Outcome {
    let mut roots: Vec<PathBuf> = fs::read_dir(seen)
        .map_err(|error| format!("{}: {error}", seen.display()))?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_none_or(|extension| extension != MAKING))
        .collect();
    roots.sort();
    let read = |root: &Path, file: &str| {
        let path = root.join(file);
        fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))
    };
    let Some((first, others)) = roots.split_first() else {
        return Err("no root made anything".into());
    };
    if others.is_empty() {
        println!("No other root has said anything yet: there is nothing to compare with.");
        return Ok(());
    }
    for file in SAME {
        let want = read(first, file)?;
        for root in others {
            let got = read(root, file)?;
            if got != want {
                return Err(format!(
                    "{file} of {} and of {} differ:\n{want}\n{got}",
                    first.display(),
                    root.display()
                ));
            }
        }
    }
    let names = roots.iter().filter_map(|root| root.file_name()?.to_str());
    println!(
        "Compared {} of {}: the same.",
        SAME.join(" and "),
        names.collect::<Vec<_>>().join(", ")
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_root_with_another_caption_is_named() {
        let seen = std::env::temp_dir().join("vlmcaption-dist-seen");
        let _ = fs::remove_dir_all(&seen);
        for (root, text) in [("one", "a"), ("two", "a"), ("three", "b")] {
            fs::create_dir_all(seen.join(root)).unwrap();
            for file in SAME {
                fs::write(seen.join(root).join(file), text).unwrap();
            }
        }
        assert!(compare(&seen).unwrap_err().contains("three"));
        // One that is at work in another run, or failed, has not said all.
        fs::rename(seen.join("three"), seen.join("three.making")).unwrap();
        assert_eq!(compare(&seen), Ok(()));
        fs::remove_dir_all(&seen).unwrap();
    }
}
