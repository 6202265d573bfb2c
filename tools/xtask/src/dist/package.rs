// SPDX-License-Identifier: MPL-2.0

//! The Debian packages. What is in one says `[package.metadata.deb]` of its crate.

/// A Debian package.
#[derive(Debug, PartialEq, Eq)]
pub struct Package {
    /// Its name for apt.
    pub name: &'static str,
    /// The crate that is in it.
    pub program: &'static str,
    /// What is compiled, below cargo's folder `release`.
    pub file: &'static str,
    /// Folder of its crate, below the root.
    pub folder: &'static str,
    /// Debian's word for whether those of several architectures go together.
    pub multiarch: &'static str,
}

/// The plugin.
pub const PLUGIN: Package = Package {
    name: "gstreamer1.0-vlmcaption",
    program: "gst-plugin-vlmcaption",
    file: "libgstvlmcaption.so",
    folder: ".",
    multiarch: "same",
};
/// All of them, the plugin first.
pub const ALL: [&Package; 1] = [&PLUGIN];
