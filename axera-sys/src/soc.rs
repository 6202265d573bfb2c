// SPDX-License-Identifier: MPL-2.0

//! The checked tier for boards: libax_sys and libax_engine.

#![expect(unsafe_code, reason = "calls C functions")]

use std::ffi::{CStr, c_void};
use std::fs;
use std::marker::PhantomData;
use std::ptr::{self, NonNull};

use vendor_library::{ArgumentError, Handle, c_string, check_range, narrow};

use crate::bindings::soc::{
    AX_CMM_STATUS_T, AX_ENGINE_CMM_INFO, AX_ENGINE_HANDLE_EXTRA_T, AX_ENGINE_IO_INFO_T,
    AX_ENGINE_IO_T, AX_ENGINE_MODEL_TYPE_T, AX_ENGINE_NPU_ATTR_T, AX_ENGINE_NPU_MODE_T, Symbols,
};
use crate::error::{Error, check};

/// Alignment of memory for the NPU, bytes.
const ALIGN: u32 = 128;

/// What our memory is called in `/proc/ax_proc/mem_cmm_info`.
const TOKEN: &CStr = c"vlmcaption";

/// Where the kernel says how much of the NPU's memory is left.
const CMM_INFO: &str = "/proc/ax_proc/mem_cmm_info";

/// The functions of a board. Each method calls the C function that its text names.
pub struct Soc {
    symbols: Symbols,
    /// libax_sys and libax_interpreter; closed after the engine.
    _others: Vec<Handle>,
}

/// Memory of a board, seen by the CPU through its cache. Only [`Soc::alloc`] makes one.
#[derive(Debug)]
pub struct SocMemory(SocSlice<'static>);

/// Some bytes of a [`SocMemory`], which is not freed meanwhile.
#[derive(Debug, Clone, Copy)]
pub struct SocSlice<'a> {
    physical: u64,
    address: NonNull<c_void>,
    size: u32,
    _memory: PhantomData<&'a SocMemory>,
}

/// The process and its memory.
impl Soc {
    pub(crate) fn new(symbols: Symbols, others: Vec<Handle>) -> Self {
        Self {
            symbols,
            _others: others,
        }
    }

    /// The raw tier. Functions that old SDKs lack may be missing there: look at the field before
    /// calling the method.
    pub fn symbols(&self) -> &Symbols {
        &self.symbols
    }

    /// `AX_SYS_Init`: before anything else.
    ///
    /// # Errors
    /// [`Error::Status`].
    pub fn sys_init(&self) -> Result<(), Error> {
        // SAFETY: no parameters.
        check("AX_SYS_Init", unsafe { self.symbols.AX_SYS_Init() })
    }

    /// `AX_SYS_Deinit`: after everything else.
    ///
    /// # Errors
    /// [`Error::Status`].
    ///
    /// # Safety
    /// As often as [`Soc::sys_init`]; the process has no memory of the NPU any more.
    pub unsafe fn sys_deinit(&self) -> Result<(), Error> {
        // SAFETY: by the caller.
        check("AX_SYS_Deinit", unsafe { self.symbols.AX_SYS_Deinit() })
    }

    /// `AX_SYS_MemAllocCached`: memory that the NPU and, through its cache, the CPU see.
    ///
    /// # Errors
    /// [`Error::Status`] if there is not enough in one piece; [`Error::Argument`] from 4 GiB on.
    pub fn alloc(&self, size_bytes: usize) -> Result<SocMemory, Error> {
        const OP: &str = "AX_SYS_MemAllocCached";
        let size = narrow(OP, size_bytes)?;
        let (mut physical, mut address) = (0, ptr::null_mut());
        // SAFETY: both places are valid for writes; the token is a C string.
        check(OP, unsafe {
            self.symbols.AX_SYS_MemAllocCached(
                &mut physical,
                &mut address,
                size,
                ALIGN,
                TOKEN.as_ptr().cast(),
            )
        })?;
        let address = NonNull::new(address).ok_or_else(|| no_result(OP))?;
        Ok(SocMemory(SocSlice {
            physical,
            address,
            size,
            _memory: PhantomData,
        }))
    }

