// SPDX-License-Identifier: MPL-2.0

//! The checked tier for cards: libaxcl_rt.

#![expect(unsafe_code, reason = "calls C functions")]

mod engine;

use std::ffi::c_void;
use std::marker::PhantomData;
use std::ptr::{self, NonNull};

use vendor_library::ArgumentError;

use crate::bindings::card::{
    Symbols, axclrtDeviceList, axclrtDeviceProperties, axclrtMemMallocPolicy, axclrtMemcpyKind,
};
use crate::error::{Error, check};

/// The functions of a card. Each method calls the C function that its text names.
///
/// Those on contexts, memory and models need a context on the calling thread
/// ([`Card::set_current_context`]) and fail without one.
pub struct Card {
    symbols: Symbols,
}

/// Which side of a model a tensor is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// What a run reads.
    Input,
    /// What a run writes.
    Output,
}

/// Memory of a card, which is not in the address space of the process. Only [`Card::malloc`] makes
/// one.
#[derive(Debug)]
pub struct CardMemory {
    start: NonNull<c_void>,
    size: usize,
}

/// Some bytes of a [`CardMemory`], which is not freed meanwhile.
#[derive(Debug, Clone, Copy)]
pub struct CardSlice<'a> {
    start: NonNull<c_void>,
    size: usize,
    _memory: PhantomData<&'a CardMemory>,
}

/// A loaded model. Only [`Card::load`] makes one.
#[derive(Debug)]
pub struct ModelId(u64);

/// What a run needs beside a model; ends with it. Only [`Card::create_model_context`] makes one.
#[derive(Debug)]
pub struct ModelContext(u64);

impl CardMemory {
    /// The `len` bytes from `offset` on.
    ///
    /// # Errors
    /// [`ArgumentError::OutOfRange`].
    pub fn part(
        &self,
        op: &'static str,
        offset: usize,
        len: usize,
    ) -> Result<CardSlice<'_>, ArgumentError> {
        let size = self.size;
        // Not a pointer of this process: an address is what is counted.
        let start = NonNull::new(self.start.as_ptr().wrapping_byte_add(offset));
        match start {
            Some(start) if offset.checked_add(len).is_some_and(|end| end <= size) => {
                Ok(CardSlice {
                    start,
                    size: len,
                    _memory: PhantomData,
                })
            }
            _ => Err(ArgumentError::OutOfRange {
                op,
                offset,
                len,
                size,
            }),
        }
    }
}

impl CardSlice<'_> {
    /// Where the card sees it.
    pub fn address(self) -> NonNull<c_void> {
        self.start
    }

    /// Bytes.
    pub fn size_bytes(self) -> usize {
        self.size
    }

    /// Refuses another number of bytes than it has.
    fn check(self, op: &'static str, len: usize) -> Result<(), ArgumentError> {
        match len == self.size {
            true => Ok(()),
            false => Err(ArgumentError::OutOfRange {
                op,
                offset: 0,
                len,
                size: self.size,
            }),
        }
    }
}

/// The process and its cards.
impl Card {
    pub(crate) fn new(symbols: Symbols) -> Self {
        Self { symbols }
    }

    /// The raw tier. Functions that old packages lack may be missing there: look at the field before
    /// calling the method.
    pub fn symbols(&self) -> &Symbols {
        &self.symbols
    }

    /// `axclrtGetVersion`, `3.10.2`; `None` in packages without it.
    pub fn version(&self) -> Option<String> {
        let function = self.symbols.axclrtGetVersion.as_ref().ok()?;
        let (mut major, mut minor, mut patch) = (0, 0, 0);
        // SAFETY: the three places are valid for writes.
        let code = unsafe { function(&mut major, &mut minor, &mut patch) };
        (code == 0).then(|| format!("{major}.{minor}.{patch}"))
    }

