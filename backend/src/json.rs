// SPDX-License-Identifier: MPL-2.0

//! JSON as it is found: Windows' editors and scripts begin a file with a byte order mark, which
//! JSON does not know.

use serde::de::DeserializeOwned;

/// The byte order mark in UTF-8.
const BOM: &[u8] = b"\xEF\xBB\xBF";

/// What a text file holds, less a byte order mark.
pub fn without_bom(bytes: &[u8]) -> &[u8] {
    bytes.strip_prefix(BOM).unwrap_or(bytes)
}

/// Reads JSON that may begin with a byte order mark.
///
/// # Errors
/// Those of the parser.
pub fn read<T: DeserializeOwned>(bytes: &[u8]) -> serde_json::Result<T> {
    serde_json::from_slice(without_bom(bytes))
}
