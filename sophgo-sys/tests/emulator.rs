// SPDX-License-Identifier: MPL-2.0

//! The real libraries: the emulator of the `tpu_mlir` wheel, or a board.
//!
//! `VLMCAPTION_SOPHON_LIB` names their folder. `VLMCAPTION_TEST_BMODEL` may name a compiled model
//! for this chip, small enough to wait for; the wheel has one, with the data it was checked with,
//! under `tpu_mlir/python/tools/soc_infer/demo`. Run with `--nocapture` to see what the libraries
//! say.

#![expect(
    unsafe_code,
    clippy::print_stdout,
    reason = "calls C functions and reports on them"
)]

use std::ffi::{CString, c_void};
use std::fs;
use std::path::PathBuf;
use std::ptr::NonNull;
use std::slice;
use std::sync::{Mutex, MutexGuard, PoisonError};

use sophgo_sys::bindings::{
    bm_data_type_t, bm_device_mem_t, bm_handle_t, bm_net_info_t, bm_runtime_flag_t, bm_shape_t,
    bm_tensor_t,
};
use sophgo_sys::{Api, Chip, Error};

/// The first device, opened, and closed again whatever the test does.
struct Device {
    api: &'static Api,
    handle: bm_handle_t,
    /// One test at a time, so that what the libraries print stays together.
    _turn: MutexGuard<'static, ()>,
}

static TURN: Mutex<()> = Mutex::new(());

impl Device {
    fn open() -> Self {
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let api = Api::load().expect("set VLMCAPTION_SOPHON_LIB to the folder of the libraries");
        println!("{api:#?}");
        println!("devices: {:?}", api.bm_dev_getcount());
        let handle = api.bm_dev_request(0).unwrap();
        Self {
            api,
            handle,
            _turn: turn,
        }
    }

    fn alloc(&self, size_bytes: usize) -> bm_device_mem_t {
        // SAFETY: the device is open.
        unsafe { self.api.bm_malloc_device_byte(self.handle, size_bytes) }.unwrap()
    }

    fn free(&self, mem: bm_device_mem_t) {
        // SAFETY: `mem` is from `alloc`, and every test waits for its launches.
        unsafe { self.api.bm_free_device(self.handle, mem) }
    }

    fn write(&self, mem: bm_device_mem_t, bytes: &[u8], offset: usize) {
        assert!(mem.part(offset, bytes.len()).is_some());
        // SAFETY: the device is open, the range lies inside the memory.
        unsafe {
            self.api
                .bm_memcpy_s2d_partial_offset(self.handle, mem, bytes, offset)
        }
        .unwrap();
    }

    fn read(&self, mem: bm_device_mem_t, offset: usize, size_bytes: usize) -> Vec<u8> {
        assert!(mem.part(offset, size_bytes).is_some());
        let mut bytes = vec![0xee; size_bytes];
        // SAFETY: the device is open, the range lies inside the memory.
        unsafe {
            self.api
                .bm_memcpy_d2s_partial_offset(self.handle, &mut bytes, mem, offset)
        }
        .unwrap();
        bytes
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        // SAFETY: open, and nothing of it is in use any more.
        unsafe { self.api.bm_dev_free(self.handle) }
    }
}

#[test]
#[ignore = "needs libbmrt and libbmlib; set VLMCAPTION_SOPHON_LIB"]
fn memory_copied_in_and_out_is_the_same() {
    let device = Device::open();
    let bytes: Vec<u8> = (0..4096u32).map(|i| (i * 7 % 251) as u8).collect();
    let mem = device.alloc(bytes.len());
    println!("allocated: {mem:x?}");
    assert_eq!(mem.size as usize, bytes.len());

    device.write(mem, &bytes, 0);
    assert_eq!(device.read(mem, 0, bytes.len()), bytes);
    device.write(mem, &[1, 2, 3], 1001);
    assert_eq!(
        device.read(mem, 1000, 5),
        [bytes[1000], 1, 2, 3, bytes[1004]]
    );

    let part = mem.part(100, 50).unwrap();
    assert_eq!(device.read(part, 0, 50), &bytes[100..150]);
    device.free(mem);
}

