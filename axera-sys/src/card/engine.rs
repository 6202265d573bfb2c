// SPDX-License-Identifier: MPL-2.0

//! The engine of a card and its models.

use std::ffi::c_void;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::ptr::{self, NonNull};

use vendor_library::{c_string, c_text};

use super::{Card, CardSlice, ModelContext, ModelId, Side, no_result};
use crate::bindings::card::{
    axclrtEngineDataType, axclrtEngineIODims, axclrtEngineModelKind, axclrtEngineVNpuKind,
};
use crate::error::{Error, check};

/// The engine and its models.
impl Card {
    /// `axclrtEngineInit`, with all cores for every model.
    ///
    /// # Errors
    /// [`Error::Status`], also if it is started already.
    pub fn engine_init(&self) -> Result<(), Error> {
        // SAFETY: a number.
        check("axclrtEngineInit", unsafe {
            self.symbols
                .axclrtEngineInit(axclrtEngineVNpuKind::AXCL_VNPU_DISABLE)
        })
    }

    /// `axclrtEngineGetVNpuKind`: how the cores are shared out, if the engine was started.
    ///
    /// # Errors
    /// [`Error::Status`] if it was not.
    pub fn npu_mode(&self) -> Result<axclrtEngineVNpuKind, Error> {
        let mut kind = axclrtEngineVNpuKind::AXCL_VNPU_DISABLE;
        // SAFETY: `kind` is valid for a write.
        check("axclrtEngineGetVNpuKind", unsafe {
            self.symbols.axclrtEngineGetVNpuKind(&mut kind)
        })?;
        Ok(kind)
    }

    /// `axclrtEngineFinalize`.
    ///
    /// # Errors
    /// [`Error::Status`].
    ///
    /// # Safety
    /// As often as [`Card::engine_init`] succeeded; no model is loaded any more.
    pub unsafe fn engine_finalize(&self) -> Result<(), Error> {
        // SAFETY: by the caller.
        check("axclrtEngineFinalize", unsafe {
            self.symbols.axclrtEngineFinalize()
        })
    }

    /// `axclrtEngineGetModelType`: how many cores a model was compiled for.
    ///
    /// # Errors
    /// [`Error::Status`] for a file that is no model; [`Error::Argument`].
    pub fn model_type(&self, path: &Path) -> Result<axclrtEngineModelKind, Error> {
        const OP: &str = "axclrtEngineGetModelType";
        let file = c_string(OP, path.as_os_str().as_bytes())?;
        let mut kind = axclrtEngineModelKind::AXCL_MODEL_TYPE_1CORE;
        // SAFETY: `file` is a C string, `kind` valid for a write.
        check(OP, unsafe {
            self.symbols
                .axclrtEngineGetModelType(file.as_ptr(), &mut kind)
        })?;
        Ok(kind)
    }

    /// `axclrtEngineGetUsage`: bytes of the NPU's memory that a model will take.
    ///
    /// # Errors
    /// [`Error::Status`], [`Error::Argument`].
    pub fn usage(&self, path: &Path) -> Result<u64, Error> {
        const OP: &str = "axclrtEngineGetUsage";
        let file = c_string(OP, path.as_os_str().as_bytes())?;
        let (mut sys, mut cmm) = (0, 0);
        // SAFETY: `file` is a C string, the two places are valid for writes.
        check(OP, unsafe {
            self.symbols
                .axclrtEngineGetUsage(file.as_ptr(), &mut sys, &mut cmm)
        })?;
        Ok(u64::try_from(cmm).unwrap_or(0))
    }

    /// `axclrtEngineLoadFromFile`: the file is the host's.
    ///
    /// # Errors
    /// [`Error::Status`], [`Error::Argument`].
    pub fn load(&self, path: &Path) -> Result<ModelId, Error> {
        const OP: &str = "axclrtEngineLoadFromFile";
        let file = c_string(OP, path.as_os_str().as_bytes())?;
        let mut model = 0;
        // SAFETY: `file` is a C string, `model` valid for a write.
        check(OP, unsafe {
            self.symbols
                .axclrtEngineLoadFromFile(file.as_ptr(), &mut model)
        })?;
        Ok(ModelId(model))
    }

    /// `axclrtEngineUnload`: with its contexts.
    ///
    /// # Errors
    /// [`Error::Status`].
    ///
    /// # Safety
    /// `model` is of this value and idle; its inputs and outputs were given back.
    pub unsafe fn unload(&self, model: ModelId) -> Result<(), Error> {
        // SAFETY: by the caller.
        check("axclrtEngineUnload", unsafe {
            self.symbols.axclrtEngineUnload(model.0)
        })
    }