    /// `AX_SYS_MemFree`.
    ///
    /// # Errors
    /// [`Error::Status`].
    ///
    /// # Safety
    /// `block` came from [`Soc::alloc`] of this value, and no run uses it any more.
    pub unsafe fn free(&self, block: SocMemory) -> Result<(), Error> {
        // SAFETY: by the caller.
        check("AX_SYS_MemFree", unsafe {
            self.symbols
                .AX_SYS_MemFree(block.0.physical, block.0.address.as_ptr())
        })
    }

    /// Copies `src` into memory and makes it seen by the NPU: `AX_SYS_MflushCache` of exactly the
    /// bytes that were written.
    ///
    /// # Errors
    /// [`Error::Argument`], [`Error::Status`].
    ///
    /// # Safety
    /// `block` is allocated; no run uses these bytes, no other thread this block.
    pub unsafe fn write(&self, block: &SocMemory, offset: usize, src: &[u8]) -> Result<(), Error> {
        let to = block.part("AX_SYS_MflushCache", offset, src.len())?;
        // SAFETY: `to` has room for as many bytes, which are ours; a slice of Rust is elsewhere.
        unsafe { ptr::copy_nonoverlapping(src.as_ptr(), to.address.as_ptr().cast(), src.len()) };
        // SAFETY: by the caller, and inside the block.
        unsafe { self.flush(to) }
    }

    /// Fills `dst` from memory with what the NPU left there: `AX_SYS_MinvalidateCache` of exactly
    /// the bytes that are read.
    ///
    /// # Errors
    /// [`Error::Argument`], [`Error::Status`].
    ///
    /// # Safety
    /// As [`Soc::write`].
    pub unsafe fn read(
        &self,
        block: &SocMemory,
        offset: usize,
        dst: &mut [u8],
    ) -> Result<(), Error> {
        let from = block.part("AX_SYS_MinvalidateCache", offset, dst.len())?;
        // SAFETY: by the caller, and inside the block.
        unsafe { self.invalidate(from) }?;
        // SAFETY: `from` has as many bytes; a slice of Rust is elsewhere.
        unsafe {
            ptr::copy_nonoverlapping(from.address.as_ptr().cast(), dst.as_mut_ptr(), dst.len());
        }
        Ok(())
    }

    /// Copies from memory to memory, by the CPU.
    ///
    /// # Errors
    /// [`Error::Status`].
    ///
    /// # Safety
    /// As [`Soc::write`]; both are of one size and do not overlap.
    pub unsafe fn copy(&self, dst: SocSlice<'_>, src: SocSlice<'_>) -> Result<(), Error> {
        let n = dst.size.min(src.size) as usize;
        // SAFETY: by the caller.
        unsafe { self.invalidate(src) }?;
        // SAFETY: both have `n` bytes and do not overlap.
        unsafe {
            ptr::copy_nonoverlapping::<u8>(
                src.address.as_ptr().cast(),
                dst.address.as_ptr().cast(),
                n,
            );
        }
        // SAFETY: by the caller.
        unsafe { self.flush(dst) }
    }

    unsafe fn flush(&self, block: SocSlice<'_>) -> Result<(), Error> {
        // SAFETY: by the caller.
        check("AX_SYS_MflushCache", unsafe {
            self.symbols
                .AX_SYS_MflushCache(block.physical, block.address.as_ptr(), block.size)
        })
    }

    unsafe fn invalidate(&self, block: SocSlice<'_>) -> Result<(), Error> {
        // SAFETY: by the caller.
        check("AX_SYS_MinvalidateCache", unsafe {
            self.symbols
                .AX_SYS_MinvalidateCache(block.physical, block.address.as_ptr(), block.size)
        })
    }

