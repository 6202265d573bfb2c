// SPDX-License-Identifier: MPL-2.0

//! The opened libraries.

use std::fmt;
use std::sync::OnceLock;

use vendor_library::Library;

use crate::bindings::Symbols;
use crate::error::Error;
use crate::load::{Libraries, Search};

/// libbmlib and libbmrt, opened, complete and of a known version.
///
/// Its methods are the checked tier: each calls the C function of its name.
pub struct Api {
    libraries: Libraries,
}

impl Api {
    /// The libraries of this process: opened by the first call that finds them, never closed (they
    /// have threads and exit handlers of their own).
    ///
    /// # Errors
    /// See [`Api::open`]. A failure is not kept: the next call looks again.
    pub fn load() -> Result<&'static Self, Error> {
        static API: OnceLock<Api> = OnceLock::new();
        match API.get() {
            Some(api) => Ok(api),
            None => {
                let api = Self::open(&Search::from_env())?;
                Ok(API.get_or_init(|| api))
            }
        }
    }

    /// Opens the libraries for this value alone; they are closed with it.
    ///
    /// # Errors
    /// [`Error::Load`].
    pub fn open(search: &Search) -> Result<Self, Error> {
        Ok(Self {
            libraries: search.open()?,
        })
    }

    /// The raw tier. Functions that old SDKs lack may be missing there: look at the field before
    /// calling the method.
    pub fn symbols(&self) -> &Symbols {
        &self.libraries.symbols
    }

    /// Where libbmlib came from and what it says of itself.
    pub fn bmlib(&self) -> &Library {
        &self.libraries.bmlib
    }

    /// Where libbmrt came from and what it says of itself.
    pub fn bmrt(&self) -> &Library {
        &self.libraries.bmrt
    }
}

impl fmt::Debug for Api {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Api")
            .field("bmlib", self.bmlib())
            .field("bmrt", self.bmrt())
            .finish()
    }
}
