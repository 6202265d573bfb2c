// SPDX-License-Identifier: MPL-2.0

//! The checked tier of libbmlib: what a device is and how it fares.

#![expect(unsafe_code, reason = "calls C functions")]

use std::ffi::c_int;
use std::mem::MaybeUninit;

use crate::bindings::{bm_dev_stat_t, bm_handle_t, bm_heap_stat_byte_t, bm_misc_info, bm_status_t};
use crate::bmlib::available;
use crate::error::{Error, check};
use crate::{Api, Chip};

/// Monitoring. Much of it is not supported everywhere: take an error as "not known", and the
/// emulators' zeroes too.
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
