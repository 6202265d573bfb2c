// SPDX-License-Identifier: MPL-2.0

//! The one owner of a device: its handle, a runtime on it with one bmodel, and all memory.
//!
//! Memory is given back when the board goes, never before, so a [`Mem`] is a plain description that
//! can be copied. It carries the number of its board, which every call compares: memory of another
//! board is refused, not used.

#![expect(unsafe_code, reason = "calls the vendor's library")]

use std::collections::BTreeMap;
use std::ffi::{CString, c_void};
use std::path::Path;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::{self, ThreadId};

use sophgo_sys::bindings::{
    bm_data_type_t, bm_device_mem_t, bm_handle_t, bm_net_info_t, bm_runtime_flag_t, bm_shape_t,
    bm_status_t, bm_tensor_t,
};
use sophgo_sys::{Api, Chip};

use super::error::Error;
use super::tensor::{Arg, LoadedNet, Mem, Port, Ports, check, from_raw};

/// Cores that each stage of each net runs on, by the bmodel's file.
pub(super) type Cores = BTreeMap<String, Vec<u32>>;

/// A device with a bmodel on it. Must be used by one thread at a time.
pub(super) struct Board {
    api: &'static Api,
    handle: bm_handle_t,
    bmrt: Option<NonNull<c_void>>,
    /// What was allocated beside the runtime.
    owned: Vec<bm_device_mem_t>,
    number: u32,
    index: usize,
    chip: Chip,
    cores: Cores,
    in_flight: Option<InFlight>,
    allocated: u64,
}

/// Launches that may still be running.
#[derive(Debug, Clone, Copy)]
struct InFlight {
    /// Who made them: the library counts work by thread.
    thread: ThreadId,
    /// Cores that they run on, from 0; none of a launch that failed.
    cores: u32,
    /// Whether that is all that runs: a launch that failed may have begun.
    certain: bool,
    /// A wait for them has failed.
    lost: bool,
}

// SAFETY: the handle and the runtime are not tied to the thread that made them; the library only
// asks that one thread at a time uses them. `Board` is not `Sync`, and `&mut self` launches and
// copies. It counts work by thread: `sync` waits for all threads' where another one has launched.
unsafe impl Send for Board {}

impl Board {
    /// Opens a device.
    ///
    /// # Errors
    /// [`Error::Api`] if the libraries or the device are not there, [`Error::Open`].
    pub(super) fn open(index: usize) -> Result<Self, Error> {
        Self::open_with(Api::load()?, index)
    }

    fn open_with(api: &'static Api, index: usize) -> Result<Self, Error> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        // Information lines of every copy would fill the application's output.
        if let Err(error @ sophgo_sys::Error::Status { .. }) = api.bmlib_log_set_level(16) {
            return Err(error.into());
        }
        let handle = match api.bm_dev_request(index) {
            Ok(handle) => handle,
            Err(source @ sophgo_sys::Error::Status { .. }) => {
                return Err(Error::Open {
                    device: index,
                    source: Box::new(source),
                    hint: "check the permissions of /dev/bm-tpu* and /dev/bmdev-ctl, and with \
                           bm-smi that the device works",
                });
            }
            Err(other) => return Err(other.into()),
        };
        let mut board = Self {
            api,
            handle,
            bmrt: None,
            owned: Vec::new(),
            number: NUMBER.fetch_add(1, Ordering::Relaxed),
            index,
            chip: Chip::Other(0),
            cores: Cores::new(),
            in_flight: None,
            allocated: 0,
        };
        // SAFETY: open.
        board.chip = unsafe { api.bm_get_chipid(handle) }?;
        Ok(board)
    }

    /// The chip.
    pub(super) fn chip(&self) -> Chip {
        self.chip
    }

    /// Its number.
    pub(super) fn index(&self) -> usize {
        self.index
    }

    /// Bytes that were allocated beside the runtime.
    pub(super) fn allocated(&self) -> u64 {
        self.allocated
    }

    /// TPU cores, if the library can tell.
    pub(super) fn cores(&self) -> Option<u32> {
        // SAFETY: open.
        let cores = unsafe { self.api.bm_get_tpu_scalar_num(self.handle) };
        cores.ok().filter(|&n| n > 0)
    }

