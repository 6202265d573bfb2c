// SPDX-License-Identifier: MPL-2.0

//! Records of captions: everything that one was made of, in a folder, so that it can be explained and
//! made again.
//!
//! ```text
//! record     what is in one, and how it is written
//! picture    frames as files
//! model      which model answered, by the hash of its files
//! entry      a caption becomes a record
//! folder     records in their folder: whole or not at all, bounded by size and age
//! recorder   the thread that writes them, and its bounded queue
//! reading    a record is read, and looked at for damage
//! again      it is made again
//! compare    where two answers differ
//! ```

pub mod again;
pub mod compare;
pub mod entry;
pub mod folder;
pub mod model;
pub mod picture;
pub mod reading;
pub mod record;
pub mod recorder;

use std::fmt::Write;

use sha2::{Digest, Sha256};

/// SHA-256 of bytes, in hexadecimal.
pub fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
