// SPDX-License-Identifier: MPL-2.0

//! The checked tier of libbmlib: devices, memory, waiting.

#![expect(unsafe_code, reason = "calls C functions")]

use std::ffi::c_int;
use std::ptr;

use vendor_library::{ArgumentError, narrow};

use crate::Api;
use crate::bindings::{bm_device_mem_t, bm_handle_t, bm_mem_desc, bm_status_t};
use crate::error::{Error, check};

impl bm_mem_desc {
    /// The `size` bytes from `offset` on; `None` if they reach beyond the end.
    ///
    /// What comes out of a part must never be freed.
    pub fn part(self, offset: usize, size: usize) -> Option<Self> {
        let end = offset.checked_add(size)?;
        if end > usize::try_from(self.size).ok()? {
            return None;
        }
        let mut part = self;
        part.u.device.device_addr = self
            .u
            .device
            .device_addr
            .checked_add(offset.try_into().ok()?)?;
        part.size = size.try_into().ok()?;
        Some(part)
    }

    /// Refuses a copy of `len` bytes from `offset` on that does not stay inside.
    fn check_range(self, op: &'static str, offset: usize, len: usize) -> Result<(), ArgumentError> {
        let part = self.part(offset, len).map(|_| ());
        part.ok_or(ArgumentError::OutOfRange {
            op,
            offset,
            len,
            size: self.size as usize,
        })
    }
}

/// Devices.
impl Api {
    /// `bm_dev_getcount`: devices of this system.
    ///
    /// # Errors
    /// [`Error::Status`].
    pub fn bm_dev_getcount(&self) -> Result<usize, Error> {
        const OP: &str = "bm_dev_getcount";
        let mut count: c_int = 0;
        // SAFETY: `count` is valid for a write.
        check(OP, unsafe { self.symbols().bm_dev_getcount(&mut count) })?;
        Ok(usize::try_from(count).unwrap_or(0))
    }

    /// `bm_dev_request`: opens device `index`, to be closed with [`Api::bm_dev_free`]. A device may
    /// be open several times.
    ///
    /// # Errors
    /// [`Error::NoDevice`]; [`Error::Status`] if there is no permission to use it.
    pub fn bm_dev_request(&self, index: usize) -> Result<bm_handle_t, Error> {
        const OP: &str = "bm_dev_request";
        // Not every library answers a device that is not there with a status: the emulator exits.
        let count = self.bm_dev_getcount()?;
        if index >= count {
            return Err(Error::NoDevice { index, count });
        }
        let mut handle: bm_handle_t = ptr::null_mut();
        // SAFETY: `handle` is valid for a write.
        check(OP, unsafe {
            self.symbols()
                .bm_dev_request(&mut handle, narrow(OP, index)?)
        })?;
        if handle.is_null() {
            return Err(Error::Status {
                op: OP,
                status: bm_status_t::BM_ERR_DEVNOTREADY,
            });
        }
        Ok(handle)
    }

    /// `bm_dev_free`: closes a device.
    ///
    /// # Safety
    /// `handle` is open, its runtimes are destroyed and its memory is freed; it is not used again.
    pub unsafe fn bm_dev_free(&self, handle: bm_handle_t) {
        // SAFETY: as above.
        unsafe { self.symbols().bm_dev_free(handle) }
    }
}

/// Memory.
impl Api {
    /// `bm_malloc_device_byte`: device memory from any heap that has room, contents undefined.
    ///
    /// # Errors
    /// [`Error::Status`] if no heap has `size_bytes` in one piece (the emulator ends the process
    /// instead); [`Error::Argument`] from 4 GiB on.
    ///
    /// # Safety
    /// `handle` is open.
    pub unsafe fn bm_malloc_device_byte(
        &self,
        handle: bm_handle_t,
        size_bytes: usize,
    ) -> Result<bm_device_mem_t, Error> {
        const OP: &str = "bm_malloc_device_byte";
        let mut mem = bm_device_mem_t::default();
        let size = narrow(OP, size_bytes)?;
        // SAFETY: `handle` by the caller; `mem` is valid for a write.
        check(OP, unsafe {
            self.symbols().bm_malloc_device_byte(handle, &mut mem, size)
        })?;
        Ok(mem)
    }