    /// Heaps: id, free and total bytes. Empty if the library cannot tell (the emulators say zero).
    pub(super) fn heaps(&self) -> Vec<(u32, u64, u64)> {
        // SAFETY: open.
        let Ok(n) = (unsafe { self.api.bm_get_gmem_total_heap_num(self.handle) }) else {
            return Vec::new();
        };
        let heap = |id| {
            // SAFETY: open.
            let stat = unsafe { self.api.bm_get_gmem_heap_stat_byte_by_id(self.handle, id) };
            stat.ok().map(|s| (id, s.mem_avail, s.mem_total))
        };
        let heaps = (0..n.min(8)).filter_map(heap);
        heaps.filter(|&(_, _, total)| total > 0).collect()
    }

    /// Degrees Celsius, if the library can tell.
    pub(super) fn temperature(&self) -> Option<u32> {
        // SAFETY: open.
        let celsius = unsafe { self.api.bm_get_chip_temp(self.handle) };
        celsius.ok().filter(|&c| c > 0)
    }

    /// Used and total memory in MiB and use of the TPU in percent, if the library can tell.
    pub(super) fn load_of_chip(&self) -> Option<(u64, u64, u32)> {
        // SAFETY: open.
        let stat = unsafe { self.api.bm_get_stat(self.handle) }.ok()?;
        let number = |n: i32| u64::try_from(n).unwrap_or(0);
        (stat.mem_total > 0).then(|| {
            let percent = u32::try_from(stat.tpu_util).unwrap_or(0);
            (number(stat.mem_used), number(stat.mem_total), percent)
        })
    }

    /// What the device says of its state, in words.
    pub(super) fn status(&self) -> String {
        // SAFETY: open.
        match unsafe { self.api.bm_get_status(self.handle) } {
            Ok(bits) => status_in_words(bits),
            Err(_) => "not known".to_owned(),
        }
    }

    /// Creates the runtime and loads a bmodel, whose file was checked and says which cores its nets
    /// take.
    ///
    /// # Errors
    /// [`Error::Load`].
    pub(super) fn load(&mut self, path: &Path, cores: Cores) -> Result<(), Error> {
        // SAFETY: open, and closed after the runtime's end (`drop`).
        let bmrt = unsafe { self.api.bmrt_create(self.handle) }?;
        self.bmrt = Some(bmrt);
        self.cores = cores;
        // SAFETY: alive, without nets. BM1688's runtime starts without the flag, and then has no
        // memory for nets that a caller could name.
        unsafe {
            self.api
                .bmrt_set_flags(bmrt, bm_runtime_flag_t::BM_RUNTIME_SHARE_MEM);
        }
        // SAFETY: alive, used by this thread alone.
        unsafe { self.api.bmrt_load_bmodel(bmrt, path) }.map_err(|_| Error::Load {
            file: path.display().to_string(),
        })
    }

    /// A net of the loaded bmodel.
    ///
    /// # Errors
    /// [`Error::Api`] if there is none of this name; [`Error::NetCores`] if the library runs it on
    /// other cores than the file says, which would not be the ones that are waited for.
    pub(super) fn net(&self, name: &str) -> Result<LoadedNet, Error> {
        let refused = || sophgo_sys::Error::Refused {
            op: "bmrt_get_network_info",
            what: name.to_owned(),
        };
        let bmrt = self.bmrt.ok_or_else(refused)?;
        let c_name = CString::new(name).map_err(|_| refused())?;
        // SAFETY: alive.
        let info = unsafe { self.api.bmrt_get_network_info(bmrt, &c_name) }?;
        // SAFETY: the runtime's, as long as it lives; nothing writes to it after loading.
        let info: &bm_net_info_t = unsafe { info.as_ref() };
        let count = |n: i32| usize::try_from(n).unwrap_or(0);
        let cores = self.cores_of(name, info.core_num)?;
        let (n_inputs, n_outputs) = (count(info.input_num), count(info.output_num));
        let mut stages = Vec::with_capacity(count(info.stage_num));
        for index in 0..count(info.stage_num) {
            // SAFETY: the array has `stage_num` entries, each with arrays of `input_num` and
            // `output_num` entries, as the types have.
            let ports = unsafe {
                let stage = &*info.stages.add(index);
                let ports = |n: usize, dtypes: *mut bm_data_type_t, shapes, mems| {
                    (0..n).map(|i| self.port(dtypes, shapes, mems, i)).collect()
                };
                Ports {
                    inputs: ports(
                        n_inputs,
                        info.input_dtypes,
                        stage.input_shapes,
                        stage.input_mems,
                    ),
                    outputs: ports(
                        n_outputs,
                        info.output_dtypes,
                        stage.output_shapes,
                        stage.output_mems,
                    ),
                }
            };
            stages.push(ports);
        }
        Ok(LoadedNet {
            name: c_name,
            board: self.number,
            is_dynamic: info.is_dynamic != 0,
            cores,
            stages,
        })
    }

