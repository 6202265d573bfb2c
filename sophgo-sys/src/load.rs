// SPDX-License-Identifier: MPL-2.0

//! Finds and opens the two libraries.

#![expect(unsafe_code, reason = "opening a shared library runs its code")]

use std::error::Error as _;
use std::ffi::{CStr, OsString, c_char, c_void};
use std::fs;
use std::path::{Path, PathBuf};

use libloading::os::unix::{Library as Handle, RTLD_LOCAL, RTLD_NOW};

use crate::bindings::Symbols;
use crate::error::{Attempt, Error};

/// Environment variable that names the folder of the libraries; if set, no other place is tried.
pub const ENV_LIB: &str = "VLMCAPTION_SOPHON_LIB";

/// Where the SDK installs itself: `libsophon-<version>/lib`, and `libsophon-current` for the one in
/// use.
const INSTALL_ROOT: &str = "/opt/sophon";

/// File names, the one that programs are linked with first: the SDK's `-dev` package has the other.
const BMLIB_NAMES: [&str; 2] = ["libbmlib.so.0", "libbmlib.so"];
const BMRT_NAMES: [&str; 2] = ["libbmrt.so.1.0", "libbmrt.so"];

/// Major version that both libraries call themselves by.
const MAJOR: u32 = 1;

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
    places: Vec<Place>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Place {
    /// Wherever the system's loader looks: `LD_LIBRARY_PATH`, `/etc/ld.so.conf`.
    Loader,
    Folder(PathBuf),
}

/// One opened library.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Library {
    /// The file, or the bare name if the system's loader found it.
    pub path: PathBuf,
    /// What the library says of itself: version, commit, date of the build.
    pub version: Option<String>,
}

/// Both libraries and their functions.
pub(crate) struct Opened {
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
        Self::chosen(std::env::var_os(ENV_LIB))
    }

    fn chosen(folder: Option<OsString>) -> Self {
        match folder.filter(|value| !value.is_empty()) {
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
            places: folders.into_iter().map(Place::Folder).collect(),
        }
    }

    fn installed(root: &Path) -> Self {
        let current = root.join("libsophon-current").join("lib");
        let mut places = vec![Place::Loader, Place::Folder(current)];
        places.extend(versions_in(root).into_iter().map(Place::Folder));
        Self { places }
    }

    /// Opens the libraries of the first place where both open and are the ones that `wrapper.h`
    /// describes.
    ///
    /// # Errors
    /// [`Error::NotFound`] if there are none anywhere; [`Error::Version`] or
    /// [`Error::MissingSymbols`] if the only ones are others, [`Error::Unusable`] if there are such
    /// and more places.
    pub(crate) fn open(&self) -> Result<Opened, Error> {
        let (mut refused, mut tried) = (Vec::new(), Vec::new());
        for place in &self.places {
            // libbmlib first: libbmrt asks for it by name, and gets the one that is open already,
            // so that both come from the same folder.
            let opened = place
                .open(&BMLIB_NAMES)
                .and_then(|bmlib| Ok((bmlib, place.open(&BMRT_NAMES)?)));
            match opened {
                Ok(((bmlib, bmlib_path), (bmrt, bmrt_path))) => {
                    match bind(bmlib, bmlib_path, bmrt, bmrt_path) {
                        Ok(opened) => return Ok(opened),
                        Err(error) => refused.push(error),
                    }
                }
                Err(attempt) => tried.push(attempt),
            }
        }
        Err(Error::of_all(refused, tried))
    }
}

