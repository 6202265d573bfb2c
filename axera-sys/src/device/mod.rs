// SPDX-License-Identifier: MPL-2.0

//! The safe tier: one interface for a board and for a card.

mod card;
mod driver;
mod soc;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use vendor_library::Library;

use crate::api::Api;
use crate::error::Error;
use crate::functions::{Functions, Kind};

pub use driver::{DataType, Group, Health, Mem, Tensor};

use driver::{Driver, Run, refused};

/// A model that a [`Device`] has loaded; it stays loaded as long as the device is open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Model {
    /// Its shape groups.
    pub groups: Vec<Group>,
    /// The compiler that made it, as it calls itself.
    pub compiler: Option<String>,
    slot: usize,
    device: u64,
}

/// An AX650: the chip that the program runs on, or one on a card.
///
/// It owns the models that it loads and the memory that it allocates. Use by one thread at a time,
/// not always the same: on a card it brings its context along.
pub struct Device {
    driver: Box<dyn Driver>,
    api: Arc<Api>,
    number: u64,
    blocks: usize,
    allocated: u64,
    groups: Vec<Vec<Group>>,
    inputs: Vec<(Mem, usize)>,
    outputs: Vec<(Mem, usize)>,
}

impl Device {
    /// Opens device `index`, counted from 0; a board has one. The engine is started, or joined if
    /// another program started it.
    ///
    /// # Errors
    /// [`Error::NoCard`], [`Error::NoDevice`], [`Error::VirtualNpu`], [`Error::Status`].
    pub fn open(api: &Arc<Api>, index: usize) -> Result<Self, Error> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let driver: Box<dyn Driver> = match api.functions {
            Functions::Soc(_) => Box::new(soc::SocDriver::open(Arc::clone(api), index)?),
            Functions::Card(_) => Box::new(card::CardDriver::open(Arc::clone(api), index)?),
        };
        Ok(Self {
            driver,
            api: Arc::clone(api),
            number: NUMBER.fetch_add(1, Ordering::Relaxed),
            blocks: 0,
            allocated: 0,
            groups: Vec::new(),
            inputs: Vec::new(),
            outputs: Vec::new(),
        })
    }

    /// Board or card.
    pub fn kind(&self) -> Kind {
        self.api.kind()
    }

    /// The library that drives it.
    pub fn library(&self) -> &Library {
        self.api.library()
    }

    /// How it fares, as far as it can tell.
    pub fn health(&mut self) -> Health {
        self.driver.health()
    }

    /// Bytes that [`Device::alloc`] has given.
    pub fn allocated(&self) -> u64 {
        self.allocated
    }

    /// Bytes of the NPU's memory that a model will take, before it is loaded: what a card's runtime
    /// says; on a board, where nothing tells, the size of the file.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Status`] for a file that is no model.
    pub fn usage(&mut self, path: &Path) -> Result<u64, Error> {
        self.driver.usage(path)
    }

    /// Loads a model; seconds for a large one.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Status`] for a file that is no model of this chip's or does not fit
    /// the memory that is free.
    pub fn load(&mut self, path: &Path) -> Result<Model, Error> {
        let described = self.driver.load(path)?;
        self.groups.push(described.groups.clone());
        Ok(Model {
            groups: described.groups,
            compiler: described.compiler,
            slot: self.groups.len() - 1,
            device: self.number,
        })
    }

    /// Memory for inputs and outputs, all zeroes.
    ///
    /// # Errors
    /// [`Error::Status`] if there is not enough in one piece; [`Error::Argument`].
    pub fn alloc(&mut self, size_bytes: usize) -> Result<Mem, Error> {
        // Neither runtime is asked for nothing.
        self.driver.alloc(size_bytes.max(1))?;
        let mem = Mem {
            block: self.blocks,
            offset: 0,
            size: size_bytes,
            device: self.number,
        };
        self.blocks += 1;
        self.allocated += size_bytes as u64;
        Ok(mem)
    }

    /// Writes bytes; the next run sees them.
    ///
    /// # Errors
    /// [`Error::Argument`], [`Error::Refused`] for another device's memory, [`Error::Status`].
    pub fn write(&mut self, mem: Mem, offset: usize, src: &[u8]) -> Result<(), Error> {
        self.own("write", mem)?;
        mem.check("write", offset, src.len())?;
        if src.is_empty() {
            return Ok(());
        }
        self.driver.write(mem.block, mem.offset + offset, src)
    }

    /// Reads bytes that the last run, or the last write, left.
    ///
    /// # Errors
    /// As [`Device::write`].
    pub fn read(&mut self, mem: Mem, offset: usize, dst: &mut [u8]) -> Result<(), Error> {
        self.own("read", mem)?;
        mem.check("read", offset, dst.len())?;
        if dst.is_empty() {
            return Ok(());
        }
        self.driver.read(mem.block, mem.offset + offset, dst)
    }

    /// Copies all of `src` to the beginning of `dst`.
    ///
    /// # Errors
    /// As [`Device::write`]; [`Error::Refused`] if the two overlap.
    pub fn copy(&mut self, dst: Mem, src: Mem) -> Result<(), Error> {
        self.own("copy", dst)?;
        self.own("copy", src)?;
        dst.check("copy", 0, src.size)?;
        let dst = dst.part(0, src.size)?;
        if dst.overlaps(src) {
            return Err(refused("copy", "the two ranges overlap"));
        }
        if src.size == 0 {
            return Ok(());
        }
        let (to, from) = ((dst.block, dst.offset), (src.block, src.offset));
        self.driver.copy(to, from, src.size)
    }

    /// Runs a shape group; returns when it is done. Tensors are in the group's order, their memory
    /// may be larger than compiled.
    ///
    /// # Errors
    /// [`Error::Refused`] for a group that is not there, a wrong number of tensors, memory that is
    /// too small or another device's, or an output that overlaps anything else; [`Error::Status`].
    pub fn run(
        &mut self,
        model: &Model,
        group: usize,
        inputs: &[Mem],
        outputs: &[Mem],
    ) -> Result<(), Error> {
        if model.device != self.number {
            return Err(refused("run", "the model of another device"));
        }
        let Some(ports) = self.groups.get(model.slot).and_then(|g| g.get(group)) else {
            return Err(refused("run", "a shape group that is not there"));
        };
        pair(&mut self.inputs, "inputs", &ports.inputs, inputs)?;
        pair(&mut self.outputs, "outputs", &ports.outputs, outputs)?;
        for (i, (output, _)) in self.outputs.iter().enumerate() {
            let others = self.outputs[..i].iter().chain(&self.inputs);
            if others.into_iter().any(|(other, _)| other.overlaps(*output)) {
                return Err(refused("run", "an output overlaps another tensor"));
            }
        }
        let all = self.inputs.iter().chain(&self.outputs);
        if all.into_iter().any(|(mem, _)| mem.device != self.number) {
            return Err(refused("run", "memory of another device"));
        }
        let run = Run {
            inputs: &self.inputs,
            outputs: &self.outputs,
        };
        self.driver.run(model.slot, group, &run)
    }

    fn own(&self, op: &'static str, mem: Mem) -> Result<(), Error> {
        match mem.device == self.number {
            true => Ok(()),
            false => Err(refused(op, "memory of another device")),
        }
    }
}

/// Memory with the bytes that each tensor takes of it.
fn pair(
    pairs: &mut Vec<(Mem, usize)>,
    what: &str,
    tensors: &[Tensor],
    mems: &[Mem],
) -> Result<(), Error> {
    pairs.clear();
    if tensors.len() != mems.len() {
        let (want, got) = (tensors.len(), mems.len());
        return Err(refused("run", &format!("{got} {what} for {want}")));
    }
    for (tensor, mem) in tensors.iter().zip(mems) {
        let (want, got) = (tensor.size_bytes, mem.size);
        if got < want {
            let name = &tensor.name;
            return Err(refused("run", &format!("{name}: {got} bytes for {want}")));
        }
        pairs.push((mem.part(0, want)?, want));
    }
    Ok(())
}
