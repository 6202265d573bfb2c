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
};
/// The program that watches cameras.
pub const WATCH: Package = Package {
    name: "vlmcaption-watch",
    crates: &["vlmcaption-watch"],
    files: &["vlmcaption-watch"],
    folder: "watch",
    multiarch: "none",
};
/// All of them, the plugin first.
pub const ALL: [&Package; 2] = [&PLUGIN, &WATCH];
