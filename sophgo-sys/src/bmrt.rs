// SPDX-License-Identifier: MPL-2.0

//! The checked tier of libbmrt: compiled models.

#![expect(unsafe_code, reason = "calls C functions")]

use std::ffi::{CStr, CString, c_char, c_void};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::ptr::{self, NonNull};

use vendor_library::{c_string, narrow};

use crate::Api;
use crate::bindings::{bm_handle_t, bm_net_info_t, bm_runtime_flag_t, bm_tensor_t};
use crate::error::Error;

unsafe extern "C" {
    /// Of the C library: gives back the list that `bmrt_get_network_names` allocates.
    fn free(ptr: *mut c_void);
}

impl Api {
    /// `bmrt_create`: a runtime on one device, to be destroyed with [`Api::bmrt_destroy`].
    ///
    /// # Errors
    /// [`Error::Refused`].
    ///
    /// # Safety
    /// `handle` is open, and stays so until the runtime is destroyed.
    pub unsafe fn bmrt_create(&self, handle: bm_handle_t) -> Result<NonNull<c_void>, Error> {
        // SAFETY: as above.
        let bmrt = unsafe { self.symbols().bmrt_create(handle) };
        NonNull::new(bmrt).ok_or_else(|| refused("bmrt_create", "the device"))
    }

    /// `bmrt_destroy`: ends a runtime and frees its nets, their memory and, with their last user,
    /// the weights.
    ///
    /// # Safety
    /// `bmrt` is alive, none of its launches runs; neither it nor its nets are used again.
    pub unsafe fn bmrt_destroy(&self, bmrt: NonNull<c_void>) {
        // SAFETY: as above.
        unsafe { self.symbols().bmrt_destroy(bmrt.as_ptr()) }
    }

    /// `bmrt_set_flags`: how memory is given to the nets that are loaded afterwards. What a runtime
    /// starts with depends on the chip; see [`Api::bmrt_get_flags`].
    ///
    /// # Safety
    /// `bmrt` is alive and has no nets yet.
    pub unsafe fn bmrt_set_flags(&self, bmrt: NonNull<c_void>, flags: bm_runtime_flag_t) {
        // SAFETY: as above.
        unsafe { self.symbols().bmrt_set_flags(bmrt.as_ptr(), flags.0) }
    }

    /// `bmrt_get_flags`.
    ///
    /// # Safety
    /// `bmrt` is alive.
    pub unsafe fn bmrt_get_flags(&self, bmrt: NonNull<c_void>) -> bm_runtime_flag_t {
        // SAFETY: as above.
        bm_runtime_flag_t(unsafe { self.symbols().bmrt_get_flags(bmrt.as_ptr()) })
    }

    /// `bmrt_load_bmodel`: loads all nets of a file and their weights; takes minutes for a large
    /// one.
    ///
    /// # Errors
    /// [`Error::Refused`] if the file is missing, damaged, for another chip or too large for the
    /// device (the library prints which); [`Error::Argument`].
    ///
    /// # Safety
    /// `bmrt` is alive and used by no other thread meanwhile.
    pub unsafe fn bmrt_load_bmodel(&self, bmrt: NonNull<c_void>, path: &Path) -> Result<(), Error> {
        const OP: &str = "bmrt_load_bmodel";
        let file = c_string(OP, path.as_os_str().as_bytes())?;
        // SAFETY: `bmrt` by the caller; `file` is a C string.
        match unsafe {
            self.symbols()
                .bmrt_load_bmodel(bmrt.as_ptr(), file.as_ptr())
        } {
            true => Ok(()),
            false => Err(refused(OP, &path.display().to_string())),
        }
    }

    /// `bmrt_load_bmodel_data`: the same from memory. Prefer the file: bytes that are not a whole
    /// bmodel make the library end the process.
    ///
    /// # Errors
    /// [`Error::Refused`].
    ///
    /// # Safety
    /// `bmrt` is alive and used by no other thread meanwhile.
    pub unsafe fn bmrt_load_bmodel_data(
        &self,
        bmrt: NonNull<c_void>,
        data: &[u8],
    ) -> Result<(), Error> {
        // SAFETY: `bmrt` by the caller; `data` is read within its length.
        let loaded = unsafe {
            self.symbols()
                .bmrt_load_bmodel_data(bmrt.as_ptr(), data.as_ptr().cast(), data.len())
        };
        match loaded {
            true => Ok(()),
            false => Err(refused("bmrt_load_bmodel_data", "the data")),
        }
    }