impl Place {
    /// Opens the first of these names that is here.
    fn open(&self, names: &[&str]) -> Result<(Handle, PathBuf), Attempt> {
        match self {
            Self::Loader => {
                let path = names.iter().map(PathBuf::from);
                let mut attempts = path.map(|path| dlopen(&path).map(|handle| (handle, path)));
                // The first name is the one that an installed SDK has; its failure says most.
                let first = attempts
                    .next()
                    .unwrap_or_else(|| Err(no_file(Path::new(""), names)));
                first.or_else(|failure| attempts.find_map(Result::ok).ok_or(failure))
            }
            Self::Folder(folder) => {
                let path = names
                    .iter()
                    .map(|name| folder.join(name))
                    .find(|path| path.exists());
                let path = path.ok_or_else(|| no_file(folder, names))?;
                Ok((dlopen(&path)?, path))
            }
        }
    }
}

fn no_file(folder: &Path, names: &[&str]) -> Attempt {
    let reason = if folder.is_dir() {
        format!("no {} in this folder", names.join(" or "))
    } else {
        "no such folder".to_owned()
    };
    Attempt {
        path: folder.to_owned(),
        reason,
    }
}

fn dlopen(path: &Path) -> Result<Handle, Attempt> {
    // SAFETY: this runs the constructors of the vendor's library, from a place that the user of the
    // process chose by installing it or by naming it. RTLD_NOW reports unresolved functions here
    // instead of ending the process at the first call.
    unsafe { Handle::open(Some(path.as_os_str()), RTLD_NOW | RTLD_LOCAL) }.map_err(|error| {
        let reason = error
            .source()
            .map_or_else(|| error.to_string(), ToString::to_string);
        // The loader begins with the name; the attempt has it already.
        let reason = match reason.strip_prefix(&format!("{}: ", path.display())) {
            Some(rest) => rest.to_owned(),
            None => reason,
        };
        Attempt {
            path: path.to_owned(),
            reason,
        }
    })
}

/// Checks the pair and takes its functions.
///
/// All are looked up in libbmrt, whose search includes the libbmlib that it is bound to: a second
/// copy of libbmlib in the process (another plugin's) cannot get between the two.
fn bind(
    bmlib: Handle,
    bmlib_path: PathBuf,
    bmrt: Handle,
    bmrt_path: PathBuf,
) -> Result<Opened, Error> {
    let missing = |of_bmlib: bool| -> Vec<&'static str> {
        let names = REQUIRED
            .into_iter()
            .filter(|name| name.starts_with("bm_") == of_bmlib);
        names.filter(|name| !has_symbol(&bmrt, name)).collect()
    };
    for (library, symbols) in [(&bmlib_path, missing(true)), (&bmrt_path, missing(false))] {
        if !symbols.is_empty() {
            return Err(Error::MissingSymbols {
                library: library.clone(),
                symbols,
            });
        }
    }

    // SAFETY: these are the vendor's libraries by their names and functions; that the functions
    // have the types that wrapper.h declares is what the version stands for, checked below before
    // any function but those two that tell it.
    let symbols = unsafe { Symbols::from_library(bmrt) };
    let symbols = symbols.map_err(|error| Error::NotFound {
        tried: vec![Attempt {
            path: bmrt_path.clone(),
            reason: error.to_string(),
        }],
    })?;
    let bmlib_version = version_text(symbols.libbmlib_version.as_ref().ok().copied());
    let bmrt_version = version_text(symbols.libbmrt_version.as_ref().ok().copied());
    let bmlib_info = Library {
        path: bmlib_path,
        version: bmlib_version,
    };
    let bmrt_info = Library {
        path: bmrt_path,
        version: bmrt_version,
    };
    check_version(&bmlib_info)?;
    check_version(&bmrt_info)?;
    Ok(Opened {
        symbols,
        bmrt: bmrt_info,
        bmlib: bmlib_info,
        _bmlib: bmlib,
    })
}

fn has_symbol(library: &Handle, name: &str) -> bool {
    // SAFETY: the address is looked up and not used.
    unsafe { library.get::<*const c_void>(name.as_bytes()) }.is_ok()
}

