// SPDX-License-Identifier: MPL-2.0

//! What can go wrong with the libraries, and the one place where a status becomes an error.

use vendor_library::{ArgumentError, LoadError, Vendor};

use crate::bindings::bm_status_t;

/// Environment variable that names the folder of the libraries; if set, no other place is tried.
pub const ENV_LIB: &str = "VLMCAPTION_SOPHON_LIB";

/// How messages call the libraries.
pub(crate) const VENDOR: Vendor = Vendor {
    libraries: "libbmlib and libbmrt",
    package: "Sophgo's libsophon",
    env: ENV_LIB,
    files: "libbmlib.so and libbmrt.so",
};

/// Why the libraries could not be loaded, or what one of their functions said.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The libraries are not there, or are others than `wrapper.h` describes.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// An argument that a C function cannot be given.
    #[error(transparent)]
    Argument(#[from] ArgumentError),
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
    /// A device that is not there.
    #[error("there is no device {index}: this system has {count}, counted from 0")]
    NoDevice {
        /// The device asked for.
        index: usize,
        /// Devices there are.
        count: usize,
    },
}

/// `Ok` for `BM_SUCCESS`.
pub(crate) fn check(op: &'static str, status: bm_status_t) -> Result<(), Error> {
    if status == bm_status_t::BM_SUCCESS {
        Ok(())
    } else {
        Err(Error::Status { op, status })
    }
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
    fn missing_libraries_name_the_remedy() {
        let tried = Vec::new();
        let vendor = VENDOR;
        let text = Error::from(LoadError::NotFound { vendor, tried }).to_string();
        for part in ["libbmlib and libbmrt", "Sophgo's libsophon", ENV_LIB] {
            assert!(text.contains(part), "{part} is not in: {text}");
        }
    }
}
