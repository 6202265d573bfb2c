// SPDX-License-Identifier: MPL-2.0

//! Stamps version, commit and date into the plugin's description; looks for nothing else.

use std::path::{Path, PathBuf};
use std::{env, fs};

/// Where `git archive` writes which commit it took: sources without git know it as well.
const ARCHIVED: &str = "packaging/commit";

fn main() {
    gst_plugin_version_helper::info();
    if let Some((commit, date)) = archived(Path::new(ARCHIVED)) {
        println!("cargo::rustc-env=COMMIT_ID={commit}");
        println!("cargo::rustc-env=BUILD_REL_DATE={date}");
    }
    // Without these lines a change of any file of the package, a test or a page, would stamp again,
    // and so compile the library again, with and without its tests.
    for path in ["build.rs", "Cargo.toml", "src", "models", ARCHIVED] {
        println!("cargo::rerun-if-changed={path}");
    }
    // A release says which commit it is of; for other builds the one of the last change in src will do.
    if env::var("PROFILE").is_ok_and(|profile| profile == "release")
        && let Some(log) = git_log(Path::new(".git"))
    {
        println!("cargo::rerun-if-changed={}", log.display());
    }
}

/// The file that git writes to with every commit and checkout; in a worktree `.git` names its folder.
fn git_log(git: &Path) -> Option<PathBuf> {
    let folder = match fs::read_to_string(git) {
        Ok(text) => PathBuf::from(text.strip_prefix("gitdir: ")?.trim()),
        Err(_) => git.to_owned(),
    };
    Some(folder.join("logs/HEAD")).filter(|log| log.is_file())
}

/// The commit's name, shortened as git does, and its date; nothing where `git archive` has not been.
fn archived(file: &Path) -> Option<(String, String)> {
    let text = fs::read_to_string(file).ok()?;
    let (commit, date) = text.trim().split_once(' ')?;
    let known = commit.len() >= 9 && commit.chars().all(|c| c.is_ascii_hexdigit());
    known.then(|| (commit[..9].to_owned(), date.to_owned()))
}