    /// `axclrtEngineCreateContext`: what a run needs beside the model; ends with the model.
    ///
    /// # Errors
    /// [`Error::Status`].
    pub fn create_model_context(&self, model: &ModelId) -> Result<ModelContext, Error> {
        let mut context = 0;
        // SAFETY: loaded; `context` is valid for a write.
        check("axclrtEngineCreateContext", unsafe {
            self.symbols
                .axclrtEngineCreateContext(model.0, &mut context)
        })?;
        Ok(ModelContext(context))
    }

    /// `axclrtEngineGetModelCompilerVersion`; `None` in packages without it.
    pub fn compiler(&self, model: &ModelId) -> Option<String> {
        let function = self
            .symbols
            .axclrtEngineGetModelCompilerVersion
            .as_ref()
            .ok()?;
        // SAFETY: loaded; what comes back is null or a C string of the library's.
        unsafe { c_text(function(model.0)) }
    }

    /// `axclrtEngineGetIOInfo`: the description of a model, to be given back with
    /// [`Card::destroy_io_info`].
    ///
    /// # Errors
    /// [`Error::Status`].
    pub fn io_info(&self, model: &ModelId) -> Result<NonNull<c_void>, Error> {
        const OP: &str = "axclrtEngineGetIOInfo";
        let mut info = ptr::null_mut();
        // SAFETY: loaded; `info` is valid for a write.
        check(OP, unsafe {
            self.symbols.axclrtEngineGetIOInfo(model.0, &mut info)
        })?;
        NonNull::new(info).ok_or_else(|| no_result(OP))
    }

    /// `axclrtEngineDestroyIOInfo`.
    ///
    /// # Errors
    /// [`Error::Status`].
    ///
    /// # Safety
    /// `info` is alive and not used again.
    pub unsafe fn destroy_io_info(&self, info: NonNull<c_void>) -> Result<(), Error> {
        // SAFETY: by the caller.
        check("axclrtEngineDestroyIOInfo", unsafe {
            self.symbols.axclrtEngineDestroyIOInfo(info.as_ptr())
        })
    }

    /// `axclrtEngineGetShapeGroupsCount`.
    ///
    /// # Errors
    /// [`Error::Status`].
    ///
    /// # Safety
    /// `info` is alive.
    pub unsafe fn group_count(&self, info: NonNull<c_void>) -> Result<u32, Error> {
        let mut count = 0;
        // SAFETY: by the caller; `count` is valid for a write.
        check("axclrtEngineGetShapeGroupsCount", unsafe {
            self.symbols
                .axclrtEngineGetShapeGroupsCount(info.as_ptr(), &mut count)
        })?;
        Ok(u32::try_from(count).unwrap_or(0))
    }

    /// `axclrtEngineGetNumInputs` or `...Outputs`.
    ///
    /// # Safety
    /// `info` is alive.
    pub unsafe fn n_tensors(&self, info: NonNull<c_void>, side: Side) -> u32 {
        // SAFETY: by the caller.
        unsafe {
            match side {
                Side::Input => self.symbols.axclrtEngineGetNumInputs(info.as_ptr()),
                Side::Output => self.symbols.axclrtEngineGetNumOutputs(info.as_ptr()),
            }
        }
    }

    /// `axclrtEngineGetInputNameByIndex` or `...Output...`: one name for all groups.
    ///
    /// # Errors
    /// [`Error::Refused`] if it has none.
    ///
    /// # Safety
    /// `info` is alive.
    pub unsafe fn name(
        &self,
        info: NonNull<c_void>,
        side: Side,
        index: u32,
    ) -> Result<String, Error> {
        // SAFETY: by the caller; what comes back is null or a C string of the library's.
        let name = unsafe {
            c_text(match side {
                Side::Input => self
                    .symbols
                    .axclrtEngineGetInputNameByIndex(info.as_ptr(), index),
                Side::Output => self
                    .symbols
                    .axclrtEngineGetOutputNameByIndex(info.as_ptr(), index),
            })
        };
        name.ok_or_else(|| no_result("axclrtEngineGetInputNameByIndex"))
    }

    /// `axclrtEngineGetInputSizeByIndex` or `...Output...`: bytes.
    ///
    /// # Safety
    /// `info` is alive.
    pub unsafe fn size(&self, info: NonNull<c_void>, side: Side, group: u32, index: u32) -> u64 {
        // SAFETY: by the caller.
        unsafe {
            match side {
                Side::Input => {
                    self.symbols
                        .axclrtEngineGetInputSizeByIndex(info.as_ptr(), group, index)
                }
                Side::Output => {
                    self.symbols
                        .axclrtEngineGetOutputSizeByIndex(info.as_ptr(), group, index)
                }
            }
        }
    }

