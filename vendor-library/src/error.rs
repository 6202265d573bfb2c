// SPDX-License-Identifier: MPL-2.0

//! Why no libraries could be loaded, in words that say what to do.

use std::fmt;
use std::path::PathBuf;

/// How messages call the libraries of a vendor, and what provides them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Vendor {
    /// The libraries, `libbmlib and libbmrt`.
    pub libraries: &'static str,
    /// What is to be installed, `Sophgo's libsophon`.
    pub package: &'static str,
    /// The environment variable that names the folder of the libraries.
    pub env: &'static str,
    /// What that folder holds, `libbmlib.so and libbmrt.so`.
    pub files: &'static str,
}

/// Why no libraries could be loaded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// No library was found, or none that was found could be opened.
    #[error(
        "no usable {} ({}); install {}, or set {} to the folder that holds {}",
        .vendor.libraries, list(.tried), .vendor.package, .vendor.env, .vendor.files
    )]
    NotFound {
        /// Whose they are.
        vendor: Vendor,
        /// What was tried, in order.
        tried: Vec<Attempt>,
    },
    /// There are libraries, and each was refused.
    #[error(
        "{}{}", .refused.iter().map(Self::to_string).collect::<Vec<_>>().join("; "), others(.tried)
    )]
    Unusable {
        /// Why each was refused, in the order in which they were found.
        refused: Vec<LoadError>,
        /// Places without any.
        tried: Vec<Attempt>,
    },
    /// A library lacks functions that nothing works without.
    #[error("{library} lacks {}; install {fix}", .symbols.join(", "))]
    MissingSymbols {
        /// The library, as it was opened.
        library: PathBuf,
        /// Names of the functions.
        symbols: Vec<&'static str>,
        /// What has them.
        fix: &'static str,
    },
    /// A library calls itself by a version that the bindings are not for.
    #[error("{library} has version {found}; {need}")]
    Version {
        /// The library, as it was opened.
        library: PathBuf,
        /// Its version.
        found: String,
        /// Which versions will do, and what to do.
        need: &'static str,
    },
    /// A library is for another family of chips.
    #[error("{library} is for {family}; this build runs models on {chip}")]
    WrongChip {
        /// The library, as it was opened.
        library: PathBuf,
        /// Which chips it is for.
        family: &'static str,
        /// Which chips it should be for.
        chip: &'static str,
    },
}

/// One place where libraries were looked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// What was to be opened: a file, or a bare name for the loader to find.
    pub path: PathBuf,
    /// Why it was not.
    pub reason: String,
}

impl fmt::Display for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path.display(), self.reason)
    }
}

fn list(tried: &[Attempt]) -> String {
    let items: Vec<String> = tried.iter().map(Attempt::to_string).collect();
    items.join("; ")
}

/// The places beside those that a message names already.
fn others(tried: &[Attempt]) -> String {
    match tried.is_empty() {
        true => String::new(),
        false => format!(" (also tried: {})", list(tried)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attempt(path: &str, reason: &str) -> Attempt {
        Attempt {
            path: path.into(),
            reason: reason.into(),
        }
    }

    #[test]
    fn missing_libraries_name_every_place_and_the_remedy() {
        let vendor = Vendor {
            libraries: "libx",
            package: "the vendor's x",
            env: "X_LIB",
            files: "libx.so",
        };
        let tried = vec![
            attempt("/a/lib", "no such folder"),
            attempt("libx.so", "nope"),
        ];
        let error = LoadError::NotFound { vendor, tried };
        assert_eq!(
            error.to_string(),
            "no usable libx (/a/lib: no such folder; libx.so: nope); install the vendor's x, or set \
             X_LIB to the folder that holds libx.so"
        );
    }

    #[test]
    fn refused_libraries_are_named_before_the_places_without_any() {
        let refused = vec![
            LoadError::MissingSymbols {
                library: "/a/libx.so".into(),
                symbols: vec!["x_open", "x_run"],
                fix: "x 2 or newer",
            },
            LoadError::Version {
                library: "/b/libx.so".into(),
                found: "1.0".into(),
                need: "want 2",
            },
        ];
        let tried = vec![attempt("/c", "no libx.so in this folder")];
        assert_eq!(
            LoadError::Unusable { refused, tried }.to_string(),
            "/a/libx.so lacks x_open, x_run; install x 2 or newer; /b/libx.so has version 1.0; want 2 \
             (also tried: /c: no libx.so in this folder)"
        );
    }
}
