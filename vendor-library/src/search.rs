// SPDX-License-Identifier: MPL-2.0

//! The way through the places where libraries may be.

use std::ffi::OsString;
use std::path::PathBuf;

use crate::error::{Attempt, LoadError, Vendor};

/// The folder that an environment variable names; an empty one names none.
pub fn folder_from_env(variable: &str) -> Option<PathBuf> {
    folder(std::env::var_os(variable))
}

fn folder(value: Option<OsString>) -> Option<PathBuf> {
    value.filter(|value| !value.is_empty()).map(PathBuf::from)
}

/// What the first place has whose libraries open and pass. `open` opens those of a place, `check`
/// says whether they will do.
///
/// # Errors
/// The one refusal if that is all there is to say; [`LoadError::Unusable`] if there are several, or
/// other places were tried; [`LoadError::NotFound`] if no place has libraries.
pub fn first_usable<P, O, T>(
    vendor: Vendor,
    places: impl IntoIterator<Item = P>,
    open: impl Fn(&P) -> Result<O, Attempt>,
    check: impl Fn(&P, O) -> Result<T, LoadError>,
) -> Result<T, LoadError> {
    let (mut refused, mut tried) = (Vec::new(), Vec::new());
    for place in places {
        match open(&place) {
            Ok(opened) => match check(&place, opened) {
                Ok(usable) => return Ok(usable),
                Err(error) => refused.push(error),
            },
            Err(attempt) => tried.push(attempt),
        }
    }
    Err(match (refused.len(), tried.len()) {
        (0, _) => LoadError::NotFound { vendor, tried },
        (1, 0) => refused.remove(0),
        _ => LoadError::Unusable { refused, tried },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const VENDOR: Vendor = Vendor {
        libraries: "libx",
        package: "the vendor's x",
        env: "X_LIB",
        files: "libx.so",
    };

    /// Places by what is there: nothing, libraries that are too old, or ones that will do.
    fn search(places: &[&str]) -> Result<String, LoadError> {
        let open = |place: &&&str| match **place {
            "nothing" => Err(Attempt {
                path: "/nowhere".into(),
                reason: "no such folder".into(),
            }),
            libraries => Ok(libraries.to_owned()),
        };
        let check = |_: &&&str, libraries: String| match libraries.as_str() {
            "old" => Err(LoadError::Version {
                library: "/old/libx.so".into(),
                found: "1".into(),
                need: "want 2",
            }),
            _ => Ok(libraries),
        };
        first_usable(VENDOR, places, open, check)
    }

    #[test]
    fn the_first_place_that_will_do_counts() {
        let found = search(&["nothing", "good", "better"]);
        assert_eq!(found.unwrap(), "good");
    }

    #[test]
    fn a_place_with_libraries_that_will_not_do_is_not_the_end_of_the_search() {
        let found = search(&["old", "nothing", "good"]);
        assert_eq!(found.unwrap(), "good");
    }

    #[test]
    fn an_only_refusal_speaks_for_itself() {
        let error = search(&["old"]).unwrap_err();
        assert!(matches!(error, LoadError::Version { .. }), "{error}");
    }

    #[test]
    fn several_refusals_and_other_places_are_told_together() {
        for places in [&["old", "old"][..], &["old", "nothing"]] {
            let error = search(places).unwrap_err();
            assert!(matches!(error, LoadError::Unusable { .. }), "{error}");
        }
    }

    #[test]
    fn without_any_library_every_place_is_named() {
        let error = search(&["nothing", "nothing"]).unwrap_err();
        let LoadError::NotFound { vendor, tried } = error else {
            panic!("{error}");
        };
        assert_eq!((vendor, tried.len()), (VENDOR, 2));
    }

    #[test]
    fn an_empty_variable_names_no_folder() {
        assert_eq!(folder(Some("/my/lib".into())), Some("/my/lib".into()));
        assert_eq!(folder(Some(OsString::new())), None);
        assert_eq!(folder(None), None);
    }
}
