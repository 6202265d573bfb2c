// SPDX-License-Identifier: MPL-2.0

//! A card: an AX650 behind PCIe.

#![expect(unsafe_code, reason = "calls C functions")]

use std::ffi::c_void;
use std::path::Path;
use std::ptr::NonNull;
use std::sync::Arc;

use super::driver::{DataType, Driver, Group, Health, Mem, ModelInfo, Run, Tensor, lock, refused};
use crate::api::{Api, DeviceLock};
use crate::bindings::card::{axclrtEngineDataType as Raw, axclrtEngineVNpuKind};
use crate::card::{Card, CardMemory, CardSlice, ModelContext, ModelId, Side};
use crate::error::Error;
use crate::functions::Functions;

/// A card, what is loaded and what is allocated there.
pub(super) struct CardDriver {
    api: Arc<Api>,
    lock: DeviceLock,
    /// Number of its PCIe bus.
    id: i32,
    context: NonNull<c_void>,
    models: Vec<Loaded>,
    blocks: Vec<CardMemory>,
}

struct Loaded {
    model: ModelId,
    context: ModelContext,
    info: NonNull<c_void>,
    /// One a shape group, with the memory that it names.
    groups: Vec<Io>,
}

struct Io {
    io: NonNull<c_void>,
    inputs: Vec<Option<Mem>>,
    outputs: Vec<Option<Mem>>,
}

// SAFETY: the handles are used by the owner of the value, one thread at a time, and the API lets a
// context go from thread to thread: every call here binds it to the calling thread first (`enter`).
unsafe impl Send for CardDriver {}

impl CardDriver {
    pub(super) fn open(api: Arc<Api>, index: usize) -> Result<Self, Error> {
        let card = functions(&api)?;
        let mut users = api.users();
        if users.process == 0 {
            card.init()?;
        }
        users.process += 1;
        let opened = (|| {
            let id = find(card, index)?;
            card.set_device(id)?;
            let context = card.create_context(id).inspect_err(|_| {
                // SAFETY: balances the call above; nothing was made on it.
                let _ = unsafe { card.reset_device(id) };
            })?;
            let entry = users.engines.entry(id).or_insert((0, false));
            let started = match entry.0 {
                0 => start(card),
                _ => Ok(entry.1),
            };
            match started {
                Ok(ours) => {
                    *entry = (entry.0 + 1, ours);
                    Ok((id, context))
                }
                Err(error) => {
                    // SAFETY: made above, not used again.
                    let _ = unsafe { card.destroy_context(context) };
                    // SAFETY: balances `set_device`.
                    let _ = unsafe { card.reset_device(id) };
                    Err(error)
                }
            }
        })();
        match opened {
            Ok((id, context)) => {
                drop(users);
                Ok(Self {
                    lock: api.device_lock(id),
                    api,
                    id,
                    context,
                    models: Vec::new(),
                    blocks: Vec::new(),
                })
            }
            Err(error) => {
                users.process -= 1;
                if users.process == 0 {
                    // SAFETY: balances `init`; no device is set.
                    let _ = unsafe { card.finalize() };
                }
                Err(error)
            }
        }
    }

    /// The functions, with the context on this thread.
    fn enter(&self) -> Result<&Card, Error> {
        let card = functions(&self.api)?;
        // Said anew for every call: another device of this thread may have bound its own, or this
        // may be another thread than before.
        // SAFETY: open; this value is one thread's at a time, it is not `Sync`.
        unsafe { card.set_current_context(self.context) }?;
        Ok(card)
    }
}

/// Some bytes of a block.
fn slice_of<'a>(
    blocks: &'a [CardMemory],
    op: &'static str,
    (block, offset): (usize, usize),
    len: usize,
) -> Result<CardSlice<'a>, Error> {
    let found = blocks.get(block);
    let found = found.ok_or_else(|| refused(op, "memory that is not there"))?;
    Ok(found.part(op, offset, len)?)
}

/// The id of card `index`.
fn find(card: &Card, index: usize) -> Result<i32, Error> {
    let no_card = |reason: String| Error::NoCard { reason };
    let ids = card.devices().map_err(|error| no_card(error.to_string()))?;
    if ids.is_empty() {
        return Err(no_card("the list of devices is empty".to_owned()));
    }
    ids.get(index).copied().ok_or_else(|| Error::NoDevice {
        index,
        count: ids.len(),
        ids: ids
            .iter()
            .map(|id| format!("PCIe bus {id}"))
            .collect::<Vec<_>>()
            .join(", "),
    })
}