    /// Bytes of the NPU's memory in all, and free: from the kernel, else `AX_SYS_MemQueryStatus`.
    pub fn memory(&self) -> Option<(u64, u64)> {
        if let Some(found) = fs::read_to_string(CMM_INFO)
            .ok()
            .as_deref()
            .and_then(cmm_info)
        {
            return Some(found);
        }
        let query = self.symbols.AX_SYS_MemQueryStatus.as_ref().ok()?;
        let mut status = AX_CMM_STATUS_T::default();
        // SAFETY: `status` is valid for a write.
        check("AX_SYS_MemQueryStatus", unsafe { query(&mut status) }).ok()?;
        let kib = |n: u32| u64::from(n) << 10;
        (status.TotalSize > 0).then(|| (kib(status.TotalSize), kib(status.RemainSize)))
    }
}

/// The engine and its models.
impl Soc {
    /// `AX_ENGINE_GetVNPUAttr`: how the cores are shared out, if the engine was started already.
    ///
    /// # Errors
    /// [`Error::Status`] if it was not.
    pub fn npu_mode(&self) -> Result<AX_ENGINE_NPU_MODE_T, Error> {
        let mut attr = AX_ENGINE_NPU_ATTR_T::default();
        // SAFETY: `attr` is valid for a write.
        check("AX_ENGINE_GetVNPUAttr", unsafe {
            self.symbols.AX_ENGINE_GetVNPUAttr(&mut attr)
        })?;
        Ok(attr.eHardMode)
    }

    /// `AX_ENGINE_Init`.
    ///
    /// # Errors
    /// [`Error::Status`].
    pub fn engine_init(&self, mode: AX_ENGINE_NPU_MODE_T) -> Result<(), Error> {
        let mut attr = AX_ENGINE_NPU_ATTR_T {
            eHardMode: mode,
            ..Default::default()
        };
        // SAFETY: `attr` is valid and otherwise zero.
        check("AX_ENGINE_Init", unsafe {
            self.symbols.AX_ENGINE_Init(&mut attr)
        })
    }

    /// `AX_ENGINE_Deinit`.
    ///
    /// # Errors
    /// [`Error::Status`].
    ///
    /// # Safety
    /// As often as [`Soc::engine_init`]; no model is loaded any more.
    pub unsafe fn engine_deinit(&self) -> Result<(), Error> {
        // SAFETY: by the caller.
        check("AX_ENGINE_Deinit", unsafe {
            self.symbols.AX_ENGINE_Deinit()
        })
    }

    /// `AX_ENGINE_GetModelType`: how many cores a model was compiled for.
    ///
    /// # Errors
    /// [`Error::Status`] for bytes that are no model; [`Error::Argument`] from 4 GiB on.
    pub fn model_type(&self, data: &[u8]) -> Result<AX_ENGINE_MODEL_TYPE_T, Error> {
        const OP: &str = "AX_ENGINE_GetModelType";
        let mut kind = AX_ENGINE_MODEL_TYPE_T(0);
        let size = narrow(OP, data.len())?;
        // SAFETY: `data` is read within its length; `kind` is valid for a write.
        check(OP, unsafe {
            self.symbols
                .AX_ENGINE_GetModelType(data.as_ptr().cast(), size, &mut kind)
        })?;
        Ok(kind)
    }

    /// `AX_ENGINE_CreateHandleV2`: copies a model into the NPU's memory. `data` is not needed
    /// afterwards.
    ///
    /// # Errors
    /// [`Error::Status`], [`Error::Argument`] from 4 GiB on.
    pub fn create_handle(&self, data: &[u8], name: &str) -> Result<NonNull<c_void>, Error> {
        const OP: &str = "AX_ENGINE_CreateHandleV2";
        let size = narrow(OP, data.len())?;
        let name = c_string(OP, name.as_bytes())?;
        let mut extra = AX_ENGINE_HANDLE_EXTRA_T {
            pName: name.as_ptr().cast_mut().cast(),
            ..Default::default()
        };
        let mut handle = ptr::null_mut();
        // SAFETY: `data` is read within its length; `extra` and its name live through the call;
        // `handle` is valid for a write.
        check(OP, unsafe {
            self.symbols.AX_ENGINE_CreateHandleV2(
                &mut handle,
                data.as_ptr().cast(),
                size,
                &mut extra,
            )
        })?;
        NonNull::new(handle).ok_or_else(|| no_result(OP))
    }

