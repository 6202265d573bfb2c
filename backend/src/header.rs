// SPDX-License-Identifier: MPL-2.0

//! The header of a safetensors file: which tensors the file holds, and where.

use std::io::Read;

use safetensors::tensor::Metadata;

use super::error::Error;
use super::lfs;

/// Bytes of the length that a file begins with.
const LENGTH_BYTES: usize = 8;

/// Headers above this are refused, as the safetensors crate refuses them.
const MAX_BYTES: u64 = 100_000_000;

/// The header of a file that is as long as it says.
pub struct Header {
    /// The tensors.
    pub metadata: Metadata,
    /// Where the tensors begin, bytes.
    pub end: u64,
    /// CRC-32 of its text.
    pub checksum: u32,
}

impl Header {
    /// Reads the header of a file of `length` bytes from its beginning; messages call it `name`.
    ///
    /// # Errors
    /// [`Error::LfsPointer`], [`Error::Damaged`], [`Error::Io`].
    pub fn read(name: &str, mut file: impl Read, length: u64) -> Result<Self, Error> {
        let io = |source| Error::Io {
            file: name.to_owned(),
            source,
        };
        let damaged = |reason: String| Error::Damaged {
            file: name.to_owned(),
            reason,
        };
        let mut read = |n: u64, into: &mut Vec<u8>| file.by_ref().take(n).read_to_end(into);
        let mut start = Vec::with_capacity(lfs::START_BYTES);
        read(lfs::START_BYTES as u64, &mut start).map_err(io)?;
        if lfs::is_pointer(&start) {
            return Err(Error::LfsPointer {
                file: name.to_owned(),
            });
        }
        let Some((size, begun)) = start.split_first_chunk::<LENGTH_BYTES>() else {
            return Err(damaged(format!("it has {length} bytes")));
        };
        let size = u64::from_le_bytes(*size);
        if size > MAX_BYTES || size + LENGTH_BYTES as u64 > length {
            return Err(damaged(format!(
                "its header should have {size} bytes, the whole file has {length}"
            )));
        }
        let mut text = begun.to_vec();
        // At most MAX_BYTES.
        text.truncate(size as usize);
        read(size - text.len() as u64, &mut text).map_err(io)?;
        let metadata: Metadata =
            serde_json::from_slice(&text).map_err(|e| damaged(format!("header: {e}")))?;
        let end = LENGTH_BYTES as u64 + size;
        let want = end.saturating_add(metadata.data_len() as u64);
        if want != length {
            return Err(damaged(format!(
                "it should have {want} bytes and has {length}"
            )));
        }
        Ok(Self {
            metadata,
            end,
            checksum: crc32fast::hash(&text),
        })
    }
}
