// SPDX-License-Identifier: MPL-2.0

//! A board: the NPU of the chip that runs the program.

#![expect(unsafe_code, reason = "calls C functions")]

use std::ffi::{CStr, c_void};
use std::fs::File;
use std::path::Path;
use std::ptr::NonNull;
use std::slice;
use std::sync::Arc;

use memmap2::Mmap;
use vendor_library::narrow;

use super::driver::{DataType, Driver, Group, Health, ModelInfo, Run, Tensor, lock, refused};
use crate::api::{Api, DeviceLock};
use crate::bindings::soc::{
    AX_ENGINE_DATA_TYPE_T as Raw, AX_ENGINE_IO_BUFFER_T, AX_ENGINE_IO_T, AX_ENGINE_IOMETA_T,
    AX_ENGINE_MODEL_TYPE_T, AX_ENGINE_NPU_MODE_T,
};
use crate::error::Error;
use crate::functions::Functions;
use crate::soc::{Soc, SocMemory};

/// The engine, what is loaded and what is allocated.
pub(super) struct SocDriver {
    api: Arc<Api>,
    lock: DeviceLock,
    models: Vec<Loaded>,
    blocks: Vec<SocMemory>,
    inputs: Vec<AX_ENGINE_IO_BUFFER_T>,
    outputs: Vec<AX_ENGINE_IO_BUFFER_T>,
}

struct Loaded {
    handle: NonNull<c_void>,
    context: NonNull<c_void>,
}

// SAFETY: the handles are used by the owner of the value, one thread at a time. The API has no calls
// that bind a handle to a thread, and the vendor's own programs load on one thread and run on
// another.
unsafe impl Send for SocDriver {}

impl SocDriver {
    pub(super) fn open(api: Arc<Api>, index: usize) -> Result<Self, Error> {
        if index > 0 {
            return Err(Error::NoDevice {
                index,
                count: 1,
                ids: "the board's own NPU".to_owned(),
            });
        }
        let soc = functions(&api)?;
        let mut users = api.users();
        if users.process == 0 {
            soc.sys_init()?;
            if let Err(error) = start(soc) {
                // SAFETY: balances the call above; nothing was allocated.
                let _ = unsafe { soc.sys_deinit() };
                return Err(error);
            }
        }
        users.process += 1;
        drop(users);
        Ok(Self {
            lock: api.device_lock(0),
            api,
            models: Vec::new(),
            blocks: Vec::new(),
            inputs: Vec::new(),
            outputs: Vec::new(),
        })
    }

    fn soc(&self) -> Result<&Soc, Error> {
        functions(&self.api)
    }

    fn block(&self, block: usize, op: &'static str) -> Result<&SocMemory, Error> {
        let found = self.blocks.get(block);
        found.ok_or_else(|| refused(op, "memory that is not there"))
    }
}

/// Starts the engine, or joins the one that another part of the process started.
fn start(soc: &Soc) -> Result<(), Error> {
    const DISABLE: AX_ENGINE_NPU_MODE_T = AX_ENGINE_NPU_MODE_T::AX_ENGINE_VIRTUAL_NPU_DISABLE;
    let mode = soc.npu_mode().unwrap_or(DISABLE);
    if mode != DISABLE {
        return Err(Error::VirtualNpu {
            mode: match mode {
                AX_ENGINE_NPU_MODE_T::AX_ENGINE_VIRTUAL_NPU_STD => "standard",
                AX_ENGINE_NPU_MODE_T::AX_ENGINE_VIRTUAL_NPU_BIG_LITTLE => "big-little",
                _ => "little-big",
            },
        });
    }
    soc.engine_init(DISABLE)
}

fn functions(api: &Api) -> Result<&Soc, Error> {
    match &api.functions {
        Functions::Soc(soc) => Ok(soc),
        Functions::Card(_) => Err(refused("open", "a card's library for a board")),
    }
}

fn map(path: &Path) -> Result<Mmap, Error> {
    let io = |source| Error::Io {
        file: path.to_owned(),
        source,
    };
    let file = File::open(path).map_err(io)?;
    // SAFETY: the engine copies the bytes once and checks them; shortening a model file while it is
    // loaded ends the process, as with every mapped file.
    unsafe { Mmap::map(&file) }.map_err(io)
}