#[test]
#[ignore = "needs libbmrt and libbmlib, not the BM1688 emulator, which aborts here; set VLMCAPTION_SOPHON_LIB"]
fn device_copies_and_fills_reach_the_memory() {
    let device = Device::open();
    let api = device.api;
    let bytes: Vec<u8> = (0..512u32).map(|i| (i % 256) as u8).collect();
    let (a, b) = (device.alloc(512), device.alloc(512));
    device.write(a, &bytes, 0);
    // SAFETY: the device is open, `b` is its memory.
    unsafe { api.bm_memset_device_ext(device.handle, &[0x5a, 0, 0, 0x5a], b) }.unwrap();
    // SAFETY: the device is open, both ranges lie inside their memories.
    unsafe { api.bm_memcpy_d2d_byte(device.handle, b, 64, a, 128, 256) }.unwrap();
    // SAFETY: the device is open.
    unsafe { api.bm_thread_sync(device.handle) }.unwrap();

    let found = device.read(b, 0, 512);
    assert_eq!(&found[..4], [0x5a, 0, 0, 0x5a]);
    assert_eq!(&found[64..320], &bytes[128..384]);
    assert_eq!(&found[320..324], [0x5a, 0, 0, 0x5a]);
    device.free(a);
    device.free(b);
}

#[test]
#[ignore = "needs libbmrt and libbmlib; set VLMCAPTION_SOPHON_LIB"]
fn the_device_says_what_it_is() {
    let device = Device::open();
    let (api, handle) = (device.api, device.handle);
    // SAFETY: the device is open.
    let chip = unsafe { api.bm_get_chipid(handle) }.unwrap();
    println!("chip: {chip}");
    assert!(matches!(chip, Chip::Bm1684x | Chip::Bm1688), "{chip}");
    // SAFETY: as above.
    unsafe {
        println!("cores: {:?}", api.bm_get_tpu_scalar_num(handle));
        println!("misc: {:?}", api.bm_get_misc_info(handle));
        println!("stat: {:?}", api.bm_get_stat(handle));
        println!("heaps: {:?}", api.bm_get_gmem_total_heap_num(handle));
        println!(
            "heap 0: {:?}",
            api.bm_get_gmem_heap_stat_byte_by_id(handle, 0)
        );
        println!("temperature: {:?}", api.bm_get_chip_temp(handle));
        println!("power: {:?}", api.bm_get_tpu_power(handle));
        println!("status: {:?}", api.bm_get_status(handle));
        println!("timeout: {:?}", api.bm_set_sync_timeout(handle, 60_000));
        println!("handle: {:?}", api.bm_handle_sync(handle));
    }
}

#[test]
#[ignore = "needs libbmrt and libbmlib; set VLMCAPTION_SOPHON_LIB"]
fn a_file_that_is_no_bmodel_is_refused() {
    let device = Device::open();
    // SAFETY: the device stays open until after the runtime's end.
    let bmrt = unsafe { device.api.bmrt_create(device.handle) }.unwrap();
    // SAFETY: alive.
    println!("flags at start: {:?}", unsafe {
        device.api.bmrt_get_flags(bmrt)
    });
    let missing = PathBuf::from("/nonexistent/model.bmodel");
    // SAFETY: alive, used by this thread alone.
    let refused = unsafe { device.api.bmrt_load_bmodel(bmrt, &missing) };
    println!("missing file: {refused:?}");
    assert!(matches!(
        refused,
        Err(Error::Refused {
            op: "bmrt_load_bmodel",
            ..
        })
    ));
    // SAFETY: alive.
    assert!(unsafe { device.api.bmrt_get_network_names(bmrt) }.is_empty());
    // SAFETY: alive.
    assert!(unsafe { device.api.bmrt_get_network_info(bmrt, c"vit") }.is_err());
    // SAFETY: alive, idle, not used again.
    unsafe { device.api.bmrt_destroy(bmrt) };
}

