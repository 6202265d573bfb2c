// SPDX-License-Identifier: MPL-2.0

//! The opened libraries, and what a process keeps of them.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use vendor_library::Library;

use crate::card::Card;
use crate::error::Error;
use crate::functions::{Functions, Kind};
use crate::load::Search;
use crate::soc::Soc;

/// What must happen once in a process, counted.
#[derive(Debug, Default)]
pub(crate) struct Users {
    /// Devices open, of all ids.
    pub process: usize,
    /// Devices open by id, and whether the engine there was started here.
    pub engines: BTreeMap<i32, (usize, bool)>,
}

/// The libraries of one kind, opened, complete and of a known version.
pub struct Api {
    pub(crate) functions: Functions,
    library: Library,
    users: Mutex<Users>,
    locks: Mutex<BTreeMap<i32, DeviceLock>>,
}

/// Held while a user of a device loads, runs or unloads.
pub(crate) type DeviceLock = Arc<Mutex<()>>;

impl Api {
    /// The libraries of this process: opened by the first call that finds them, never closed (they
    /// have threads and exit handlers of their own).
    ///
    /// # Errors
    /// See [`Api::open`]. A failure is not kept: the next call looks again.
    pub fn load() -> Result<Arc<Self>, Error> {
        static API: OnceLock<Arc<Api>> = OnceLock::new();
        match API.get() {
            Some(api) => Ok(Arc::clone(api)),
            None => {
                let api = Self::open(&Search::from_env())?;
                Ok(Arc::clone(API.get_or_init(|| Arc::new(api))))
            }
        }
    }

    /// Opens the libraries for this value alone; they are closed with it.
    ///
    /// Where there are those of a board and those for cards, a card is chosen if its driver is
    /// there.
    ///
    /// # Errors
    /// [`Error::Load`].
    pub fn open(search: &Search) -> Result<Self, Error> {
        let (functions, library) = search.open()?;
        Ok(Self {
            functions,
            library,
            users: Mutex::default(),
            locks: Mutex::default(),
        })
    }

    /// Which API it is.
    pub fn kind(&self) -> Kind {
        match self.functions {
            Functions::Soc(_) => Kind::Soc,
            Functions::Card(_) => Kind::Card,
        }
    }

    /// The checked tier of a board's libraries.
    pub fn soc(&self) -> Option<&Soc> {
        match &self.functions {
            Functions::Soc(soc) => Some(soc),
            Functions::Card(_) => None,
        }
    }

    /// The checked tier of a card's library.
    pub fn card(&self) -> Option<&Card> {
        match &self.functions {
            Functions::Card(card) => Some(card),
            Functions::Soc(_) => None,
        }
    }

    /// Where the library came from and what it says of itself.
    pub fn library(&self) -> &Library {
        &self.library
    }

    pub(crate) fn users(&self) -> MutexGuard<'_, Users> {
        self.users.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The lock of a device, which does one thing at a time.
    pub(crate) fn device_lock(&self, id: i32) -> DeviceLock {
        let mut locks = self.locks.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(locks.entry(id).or_default())
    }
}

impl fmt::Debug for Api {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Api")
            .field("kind", &self.kind())
            .field("library", self.library())
            .finish()
    }
}
