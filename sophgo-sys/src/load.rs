// SPDX-License-Identifier: MPL-2.0

//! Finds and opens the two libraries.

#![expect(unsafe_code, reason = "calls the functions that tell the version")]

use std::fs;
use std::path::{Path, PathBuf};

use vendor_library::{
    Handle, Library, LoadError, Opened, SearchPath, first_usable, folder_from_env, missing_symbols,
    unreadable, version_text,
};

use crate::bindings::Symbols;
use crate::error::{ENV_LIB, VENDOR};

/// Where the SDK installs itself: `libsophon-<version>/lib`, and `libsophon-current` for the one in
/// use.
const INSTALL_ROOT: &str = "/opt/sophon";

/// File names, the one that programs are linked with first: the SDK's `-dev` package has the other.
const BMLIB_NAMES: [&str; 2] = ["libbmlib.so.0", "libbmlib.so"];
const BMRT_NAMES: [&str; 2] = ["libbmrt.so.1.0", "libbmrt.so"];

/// Major version that both libraries call themselves by, and what is said of another.
const MAJOR: u32 = 1;
const NEED: &str = "this build was made for 1.x and knows no other, see UPGRADE.md of sophgo-sys";

/// Functions that every SDK for these chips has and nothing works without.
const REQUIRED: [&str; 22] = [
    "bm_dev_free",
    "bm_dev_getcount",
    "bm_dev_request",
    "bm_free_device",
    "bm_get_chipid",
    "bm_get_misc_info",
    "bm_malloc_device_byte",
    "bm_memcpy_d2d_byte",
    "bm_memcpy_d2s_partial_offset",
    "bm_memcpy_s2d_partial_offset",
    "bm_memset_device_ext",
    "bm_thread_sync",
    "bmrt_create",
    "bmrt_destroy",
    "bmrt_get_flags",
    "bmrt_get_network_info",
    "bmrt_get_network_names",
    "bmrt_get_network_number",
    "bmrt_launch_tensor_ex",
    "bmrt_load_bmodel",
    "bmrt_load_bmodel_data",
    "bmrt_set_flags",
];

/// Places to look for the libraries in, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Search {
    paths: Vec<SearchPath>,
}

/// Both libraries and their functions.
pub(crate) struct Libraries {
    /// The functions; holds libbmrt open.
    pub symbols: Symbols,
    pub bmrt: Library,
    pub bmlib: Library,
    /// Holds libbmlib open; closed last.
    _bmlib: Handle,
}

impl Search {
    /// The folder in [`ENV_LIB`] alone if that is set; else the loader's path, then the SDK's
    /// folders: the current one, then the others, newest first.
    pub fn from_env() -> Self {
        Self::chosen(folder_from_env(ENV_LIB))
    }

    fn chosen(folder: Option<PathBuf>) -> Self {
        match folder {
            Some(folder) => Self::folder(folder),
            None => Self::installed(Path::new(INSTALL_ROOT)),
        }
    }

    /// One folder and no other place.
    pub fn folder(folder: impl Into<PathBuf>) -> Self {
        Self::folders([folder.into()])
    }

    /// These folders in their order and no other place.
    pub fn folders(folders: impl IntoIterator<Item = PathBuf>) -> Self {
        Self {
            paths: folders.into_iter().map(SearchPath::Folder).collect(),
        }
    }

    fn installed(root: &Path) -> Self {
        let current = root.join("libsophon-current").join("lib");
        let mut paths = vec![SearchPath::System, SearchPath::Folder(current)];
        paths.extend(versions_in(root).into_iter().map(SearchPath::Folder));
        Self { paths }
    }

    /// Opens the libraries of the first place where both open and are the ones that `wrapper.h`
    /// describes.
    ///
    /// # Errors
    /// What [`first_usable`] says.
    pub(crate) fn open(&self) -> Result<Libraries, LoadError> {
        // libbmlib first: libbmrt asks for it by name, and gets the one that is open already, so that
        // both come from the same folder.
        let open = |path: &&SearchPath| path.open_all([&BMLIB_NAMES, &BMRT_NAMES]);
        first_usable(VENDOR, &self.paths, open, |_, opened| bind(opened))
    }
}

/// Checks the pair and takes its functions.
///
/// All are looked up in libbmrt, whose search includes the libbmlib that it is bound to: a second
/// copy of libbmlib in the process (another plugin's) cannot get between the two.
fn bind([bmlib, bmrt]: [Opened; 2]) -> Result<Libraries, LoadError> {
    check_symbols(&bmrt.handle, &bmlib.path, &bmrt.path)?;
    // SAFETY: these are the vendor's libraries by their names and functions; that the functions
    // have the types that wrapper.h declares is what the version stands for, checked below before
    // any function but those two that tell it.
    let symbols = unsafe { Symbols::from_library(bmrt.handle) };
    let symbols = symbols.map_err(|error| unreadable(VENDOR, &bmrt.path, &error))?;
    let library = |path, function| {
        // SAFETY: both libraries define the function so, and it returns a constant of theirs.
        let text = unsafe { version_text(function) };
        let version = text.map(|text| text.trim_end_matches([' ', ',', '.']).to_owned());
        Library { path, version }
    };
    let bmlib_version = symbols.libbmlib_version.as_ref().ok().copied();
    let bmrt_version = symbols.libbmrt_version.as_ref().ok().copied();
    let libraries = Libraries {
        bmlib: library(bmlib.path, bmlib_version),
        bmrt: library(bmrt.path, bmrt_version),
        symbols,
        _bmlib: bmlib.handle,
    };
    for library in [&libraries.bmlib, &libraries.bmrt] {
        library.check_version(NEED, other_major)?;
    }
    Ok(libraries)
}