    /// `axclInit`: before anything else.
    ///
    /// # Errors
    /// [`Error::Status`].
    pub fn init(&self) -> Result<(), Error> {
        // SAFETY: null stands for the default configuration.
        check("axclInit", unsafe { self.symbols.axclInit(ptr::null()) })
    }

    /// `axclFinalize`: after everything else.
    ///
    /// # Errors
    /// [`Error::Status`].
    ///
    /// # Safety
    /// As often as [`Card::init`]; every device was reset.
    pub unsafe fn finalize(&self) -> Result<(), Error> {
        // SAFETY: by the caller.
        check("axclFinalize", unsafe { self.symbols.axclFinalize() })
    }

    /// `axclrtGetDeviceList`: the ids of all cards. They are numbers of PCIe buses.
    ///
    /// # Errors
    /// [`Error::Status`].
    pub fn devices(&self) -> Result<Vec<i32>, Error> {
        let mut list = axclrtDeviceList::default();
        // SAFETY: `list` is valid for a write.
        check("axclrtGetDeviceList", unsafe {
            self.symbols.axclrtGetDeviceList(&mut list)
        })?;
        let n = (list.num as usize).min(list.devices.len());
        Ok(list.devices[..n].to_vec())
    }

    /// `axclrtGetDeviceProperties`; `None` in packages without it, or if the card does not answer.
    pub fn properties(&self, id: i32) -> Option<axclrtDeviceProperties> {
        let function = self.symbols.axclrtGetDeviceProperties.as_ref().ok()?;
        let mut properties = axclrtDeviceProperties::default();
        // SAFETY: `properties` is valid for a write.
        let code = unsafe { function(id, &mut properties) };
        (code == 0).then_some(properties)
    }

    /// `axclrtSetDevice`: connects the process, and the calling thread, with a card.
    ///
    /// # Errors
    /// [`Error::Status`].
    pub fn set_device(&self, id: i32) -> Result<(), Error> {
        // SAFETY: a number.
        check("axclrtSetDevice", unsafe {
            self.symbols.axclrtSetDevice(id)
        })
    }

    /// `axclrtResetDevice`: disconnects it. A process that ends without it is aborted.
    ///
    /// # Errors
    /// [`Error::Status`].
    ///
    /// # Safety
    /// As often as [`Card::set_device`]; nothing of the card is used again.
    pub unsafe fn reset_device(&self, id: i32) -> Result<(), Error> {
        // SAFETY: by the caller.
        check("axclrtResetDevice", unsafe {
            self.symbols.axclrtResetDevice(id)
        })
    }

    /// `axclrtCreateContext`: what a thread needs to talk to a card; bound to the calling thread.
    ///
    /// # Errors
    /// [`Error::Status`].
    pub fn create_context(&self, id: i32) -> Result<NonNull<c_void>, Error> {
        const OP: &str = "axclrtCreateContext";
        let mut context = ptr::null_mut();
        // SAFETY: `context` is valid for a write.
        check(OP, unsafe {
            self.symbols.axclrtCreateContext(&mut context, id)
        })?;
        NonNull::new(context).ok_or_else(|| no_result(OP))
    }

    /// `axclrtDestroyContext`.
    ///
    /// # Errors
    /// [`Error::Status`].
    ///
    /// # Safety
    /// `context` is open and not used again.
    pub unsafe fn destroy_context(&self, context: NonNull<c_void>) -> Result<(), Error> {
        // SAFETY: by the caller.
        check("axclrtDestroyContext", unsafe {
            self.symbols.axclrtDestroyContext(context.as_ptr())
        })
    }

    /// `axclrtSetCurrentContext`: binds a context to the calling thread.
    ///
    /// # Errors
    /// [`Error::Status`].
    ///
    /// # Safety
    /// `context` is open, and no other thread uses it meanwhile.
    pub unsafe fn set_current_context(&self, context: NonNull<c_void>) -> Result<(), Error> {
        // SAFETY: by the caller.
        check("axclrtSetCurrentContext", unsafe {
            self.symbols.axclrtSetCurrentContext(context.as_ptr())
        })
    }
}