    /// `axclrtEngineGetInputDims` or `...Output...`.
    ///
    /// # Errors
    /// [`Error::Status`].
    ///
    /// # Safety
    /// `info` is alive.
    pub unsafe fn dims(
        &self,
        info: NonNull<c_void>,
        side: Side,
        group: u32,
        index: u32,
    ) -> Result<Vec<usize>, Error> {
        let mut dims = axclrtEngineIODims::default();
        // SAFETY: by the caller; `dims` is valid for a write.
        let code = unsafe {
            match side {
                Side::Input => {
                    self.symbols
                        .axclrtEngineGetInputDims(info.as_ptr(), group, index, &mut dims)
                }
                Side::Output => {
                    self.symbols
                        .axclrtEngineGetOutputDims(info.as_ptr(), group, index, &mut dims)
                }
            }
        };
        check("axclrtEngineGetInputDims", code)?;
        let n = usize::try_from(dims.dimCount).unwrap_or(0);
        let dims = dims.dims.iter().take(n);
        Ok(dims.map(|&dim| usize::try_from(dim).unwrap_or(0)).collect())
    }

    /// `axclrtEngineGetInputDataType` or `...Output...`: the same in all groups.
    ///
    /// # Errors
    /// [`Error::Status`].
    ///
    /// # Safety
    /// `info` is alive.
    pub unsafe fn data_type(
        &self,
        info: NonNull<c_void>,
        side: Side,
        index: u32,
    ) -> Result<axclrtEngineDataType, Error> {
        let mut kind = axclrtEngineDataType::AXCL_DATA_TYPE_NONE;
        // SAFETY: by the caller; `kind` is valid for a write.
        let code = unsafe {
            match side {
                Side::Input => {
                    self.symbols
                        .axclrtEngineGetInputDataType(info.as_ptr(), index, &mut kind)
                }
                Side::Output => {
                    self.symbols
                        .axclrtEngineGetOutputDataType(info.as_ptr(), index, &mut kind)
                }
            }
        };
        check("axclrtEngineGetInputDataType", code)?;
        Ok(kind)
    }

    /// `axclrtEngineCreateIO`: where a run finds its memory.
    ///
    /// # Errors
    /// [`Error::Status`].
    ///
    /// # Safety
    /// `info` is alive.
    pub unsafe fn create_io(&self, info: NonNull<c_void>) -> Result<NonNull<c_void>, Error> {
        const OP: &str = "axclrtEngineCreateIO";
        let mut io = ptr::null_mut();
        // SAFETY: by the caller; `io` is valid for a write.
        check(OP, unsafe {
            self.symbols.axclrtEngineCreateIO(info.as_ptr(), &mut io)
        })?;
        NonNull::new(io).ok_or_else(|| no_result(OP))
    }

    /// `axclrtEngineDestroyIO`: the memory stays.
    ///
    /// # Errors
    /// [`Error::Status`].
    ///
    /// # Safety
    /// `io` is alive and not used again.
    pub unsafe fn destroy_io(&self, io: NonNull<c_void>) -> Result<(), Error> {
        // SAFETY: by the caller.
        check("axclrtEngineDestroyIO", unsafe {
            self.symbols.axclrtEngineDestroyIO(io.as_ptr())
        })
    }

    /// `axclrtEngineSetInputBufferByIndex` or `...Output...`.
    ///
    /// # Errors
    /// [`Error::Status`].
    ///
    /// # Safety
    /// `io` is alive; `memory` is the card's and outlives the next run.
    pub unsafe fn set_buffer(
        &self,
        io: NonNull<c_void>,
        side: Side,
        index: u32,
        memory: CardSlice<'_>,
    ) -> Result<(), Error> {
        let (memory, size_bytes) = (memory.start.as_ptr(), memory.size as u64);
        // SAFETY: by the caller.
        let code = unsafe {
            match side {
                Side::Input => self.symbols.axclrtEngineSetInputBufferByIndex(
                    io.as_ptr(),
                    index,
                    memory,
                    size_bytes,
                ),
                Side::Output => self.symbols.axclrtEngineSetOutputBufferByIndex(
                    io.as_ptr(),
                    index,
                    memory,
                    size_bytes,
                ),
            }
        };
        check("axclrtEngineSetInputBufferByIndex", code)
    }

    /// `axclrtEngineExecute`: runs a shape group; returns when it is done.
    ///
    /// # Errors
    /// [`Error::Status`].
    ///
    /// # Safety
    /// `model` is loaded, `context` is its, `io` has memory for every input and output of the group,
    /// as large as the group says.
    pub unsafe fn execute(
        &self,
        model: &ModelId,
        context: &ModelContext,
        group: u32,
        io: NonNull<c_void>,
    ) -> Result<(), Error> {
        // SAFETY: by the caller.
        check("axclrtEngineExecute", unsafe {
            self.symbols
                .axclrtEngineExecute(model.0, context.0, group, io.as_ptr())
        })
    }
}
