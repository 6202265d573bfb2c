// SPDX-License-Identifier: MPL-2.0

//! Answers that follow a JSON schema: which byte may come next, and what ends a text soonest.
//!
//! A subset of JSON schema, chosen so that a text can always be ended within a known number of
//! bytes: objects with `properties` and `required`, arrays with `items`, `minItems` and `maxItems`,
//! strings with `maxLength` or `enum`, integers and numbers with `minimum` and `maximum`, booleans
//! and null. Properties come in the order of the schema, and no others come.

mod automaton;
mod number;
mod schema;
#[cfg(test)]
mod tests;

pub use automaton::State;
pub use schema::Schema;
