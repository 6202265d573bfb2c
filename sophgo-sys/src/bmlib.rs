// SPDX-License-Identifier: MPL-2.0

//! The checked tier of libbmlib: devices, memory, waiting, monitoring.

#![expect(unsafe_code, reason = "calls C functions")]

use std::ffi::c_int;
use std::mem::MaybeUninit;
use std::ptr;

use crate::bindings::{
    bm_dev_stat_t, bm_device_mem_t, bm_handle_t, bm_heap_stat_byte_t, bm_mem_desc, bm_misc_info,
    bm_status_t,
};
use crate::error::{Error, check, narrow};
use crate::{Api, Chip};

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
    /// [`Error::Status`] if there is no such device or no permission to use it; [`Error::TooLarge`].
    pub fn bm_dev_request(&self, index: usize) -> Result<bm_handle_t, Error> {
        const OP: &str = "bm_dev_request";
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
    /// [`Error::Status`] if no heap has `size_bytes` in one piece; [`Error::TooLarge`] from 4 GiB on.
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
    /// [`Error::Status`], also if it does not fit; [`Error::TooLarge`] from 4 GiB on.
    ///
    /// # Safety
    /// `handle` is open, `dst` is memory of its device, and `offset + src.len()` is at most the
    /// size of that memory.
    pub unsafe fn bm_memcpy_s2d_partial_offset(
        &self,
        handle: bm_handle_t,
        dst: bm_device_mem_t,
        src: &[u8],
        offset: usize,
    ) -> Result<(), Error> {
        const OP: &str = "bm_memcpy_s2d_partial_offset";
        let (size, offset) = (narrow(OP, src.len())?, narrow(OP, offset)?);
        let src = src.as_ptr().cast_mut().cast();
        // SAFETY: the range on the device by the caller; `src` is only read, `size` bytes of it.
        check(OP, unsafe {
            self.symbols()
                .bm_memcpy_s2d_partial_offset(handle, dst, src, size, offset)
        })
    }

    /// `bm_memcpy_d2s_partial_offset`: fills `dst` from `src`, from byte `offset` on, and returns
    /// when that is done. Not ordered with launches: wait for the one whose result is read.
    ///
    /// # Errors
    /// [`Error::Status`], also if there is not as much; [`Error::TooLarge`] from 4 GiB on.
    ///
    /// # Safety
    /// `handle` is open, `src` is memory of its device, and `offset + dst.len()` is at most the
    /// size of that memory.
    pub unsafe fn bm_memcpy_d2s_partial_offset(
        &self,
        handle: bm_handle_t,
        dst: &mut [u8],
        src: bm_device_mem_t,
        offset: usize,
    ) -> Result<(), Error> {
        const OP: &str = "bm_memcpy_d2s_partial_offset";
        let (size, offset) = (narrow(OP, dst.len())?, narrow(OP, offset)?);
        let dst = dst.as_mut_ptr().cast();
        // SAFETY: the range on the device by the caller; `dst` has room for `size` bytes.
        check(OP, unsafe {
            self.symbols()
                .bm_memcpy_d2s_partial_offset(handle, dst, src, size, offset)
        })
    }

    /// `bm_memcpy_d2d_byte`: copies `size_bytes` inside a device, in order with the launches of the
    /// calling thread. Offsets are in bytes.
    ///
    /// # Errors
    /// [`Error::Status`]; on a BM1684X also if [`Chip::kernel_module`] is not installed.
    ///
    /// # Safety
    /// `handle` is open, both memories are of its device, both ranges lie inside them and do not
    /// overlap.
    pub unsafe fn bm_memcpy_d2d_byte(
        &self,
        handle: bm_handle_t,
        dst: bm_device_mem_t,
        dst_offset: usize,
        src: bm_device_mem_t,
        src_offset: usize,
        size_bytes: usize,
    ) -> Result<(), Error> {
        // SAFETY: as above.
        check("bm_memcpy_d2d_byte", unsafe {
            self.symbols()
                .bm_memcpy_d2d_byte(handle, dst, dst_offset, src, src_offset, size_bytes)
        })
    }

    /// `bm_memset_device_ext`: fills `mem` with a pattern of 1 to 4 bytes, in order with the
    /// launches of the calling thread. The size of `mem` must be a multiple of the pattern's.
    ///
    /// # Errors
    /// [`Error::Status`]; on a BM1684X also if [`Chip::kernel_module`] is not installed.
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
    /// [`Error::Status`], [`Error::Unavailable`], [`Error::TooLarge`].
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

/// What the device is and how it fares. Much of it is not supported everywhere: take an error as
/// "not known".
impl Api {
    /// `bm_get_chipid`.
    ///
    /// # Errors
    /// [`Error::Status`].
    ///
    /// # Safety
    /// `handle` is open.
    pub unsafe fn bm_get_chipid(&self, handle: bm_handle_t) -> Result<Chip, Error> {
        let mut id = 0;
        // SAFETY: `handle` by the caller; `id` is valid for a write.
        check("bm_get_chipid", unsafe {
            self.symbols().bm_get_chipid(handle, &mut id)
        })?;
        Ok(Chip::from_id(id))
    }

    /// `bm_get_misc_info`: PCIe or SoC, version of the driver.
    ///
    /// # Errors
    /// [`Error::Status`].
    ///
    /// # Safety
    /// `handle` is open.
    pub unsafe fn bm_get_misc_info(&self, handle: bm_handle_t) -> Result<bm_misc_info, Error> {
        // SAFETY: `handle` by the caller; all bit patterns are valid, zeroes included.
        unsafe {
            read("bm_get_misc_info", |info| {
                self.symbols().bm_get_misc_info(handle, info)
            })
        }
    }

    /// `bm_get_tpu_scalar_num`: TPU cores.
    ///
    /// # Errors
    /// [`Error::Status`], [`Error::Unavailable`].
    ///
    /// # Safety
    /// `handle` is open.
    pub unsafe fn bm_get_tpu_scalar_num(&self, handle: bm_handle_t) -> Result<u32, Error> {
        const OP: &str = "bm_get_tpu_scalar_num";
        let function = available(OP, &self.symbols().bm_get_tpu_scalar_num)?;
        // SAFETY: `handle` by the caller; all bit patterns are valid, zero included.
        unsafe { read(OP, |number| function(handle, number)) }
    }

    /// `bm_get_stat`: memory in MiB, use of the TPU in percent.
    ///
    /// # Errors
    /// [`Error::Status`], [`Error::Unavailable`].
    ///
    /// # Safety
    /// `handle` is open.
    pub unsafe fn bm_get_stat(&self, handle: bm_handle_t) -> Result<bm_dev_stat_t, Error> {
        const OP: &str = "bm_get_stat";
        let function = available(OP, &self.symbols().bm_get_stat)?;
        // SAFETY: `handle` by the caller; all bit patterns are valid, zeroes included.
        unsafe { read(OP, |stat| function(handle, stat)) }
    }

    /// `bm_get_gmem_total_heap_num`: memory heaps.
    ///
    /// # Errors
    /// [`Error::Status`], [`Error::Unavailable`].
    ///
    /// # Safety
    /// `handle` is open.
    pub unsafe fn bm_get_gmem_total_heap_num(&self, handle: bm_handle_t) -> Result<u32, Error> {
        const OP: &str = "bm_get_gmem_total_heap_num";
        let function = available(OP, &self.symbols().bm_get_gmem_total_heap_num)?;
        // SAFETY: `handle` by the caller; all bit patterns are valid, zero included.
        unsafe { read(OP, |number| function(handle, number)) }
    }

    /// `bm_get_gmem_heap_stat_byte_by_id`: one heap, in bytes.
    ///
    /// # Errors
    /// [`Error::Status`], [`Error::Unavailable`].
    ///
    /// # Safety
    /// `handle` is open.
    pub unsafe fn bm_get_gmem_heap_stat_byte_by_id(
        &self,
        handle: bm_handle_t,
        heap: u32,
    ) -> Result<bm_heap_stat_byte_t, Error> {
        const OP: &str = "bm_get_gmem_heap_stat_byte_by_id";
        let function = available(OP, &self.symbols().bm_get_gmem_heap_stat_byte_by_id)?;
        // SAFETY: `handle` by the caller; all bit patterns are valid, zeroes included.
        unsafe { read(OP, |stat| function(handle, stat, heap)) }
    }

    /// `bm_get_chip_temp`: degrees Celsius. Not on a SoC, whose thermal zones have it.
    ///
    /// # Errors
    /// [`Error::Status`], [`Error::Unavailable`].
    ///
    /// # Safety
    /// `handle` is open.
    pub unsafe fn bm_get_chip_temp(&self, handle: bm_handle_t) -> Result<u32, Error> {
        const OP: &str = "bm_get_chip_temp";
        let function = available(OP, &self.symbols().bm_get_chip_temp)?;
        // SAFETY: `handle` by the caller; all bit patterns are valid, zero included.
        unsafe { read(OP, |celsius| function(handle, celsius)) }
    }

    /// `bm_get_tpu_power`: watts. PCIe cards only.
    ///
    /// # Errors
    /// [`Error::Status`], [`Error::Unavailable`].
    ///
    /// # Safety
    /// `handle` is open.
    pub unsafe fn bm_get_tpu_power(&self, handle: bm_handle_t) -> Result<f32, Error> {
        const OP: &str = "bm_get_tpu_power";
        let function = available(OP, &self.symbols().bm_get_tpu_power)?;
        // SAFETY: `handle` by the caller; all bit patterns are valid, zero included.
        unsafe { read(OP, |watts| function(handle, watts)) }
    }

    /// `bm_get_status`: 0, or bits: 0 the TPU hangs, 1 the PCIe link is down, 2 too hot.
    ///
    /// # Errors
    /// [`Error::Status`], [`Error::Unavailable`].
    ///
    /// # Safety
    /// `handle` is open.
    pub unsafe fn bm_get_status(&self, handle: bm_handle_t) -> Result<c_int, Error> {
        const OP: &str = "bm_get_status";
        let function = available(OP, &self.symbols().bm_get_status)?;
        // SAFETY: `handle` by the caller; all bit patterns are valid, zero included.
        unsafe { read(OP, |bits| function(handle, bits)) }
    }

    /// `bmlib_log_set_level`: how much libbmlib prints: -8 nothing, 16 errors, 24 warnings, 32
    /// information.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub fn bmlib_log_set_level(&self, level: c_int) -> Result<(), Error> {
        let function = available("bmlib_log_set_level", &self.symbols().bmlib_log_set_level)?;
        // SAFETY: sets a number.
        unsafe { function(level) };
        Ok(())
    }
}

/// A function that not every SDK has.
fn available<F: Copy>(op: &'static str, symbol: &Result<F, libloading::Error>) -> Result<F, Error> {
    symbol
        .as_ref()
        .copied()
        .map_err(|_| Error::Unavailable { op })
}

/// What a function writes through a pointer; zeroes where it writes nothing.
///
/// # Safety
/// Zeroes and all that `function` may write are valid values of `T`; `function` writes no more than
/// one `T`.
unsafe fn read<T>(
    op: &'static str,
    function: impl FnOnce(*mut T) -> bm_status_t,
) -> Result<T, Error> {
    let mut value = MaybeUninit::zeroed();
    check(op, function(value.as_mut_ptr()))?;
    // SAFETY: by the caller.
    Ok(unsafe { value.assume_init() })
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
