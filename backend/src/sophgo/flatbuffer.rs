// SPDX-License-Identifier: MPL-2.0

//! Reads unchecked FlatBuffers: every offset is looked at before it is followed.
//!
//! Only what a bmodel needs: tables, strings, vectors of tables, scalars and one kind of struct. A
//! file may point to the same table or name many times, so what is visited is counted, and a file
//! that would keep us busy for long or take much memory is refused.

use std::cell::Cell;

/// What is wrong with a buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Broken {
    #[error("an offset leads out of it")]
    Offset,
    #[error("a name is not text")]
    Text,
    #[error("{0} is missing")]
    Missing(&'static str),
    #[error("it describes more than any model has")]
    TooMuch,
}

/// Tables and pieces of [`PIECE_BYTES`] of names and vectors that may be visited in one buffer; a
/// model of 100 layers has about 20,000 tables.
const MAX_VISITS: usize = 2_000_000;

/// Bytes of a name or a vector that count like one table.
const PIECE_BYTES: usize = 64;

/// A buffer, and how much of it was visited.
pub(super) struct Buffer<'a> {
    bytes: &'a [u8],
    visits: Cell<usize>,
}

/// A table in a buffer.
#[derive(Clone, Copy)]
pub(super) struct Table<'a> {
    buffer: &'a Buffer<'a>,
    at: usize,
    vtable: usize,
    /// Bytes of the vtable.
    size: usize,
}

/// `Binary` of the schema: a range of the file's blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Range {
    pub start: u64,
    pub size: u64,
}

