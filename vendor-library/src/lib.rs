// SPDX-License-Identifier: MPL-2.0

//! Finds, opens and checks the shared libraries of a vendor's SDK at run time.
//!
//! This is the part that `axera-sys` and `sophgo-sys` have in common. It is made for the two and for
//! the next of their kind; there is no promise of a stable interface to others.
//!
//! - [`SearchPath`] opens libraries: in one folder, or wherever the system's loader looks.
//! - [`first_usable`] goes through places. One whose libraries are refused is not the end of the
//!   search, and the [`LoadError`] names every place that was looked at.
//! - [`missing_symbols`] and [`Library`] look at what was opened.
//! - [`narrow`], [`c_string`] and [`check_range`] look at arguments before C sees them, and say with
//!   [`ArgumentError`] what cannot be passed.
//! - `bindings`, behind the feature `bindgen`, makes bindings anew in a build script.

#[cfg(not(unix))]
compile_error!("vendor-library is for unix systems: the vendors' SDKs exist for no other");

mod argument;
#[cfg(feature = "bindgen")]
pub mod bindings;
mod error;
mod library;
mod search;
mod search_path;

pub use argument::{ArgumentError, c_string, check_range, narrow};
pub use error::{Attempt, LoadError, Vendor};
pub use libloading::os::unix::Library as Handle;
pub use library::{Library, c_text, missing_symbols, unreadable, version_text};
pub use search::{first_usable, folder_from_env};
pub use search_path::{Opened, SearchPath};