fn version_text(function: Option<unsafe extern "C" fn() -> *const c_char>) -> Option<String> {
    // SAFETY: both libraries define the function without parameters.
    let text = unsafe { function?() };
    if text.is_null() {
        return None;
    }
    // SAFETY: not null, and a string constant of the library.
    let text = unsafe { CStr::from_ptr(text) };
    Some(
        text.to_string_lossy()
            .trim_end_matches([' ', ',', '.'])
            .to_owned(),
    )
}

/// Refuses a library that calls itself by another major version. One that does not say, or not in
/// the form `name:1.0.0, ...`, is taken.
fn check_version(library: &Library) -> Result<(), Error> {
    let found = library.version.as_deref().and_then(number);
    match found.and_then(|found| Some((found, leading_number(found)?))) {
        Some((found, major)) if major != MAJOR => Err(Error::Version {
            library: library.path.clone(),
            found: found.to_owned(),
            want: MAJOR,
        }),
        _ => Ok(()),
    }
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

    fn library(version: Option<&str>) -> Library {
        Library {
            path: "libbmrt.so".into(),
            version: version.map(str::to_owned),
        }
    }

    #[test]
    fn a_folder_named_by_the_user_is_the_only_place() {
        let search = Search::chosen(Some("/my/lib".into()));
        assert_eq!(search, Search::folder("/my/lib"));
        let without = Search::chosen(None);
        assert_eq!(Search::chosen(Some(OsString::new())), without);
        assert_eq!(without.places[0], Place::Loader);
        let current = Place::Folder("/opt/sophon/libsophon-current/lib".into());
        assert_eq!(without.places[1], current);
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
        let folder = |name: &str| Place::Folder(root.path().join(name).join("lib"));
        let want = [
            Place::Loader,
            folder("libsophon-current"),
            folder("libsophon-0.4.10"),
            folder("libsophon-0.4.9"),
        ];
        assert_eq!(Search::installed(root.path()).places, want);
    }

    #[test]
    fn a_system_without_sdk_still_has_two_places() {
        let search = Search::installed(Path::new("/nonexistent"));
        assert_eq!(search.places.len(), 2);
    }

    #[test]
    fn the_loader_reports_its_own_reason() {
        let failure = Place::Loader
            .open(&["libvlmcaption-none.so.7"])
            .unwrap_err();
        assert_eq!(failure.path, Path::new("libvlmcaption-none.so.7"));
        assert!(!failure.reason.is_empty());
    }

    #[test]
    fn another_major_version_is_refused() {
        let error = check_version(&library(Some("libbmrt_version:2.1.0, branch:x"))).unwrap_err();
        assert!(matches!(&error, Error::Version { found, want: 1, .. } if found == "2.1.0"));
    }

    #[test]
    fn a_version_of_this_major_or_in_another_form_is_taken() {
        for version in [
            Some("libbmrt_version:1.0.0, branch:master,commit:ee6becb0"),
            Some("built on a Tuesday"),
            Some("libbmrt_version:main"),
            None,
        ] {
            assert!(check_version(&library(version)).is_ok(), "{version:?}");
        }
    }

    #[test]
    fn required_functions_are_sorted_and_bound() {
        assert!(REQUIRED.is_sorted());
        let bindings = include_str!("bindings.rs");
        for name in REQUIRED {
            assert!(
                bindings.contains(&format!("pub {name}:")),
                "{name} is not bound"
            );
        }
    }

    #[test]
    fn functions_that_may_be_missing_are_never_called_unseen() {
        let source = concat!(
            include_str!("bmlib.rs"),
            include_str!("monitor.rs"),
            include_str!("bmrt.rs")
        );
        let source: String = source.split_whitespace().collect();
        let calls: Vec<&str> = source
            .split("self.symbols().")
            .skip(1)
            .filter_map(|rest| {
                let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_')?;
                rest[end..].starts_with('(').then(|| &rest[..end])
            })
            .collect();
        assert_eq!(calls.len(), REQUIRED.len(), "{calls:?}");
        for name in calls {
            assert!(
                REQUIRED.contains(&name),
                "{name} may be missing: go through its field"
            );
        }
    }
}