impl<'a> Buffer<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self {
            bytes,
            visits: Cell::new(0),
        }
    }

    /// The root table.
    pub(super) fn root(&'a self) -> Result<Table<'a>, Broken> {
        self.table(self.follow(0)?)
    }

    fn array<const N: usize>(&self, at: usize) -> Result<[u8; N], Broken> {
        let rest = self.bytes.get(at..).ok_or(Broken::Offset)?;
        rest.first_chunk().copied().ok_or(Broken::Offset)
    }

    fn u16(&self, at: usize) -> Result<usize, Broken> {
        self.array(at).map(|b| usize::from(u16::from_le_bytes(b)))
    }

    fn u32(&self, at: usize) -> Result<u32, Broken> {
        self.array(at).map(u32::from_le_bytes)
    }

    fn u64(&self, at: usize) -> Result<u64, Broken> {
        self.array(at).map(u64::from_le_bytes)
    }

    /// Where the forward offset at `at` leads.
    fn follow(&self, at: usize) -> Result<usize, Broken> {
        let offset = self.u32(at)? as usize;
        let to = at.checked_add(offset).ok_or(Broken::Offset)?;
        if to >= self.bytes.len() {
            return Err(Broken::Offset);
        }
        Ok(to)
    }

    /// Counts what is visited.
    fn visit(&self, n: usize) -> Result<(), Broken> {
        let visits = self.visits.get().saturating_add(n);
        self.visits.set(visits);
        match visits > MAX_VISITS {
            true => Err(Broken::TooMuch),
            false => Ok(()),
        }
    }

    fn table(&'a self, at: usize) -> Result<Table<'a>, Broken> {
        self.visit(1)?;
        // The vtable lies before (or after) the table, by a signed distance.
        let distance = i32::from_le_bytes(self.array(at)?);
        let vtable = (at as i64).checked_sub(i64::from(distance));
        let vtable = vtable.and_then(|v| usize::try_from(v).ok());
        let vtable = vtable.ok_or(Broken::Offset)?;
        let size = self.u16(vtable)?;
        Ok(Table {
            buffer: self,
            at,
            vtable,
            size,
        })
    }
}

impl<'a> Table<'a> {
    /// Where field `id` lies; `None` if the table does not have it.
    fn field(&self, id: usize) -> Result<Option<usize>, Broken> {
        let entry = 4 + 2 * id;
        if entry + 2 > self.size {
            return Ok(None);
        }
        match self.buffer.u16(self.vtable + entry)? {
            0 => Ok(None),
            offset => Ok(Some(self.at + offset)),
        }
    }

    /// A 32-bit number; 0 if absent.
    pub(super) fn u32(&self, id: usize) -> Result<u32, Broken> {
        self.field(id)?.map_or(Ok(0), |at| self.buffer.u32(at))
    }

    /// A 64-bit number; 0 if absent.
    pub(super) fn u64(&self, id: usize) -> Result<u64, Broken> {
        self.field(id)?.map_or(Ok(0), |at| self.buffer.u64(at))
    }

    /// A `Binary` struct.
    pub(super) fn range(&self, id: usize) -> Result<Option<Range>, Broken> {
        let Some(at) = self.field(id)? else {
            return Ok(None);
        };
        Ok(Some(Range {
            start: self.buffer.u64(at)?,
            size: self.buffer.u64(at + 8)?,
        }))
    }

    /// A string that must be there.
    pub(super) fn text(&self, id: usize, what: &'static str) -> Result<&'a str, Broken> {
        let at = self.field(id)?.ok_or(Broken::Missing(what))?;
        let at = self.buffer.follow(at)?;
        let len = self.buffer.u32(at)? as usize;
        self.buffer.visit(len / PIECE_BYTES)?;
        let bytes = self.buffer.bytes[at + 4..].get(..len);
        std::str::from_utf8(bytes.ok_or(Broken::Offset)?).map_err(|_| Broken::Text)
    }

    /// A table.
    pub(super) fn table(&self, id: usize) -> Result<Option<Table<'a>>, Broken> {
        let Some(at) = self.field(id)? else {
            return Ok(None);
        };
        self.buffer.table(self.buffer.follow(at)?).map(Some)
    }

    /// A vector's first element and its length, if elements of `size` bytes fit the buffer.
    fn vector(&self, id: usize, size: usize) -> Result<(usize, usize), Broken> {
        let Some(at) = self.field(id)? else {
            return Ok((0, 0));
        };
        let at = self.buffer.follow(at)?;
        let len = self.buffer.u32(at)? as usize;
        let room = self.buffer.bytes.len().saturating_sub(at + 4);
        if len.checked_mul(size).is_none_or(|bytes| bytes > room) {
            return Err(Broken::Offset);
        }
        self.buffer.visit(len * size / PIECE_BYTES)?;
        Ok((at + 4, len))
    }

    /// The tables of a vector; none if absent.
    pub(super) fn tables(
        &self,
        id: usize,
    ) -> Result<impl Iterator<Item = Result<Table<'a>, Broken>>, Broken> {
        let (first, len) = self.vector(id, 4)?;
        let buffer = self.buffer;
        Ok((0..len).map(move |i| buffer.table(buffer.follow(first + 4 * i)?)))
    }

    /// The numbers of a vector of 64 bits each; none if absent. At most `most`.
    pub(super) fn u64s(&self, id: usize, most: usize) -> Result<Vec<u64>, Broken> {
        let (first, len) = self.vector(id, 8)?;
        if len > most {
            return Err(Broken::TooMuch);
        }
        (0..len).map(|i| self.buffer.u64(first + 8 * i)).collect()
    }

    /// The bytes of a vector; none if absent.
    pub(super) fn bytes(&self, id: usize) -> Result<&'a [u8], Broken> {
        let (first, len) = self.vector(id, 1)?;
        Ok(&self.buffer.bytes[first..first + len])
    }

    /// The ranges of a vector of structs; none if absent.
    pub(super) fn ranges(&self, id: usize) -> Result<Vec<Range>, Broken> {
        let (first, len) = self.vector(id, 16)?;
        let range = |i: usize| {
            Ok(Range {
                start: self.buffer.u64(first + 16 * i)?,
                size: self.buffer.u64(first + 16 * i + 8)?,
            })
        };
        (0..len).map(range).collect()
    }
}
