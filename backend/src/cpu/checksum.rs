// SPDX-License-Identifier: MPL-2.0

//! Files with a checksum of what goes through them.

use std::io::{self, Read, Write};

/// Longest identity or name; more is no file of ours.
const MAX_TEXT: u32 = 1 << 20;

/// A file with a checksum of what went through it.
pub(super) struct Checksummed<F> {
    pub(super) inner: F,
    sum: crc32fast::Hasher,
}

impl<F> Checksummed<F> {
    /// Wraps a file.
    pub(super) fn new(inner: F) -> Self {
        Self {
            inner,
            sum: crc32fast::Hasher::new(),
        }
    }

    /// Begins a new checksum.
    pub(super) fn restart(&mut self) {
        self.sum.reset();
    }

    /// The checksum of what went through since [`new`](Self::new) or [`restart`](Self::restart).
    pub(super) fn sum(&self) -> u32 {
        self.sum.clone().finalize()
    }
}

impl<F: Read> Checksummed<F> {
    /// Fills `bytes`.
    pub(super) fn read_exact(&mut self, bytes: &mut [u8]) -> io::Result<()> {
        self.inner.read_exact(bytes)?;
        self.sum.update(bytes);
        Ok(())
    }

    /// Reads 32 bits.
    pub(super) fn read_number(&mut self) -> io::Result<u32> {
        let mut bytes = [0; 4];
        self.read_exact(&mut bytes)?;
        Ok(u32::from_le_bytes(bytes))
    }

    /// Reads a text with its length before it.
    pub(super) fn read_text(&mut self) -> io::Result<String> {
        let len = self.read_number()?;
        if len > MAX_TEXT {
            return Err(io::Error::other("no text"));
        }
        let mut bytes = vec![0; len as usize];
        self.read_exact(&mut bytes)?;
        String::from_utf8(bytes).map_err(io::Error::other)
    }
}

impl<F: Write> Checksummed<F> {
    /// Appends `bytes`.
    pub(super) fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.sum.update(bytes);
        self.inner.write_all(bytes)
    }

    /// Appends 32 bits.
    pub(super) fn write_number(&mut self, number: u32) -> io::Result<()> {
        self.write_all(&number.to_le_bytes())
    }

    /// Appends a text with its length before it.
    pub(super) fn write_text(&mut self, text: &str) -> io::Result<()> {
        self.write_number(number(text.len())?)?;
        self.write_all(text.as_bytes())
    }
}

/// A size as a file holds it.
pub(super) fn number(n: usize) -> io::Result<u32> {
    u32::try_from(n).map_err(io::Error::other)
}
