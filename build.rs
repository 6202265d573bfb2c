// SPDX-License-Identifier: MPL-2.0

//! Stamps version, commit and date into the plugin's description; looks for nothing else.

use std::path::{Path, PathBuf};
use std::{env, fs};

fn main() {
    gst_plugin_version_helper::info();
    // Without these lines a change of any file of the package, a test or a page, would stamp again,
    // and so compile the library again, with and without its tests.
    for path in ["build.rs", "Cargo.toml", "src", "models"] {
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