    /// `AX_ENGINE_DestroyHandle`: unloads a model, ends its contexts, frees its descriptions.
    ///
    /// # Errors
    /// [`Error::Status`].
    ///
    /// # Safety
    /// `handle` is loaded and idle; nothing of it is used again.
    pub unsafe fn destroy_handle(&self, handle: NonNull<c_void>) -> Result<(), Error> {
        // SAFETY: by the caller.
        check("AX_ENGINE_DestroyHandle", unsafe {
            self.symbols.AX_ENGINE_DestroyHandle(handle.as_ptr())
        })
    }

    /// `AX_ENGINE_CreateContextV2`: what a run needs beside the model; ends with the model.
    ///
    /// # Errors
    /// [`Error::Status`].
    ///
    /// # Safety
    /// `handle` is loaded.
    pub unsafe fn create_context(&self, handle: NonNull<c_void>) -> Result<NonNull<c_void>, Error> {
        const OP: &str = "AX_ENGINE_CreateContextV2";
        let mut context = ptr::null_mut();
        // SAFETY: by the caller; `context` is valid for a write.
        check(OP, unsafe {
            self.symbols
                .AX_ENGINE_CreateContextV2(handle.as_ptr(), &mut context)
        })?;
        NonNull::new(context).ok_or_else(|| no_result(OP))
    }

    /// `AX_ENGINE_GetGroupIOInfoCount`: shape groups of a model.
    ///
    /// # Errors
    /// [`Error::Status`].
    ///
    /// # Safety
    /// `handle` is loaded.
    pub unsafe fn group_count(&self, handle: NonNull<c_void>) -> Result<u32, Error> {
        let mut count = 0;
        // SAFETY: by the caller; `count` is valid for a write.
        check("AX_ENGINE_GetGroupIOInfoCount", unsafe {
            self.symbols
                .AX_ENGINE_GetGroupIOInfoCount(handle.as_ptr(), &mut count)
        })?;
        Ok(count)
    }

    /// `AX_ENGINE_GetGroupIOInfo`: inputs and outputs of a shape group. What comes back belongs to
    /// the model and lives as long.
    ///
    /// # Errors
    /// [`Error::Status`].
    ///
    /// # Safety
    /// `handle` is loaded.
    pub unsafe fn group(
        &self,
        handle: NonNull<c_void>,
        group: u32,
    ) -> Result<NonNull<AX_ENGINE_IO_INFO_T>, Error> {
        const OP: &str = "AX_ENGINE_GetGroupIOInfo";
        let mut info = ptr::null_mut();
        // SAFETY: by the caller; `info` is valid for a write.
        check(OP, unsafe {
            self.symbols
                .AX_ENGINE_GetGroupIOInfo(handle.as_ptr(), group, &mut info)
        })?;
        NonNull::new(info).ok_or_else(|| no_result(OP))
    }

    /// `AX_ENGINE_RunGroupIOSync`: runs a shape group; returns when it is done.
    ///
    /// # Errors
    /// [`Error::Status`].
    ///
    /// # Safety
    /// `handle` is loaded, `context` is its, no other run goes on. `io` names memory for every input
    /// and output of the group, as large as the group says, and is zero elsewhere.
    pub unsafe fn run(
        &self,
        handle: NonNull<c_void>,
        context: NonNull<c_void>,
        group: u32,
        io: &mut AX_ENGINE_IO_T,
    ) -> Result<(), Error> {
        // SAFETY: by the caller.
        check("AX_ENGINE_RunGroupIOSync", unsafe {
            self.symbols
                .AX_ENGINE_RunGroupIOSync(handle.as_ptr(), context.as_ptr(), group, io)
        })
    }

    /// `AX_ENGINE_GetCMMUsage`: bytes of the NPU's memory that a model takes; `None` in old SDKs.
    ///
    /// # Safety
    /// `handle` is loaded.
    pub unsafe fn usage(&self, handle: NonNull<c_void>) -> Option<u64> {
        let function = self.symbols.AX_ENGINE_GetCMMUsage.as_ref().ok()?;
        let mut info = AX_ENGINE_CMM_INFO::default();
        // SAFETY: by the caller; `info` is valid for a write.
        let code = unsafe { function(handle.as_ptr(), &mut info) };
        (code == 0).then(|| u64::from(info.nCMMSize))
    }

