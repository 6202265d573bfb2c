// SPDX-License-Identifier: MPL-2.0

//! One place where libraries may be, and opening them there.

#![expect(unsafe_code, reason = "opening a shared library runs its code")]

use std::error::Error as _;
use std::path::{Path, PathBuf};

use libloading::os::unix::{Library as Handle, RTLD_LOCAL, RTLD_NOW};

use crate::error::Attempt;

/// Where libraries are looked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SearchPath {
    /// Wherever the system's loader looks: `LD_LIBRARY_PATH`, `/etc/ld.so.conf`.
    System,
    /// A folder.
    Folder(PathBuf),
}

/// An opened library.
#[derive(Debug)]
pub struct Opened {
    /// Holds it open.
    pub handle: Handle,
    /// The file, or the bare name if the system's loader found it.
    pub path: PathBuf,
}

impl SearchPath {
    /// Opens the libraries of an SDK, all from here and in this order: one that asks for another by
    /// name gets the one that is open already. Each has one name, or several, of which the first is
    /// the one that an installed SDK has.
    ///
    /// # Errors
    /// The first library that is not here, or that the loader did not open.
    pub fn open_all<const N: usize>(&self, names: [&[&str]; N]) -> Result<[Opened; N], Attempt> {
        let mut opened = Vec::with_capacity(N);
        for names in names {
            opened.push(self.open(names)?);
        }
        // As many were pushed as there are names.
        Ok(opened.try_into().expect("one library a name"))
    }

    /// Opens the first of these names that is here.
    ///
    /// # Errors
    /// What stood in the way.
    pub fn open(&self, names: &[&str]) -> Result<Opened, Attempt> {
        match self {
            Self::System => {
                let mut attempts = names.iter().map(|name| dlopen(PathBuf::from(name)));
                // The failure of the first name says most.
                let first = attempts
                    .next()
                    .unwrap_or_else(|| Err(no_file(Path::new(""), names)));
                first.or_else(|failure| attempts.find_map(Result::ok).ok_or(failure))
            }
            Self::Folder(folder) => {
                let mut paths = names.iter().map(|name| folder.join(name));
                let found = paths.find(|path| path.is_file());
                dlopen(found.ok_or_else(|| no_file(folder, names))?)
            }
        }
    }
}

fn no_file(folder: &Path, names: &[&str]) -> Attempt {
    let reason = match folder.is_dir() {
        true => format!("no {} in this folder", names.join(" or ")),
        false => "no such folder".to_owned(),
    };
    Attempt {
        path: folder.to_owned(),
        reason,
    }
}

fn dlopen(path: PathBuf) -> Result<Opened, Attempt> {
    // SAFETY: this runs the constructors of the vendor's library, from a place that the user of the
    // process chose by installing it or by naming it. RTLD_NOW reports unresolved functions here
    // instead of ending the process at the first call.
    let handle = unsafe { Handle::open(Some(path.as_os_str()), RTLD_NOW | RTLD_LOCAL) };
    match handle {
        Ok(handle) => Ok(Opened { handle, path }),
        Err(error) => {
            let reason = error
                .source()
                .map_or_else(|| error.to_string(), ToString::to_string);
            // The loader begins with the name; the attempt has it already.
            let reason = match reason.strip_prefix(&format!("{}: ", path.display())) {
                Some(rest) => rest.to_owned(),
                None => reason,
            };
            Err(Attempt { path, reason })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A library that every unix system of ours has, and another name that no system has.
    const LIBC: &str = "libc.so.6";
    const NONE: &str = "libvlmcaption-none.so.7";

    #[test]
    fn the_loader_reports_its_own_reason() {
        let failure = SearchPath::System.open(&[NONE]).unwrap_err();
        assert_eq!(failure.path, Path::new(NONE));
        assert!(!failure.reason.is_empty() && !failure.reason.starts_with(NONE));
    }

    #[test]
    fn the_loader_tries_every_name_and_tells_of_the_first() {
        assert_eq!(
            SearchPath::System.open(&[NONE, LIBC]).unwrap().path,
            Path::new(LIBC)
        );
        let failure = SearchPath::System
            .open(&[NONE, "libvlmcaption-none.so"])
            .unwrap_err();
        assert_eq!(failure.path, Path::new(NONE));
    }

    #[test]
    fn a_folder_says_what_is_not_in_it() {
        let folder = tempfile::tempdir().unwrap();
        let place = SearchPath::Folder(folder.path().to_owned());
        let failure = place.open(&["liba.so.0", "liba.so"]).unwrap_err();
        assert_eq!(failure.reason, "no liba.so.0 or liba.so in this folder");
        assert_eq!(failure.path, folder.path());
        let nowhere = SearchPath::Folder("/nonexistent".into());
        assert_eq!(
            nowhere.open(&["liba.so"]).unwrap_err().reason,
            "no such folder"
        );
    }

    #[test]
    fn a_file_that_is_no_library_is_reported_in_the_loaders_words() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("liba.so");
        std::fs::write(&path, "text, not a program").unwrap();
        let failure = SearchPath::Folder(folder.path().to_owned())
            .open(&["liba.so"])
            .unwrap_err();
        assert_eq!(failure.path, path);
        assert!(
            !failure.reason.contains("in this folder"),
            "{}",
            failure.reason
        );
    }

    #[test]
    fn all_libraries_come_from_one_place_in_their_order() {
        let [first, second] = SearchPath::System
            .open_all([&[LIBC], &[NONE, LIBC]])
            .unwrap();
        assert_eq!([first.path, second.path], [LIBC, LIBC].map(PathBuf::from));
        let failure = SearchPath::System.open_all([&[LIBC], &[NONE]]).unwrap_err();
        assert_eq!(failure.path, Path::new(NONE));
    }
}