#[test]
#[ignore = "needs libbmrt, libbmlib and a bmodel; set VLMCAPTION_SOPHON_LIB and VLMCAPTION_TEST_BMODEL"]
fn the_nets_of_a_bmodel_run() {
    let path =
        std::env::var_os("VLMCAPTION_TEST_BMODEL").expect("VLMCAPTION_TEST_BMODEL is not set");
    let path = PathBuf::from(path);
    let device = Device::open();
    let api = device.api;
    // SAFETY: the device stays open until after the runtime's end.
    let bmrt = unsafe { api.bmrt_create(device.handle) }.unwrap();
    // SAFETY: alive, without nets.
    unsafe { api.bmrt_set_flags(bmrt, bm_runtime_flag_t::BM_RUNTIME_SHARE_MEM) };
    // SAFETY: alive, used by this thread alone.
    unsafe { api.bmrt_load_bmodel(bmrt, &path) }.unwrap();
    // SAFETY: alive.
    let names = unsafe { api.bmrt_get_network_names(bmrt) };
    assert!(!names.is_empty());

    let reference = |name: &str| fs::read(path.with_file_name(name)).ok();
    match (
        names.as_slice(),
        reference("input_ref_data.dat"),
        reference("output_ref_data.dat"),
    ) {
        ([name], Some(input), Some(output)) => {
            assert_eq!(
                run(&device, bmrt, name, &input),
                output,
                "not the compiler's results"
            );
            println!(
                "{} bytes of results, as the compiler made them",
                output.len()
            );
        }
        _ => {
            for name in &names {
                run(&device, bmrt, name, &[]);
            }
        }
    }
    // SAFETY: alive, idle, not used again.
    unsafe { api.bmrt_destroy(bmrt) };
}

/// Launches the first stage of a net on these bytes, zeroes where there are no more of them; returns
/// the bytes of all results.
fn run(device: &Device, bmrt: NonNull<c_void>, name: &CString, mut bytes: &[u8]) -> Vec<u8> {
    let api = device.api;
    // SAFETY: alive; what comes back lives as long.
    let info: &bm_net_info_t = unsafe { api.bmrt_get_network_info(bmrt, name).unwrap().as_ref() };
    println!("{name:?}: {info:?}");
    assert!(info.stage_num > 0 && info.core_num > 0);
    assert!((0..=4).contains(&info.addr_mode), "{}", info.addr_mode);
    // SAFETY: the runtime's arrays, with as many entries as it says.
    let (inputs, outputs) = unsafe {
        let stage = &*info.stages;
        let sides = (info.input_num as usize, info.output_num as usize);
        (
            side(
                device,
                sides.0,
                info.input_dtypes,
                stage.input_shapes,
                info.max_input_bytes,
            ),
            side(
                device,
                sides.1,
                info.output_dtypes,
                stage.output_shapes,
                info.max_output_bytes,
            ),
        )
    };
    for tensor in &inputs {
        let mut data = vec![0; tensor.device_mem.size as usize];
        let (now, later) = bytes.split_at(data.len().min(bytes.len()));
        data[..now.len()].copy_from_slice(now);
        bytes = later;
        device.write(tensor.device_mem, &data, 0);
    }
    let mut results = outputs.clone();
    // SAFETY: one tensor for each of the net's, as large as it asks for, freed after the wait.
    unsafe {
        api.bmrt_launch_tensor_ex(bmrt, name, &inputs, &mut results)
            .unwrap();
        api.bm_thread_sync(device.handle).unwrap();
        for core in 0..info.core_num {
            api.bm_thread_sync_from_core(device.handle, core as usize)
                .unwrap();
        }
    }
    let mut found = Vec::new();
    for tensor in &results {
        let result = device.read(tensor.device_mem, 0, tensor.device_mem.size as usize);
        println!(
            "  {:?} {:?}: {:02x?}",
            tensor.dtype,
            dims(&tensor.shape),
            &result[..16.min(result.len())]
        );
        found.extend(result);
    }
    for tensor in inputs.iter().chain(&outputs) {
        device.free(tensor.device_mem);
    }
    found
}

/// One tensor of the compiled shape for every input (or output), with memory of its own.
///
/// # Safety
/// The three arrays have `n` entries.
unsafe fn side(
    device: &Device,
    n: usize,
    dtypes: *const bm_data_type_t,
    shapes: *const bm_shape_t,
    max_bytes: *const usize,
) -> Vec<bm_tensor_t> {
    // SAFETY: by the caller.
    let (dtypes, shapes, max_bytes) = unsafe {
        (
            slice::from_raw_parts(dtypes, n),
            slice::from_raw_parts(shapes, n),
            slice::from_raw_parts(max_bytes, n),
        )
    };
    (0..n)
        .map(|index| {
            println!(
                "  {:?} {:?} {} bytes",
                dtypes[index],
                dims(&shapes[index]),
                max_bytes[index]
            );
            assert!(!dims(&shapes[index]).is_empty());
            bm_tensor_t {
                dtype: dtypes[index],
                shape: shapes[index],
                device_mem: device.alloc(max_bytes[index]),
                ..bm_tensor_t::default()
            }
        })
        .collect()
}

fn dims(shape: &bm_shape_t) -> &[i32] {
    &shape.dims[..shape.num_dims as usize]
}