    /// `AX_ENGINE_GetModelToolsVersion`: the compiler that made a model; `None` in old SDKs.
    ///
    /// # Safety
    /// `handle` is loaded.
    pub unsafe fn tools_version(&self, handle: NonNull<c_void>) -> Option<String> {
        let function = self.symbols.AX_ENGINE_GetModelToolsVersion.as_ref().ok()?;
        // SAFETY: by the caller.
        let text = unsafe { function(handle.as_ptr()) };
        if text.is_null() {
            return None;
        }
        // SAFETY: not null, and a C string that lives as long as the model, copied here.
        let text = unsafe { CStr::from_ptr(text) };
        Some(text.to_string_lossy().into_owned())
    }
}

impl SocMemory {
    /// The `len` bytes from `offset` on.
    ///
    /// # Errors
    /// [`ArgumentError::OutOfRange`].
    pub fn part(
        &self,
        op: &'static str,
        offset: usize,
        len: usize,
    ) -> Result<SocSlice<'_>, ArgumentError> {
        check_range(op, offset, len, self.0.size as usize)?;
        Ok(SocSlice {
            // Both addresses move alike.
            physical: self.0.physical + offset as u64,
            // SAFETY: the offset is inside the block, which is allocated as long as it is there.
            address: unsafe { self.0.address.cast::<u8>().add(offset) }.cast(),
            // At most the size of the block, which has 32 bits.
            size: len as u32,
            _memory: PhantomData,
        })
    }
}

impl SocSlice<'_> {
    /// Where the NPU sees it.
    pub fn physical(self) -> u64 {
        self.physical
    }

    /// Where the CPU sees it.
    pub fn address(self) -> NonNull<c_void> {
        self.address
    }

    /// Bytes.
    pub fn size_bytes(self) -> u32 {
        self.size
    }
}

fn no_result(op: &'static str) -> Error {
    Error::Refused {
        op,
        what: "said that all is well and gave nothing".to_owned(),
    }
}

/// Total and free bytes by the kernel's text, which ends in a line like
/// `---CMM_USE_INFO: total size=7340032KB(7168MB),used=...,remain=7280640KB(...),...`.
fn cmm_info(text: &str) -> Option<(u64, u64)> {
    let number = |key: &str| -> Option<u64> {
        let (_, rest) = text.rsplit_once(key)?;
        let end = rest.find(|c: char| !c.is_ascii_digit())?;
        rest[end..]
            .starts_with("KB")
            .then(|| rest[..end].parse().ok())?
    };
    Some((number("total size=")? << 10, number("remain=")? << 10))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_text_is_read() {
        let text = "|-Block: ...\n---CMM_USE_INFO:\n total size=7340032KB(7168MB),\
                    used=59392KB(58MB + 0KB),remain=7280640KB(7110MB + 0KB),partition_number=1\n";
        assert_eq!(cmm_info(text), Some((7_340_032 << 10, 7_280_640 << 10)));
        assert_eq!(cmm_info("remain=12KB"), None);
        assert_eq!(cmm_info("total size=x remain=y"), None);
    }

    #[test]
    fn a_part_moves_both_addresses_and_stays_inside() {
        let mut bytes = [0u8; 64];
        let block = SocMemory(SocSlice {
            physical: 0x1000,
            address: NonNull::from(&mut bytes).cast(),
            size: 64,
            _memory: PhantomData,
        });
        let part = block.part("copy", 16, 48).unwrap();
        assert_eq!((part.physical, part.size), (0x1010, 48));
        assert_eq!(
            part.address.as_ptr() as usize - block.0.address.as_ptr() as usize,
            16
        );
        assert!(block.part("copy", 17, 48).is_err());
        assert!(block.part("copy", usize::MAX, 2).is_err());
    }
}