    /// Cores of each stage of a net. The library says one number for all stages; 0 if it does not
    /// know.
    fn cores_of(&self, name: &str, said: i32) -> Result<Vec<u32>, Error> {
        let cores = self.cores.get(name).cloned().unwrap_or_default();
        let said = u32::try_from(said).unwrap_or(0);
        match said == 0 || cores.contains(&said) {
            true => Ok(cores),
            false => Err(Error::NetCores {
                net: name.to_owned(),
                device: self.index,
                want: cores.iter().copied().max().unwrap_or(1),
                got: said,
            }),
        }
    }

    /// # Safety
    /// The three arrays have an entry `i`.
    unsafe fn port(
        &self,
        dtypes: *const bm_data_type_t,
        shapes: *const bm_shape_t,
        mems: *const bm_device_mem_t,
        i: usize,
    ) -> Port {
        // SAFETY: by the caller.
        let (dtype, shape, raw) = unsafe { (*dtypes.add(i), *shapes.add(i), *mems.add(i)) };
        let n_dims = usize::try_from(shape.num_dims).unwrap_or(0);
        let dims = shape.dims.iter().take(n_dims);
        Port {
            dtype: from_raw(dtype),
            shape: dims.map(|&n| usize::try_from(n).unwrap_or(0)).collect(),
            mem: Mem {
                raw,
                board: self.number,
            },
        }
    }

    /// Memory of its own, contents undefined.
    ///
    /// # Errors
    /// [`Error::Api`] if no heap has so much in one piece.
    pub(super) fn alloc(&mut self, size_bytes: usize) -> Result<Mem, Error> {
        // SAFETY: open.
        let raw = unsafe {
            self.api
                .bm_malloc_device_byte(self.handle, size_bytes.max(4))
        }?;
        self.owned.push(raw);
        self.allocated += u64::from(raw.size);
        Ok(Mem {
            raw,
            board: self.number,
        })
    }

    /// Memory of its own, all zeroes.
    ///
    /// # Errors
    /// As [`Board::alloc`].
    pub(super) fn alloc_zeroed(&mut self, size_bytes: usize) -> Result<Mem, Error> {
        let mem = self.alloc(size_bytes)?;
        self.clear(mem)?;
        Ok(mem)
    }

    /// Writes zeroes. From the host, as every chip and emulator can; only done at loading.
    ///
    /// # Errors
    /// [`Error::Api`].
    pub(super) fn clear(&mut self, mem: Mem) -> Result<(), Error> {
        let zeroes = vec![0; mem.size_bytes().min(1 << 20)];
        for offset in (0..mem.size_bytes()).step_by(1 << 20) {
            let size = zeroes.len().min(mem.size_bytes() - offset);
            self.upload(mem, offset, &zeroes[..size])?;
        }
        Ok(())
    }

    fn own(&self, mem: Mem) -> Result<bm_device_mem_t, Error> {
        if mem.board == self.number {
            return Ok(mem.raw);
        }
        Err(Error::Api(sophgo_sys::Error::Refused {
            op: "device memory",
            what: "memory of another device".to_owned(),
        }))
    }

