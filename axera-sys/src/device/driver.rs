// SPDX-License-Identifier: MPL-2.0

//! What the two runtimes have in common: tensors, memory, and what a driver does.

use std::path::Path;
use std::sync::{MutexGuard, PoisonError};

use vendor_library::{ArgumentError, check_range};

use crate::api::DeviceLock;
use crate::error::Error;

/// Type of the elements of a tensor, under one name for both APIs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DataType {
    /// Not told: engines of boards before SDK 2.18 say so of bf16.
    Unknown,
    /// Unsigned bytes.
    U8,
    /// 16-bit unsigned.
    U16,
    /// 32-bit unsigned.
    U32,
    /// Signed bytes.
    I8,
    /// 16-bit signed.
    I16,
    /// 32-bit signed.
    I32,
    /// Brain floating point, 16 bits.
    Bf16,
    /// IEEE half.
    F16,
    /// IEEE single.
    F32,
    /// Another, by its number in the API at hand.
    Other(u32),
}

/// One input or output of a shape group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tensor {
    /// Its name; look tensors up by it, their order may differ between groups.
    pub name: String,
    /// Its type.
    pub dtype: DataType,
    /// Its shape; some builds do not tell the truth here, [`Tensor::size_bytes`] always does.
    pub shape: Vec<usize>,
    /// Bytes.
    pub size_bytes: usize,
}

/// One of the shapes that a model was compiled for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// What a run reads.
    pub inputs: Vec<Tensor>,
    /// What a run writes.
    pub outputs: Vec<Tensor>,
}

/// Memory of a [`Device`](super::Device), or a part of it; given back with the device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mem {
    pub(super) block: usize,
    pub(super) offset: usize,
    pub(super) size: usize,
    pub(super) device: u64,
}

impl Mem {
    /// Bytes.
    pub fn size_bytes(self) -> usize {
        self.size
    }

    /// The `size` bytes from `offset` on.
    ///
    /// # Errors
    /// [`Error::Argument`].
    pub fn part(self, offset: usize, size: usize) -> Result<Self, Error> {
        self.check("part of memory", offset, size)?;
        Ok(Self {
            offset: self.offset + offset,
            size,
            ..self
        })
    }

    pub(super) fn check(
        self,
        op: &'static str,
        offset: usize,
        len: usize,
    ) -> Result<(), ArgumentError> {
        check_range(op, offset, len, self.size)
    }

    pub(super) fn overlaps(self, other: Self) -> bool {
        self.block == other.block
            && self.offset < other.offset + other.size
            && other.offset < self.offset + self.size
    }
}

/// How a device fares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Health {
    /// Bytes of the NPU's memory in all, and free.
    pub memory: Option<(u64, u64)>,
    /// Use of the NPU, percent.
    pub utilisation: Option<u32>,
    /// Degrees Celsius.
    pub temperature: Option<u32>,
}

/// What the two runtimes do each in its way. Slots and blocks count from 0 in the order they were
/// made; ranges were checked.
pub(super) trait Driver: Send {
    fn health(&mut self) -> Health;
    fn usage(&mut self, path: &Path) -> Result<u64, Error>;
    fn load(&mut self, path: &Path) -> Result<ModelInfo, Error>;
    fn alloc(&mut self, size_bytes: usize) -> Result<(), Error>;
    fn write(&mut self, block: usize, offset: usize, src: &[u8]) -> Result<(), Error>;
    fn read(&mut self, block: usize, offset: usize, dst: &mut [u8]) -> Result<(), Error>;
    fn copy(&mut self, dst: (usize, usize), src: (usize, usize), size: usize) -> Result<(), Error>;
    fn run(&mut self, slot: usize, group: usize, run: &Run<'_>) -> Result<(), Error>;
}

/// What the engine says of a model.
pub(super) struct ModelInfo {
    pub groups: Vec<Group>,
    pub compiler: Option<String>,
}

/// Memory for a run: each place with the bytes that the group wants there.
pub(super) struct Run<'a> {
    pub inputs: &'a [(Mem, usize)],
    pub outputs: &'a [(Mem, usize)],
}

/// Waits until no other user of the device loads, runs or unloads.
pub(super) fn lock(lock: &DeviceLock) -> MutexGuard<'_, ()> {
    lock.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(super) fn refused(op: &'static str, what: &str) -> Error {
    Error::Refused {
        op,
        what: what.to_owned(),
    }
}
