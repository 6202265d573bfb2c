// SPDX-License-Identifier: MPL-2.0

//! The Debian packages. What is in one says `[package.metadata.deb]` of its crate.

use std::path::{Path, PathBuf};

/// A Debian package.
#[derive(Debug, PartialEq, Eq)]
pub struct Package {
    /// Its name for apt.
    pub name: &'static str,
    /// The crates that are compiled for it, each by itself. The first one's manifest says what is in it.
    pub crates: &'static [&'static str],
    /// What is compiled, below cargo's folder `release`.
    pub files: &'static [&'static str],
    /// Folder of its first crate, below the root.
    pub folder: &'static str,
    /// Debian's word for whether those of several architectures go together, or `none`.
    pub multiarch: &'static str,
    /// Its man page and what shells complete it with, which are made.
    pub papers: &'static [&'static str],
    /// What the archive takes of the folder `packaging` for it.
    pub beside: &'static [&'static str],
}

impl Package {
    /// The crate whose manifest says what is in it.
    pub fn manifest(&self) -> &'static str {
        self.crates[0]
    }

    /// What is compiled, in cargo's folder `release`.
    pub fn compiled(&self, release: &Path) -> Vec<PathBuf> {
        self.files.iter().map(|file| release.join(file)).collect()
    }
}

/// The plugin, with what it starts.
pub const PLUGIN: Package = Package {
    name: "gstreamer1.0-vlmcaption",
    crates: &["gst-plugin-vlmcaption"],
    files: &["libgstvlmcaption.so", "vlmcaption-worker"],
    folder: ".",
    multiarch: "same",
    papers: &["vlmcaption.7"],
    beside: &[],
};
/// The program that makes captions again. It has the plugin's code in it.
pub const REPLAY: Package = Package {
    name: "vlmcaption-replay",
    crates: &["vlmcaption-replay"],
    files: &["vlmcaption-replay"],
    folder: "replay",
    multiarch: "none",
    papers: &["vlmcaption-replay.1"],
    beside: &[],
};
/// The program that watches cameras.
pub const WATCH: Package = Package {
    name: "vlmcaption-watch",
    crates: &["vlmcaption-watch"],
    files: &["vlmcaption-watch"],
    folder: "watch",
    multiarch: "none",
    papers: &[
        "vlmcaption-watch.1",
        "vlmcaption-watch.bash",
        "vlmcaption-watch.fish",
        "_vlmcaption-watch",
    ],
    beside: &["vlmcaption-watch.service", "vlmcaption-watch.toml"],
};
/// The programs beside the plugin, each in a package of its own: the plugin's goes with that of another
/// architecture, which two programs of one name in `/usr/bin` do not.
pub const PROGRAMS: [&Package; 2] = [&REPLAY, &WATCH];
/// All of them, the plugin first.
pub const ALL: [&Package; 3] = [&PLUGIN, &REPLAY, &WATCH];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn manifests_take_what_is_compiled_and_made_for_their_packages() {
        for package in ALL {
            let path = crate::shell::root().join(package.folder).join("Cargo.toml");
            let manifest = std::fs::read_to_string(path).unwrap();
            let name = format!("[package.metadata.deb]\nname = \"{}\"", package.name);
            assert!(manifest.contains(&name), "{name}");
            for file in package.files {
                let asset = format!("[\"target/release/{file}\", ");
                assert!(manifest.contains(&asset), "{}: {asset}", package.name);
            }
            let others = ["THIRD-PARTY-LICENSES.md", "materials.cdx.json"];
            for file in package.papers.iter().chain(&others) {
                let asset = format!("packaging/made/{}/{file}\", ", package.name);
                assert!(manifest.contains(&asset), "{}: {asset}", package.name);
            }
        }
    }
}