    /// Copies `bytes` to `mem`, from byte `offset` on; waits first for launches that may read it.
    ///
    /// # Errors
    /// [`Error::Api`] if it does not fit or the device failed.
    pub(super) fn upload(&mut self, mem: Mem, offset: usize, bytes: &[u8]) -> Result<(), Error> {
        let raw = self.own(mem)?;
        self.sync()?;
        // SAFETY: open, and the memory is of this device; the range is checked inside.
        unsafe {
            self.api
                .bm_memcpy_s2d_partial_offset(self.handle, raw, bytes, offset)
        }?;
        Ok(())
    }

    /// Fills `bytes` from the beginning of `mem`; waits first for launches that may write it.
    ///
    /// # Errors
    /// As [`Board::upload`].
    pub(super) fn download(&mut self, mem: Mem, bytes: &mut [u8]) -> Result<(), Error> {
        let raw = self.own(mem)?;
        self.sync()?;
        // SAFETY: as in `upload`.
        unsafe {
            self.api
                .bm_memcpy_d2s_partial_offset(self.handle, bytes, raw, 0)
        }?;
        Ok(())
    }

    /// Copies all of `src` to the beginning of `dst`, in order with launches.
    ///
    /// # Errors
    /// As [`Board::upload`].
    pub(super) fn copy(&mut self, dst: Mem, src: Mem) -> Result<(), Error> {
        let (to, from) = (self.own(dst)?, self.own(src)?);
        if self.has_cores() {
            // Copies are in order with one core's launches at most.
            self.sync()?;
        }
        // SAFETY: open, memory of this device; the range is checked inside. The two do not overlap:
        // callers copy between different buffers.
        unsafe {
            self.api
                .bm_memcpy_d2d_byte(self.handle, to, 0, from, 0, src.size_bytes())
        }?;
        Ok(())
    }

    /// Whether launches are waited for core by core: on chips that have several, whatever a net
    /// takes of them.
    fn has_cores(&self) -> bool {
        self.chip == Chip::Bm1688 || self.cores.values().flatten().any(|&n| n > 1)
    }

    /// Waits for all launches.
    ///
    /// # Errors
    /// [`Error::Api`]: the device hangs or is gone.
    pub(super) fn sync(&mut self) -> Result<(), Error> {
        let Some(launched) = self.in_flight else {
            return Ok(());
        };
        let waited = match (launched.thread == thread::current().id(), launched.certain) {
            (true, true) => self.wait_for_own(launched.cores),
            (true, false) => self.wait_for_own(launched.cores).and(self.wait_for_all()),
            (false, _) => match self.wait_for_all() {
                Ok(true) => Ok(true),
                Ok(false) => Err(sophgo_sys::Error::Unavailable {
                    op: "bm_handle_sync",
                }),
                Err(error) => Err(error),
            },
        };
        self.in_flight = match waited {
            Ok(_) => None,
            Err(_) => Some(InFlight {
                lost: true,
                ..launched
            }),
        };
        waited?;
        Ok(())
    }