    /// `bm_free_device`.
    ///
    /// # Safety
    /// `mem` came whole from [`Api::bm_malloc_device_byte`] on this open `handle`, is not freed yet,
    /// and no launch uses it any more.
    pub unsafe fn bm_free_device(&self, handle: bm_handle_t, mem: bm_device_mem_t) {
        // SAFETY: as above.
        unsafe { self.symbols().bm_free_device(handle, mem) }
    }

    /// `bm_memcpy_s2d_partial_offset`: copies `src` to `dst` from byte `offset` on, and returns when
    /// that is done. Not ordered with launches: wait before overwriting what one still reads.
    ///
    /// # Errors
    /// [`Error::Argument`] if it does not fit; [`Error::Status`].
    ///
    /// # Safety
    /// `handle` is open, `dst` is memory of its device.
    pub unsafe fn bm_memcpy_s2d_partial_offset(
        &self,
        handle: bm_handle_t,
        dst: bm_device_mem_t,
        src: &[u8],
        offset: usize,
    ) -> Result<(), Error> {
        const OP: &str = "bm_memcpy_s2d_partial_offset";
        dst.check_range(OP, offset, src.len())?;
        let (size, offset) = (narrow(OP, src.len())?, narrow(OP, offset)?);
        let src = src.as_ptr().cast_mut().cast();
        // SAFETY: `dst` by the caller, the range as checked; `src` is only read, `size` bytes of it.
        check(OP, unsafe {
            self.symbols()
                .bm_memcpy_s2d_partial_offset(handle, dst, src, size, offset)
        })
    }

    /// `bm_memcpy_d2s_partial_offset`: fills `dst` from `src`, from byte `offset` on, and returns
    /// when that is done. Not ordered with launches: wait for the one whose result is read.
    ///
    /// # Errors
    /// [`Error::Argument`] if there is not as much; [`Error::Status`].
    ///
    /// # Safety
    /// `handle` is open, `src` is memory of its device.
    pub unsafe fn bm_memcpy_d2s_partial_offset(
        &self,
        handle: bm_handle_t,
        dst: &mut [u8],
        src: bm_device_mem_t,
        offset: usize,
    ) -> Result<(), Error> {
        const OP: &str = "bm_memcpy_d2s_partial_offset";
        src.check_range(OP, offset, dst.len())?;
        let (size, offset) = (narrow(OP, dst.len())?, narrow(OP, offset)?);
        let dst = dst.as_mut_ptr().cast();
        // SAFETY: `src` by the caller, the range as checked; `dst` has room for `size` bytes.
        check(OP, unsafe {
            self.symbols()
                .bm_memcpy_d2s_partial_offset(handle, dst, src, size, offset)
        })
    }

    /// `bm_memcpy_d2d_byte`: copies `size_bytes` inside a device, in order with the launches of the
    /// calling thread. Offsets are in bytes.
    ///
    /// # Errors
    /// [`Error::Argument`]; [`Error::Status`], on a BM1684X also if [`Chip::kernel_module`](crate::Chip::kernel_module) is
    /// not installed.
    ///
    /// # Safety
    /// `handle` is open, both memories are of its device, and the two ranges do not overlap.
    pub unsafe fn bm_memcpy_d2d_byte(
        &self,
        handle: bm_handle_t,
        dst: bm_device_mem_t,
        dst_offset: usize,
        src: bm_device_mem_t,
        src_offset: usize,
        size_bytes: usize,
    ) -> Result<(), Error> {
        const OP: &str = "bm_memcpy_d2d_byte";
        dst.check_range(OP, dst_offset, size_bytes)?;
        src.check_range(OP, src_offset, size_bytes)?;
        // SAFETY: by the caller, the ranges as checked.
        check(OP, unsafe {
            self.symbols()
                .bm_memcpy_d2d_byte(handle, dst, dst_offset, src, src_offset, size_bytes)
        })
    }

    /// `bm_memset_device_ext`: fills `mem` with a pattern of 1 to 4 bytes, in order with the
    /// launches of the calling thread. The size of `mem` must be a multiple of the pattern's.
    ///
    /// # Errors
    /// [`Error::Status`]; on a BM1684X also if [`Chip::kernel_module`](crate::Chip::kernel_module) is not installed.
    ///
    /// # Safety
    /// `handle` is open and `mem` is memory of its device.
    pub unsafe fn bm_memset_device_ext(
        &self,
        handle: bm_handle_t,
        pattern: &[u8],
        mem: bm_device_mem_t,
    ) -> Result<(), Error> {
        const OP: &str = "bm_memset_device_ext";
        if !(1..=4).contains(&pattern.len()) {
            return Err(Error::Status {
                op: OP,
                status: bm_status_t::BM_ERR_PARAM,
            });
        }
        let mode = narrow(OP, pattern.len())?;
        let value = pattern.as_ptr().cast_mut().cast();
        // SAFETY: `mem` by the caller; `value` is only read, `mode` bytes of it.
        check(OP, unsafe {
            self.symbols()
                .bm_memset_device_ext(handle, value, mode, mem)
        })
    }
}

