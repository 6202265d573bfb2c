// SPDX-License-Identifier: MPL-2.0

//! What an opened library has, and what it says of itself.

#![expect(unsafe_code, reason = "reads what C functions return")]

use std::ffi::{CStr, c_char, c_void};
use std::path::{Path, PathBuf};

use libloading::os::unix::Library as Handle;

use crate::error::{Attempt, LoadError, Vendor};

/// An opened library, as it is told of in messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Library {
    /// The file, or the bare name if the system's loader found it.
    pub path: PathBuf,
    /// What the library says of itself: version, and with some vendors commit and date of the build.
    pub version: Option<String>,
}

impl Library {
    /// Refuses a library that calls itself by a version that will not do. `refused` finds the name of
    /// such a version in what the library says; it finds none in a text whose form it does not know,
    /// and a library that says nothing is taken as well.
    ///
    /// # Errors
    /// [`LoadError::Version`] with what was found and `need`.
    pub fn check_version(
        &self,
        need: &'static str,
        refused: impl Fn(&str) -> Option<&str>,
    ) -> Result<(), LoadError> {
        match self.version.as_deref().and_then(refused) {
            Some(found) => Err(LoadError::Version {
                library: self.path.clone(),
                found: found.to_owned(),
                need,
            }),
            None => Ok(()),
        }
    }
}

/// Those of these functions that a library lacks, and the libraries that it is linked with.
pub fn missing_symbols(library: &Handle, names: &[&'static str]) -> Vec<&'static str> {
    let missing = |name: &&&'static str| {
        // SAFETY: the address is looked up and not used.
        unsafe { library.get::<*const c_void>(name.as_bytes()) }.is_err()
    };
    names.iter().filter(missing).copied().collect()
}

/// A library whose functions could not be read though it was opened.
pub fn unreadable(vendor: Vendor, path: &Path, error: &libloading::Error) -> LoadError {
    LoadError::NotFound {
        vendor,
        tried: vec![Attempt {
            path: path.to_owned(),
            reason: error.to_string(),
        }],
    }
}

/// What a function says that tells a library's version; `None` in libraries without it.
///
/// # Safety
/// The function has this type, and what it returns is null or a C string that stays.
pub unsafe fn version_text(
    function: Option<unsafe extern "C" fn() -> *const c_char>,
) -> Option<String> {
    // SAFETY: by the caller.
    let text = unsafe { c_text(function?()) }?;
    Some(text.trim().to_owned())
}

/// A copy of a C string; `None` for null.
///
/// # Safety
/// `text` is null or a C string.
pub unsafe fn c_text(text: *const c_char) -> Option<String> {
    if text.is_null() {
        return None;
    }
    // SAFETY: not null, and a C string by the caller.
    let text = unsafe { CStr::from_ptr(text) };
    Some(text.to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::search_path::SearchPath;

    fn library(version: Option<&str>) -> Library {
        Library {
            path: "libx.so".into(),
            version: version.map(str::to_owned),
        }
    }

    #[test]
    fn an_unknown_version_is_refused_and_one_that_cannot_be_read_taken() {
        fn too_old(text: &str) -> Option<&str> {
            let major: u32 = text.strip_prefix('v')?.parse().ok()?;
            (major < 2).then_some(text)
        }
        let check = |version| library(version).check_version("want 2", too_old);
        let error = check(Some("v1")).unwrap_err();
        assert_eq!(error.to_string(), "libx.so has version v1; want 2");
        for taken in [Some("v2"), Some("built on a Tuesday"), Some(""), None] {
            assert!(check(taken).is_ok(), "{taken:?}");
        }
    }

    #[test]
    fn functions_that_a_library_lacks_are_named() {
        let libc = SearchPath::System.open(&["libc.so.6"]).unwrap();
        let missing = missing_symbols(&libc.handle, &["malloc", "vlmcaption_none", "free"]);
        assert_eq!(missing, ["vlmcaption_none"]);
    }

    #[test]
    fn a_version_is_read_without_the_space_around_it() {
        unsafe extern "C" fn says() -> *const c_char {
            c" 1.0, \n".as_ptr()
        }
        unsafe extern "C" fn says_nothing() -> *const c_char {
            std::ptr::null()
        }
        // SAFETY: the functions have this type; what they return is a constant, or null.
        let texts = unsafe { [version_text(Some(says)), version_text(Some(says_nothing))] };
        assert_eq!(texts, [Some("1.0,".to_owned()), None]);
        // SAFETY: there is no function.
        assert_eq!(unsafe { version_text(None) }, None);
    }
}