/// Memory. It is not in the CPU's address space, and transfers are whole when they return.
impl Card {
    /// `axclrtMalloc`: contents undefined.
    ///
    /// # Errors
    /// [`Error::Status`] if there is not enough in one piece.
    pub fn malloc(&self, size_bytes: usize) -> Result<CardMemory, Error> {
        const OP: &str = "axclrtMalloc";
        let mut memory = ptr::null_mut();
        let policy = axclrtMemMallocPolicy::AXCL_MEM_MALLOC_NORMAL_ONLY;
        // SAFETY: `memory` is valid for a write.
        check(OP, unsafe {
            self.symbols.axclrtMalloc(&mut memory, size_bytes, policy)
        })?;
        let start = NonNull::new(memory).ok_or_else(|| no_result(OP))?;
        Ok(CardMemory {
            start,
            size: size_bytes,
        })
    }

    /// `axclrtFree`.
    ///
    /// # Errors
    /// [`Error::Status`].
    ///
    /// # Safety
    /// `memory` came from [`Card::malloc`] of this value, and no run uses it any more.
    pub unsafe fn free(&self, memory: CardMemory) -> Result<(), Error> {
        // SAFETY: by the caller.
        check("axclrtFree", unsafe {
            self.symbols.axclrtFree(memory.start.as_ptr())
        })
    }

    /// `axclrtMemcpy` from the host.
    ///
    /// # Errors
    /// [`Error::Status`]; [`Error::Argument`] if the two are not of one size.
    ///
    /// # Safety
    /// `dst` is this card's, and no run uses it.
    pub unsafe fn write(&self, dst: CardSlice<'_>, src: &[u8]) -> Result<(), Error> {
        dst.check("axclrtMemcpy", src.len())?;
        let kind = axclrtMemcpyKind::AXCL_MEMCPY_HOST_TO_DEVICE;
        // SAFETY: `dst` by the caller; `src` is read within its length.
        check("axclrtMemcpy", unsafe {
            self.symbols
                .axclrtMemcpy(dst.start.as_ptr(), src.as_ptr().cast(), src.len(), kind)
        })
    }

    /// `axclrtMemcpy` to the host.
    ///
    /// # Errors
    /// As [`Card::write`].
    ///
    /// # Safety
    /// As [`Card::write`].
    pub unsafe fn read(&self, src: CardSlice<'_>, dst: &mut [u8]) -> Result<(), Error> {
        src.check("axclrtMemcpy", dst.len())?;
        let kind = axclrtMemcpyKind::AXCL_MEMCPY_DEVICE_TO_HOST;
        // SAFETY: `src` by the caller; `dst` is written within its length.
        check("axclrtMemcpy", unsafe {
            self.symbols
                .axclrtMemcpy(dst.as_mut_ptr().cast(), src.start.as_ptr(), dst.len(), kind)
        })
    }

    /// `axclrtMemcpy` inside the card.
    ///
    /// # Errors
    /// As [`Card::write`].
    ///
    /// # Safety
    /// As [`Card::write`], and the two do not overlap.
    pub unsafe fn copy(&self, dst: CardSlice<'_>, src: CardSlice<'_>) -> Result<(), Error> {
        dst.check("axclrtMemcpy", src.size)?;
        let kind = axclrtMemcpyKind::AXCL_MEMCPY_DEVICE_TO_DEVICE;
        // SAFETY: by the caller.
        check("axclrtMemcpy", unsafe {
            self.symbols
                .axclrtMemcpy(dst.start.as_ptr(), src.start.as_ptr(), src.size, kind)
        })
    }
}

fn no_result(op: &'static str) -> Error {
    Error::Refused {
        op,
        what: "said that all is well and gave nothing".to_owned(),
    }
}
