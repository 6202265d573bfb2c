// SPDX-License-Identifier: MPL-2.0

//! What can go wrong with the libraries, and the one place where a status becomes an error.

use std::fmt;
use std::path::PathBuf;

use crate::bindings::bm_status_t;

/// Why the libraries could not be loaded, or what one of their functions said.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The libraries are nowhere to be found, or none that was found could be opened.
    #[error(
        "no usable libbmlib and libbmrt ({}); install Sophgo's libsophon, or set {} to the folder \
         that holds libbmlib.so and libbmrt.so",
        Attempt::list(.tried), crate::ENV_LIB
    )]
    NotFound {
        /// What was tried, in order.
        tried: Vec<Attempt>,
    },
    /// There are libraries, none of them one that will do.
    #[error(
        "{}{}", .refused.iter().map(Self::to_string).collect::<Vec<_>>().join("; "),
        Attempt::others(.tried)
    )]
    Unusable {
        /// Why each was refused, in the order in which they were found.
        refused: Vec<Error>,
        /// Places without any.
        tried: Vec<Attempt>,
    },
    /// The libraries lack functions that nothing works without.
    #[error(
        "{library} lacks {}; install libsophon 0.5.1 or newer (for a BM1688: SDK 1.7 or newer)",
        .symbols.join(", ")
    )]
    MissingSymbols {
        /// The library, as it was opened.
        library: PathBuf,
        /// Names of the functions.
        symbols: Vec<&'static str>,
    },
    /// The library calls itself by a version whose structures may be laid out otherwise.
    #[error(
        "{library} has version {found}, which this build does not know; it was made for {want}.x, \
         see UPGRADE.md of sophgo-sys"
    )]
    Version {
        /// The library, as it was opened.
        library: PathBuf,
        /// Its version.
        found: String,
        /// The major version that `wrapper.h` describes.
        want: u32,
    },
    /// A function returned another status than `BM_SUCCESS`.
    #[error("{op} returned {} ({})", .status.0, meaning(*.status))]
    Status {
        /// The C function.
        op: &'static str,
        /// What it returned.
        status: bm_status_t,
    },
    /// A function that only says yes or no said no. The libraries print the reason themselves, on
    /// the standard output or error of the process.
    #[error("{op} did not accept {what}")]
    Refused {
        /// The C function.
        op: &'static str,
        /// What it was asked to work on.
        what: String,
    },
    /// The installed libraries are too old to have this function; the rest works without.
    #[error("the installed libsophon has no {op}")]
    Unavailable {
        /// The C function.
        op: &'static str,
    },
    /// A size or number that the C function has no room for.
    #[error("{op} cannot take {value}: its arguments have 32 bits")]
    TooLarge {
        /// The C function.
        op: &'static str,
        /// The size or number.
        value: usize,
    },
    /// A device that is not there.
    #[error("there is no device {index}: this system has {count}, counted from 0")]
    NoDevice {
        /// The device asked for.
        index: usize,
        /// Devices there are.
        count: usize,
    },
    /// A copy beyond the end of device memory. The libraries end the process at some and overwrite
    /// other memory at others.
    #[error("{op}: bytes {offset}..{} are not inside memory of {size} bytes", .offset.saturating_add(*.len))]
    OutOfRange {
        /// The C function.
        op: &'static str,
        /// First byte of the copy.
        offset: usize,
        /// Bytes to copy.
        len: usize,
        /// Bytes of the memory.
        size: u32,
    },
    /// A string with a zero byte inside, which C cannot have.
    #[error("{op} cannot take {text:?}: there is a zero byte in it")]
    ZeroByte {
        /// The C function.
        op: &'static str,
        /// The string.
        text: String,
    },
}

/// One place where the libraries were looked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// What was to be opened: a file, or a bare name for the loader to find.
    pub path: PathBuf,
    /// Why it was not.
    pub reason: String,
}

impl Error {
    /// What a search says in the end.
    pub(crate) fn of_all(mut refused: Vec<Self>, tried: Vec<Attempt>) -> Self {
        match (refused.pop(), refused.is_empty() && tried.is_empty()) {
            (None, _) => Self::NotFound { tried },
            (Some(only), true) => only,
            (Some(last), false) => {
                refused.push(last);
                Self::Unusable { refused, tried }
            }
        }
    }
}

impl Attempt {
    /// The places beside those that an error names already.
    fn others(tried: &[Self]) -> String {
        match tried.is_empty() {
            true => String::new(),
            false => format!(" (also tried: {})", Self::list(tried)),
        }
    }

    fn list(tried: &[Self]) -> String {
        let items: Vec<String> = tried.iter().map(Self::to_string).collect();
        items.join("; ")
    }
}

impl fmt::Display for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path.display(), self.reason)
    }
}

/// `Ok` for `BM_SUCCESS`.
pub(crate) fn check(op: &'static str, status: bm_status_t) -> Result<(), Error> {
    if status == bm_status_t::BM_SUCCESS {
        Ok(())
    } else {
        Err(Error::Status { op, status })
    }
}

/// A length as the C function takes it.
pub(crate) fn narrow<T: TryFrom<usize>>(op: &'static str, value: usize) -> Result<T, Error> {
    T::try_from(value).map_err(|_| Error::TooLarge { op, value })
}

fn meaning(status: bm_status_t) -> &'static str {
    match status {
        bm_status_t::BM_SUCCESS => "success",
        bm_status_t::BM_ERR_DEVNOTREADY => "the device is not ready",
        bm_status_t::BM_ERR_FAILURE => "general failure",
        bm_status_t::BM_ERR_TIMEOUT => "timed out",
        bm_status_t::BM_ERR_PARAM => "a parameter is not valid",
        bm_status_t::BM_ERR_NOMEM => "not enough device memory",
        bm_status_t::BM_ERR_DATA => "data error",
        bm_status_t::BM_ERR_BUSY => "busy",
        bm_status_t::BM_ERR_NOFEATURE => "no such feature",
        bm_status_t::BM_NOT_SUPPORTED => "not supported on this system",
        _ => "unknown status",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_names_the_function_and_what_it_means() {
        assert!(check("bm_thread_sync", bm_status_t::BM_SUCCESS).is_ok());
        let error = check("bm_thread_sync", bm_status_t::BM_ERR_TIMEOUT).unwrap_err();
        assert_eq!(error.to_string(), "bm_thread_sync returned 3 (timed out)");
        let error = check("bm_get_stat", bm_status_t(77)).unwrap_err();
        assert_eq!(
            error.to_string(),
            "bm_get_stat returned 77 (unknown status)"
        );
    }

    #[test]
    fn a_length_beyond_32_bits_is_refused() {
        assert_eq!(narrow::<u32>("f", 0xffff_ffff).unwrap(), u32::MAX);
        let error = narrow::<u32>("bm_malloc_device_byte", 1 << 32).unwrap_err();
        assert!(error.to_string().contains("4294967296"), "{error}");
        assert!(narrow::<i32>("f", 0x8000_0000).is_err());
    }

    #[test]
    fn missing_libraries_name_every_place_and_the_remedy() {
        let attempt = |path: &str, reason: &str| Attempt {
            path: path.into(),
            reason: reason.into(),
        };
        let tried = vec![
            attempt("/a/lib", "no such folder"),
            attempt("libbmlib.so.0", "nope"),
        ];
        let text = Error::NotFound { tried }.to_string();
        for part in [
            "/a/lib: no such folder",
            "libbmlib.so.0: nope",
            crate::ENV_LIB,
        ] {
            assert!(text.contains(part), "{part} is not in: {text}");
        }
    }
}