    /// What this thread has launched, on cores below `cores`.
    fn wait_for_own(&self, cores: u32) -> Result<bool, sophgo_sys::Error> {
        if cores == 0 {
            return Ok(true);
        }
        // SAFETY: open.
        unsafe { self.api.bm_thread_sync(self.handle) }?;
        if !self.has_cores() {
            return Ok(true);
        }
        for core in 0..cores as usize {
            // SAFETY: open; this thread has launched on this core.
            match unsafe { self.api.bm_thread_sync_from_core(self.handle, core) } {
                // An SDK without the function waits for all cores above.
                Ok(()) | Err(sophgo_sys::Error::Unavailable { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    /// What any thread has launched; whether the library can wait so.
    fn wait_for_all(&self) -> Result<bool, sophgo_sys::Error> {
        // SAFETY: open.
        match unsafe { self.api.bm_handle_sync(self.handle) } {
            Ok(()) => Ok(true),
            Err(sophgo_sys::Error::Unavailable { .. }) => Ok(false),
            Err(sophgo_sys::Error::Status { status, .. })
                if status == bm_status_t::BM_NOT_SUPPORTED =>
            {
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    /// Whether nothing runs any more, so that memory may be given back.
    fn is_idle(&mut self) -> bool {
        // A device that has not answered before is not waited for again.
        if self.in_flight.is_some_and(|launched| launched.lost) || self.sync().is_err() {
            return false;
        }
        // Our launches were waited for; this waits for what the library did itself, where it can.
        self.wait_for_all().is_ok()
    }

    /// Starts a net; returns before it is done.
    ///
    /// Memory of an input may hold more than its shape. An output's memory must hold its shape.
    ///
    /// # Errors
    /// [`Error::Launch`] if the arguments are not the net's or the library refused them.
    pub(super) fn launch(
        &mut self,
        net: &LoadedNet,
        stage: usize,
        inputs: &[Arg],
        outputs: &[Arg],
    ) -> Result<(), Error> {
        let failed = |source| Error::Launch {
            net: net.name.to_string_lossy().into_owned(),
            device: self.index,
            source: Box::new(source),
            status: self.status(),
        };
        let refused = |what: &str| {
            failed(sophgo_sys::Error::Refused {
                op: "launch",
                what: what.to_owned(),
            })
        };
        let (Some(bmrt), Some(ports)) = (self.bmrt, net.stages.get(stage)) else {
            return Err(refused("a stage that is not there"));
        };
        let all = inputs.iter().chain(outputs);
        if net.board != self.number || all.clone().any(|arg| arg.mem.board != self.number) {
            return Err(refused("memory of another device"));
        }
        check(net, &ports.inputs, inputs).map_err(|what| refused(&what))?;
        check(net, &ports.outputs, outputs).map_err(|what| refused(&what))?;
        let inputs: Vec<bm_tensor_t> = inputs.iter().map(Arg::tensor).collect();
        let mut outputs: Vec<bm_tensor_t> = outputs.iter().map(Arg::tensor).collect();
        // SAFETY: alive, one thread; as many tensors as the net has, of its types, each memory as
        // large as its shape (`Arg::new`) and of this device, no dimension above the compiled one
        // (`check`). The memory stays until the board goes, which waits first.
        let launched = unsafe {
            self.api
                .bmrt_launch_tensor_ex(bmrt, &net.name, &inputs, &mut outputs)
        };
        let launched = launched.map_err(failed);
        self.note(net.cores.get(stage).copied(), launched.is_ok());
        launched
    }

    /// Notes a launch on so many cores, to be waited for.
    fn note(&mut self, cores: Option<u32>, certain: bool) {
        let now = InFlight {
            thread: thread::current().id(),
            cores: if certain { cores.unwrap_or(1) } else { 0 },
            certain,
            lost: false,
        };
        self.in_flight = Some(match self.in_flight {
            None => now,
            Some(before) => InFlight {
                cores: before.cores.max(now.cores),
                certain: before.certain && certain && before.thread == now.thread,
                lost: before.lost,
                ..now
            },
        });
    }
}

/// What the bits of `bm_get_status` say, and what to do.
fn status_in_words(bits: i32) -> String {
    let words = [
        (1, "the TPU hangs, reboot or reset the card"),
        (2, "the PCIe link is down"),
        (4, "too hot"),
    ];
    let words = words.iter().filter(|(bit, _)| bits & bit != 0);
    let words: Vec<&str> = words.map(|(_, word)| *word).collect();
    match words.is_empty() {
        true => "ok".to_owned(),
        false => words.join(", "),
    }
}

impl Drop for Board {
    /// Gives everything back once nothing runs any more. Under a launch that does not end, all stays
    /// where it is until the process ends: what the device still writes to must not be another's.
    fn drop(&mut self) {
        if !self.is_idle() {
            return;
        }
        if let Some(bmrt) = self.bmrt {
            // SAFETY: alive, idle, not used again.
            unsafe { self.api.bmrt_destroy(bmrt) };
        }
        for &mem in &self.owned {
            // SAFETY: from `alloc`, freed only here, and no launch runs.
            unsafe { self.api.bm_free_device(self.handle, mem) };
        }
        // SAFETY: open, its runtime and memory are gone, not used again.
        unsafe { self.api.bm_dev_free(self.handle) };
    }
}

#[cfg(test)]
mod tests;
