// SPDX-License-Identifier: MPL-2.0

//! Any text as a JSON schema: read or refused, and the shortest answer that it allows follows it.

#![no_main]

use gstvlmcaption::vlm::grammar::{Schema, State};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let schema = match Schema::parse(text) {
        Ok(schema) => schema,
        Err(said) => return assert!(!said.is_empty()),
    };
    let ending = State::new().ending(&schema);
    let value = serde_json::from_slice(&ending).expect("a whole text");
    schema.validate(&value).expect("a text by the schema");
});