    /// `bmrt_get_network_names`: the names of the loaded nets, in the file's order, which means
    /// nothing.
    ///
    /// # Safety
    /// `bmrt` is alive.
    pub unsafe fn bmrt_get_network_names(&self, bmrt: NonNull<c_void>) -> Vec<CString> {
        // SAFETY: `bmrt` by the caller.
        let n_nets = unsafe { self.symbols().bmrt_get_network_number(bmrt.as_ptr()) };
        let mut list: *mut *const c_char = ptr::null_mut();
        // SAFETY: `bmrt` by the caller; `list` is valid for a write.
        unsafe {
            self.symbols()
                .bmrt_get_network_names(bmrt.as_ptr(), &mut list)
        };
        let Some(list) = NonNull::new(list) else {
            return Vec::new();
        };
        let names = (0..usize::try_from(n_nets).unwrap_or(0))
            .filter_map(|index| {
                // SAFETY: the list has as many entries as there are nets.
                let name = NonNull::new(unsafe { *list.as_ptr().add(index) }.cast_mut())?;
                // SAFETY: a C string that belongs to the runtime and is copied here.
                Some(unsafe { CStr::from_ptr(name.as_ptr()) }.to_owned())
            })
            .collect();
        // SAFETY: the list is from `malloc` and ours to free; the strings are not.
        unsafe { free(list.as_ptr().cast()) };
        names
    }

    /// `bmrt_get_network_info`: a loaded net. What comes back belongs to the runtime and lives as
    /// long.
    ///
    /// # Errors
    /// [`Error::Refused`] if no net has this name.
    ///
    /// # Safety
    /// `bmrt` is alive.
    pub unsafe fn bmrt_get_network_info(
        &self,
        bmrt: NonNull<c_void>,
        net: &CStr,
    ) -> Result<NonNull<bm_net_info_t>, Error> {
        // SAFETY: `bmrt` by the caller; `net` is a C string.
        let info = unsafe {
            self.symbols()
                .bmrt_get_network_info(bmrt.as_ptr(), net.as_ptr())
        };
        NonNull::new(info.cast_mut())
            .ok_or_else(|| refused("bmrt_get_network_info", &net.to_string_lossy()))
    }

    /// `bmrt_launch_tensor_ex`: starts a net on inputs and outputs in device memory. It may return
    /// before the work is done: see [`Api::bm_thread_sync`]. The shapes of `outputs` are overwritten
    /// with those of the results.
    ///
    /// The C function is called with `user_mem`: results go to the memory that `outputs` names, and
    /// nothing is allocated.
    ///
    /// # Errors
    /// [`Error::Refused`] if no stage of the net has these input shapes; [`Error::Argument`].
    ///
    /// # Safety
    /// `bmrt` is alive and used by no other thread meanwhile. `inputs` and `outputs` are as many as
    /// the net has and of its element types; each memory is at least as large as its tensor's shape,
    /// and outputs as the net's `max_output_bytes`; all of it stays until the launch is done. In a
    /// dynamic net no dimension is above the compiled one. A breach of these the library either does
    /// not see or answers with a C++ exception, which ends the process.
    pub unsafe fn bmrt_launch_tensor_ex(
        &self,
        bmrt: NonNull<c_void>,
        net: &CStr,
        inputs: &[bm_tensor_t],
        outputs: &mut [bm_tensor_t],
    ) -> Result<(), Error> {
        const OP: &str = "bmrt_launch_tensor_ex";
        let (n_inputs, n_outputs) = (narrow(OP, inputs.len())?, narrow(OP, outputs.len())?);
        let (user_mem, user_stmode) = (true, false);
        // SAFETY: `bmrt` and the tensors by the caller; `net` is a C string, and the arrays have the
        // lengths that are given with them.
        let launched = unsafe {
            self.symbols().bmrt_launch_tensor_ex(
                bmrt.as_ptr(),
                net.as_ptr(),
                inputs.as_ptr(),
                n_inputs,
                outputs.as_mut_ptr(),
                n_outputs,
                user_mem,
                user_stmode,
            )
        };
        match launched {
            true => Ok(()),
            false => Err(refused(
                OP,
                &format!("the inputs of {}", net.to_string_lossy()),
            )),
        }
    }
}

/// The answer of a function that gives no reason.
fn refused(op: &'static str, what: &str) -> Error {
    Error::Refused {
        op,
        what: what.to_owned(),
    }
}