fn group(soc: &Soc, handle: NonNull<c_void>, index: u32) -> Result<Group, Error> {
    // SAFETY: loaded; what comes back lives as long as the model and is copied here.
    let info = unsafe { soc.group(handle, index)?.as_ref() };
    let tensors = |list: *const AX_ENGINE_IOMETA_T, n: u32| -> Vec<Tensor> {
        if list.is_null() {
            return Vec::new();
        }
        // SAFETY: the engine says how many there are.
        let list = unsafe { slice::from_raw_parts(list, n as usize) };
        list.iter().map(tensor).collect()
    };
    Ok(Group {
        inputs: tensors(info.pInputs, info.nInputSize),
        outputs: tensors(info.pOutputs, info.nOutputSize),
    })
}

fn tensor(meta: &AX_ENGINE_IOMETA_T) -> Tensor {
    let name = match meta.pName.is_null() {
        true => String::new(),
        // SAFETY: a C string of the engine's.
        false => unsafe { CStr::from_ptr(meta.pName) }
            .to_string_lossy()
            .into_owned(),
    };
    let shape: &[i32] = match meta.pShape.is_null() {
        true => &[],
        // SAFETY: the engine says how many there are.
        false => unsafe { slice::from_raw_parts(meta.pShape, usize::from(meta.nShapeSize)) },
    };
    let dims = shape.iter().map(|&dim| usize::try_from(dim).unwrap_or(0));
    Tensor {
        name,
        dtype: data_type(meta.eDataType),
        shape: dims.collect(),
        size_bytes: meta.nSize as usize,
    }
}

fn data_type(raw: Raw) -> DataType {
    match raw {
        Raw::AX_ENGINE_DT_UNKNOWN => DataType::Unknown,
        Raw::AX_ENGINE_DT_UINT8 => DataType::U8,
        Raw::AX_ENGINE_DT_UINT16 => DataType::U16,
        Raw::AX_ENGINE_DT_UINT32 => DataType::U32,
        Raw::AX_ENGINE_DT_SINT8 => DataType::I8,
        Raw::AX_ENGINE_DT_SINT16 => DataType::I16,
        Raw::AX_ENGINE_DT_SINT32 => DataType::I32,
        Raw::AX_ENGINE_DT_BFLOAT16 => DataType::Bf16,
        Raw::AX_ENGINE_DT_FLOAT32 => DataType::F32,
        other => DataType::Other(other.0),
    }
}

impl Driver for SocDriver {
    fn health(&mut self) -> Health {
        Health {
            memory: self.soc().ok().and_then(Soc::memory),
            ..Health::default()
        }
    }

    fn usage(&mut self, path: &Path) -> Result<u64, Error> {
        let meta = std::fs::metadata(path).map_err(|source| Error::Io {
            file: path.to_owned(),
            source,
        })?;
        Ok(meta.len())
    }

    fn load(&mut self, path: &Path) -> Result<ModelInfo, Error> {
        let data = map(path)?;
        let name = path.file_stem().unwrap_or_default().to_string_lossy();
        let soc = self.soc()?;
        let kind = soc.model_type(&data)?;
        if kind.0 > AX_ENGINE_MODEL_TYPE_T::AX_ENGINE_MODEL_TYPE2.0 {
            return Err(refused("AX_ENGINE_GetModelType", "a model of another chip"));
        }
        let _lock = lock(&self.lock);
        let handle = soc.create_handle(&data, &name)?;
        drop(data);
        let described = (|| {
            // SAFETY: loaded above.
            let context = unsafe { soc.create_context(handle) }?;
            // SAFETY: as above.
            let count = unsafe { soc.group_count(handle) }?;
            let groups: Result<Vec<_>, _> = (0..count).map(|i| group(soc, handle, i)).collect();
            // SAFETY: as above.
            let compiler = unsafe { soc.tools_version(handle) };
            let described = ModelInfo {
                groups: groups?,
                compiler,
            };
            Ok((context, described))
        })();
        match described {
            Ok((context, described)) => {
                self.models.push(Loaded { handle, context });
                Ok(described)
            }
            Err(error) => {
                // SAFETY: loaded above, and nothing of it is kept.
                let _ = unsafe { soc.destroy_handle(handle) };
                Err(error)
            }
        }
    }

