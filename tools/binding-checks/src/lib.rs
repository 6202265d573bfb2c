// SPDX-License-Identifier: MPL-2.0

//! What the tests of `axera-sys` and `sophgo-sys` ask of their bindings.
//!
//! Bindings state every layout as a constant that the Rust compiler checks. The same numbers, taken
//! from their text, become assertions for the C compiler ([`assertions`], [`compile`]): against our
//! headers, and against the vendor's where they are installed. [`read`] has what else their text
//! tells, [`generated`] compares it with what bindgen makes.
//!
//! Everything panics where a text is not as expected: this runs in tests alone.

mod c;
mod generated;
mod read;

pub use c::{assertions, cc, compile};
pub use generated::{assert_committed, assert_same_layouts};
pub use read::{bound_functions, called_functions, declared_functions, fields_of_few_values};