/// That libbmrt and the libbmlib that it is bound to have all that nothing works without.
fn check_symbols(bmrt: &Handle, bmlib_path: &Path, bmrt_path: &Path) -> Result<(), LoadError> {
    let missing = missing_symbols(bmrt, &REQUIRED);
    let (of_bmlib, of_bmrt): (Vec<_>, Vec<_>) = missing
        .into_iter()
        .partition(|name| name.starts_with("bm_"));
    for (library, symbols) in [(bmlib_path, of_bmlib), (bmrt_path, of_bmrt)] {
        if !symbols.is_empty() {
            return Err(LoadError::MissingSymbols {
                library: library.to_owned(),
                symbols,
                fix: "libsophon 0.5.1 or newer (for a BM1688: SDK 1.7 or newer)",
            });
        }
    }
    Ok(())
}

/// The version in `libbmrt_version:2.1.0, ...` if its major number is not [`MAJOR`].
fn other_major(version: &str) -> Option<&str> {
    let number = number(version)?;
    let major = leading_number(number)?;
    (major != MAJOR).then_some(number)
}

/// `1.0.0` of `libbmrt_version:1.0.0, branch:master, ...`.
fn number(version: &str) -> Option<&str> {
    let (_, rest) = version.split_once(':')?;
    rest.split(',').next().map(str::trim)
}

fn leading_number(version: &str) -> Option<u32> {
    version.split('.').next()?.parse().ok()
}

/// `lib` of every `libsophon-<version>` here, newest first.
fn versions_in(root: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(root).into_iter().flatten().flatten();
    let mut found: Vec<(Vec<u32>, PathBuf)> = entries
        .filter_map(|entry| {
            let name = entry.file_name();
            let version = name.to_str()?.strip_prefix("libsophon-")?;
            let numbers: Result<Vec<u32>, _> = version.split('.').map(str::parse).collect();
            Some((numbers.ok()?, entry.path().join("lib")))
        })
        .collect();
    found.sort();
    found.into_iter().rev().map(|(_, path)| path).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_named_by_the_user_is_the_only_place() {
        let search = Search::chosen(Some("/my/lib".into()));
        assert_eq!(search, Search::folder("/my/lib"));
        let without = Search::chosen(None);
        assert_eq!(without.paths[0], SearchPath::System);
        let current = SearchPath::Folder("/opt/sophon/libsophon-current/lib".into());
        assert_eq!(without.paths[1], current);
    }

    #[test]
    fn the_loader_comes_first_then_the_current_sdk_then_the_newest() {
        let root = tempfile::tempdir().unwrap();
        for name in [
            "libsophon-0.4.9",
            "libsophon-0.4.10",
            "libsophon-current",
            "other-1.0",
        ] {
            fs::create_dir(root.path().join(name)).unwrap();
        }
        let folder = |name: &str| SearchPath::Folder(root.path().join(name).join("lib"));
        let want = [
            SearchPath::System,
            folder("libsophon-current"),
            folder("libsophon-0.4.10"),
            folder("libsophon-0.4.9"),
        ];
        assert_eq!(Search::installed(root.path()).paths, want);
    }

    #[test]
    fn a_system_without_sdk_still_has_two_places() {
        let search = Search::installed(Path::new("/nonexistent"));
        assert_eq!(search.paths.len(), 2);
    }

    #[test]
    fn another_major_version_is_refused() {
        let found = other_major("libbmrt_version:2.1.0, branch:x");
        assert_eq!(found, Some("2.1.0"));
        assert!(NEED.contains(&format!("{MAJOR}.x")));
    }

    #[test]
    fn a_version_of_this_major_or_in_another_form_is_taken() {
        for version in [
            "libbmrt_version:1.0.0, branch:master,commit:ee6becb0",
            "built on a Tuesday",
            "libbmrt_version:main",
        ] {
            assert_eq!(other_major(version), None, "{version}");
        }
    }

    #[test]
    fn required_functions_are_sorted_and_bound() {
        assert!(REQUIRED.is_sorted());
        let bound = binding_checks::bound_functions(include_str!("bindings.rs"));
        for name in REQUIRED {
            assert!(bound.contains(name), "{name} is not bound");
        }
    }

    #[test]
    fn functions_that_may_be_missing_are_never_called_unseen() {
        let source = concat!(
            include_str!("bmlib.rs"),
            include_str!("monitor.rs"),
            include_str!("bmrt.rs")
        );
        let calls = binding_checks::called_functions(source, "self.symbols()");
        assert_eq!(calls.len(), REQUIRED.len(), "{calls:?}");
        for name in calls {
            assert!(
                REQUIRED.contains(&name.as_str()),
                "{name} may be missing: go through its field"
            );
        }
    }
}