    fn alloc(&mut self, size_bytes: usize) -> Result<(), Error> {
        let soc = self.soc()?;
        let block = soc.alloc(size_bytes)?;
        // SAFETY: just allocated, and known here alone.
        let cleared = unsafe { soc.write(&block, 0, &vec![0; size_bytes]) };
        self.blocks.push(block);
        cleared
    }

    fn write(&mut self, block: usize, offset: usize, src: &[u8]) -> Result<(), Error> {
        let block = self.block(block, "write")?;
        // SAFETY: allocated; nothing runs, since runs return when they are done and one thread has
        // this value.
        unsafe { self.soc()?.write(block, offset, src) }
    }

    fn read(&mut self, block: usize, offset: usize, dst: &mut [u8]) -> Result<(), Error> {
        let block = self.block(block, "read")?;
        // SAFETY: as in `write`.
        unsafe { self.soc()?.read(block, offset, dst) }
    }

    fn copy(&mut self, dst: (usize, usize), src: (usize, usize), size: usize) -> Result<(), Error> {
        let to = self.block(dst.0, "copy")?.part("copy", dst.1, size)?;
        let from = self.block(src.0, "copy")?.part("copy", src.1, size)?;
        // SAFETY: as in `write`; the caller looked for an overlap.
        unsafe { self.soc()?.copy(to, from) }
    }

    fn run(&mut self, slot: usize, index: usize, run: &Run<'_>) -> Result<(), Error> {
        const OP: &str = "AX_ENGINE_RunGroupIOSync";
        let model = self.models.get(slot);
        let model = model.ok_or_else(|| refused(OP, "a model that is not there"))?;
        for (buffers, mems) in [
            (&mut self.inputs, run.inputs),
            (&mut self.outputs, run.outputs),
        ] {
            buffers.clear();
            for (mem, size) in mems {
                let block = self.blocks.get(mem.block);
                let block = block.ok_or_else(|| refused(OP, "memory that is not there"))?;
                let part = block.part(OP, mem.offset, *size)?;
                buffers.push(AX_ENGINE_IO_BUFFER_T {
                    phyAddr: part.physical(),
                    pVirAddr: part.address().as_ptr(),
                    nSize: part.size_bytes(),
                    ..Default::default()
                });
            }
        }
        let mut io = AX_ENGINE_IO_T {
            pInputs: self.inputs.as_mut_ptr(),
            nInputSize: narrow(OP, self.inputs.len())?,
            pOutputs: self.outputs.as_mut_ptr(),
            nOutputSize: narrow(OP, self.outputs.len())?,
            ..Default::default()
        };
        // Whether handles may run side by side, or beside a load, is not documented.
        let _lock = lock(&self.lock);
        let soc = functions(&self.api)?;
        // SAFETY: loaded, its context; the memory is allocated, as large as the group says, and stays
        // until the board goes; the arrays live through the call; nothing else runs.
        unsafe { soc.run(model.handle, model.context, narrow(OP, index)?, &mut io) }
    }
}

impl Drop for SocDriver {
    fn drop(&mut self) {
        let Ok(soc) = functions(&self.api) else {
            return;
        };
        // A failure here has no caller to report to.
        let held = lock(&self.lock);
        for model in &self.models {
            // SAFETY: loaded, idle, not used again.
            let _ = unsafe { soc.destroy_handle(model.handle) };
        }
        drop(held);
        for block in self.blocks.drain(..) {
            // SAFETY: allocated, freed only here, and nothing runs.
            let _ = unsafe { soc.free(block) };
        }
        let mut users = self.api.users();
        users.process -= 1;
        if users.process == 0 {
            // SAFETY: the last device of the process; balances `open`.
            let _ = unsafe { soc.engine_deinit() };
            // SAFETY: as above.
            let _ = unsafe { soc.sys_deinit() };
        }
    }
}