/// Starts the engine, or joins the one that another program started; whether it is ours to end.
fn start(card: &Card) -> Result<bool, Error> {
    let refused = match card.engine_init() {
        Ok(()) => return Ok(true),
        Err(error) => error,
    };
    let mode = match card.npu_mode() {
        Ok(axclrtEngineVNpuKind::AXCL_VNPU_DISABLE) => return Ok(false),
        Ok(axclrtEngineVNpuKind::AXCL_VNPU_ENABLE) => "standard",
        Ok(axclrtEngineVNpuKind::AXCL_VNPU_BIG_LITTLE) => "big-little",
        Ok(_) => "little-big",
        Err(_) => return Err(refused),
    };
    Err(Error::VirtualNpu { mode })
}

fn functions(api: &Api) -> Result<&Card, Error> {
    match &api.functions {
        Functions::Card(card) => Ok(card),
        Functions::Soc(_) => Err(refused("open", "a board's library for a card")),
    }
}

/// All groups of a model.
fn groups(card: &Card, info: NonNull<c_void>) -> Result<Vec<Group>, Error> {
    // SAFETY: alive.
    let count = unsafe { card.group_count(info) }?;
    let tensors = |side, group| -> Result<Vec<Tensor>, Error> {
        // SAFETY: alive.
        let n = unsafe { card.n_tensors(info, side) };
        let tensors = (0..n).map(|index| {
            // SAFETY: alive, and so for the others.
            let size = unsafe { card.size(info, side, group, index) };
            Ok(Tensor {
                // SAFETY: as above.
                name: unsafe { card.name(info, side, index) }?,
                // SAFETY: as above.
                dtype: data_type(unsafe { card.data_type(info, side, index) }?),
                // SAFETY: as above.
                shape: unsafe { card.dims(info, side, group, index) }?,
                size_bytes: usize::try_from(size).unwrap_or(usize::MAX),
            })
        });
        tensors.collect()
    };
    let group = |group| {
        Ok(Group {
            inputs: tensors(Side::Input, group)?,
            outputs: tensors(Side::Output, group)?,
        })
    };
    (0..count).map(group).collect()
}

fn data_type(raw: Raw) -> DataType {
    match raw {
        Raw::AXCL_DATA_TYPE_NONE => DataType::Unknown,
        Raw::AXCL_DATA_TYPE_UINT8 => DataType::U8,
        Raw::AXCL_DATA_TYPE_UINT16 => DataType::U16,
        Raw::AXCL_DATA_TYPE_UINT32 => DataType::U32,
        Raw::AXCL_DATA_TYPE_INT8 => DataType::I8,
        Raw::AXCL_DATA_TYPE_INT16 => DataType::I16,
        Raw::AXCL_DATA_TYPE_INT32 => DataType::I32,
        Raw::AXCL_DATA_TYPE_BF16 => DataType::Bf16,
        Raw::AXCL_DATA_TYPE_FP16 => DataType::F16,
        Raw::AXCL_DATA_TYPE_FP32 => DataType::F32,
        other => DataType::Other(other.0),
    }
}

impl Driver for CardDriver {
    fn health(&mut self) -> Health {
        let id = self.id;
        let Some(found) = self.enter().ok().and_then(|card| card.properties(id)) else {
            return Health::default();
        };
        let kib = |n: u32| u64::from(n) << 10;
        // Some releases count thousandths.
        let celsius = match found.temperature {
            n if n > 1000 => n / 1000,
            n => n,
        };
        let memory = (kib(found.totalCmmSize), kib(found.freeCmmSize));
        Health {
            memory: (memory.0 > 0).then_some(memory),
            utilisation: Some(found.npuLoading),
            temperature: u32::try_from(celsius).ok(),
        }
    }

    fn usage(&mut self, path: &Path) -> Result<u64, Error> {
        self.enter()?.usage(path)
    }

    fn load(&mut self, path: &Path) -> Result<ModelInfo, Error> {
        self.enter()?.model_type(path)?;
        let card = functions(&self.api)?;
        // Several loads at once end the card's own program; what a run beside one does is not
        // documented.
        let _lock = lock(&self.lock);
        let model = card.load(path)?;
        let mut info = None;
        let mut ios = Vec::new();
        let described = (|| {
            let context = card.create_model_context(&model)?;
            let found = card.io_info(&model)?;
            info = Some(found);
            let groups = groups(card, found)?;
            for group in &groups {
                // SAFETY: alive.
                let io = unsafe { card.create_io(found) }?;
                ios.push(Io {
                    io,
                    inputs: vec![None; group.inputs.len()],
                    outputs: vec![None; group.outputs.len()],
                });
            }
            let compiler = card.compiler(&model);
            Ok((context, found, ModelInfo { groups, compiler }))
        })();
        match described {
            Ok((context, info, described)) => {
                self.models.push(Loaded {
                    model,
                    context,
                    info,
                    groups: ios,
                });
                Ok(described)
            }
            Err(error) => {
                end(card, model, info, &ios);
                Err(error)
            }
        }
    }