/// Waiting.
impl Api {
    /// `bm_thread_sync`: waits for what the calling thread has launched on `handle`.
    ///
    /// # Errors
    /// [`Error::Status`]: the device hangs or was lost; use the runtime no more.
    ///
    /// # Safety
    /// `handle` is open.
    pub unsafe fn bm_thread_sync(&self, handle: bm_handle_t) -> Result<(), Error> {
        // SAFETY: as above.
        check("bm_thread_sync", unsafe {
            self.symbols().bm_thread_sync(handle)
        })
    }

    /// `bm_thread_sync_from_core`: the same for one core of a chip that has several.
    ///
    /// # Errors
    /// As [`Api::bm_thread_sync`]; [`Error::Unavailable`] in SDKs for chips with one core.
    ///
    /// # Safety
    /// `handle` is open, and the calling thread has launched on this core: the BM1688 library of
    /// 2026 ends the process otherwise.
    pub unsafe fn bm_thread_sync_from_core(
        &self,
        handle: bm_handle_t,
        core: usize,
    ) -> Result<(), Error> {
        const OP: &str = "bm_thread_sync_from_core";
        let function = available(OP, &self.symbols().bm_thread_sync_from_core)?;
        // SAFETY: as above.
        check(OP, unsafe { function(handle, narrow(OP, core)?) })
    }

    /// `bm_handle_sync`: waits for what all threads have launched on `handle`.
    ///
    /// # Errors
    /// As [`Api::bm_thread_sync`]; [`Error::Unavailable`].
    ///
    /// # Safety
    /// `handle` is open.
    pub unsafe fn bm_handle_sync(&self, handle: bm_handle_t) -> Result<(), Error> {
        const OP: &str = "bm_handle_sync";
        let function = available(OP, &self.symbols().bm_handle_sync)?;
        // SAFETY: as above.
        check(OP, unsafe { function(handle) })
    }

    /// `bm_set_sync_timeout`: how long waiting lasts before a device counts as hung.
    ///
    /// # Errors
    /// [`Error::Status`], [`Error::Unavailable`], [`Error::Argument`].
    ///
    /// # Safety
    /// `handle` is open.
    pub unsafe fn bm_set_sync_timeout(
        &self,
        handle: bm_handle_t,
        timeout_ms: usize,
    ) -> Result<(), Error> {
        const OP: &str = "bm_set_sync_timeout";
        let function = available(OP, &self.symbols().bm_set_sync_timeout)?;
        // SAFETY: as above.
        check(OP, unsafe { function(handle, narrow(OP, timeout_ms)?) })
    }
}

/// A function that not every SDK has.
pub(crate) fn available<F: Copy>(
    op: &'static str,
    symbol: &Result<F, libloading::Error>,
) -> Result<F, Error> {
    symbol
        .as_ref()
        .copied()
        .map_err(|_| Error::Unavailable { op })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_keeps_what_the_allocator_wrote() {
        let mut mem = bm_device_mem_t::default();
        mem.u.device.device_addr = 0x1000;
        mem.u.device.dmabuf_fd = 7;
        mem.flags.rawflags = 0x10;
        mem.size = 100;
        let part = mem.part(40, 60).unwrap();
        assert_eq!((part.u.device.device_addr, part.size), (0x1028, 60));
        assert_eq!((part.u.device.dmabuf_fd, part.flags.rawflags), (7, 0x10));
    }

    #[test]
    fn a_part_beyond_the_end_is_refused() {
        let mem = bm_device_mem_t {
            size: 100,
            ..Default::default()
        };
        assert!(mem.part(100, 0).is_some());
        assert!(mem.part(40, 61).is_none());
        assert!(mem.part(101, 0).is_none());
        assert!(mem.part(usize::MAX, 2).is_none());
    }
}
