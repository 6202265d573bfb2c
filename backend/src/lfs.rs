// SPDX-License-Identifier: MPL-2.0

//! Git LFS: a clone without it leaves a text file, a pointer, where a large file belongs.

/// How a pointer begins.
const START: &[u8] = b"version https://git-lfs";

/// How many bytes of a file tell whether it is a pointer.
pub const START_BYTES: usize = START.len();

/// Whether a file that begins with these bytes is a pointer.
pub fn is_pointer(bytes: &[u8]) -> bool {
    bytes.starts_with(START)
}