    fn alloc(&mut self, size_bytes: usize) -> Result<(), Error> {
        let card = self.enter()?;
        let block = card.malloc(size_bytes)?;
        let whole = block.part("axclrtMemcpy", 0, size_bytes)?;
        // SAFETY: just allocated, on this card.
        let cleared = unsafe { card.write(whole, &vec![0; size_bytes]) };
        self.blocks.push(block);
        cleared
    }

    fn write(&mut self, block: usize, offset: usize, src: &[u8]) -> Result<(), Error> {
        let to = slice_of(&self.blocks, "write", (block, offset), src.len())?;
        // SAFETY: this card's; nothing runs, since runs return when they are done and one thread has
        // this value.
        unsafe { self.enter()?.write(to, src) }
    }

    fn read(&mut self, block: usize, offset: usize, dst: &mut [u8]) -> Result<(), Error> {
        let from = slice_of(&self.blocks, "read", (block, offset), dst.len())?;
        // SAFETY: as in `write`.
        unsafe { self.enter()?.read(from, dst) }
    }

    fn copy(&mut self, dst: (usize, usize), src: (usize, usize), size: usize) -> Result<(), Error> {
        let to = slice_of(&self.blocks, "copy", dst, size)?;
        let from = slice_of(&self.blocks, "copy", src, size)?;
        // SAFETY: as in `write`; the caller looked for an overlap.
        unsafe { self.enter()?.copy(to, from) }
    }

    fn run(&mut self, slot: usize, index: usize, run: &Run<'_>) -> Result<(), Error> {
        const OP: &str = "axclrtEngineExecute";
        self.enter()?;
        let card = functions(&self.api)?;
        let _lock = lock(&self.lock);
        let model = self.models.get_mut(slot);
        let model = model.ok_or_else(|| refused(OP, "a model that is not there"))?;
        let group = model.groups.get_mut(index);
        let group = group.ok_or_else(|| refused(OP, "a shape group that is not there"))?;
        for (side, bound, mems) in [
            (Side::Input, &mut group.inputs, run.inputs),
            (Side::Output, &mut group.outputs, run.outputs),
        ] {
            for (i, (bound, (mem, size))) in (0u32..).zip(bound.iter_mut().zip(mems)) {
                // What stands there already need not be said again.
                if *bound == Some(*mem) {
                    continue;
                }
                let slice = slice_of(&self.blocks, OP, (mem.block, mem.offset), *size)?;
                *bound = None;
                // SAFETY: alive; memory of this card, as large, that stays until the card goes.
                unsafe { card.set_buffer(group.io, side, i, slice) }?;
                *bound = Some(*mem);
            }
        }
        let group = u32::try_from(index).unwrap_or(u32::MAX);
        let io = model.groups[index].io;
        // SAFETY: loaded, its context, and memory for every tensor was named above.
        unsafe { card.execute(&model.model, &model.context, group, io) }
    }
}

/// Gives a model back with what was made of it.
fn end(card: &Card, model: ModelId, info: Option<NonNull<c_void>>, ios: &[Io]) {
    // A failure here has no caller to report to.
    for io in ios {
        // SAFETY: alive, not used again.
        let _ = unsafe { card.destroy_io(io.io) };
    }
    if let Some(info) = info {
        // SAFETY: alive, its users are gone.
        let _ = unsafe { card.destroy_io_info(info) };
    }
    // SAFETY: loaded, idle, not used again.
    let _ = unsafe { card.unload(model) };
}

impl Drop for CardDriver {
    fn drop(&mut self) {
        // A card that is gone answers none of these; the process is to end well all the same.
        let _ = self.enter();
        let Ok(card) = functions(&self.api) else {
            return;
        };
        let held = lock(&self.lock);
        for loaded in self.models.drain(..) {
            end(card, loaded.model, Some(loaded.info), &loaded.groups);
        }
        drop(held);
        for block in self.blocks.drain(..) {
            // SAFETY: allocated, freed only here, and nothing runs.
            let _ = unsafe { card.free(block) };
        }
        let mut users = self.api.users();
        let last = match users.engines.get_mut(&self.id) {
            Some((count, _)) if *count > 1 => {
                *count -= 1;
                None
            }
            _ => users.engines.remove(&self.id),
        };
        if let Some((_, true)) = last {
            // SAFETY: started here, and no model is loaded by this process.
            let _ = unsafe { card.engine_finalize() };
        }
        // SAFETY: open, not used again.
        let _ = unsafe { card.destroy_context(self.context) };
        // SAFETY: balances `set_device`.
        let _ = unsafe { card.reset_device(self.id) };
        users.process -= 1;
        if users.process == 0 {
            // SAFETY: the last device of the process.
            let _ = unsafe { card.finalize() };
        }
    }
}
