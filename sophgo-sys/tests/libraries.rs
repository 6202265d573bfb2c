// SPDX-License-Identifier: MPL-2.0

//! Loading and calling, with libraries that the C compiler makes from `tests/fake/sdk.c`.

#![expect(unsafe_code, reason = "calls C functions")]

use std::ffi::{CString, c_void};
use std::fs;
use std::path::{Path, PathBuf};
use std::ptr::NonNull;

use binding_checks::cc;
use sophgo_sys::bindings::{
    bm_data_type_t, bm_device_mem_t, bm_handle_t, bm_runtime_flag_t, bm_shape_t, bm_status_t,
    bm_tensor_t,
};
use sophgo_sys::{Api, ArgumentError, Chip, ENV_LIB, Error, LoadError, Search};
use tempfile::TempDir;

/// A folder with both libraries. Each gets names of its own inside (`-soname`), since the loader
/// opens a name only once in a process.
fn sdk(defines: &[&str]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let tag = folder
        .path()
        .file_name()
        .unwrap()
        .to_str()
        .unwrap()
        .to_owned();
    let bmlib = folder.path().join("libbmlib.so.0");
    build(
        &bmlib,
        &format!("{tag}-bmlib"),
        "-DFAKE_BMLIB",
        defines,
        None,
    );
    let bmrt = folder.path().join("libbmrt.so");
    build(
        &bmrt,
        &format!("{tag}-bmrt"),
        "-DFAKE_BMRT",
        defines,
        Some(&bmlib),
    );
    folder
}

fn build(out: &Path, soname: &str, kind: &str, defines: &[&str], link: Option<&Path>) {
    let mut arguments: Vec<String> = ["-shared", "-fPIC", "-I.", "tests/fake/sdk.c", kind]
        .map(str::to_owned)
        .to_vec();
    arguments.extend(defines.iter().map(|define| format!("-D{define}")));
    arguments.push(format!("-Wl,-soname,{soname}"));
    arguments.push("-Wl,--no-as-needed".to_owned());
    arguments.extend(["-o".to_owned(), out.display().to_string()]);
    arguments.extend(link.map(|path| path.display().to_string()));
    cc(Path::new(env!("CARGO_MANIFEST_DIR")), arguments).unwrap();
}

fn open(folder: &TempDir) -> Result<Api, Error> {
    Api::open(&Search::folder(folder.path()))
}

/// A device of the fake SDK, closed at the end.
struct Device {
    handle: bm_handle_t,
    api: Api,
    _folder: TempDir,
}

impl Device {
    fn open() -> Self {
        Self::with(&[])
    }

    fn with(defines: &[&str]) -> Self {
        let folder = sdk(defines);
        let api = open(&folder).unwrap();
        let handle = api.bm_dev_request(1).unwrap();
        Self {
            handle,
            api,
            _folder: folder,
        }
    }

    fn alloc(&self, size_bytes: usize) -> bm_device_mem_t {
        // SAFETY: the device is open.
        unsafe { self.api.bm_malloc_device_byte(self.handle, size_bytes) }.unwrap()
    }

    fn free(&self, mem: bm_device_mem_t) {
        // SAFETY: from `alloc`, freed once.
        unsafe { self.api.bm_free_device(self.handle, mem) }
    }

    fn write(&self, mem: bm_device_mem_t, bytes: &[u8], offset: usize) -> Result<(), Error> {
        // SAFETY: the device is open; the range is checked.
        unsafe {
            self.api
                .bm_memcpy_s2d_partial_offset(self.handle, mem, bytes, offset)
        }
    }

    fn read(&self, mem: bm_device_mem_t, offset: usize, size_bytes: usize) -> Vec<u8> {
        let mut bytes = vec![0; size_bytes];
        // SAFETY: the device is open; the range is checked.
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
        // SAFETY: open, and nothing of it is in use.
        unsafe { self.api.bm_dev_free(self.handle) }
    }
}

fn status_of<T: std::fmt::Debug>(result: Result<T, Error>) -> bm_status_t {
    match result {
        Err(Error::Status { status, .. }) => status,
        other => panic!("expected a status, got {other:?}"),
    }
}

#[test]
fn a_folder_with_both_libraries_opens_and_says_their_versions() {
    let folder = sdk(&[]);
    let api = open(&folder).unwrap();
    assert_eq!(api.bmlib().path, folder.path().join("libbmlib.so.0"));
    assert_eq!(api.bmrt().path, folder.path().join("libbmrt.so"));
    assert_eq!(
        api.bmlib().version.as_deref(),
        Some("libbmlib_version:1.0.0, branch:none")
    );
    assert_eq!(api.bm_dev_getcount().unwrap(), 2);
}

#[test]
fn a_missing_function_is_named_with_the_library_that_lacks_it() {
    for (define, function, library) in [
        ("WITHOUT_COPY", "bm_memcpy_d2d_byte", "libbmlib.so.0"),
        ("WITHOUT_LAUNCH", "bmrt_launch_tensor_ex", "libbmrt.so"),
    ] {
        let error = open(&sdk(&[define])).unwrap_err();
        let Error::Load(LoadError::MissingSymbols {
            library: path,
            symbols,
            ..
        }) = &error
        else {
            panic!("{error}");
        };
        assert_eq!(symbols, &[function]);
        assert!(path.ends_with(library), "{}", path.display());
        assert!(error.to_string().contains(function), "{error}");
    }
}

#[test]
fn libraries_of_another_major_version_are_refused() {
    let error = open(&sdk(&["FAKE_VERSION=\"2.1.0\""])).unwrap_err();
    assert!(
        matches!(&error, Error::Load(LoadError::Version { found, .. }) if found == "2.1.0"),
        "{error}"
    );
}

#[test]
fn a_place_with_libraries_that_will_not_do_is_not_the_end_of_the_search() {
    let old = sdk(&["WITHOUT_COPY"]);
    let other = sdk(&["FAKE_VERSION=\"2.1.0\""]);
    let good = sdk(&[]);
    let folders = |list: &[&TempDir]| {
        let paths = list.iter().map(|folder| folder.path().to_owned());
        Search::folders(paths.chain([PathBuf::from("/nonexistent")]))
    };
    let api = Api::open(&folders(&[&old, &other, &good])).unwrap();
    assert_eq!(api.bmrt().path, good.path().join("libbmrt.so"));
    let error = Api::open(&folders(&[&old, &other])).unwrap_err();
    assert!(
        matches!(error, Error::Load(LoadError::Unusable { .. })),
        "{error}"
    );
    let text = error.to_string();
    for part in [
        &*old.path().display().to_string(),
        "lacks bm_memcpy_d2d_byte",
        &*other.path().display().to_string(),
        "has version 2.1.0",
        "/nonexistent: no such folder",
    ] {
        assert!(text.contains(part), "{part} is not in: {text}");
    }
}

#[test]
fn a_folder_without_libraries_says_which_are_not_there() {
    let folder = tempfile::tempdir().unwrap();
    let text = open(&folder).unwrap_err().to_string();
    assert!(
        text.contains("no libbmlib.so.0 or libbmlib.so in this folder"),
        "{text}"
    );
    assert!(text.contains(ENV_LIB), "{text}");

    let both = sdk(&[]);
    fs::remove_file(both.path().join("libbmrt.so")).unwrap();
    let text = open(&both).unwrap_err().to_string();
    assert!(
        text.contains("no libbmrt.so.1.0 or libbmrt.so in this folder"),
        "{text}"
    );

    let text = Api::open(&Search::folder("/nonexistent"))
        .unwrap_err()
        .to_string();
    assert!(text.contains("/nonexistent: no such folder"), "{text}");
}

#[test]
fn a_file_that_is_no_library_is_reported_in_the_loaders_words() {
    let folder = sdk(&[]);
    let path = folder.path().join("libbmlib.so.0");
    fs::write(&path, "text, not a program").unwrap();
    let error = open(&folder).unwrap_err();
    let Error::Load(LoadError::NotFound { tried, .. }) = &error else {
        panic!("{error}")
    };
    assert_eq!(tried[0].path, path);
    let reason = &tried[0].reason;
    assert!(
        !reason.is_empty() && !reason.contains("in this folder"),
        "{reason}"
    );
}

#[test]
fn functions_that_an_old_sdk_lacks_say_so_when_they_are_called() {
    let device = Device::with(&["WITHOUT_WAITING"]);
    // SAFETY: the device is open.
    let missing = unsafe { device.api.bm_handle_sync(device.handle) };
    assert!(
        matches!(
            missing,
            Err(Error::Unavailable {
                op: "bm_handle_sync"
            })
        ),
        "{missing:?}"
    );
    // SAFETY: the device is open.
    let missing = unsafe { device.api.bm_get_tpu_scalar_num(device.handle) };
    assert!(
        matches!(missing, Err(Error::Unavailable { .. })),
        "{missing:?}"
    );
}

#[test]
fn memory_passes_by_value_with_every_field() {
    let device = Device::open();
    let mem = device.alloc(64);
    assert_eq!(
        (mem.size, mem.flags.rawflags, mem.u.device.dmabuf_fd),
        (64, 0x10, 42)
    );
    device.write(mem, &[9; 64], 0).unwrap();
    device.write(mem, &[1, 2, 3], 61).unwrap();
    assert_eq!(device.read(mem, 60, 4), [9, 1, 2, 3]);
    assert_eq!(device.read(mem.part(61, 3).unwrap(), 0, 3), [1, 2, 3]);
    device.free(mem);
}

#[test]
fn a_copy_beyond_the_end_never_reaches_the_library() {
    let device = Device::open();
    let (api, handle) = (&device.api, device.handle);
    let (a, b) = (device.alloc(64), device.alloc(32));
    let refused = device.write(a, &[0; 4], 61).unwrap_err();
    let want = "bm_memcpy_s2d_partial_offset: bytes 61..65 are not inside memory of 64 bytes";
    assert_eq!(refused.to_string(), want);
    // SAFETY: the device is open, the memory is its.
    let refused = unsafe { api.bm_memcpy_d2s_partial_offset(handle, &mut [0; 33], b, 0) };
    assert!(
        matches!(
            refused,
            Err(Error::Argument(ArgumentError::OutOfRange {
                len: 33,
                size: 32,
                ..
            }))
        ),
        "{refused:?}"
    );
    for (to, from) in [(1, 0), (0, 33)] {
        // SAFETY: the device is open, the memory is its.
        let refused = unsafe { api.bm_memcpy_d2d_byte(handle, b, to, a, from, 32) };
        assert!(
            matches!(
                refused,
                Err(Error::Argument(ArgumentError::OutOfRange { .. }))
            ),
            "{refused:?}"
        );
    }
    device.free(a);
    device.free(b);
}

#[test]
fn device_memory_is_copied_and_filled() {
    let device = Device::open();
    let (a, b) = (device.alloc(32), device.alloc(32));
    // SAFETY: the device is open, the memory is its.
    unsafe {
        device
            .api
            .bm_memset_device_ext(device.handle, &[1, 2, 3, 4], a)
    }
    .unwrap();
    // SAFETY: the device is open, the memory is its.
    unsafe { device.api.bm_memset_device_ext(device.handle, &[7], b) }.unwrap();
    // SAFETY: the device is open, the ranges lie inside the memories.
    unsafe { device.api.bm_memcpy_d2d_byte(device.handle, b, 1, a, 2, 3) }.unwrap();
    assert_eq!(device.read(b, 0, 5), [7, 3, 4, 1, 7]);
    for pattern in [&[][..], &[0; 5]] {
        // SAFETY: the device is open, the memory is its.
        let refused = unsafe { device.api.bm_memset_device_ext(device.handle, pattern, b) };
        assert_eq!(status_of(refused), bm_status_t::BM_ERR_PARAM);
    }
    device.free(a);
    device.free(b);
}

#[test]
fn a_status_that_is_no_success_is_an_error_with_its_function() {
    let device = Device::open();
    let (api, handle) = (&device.api, device.handle);
    let refused = api.bm_dev_request(2).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "there is no device 2: this system has 2, counted from 0"
    );
    // SAFETY: the device is open.
    let refused = unsafe { api.bm_malloc_device_byte(handle, 2 << 20) };
    assert_eq!(
        refused.unwrap_err().to_string(),
        "bm_malloc_device_byte returned 5 (not enough device memory)"
    );
    // SAFETY: the device is open.
    let refused = unsafe { api.bm_malloc_device_byte(handle, 1 << 32) };
    assert!(
        matches!(
            refused,
            Err(Error::Argument(ArgumentError::TooLarge { .. }))
        ),
        "{refused:?}"
    );
    // SAFETY: the device is open.
    unsafe { api.bm_thread_sync(handle) }.unwrap();
    // SAFETY: the device is open.
    unsafe { api.bm_set_sync_timeout(handle, 1) }.unwrap();
    // SAFETY: the device is open.
    let refused = unsafe { api.bm_thread_sync(handle) };
    assert_eq!(status_of(refused), bm_status_t::BM_ERR_TIMEOUT);
    // SAFETY: the device is open.
    let refused = unsafe { api.bm_get_chip_temp(handle) };
    assert_eq!(status_of(refused), bm_status_t::BM_NOT_SUPPORTED);
}

#[test]
fn what_a_device_reports_arrives_in_its_fields() {
    let device = Device::open();
    let (api, handle) = (&device.api, device.handle);
    // SAFETY: the device is open.
    assert_eq!(unsafe { api.bm_get_chipid(handle) }.unwrap(), Chip::Bm1688);
    // SAFETY: the device is open.
    let info = unsafe { api.bm_get_misc_info(handle) }.unwrap();
    assert_eq!((info.pcie_soc_mode, info.ddr2_size, info.chipid), (1, 6, 7));
    assert_eq!(
        (info.chipid_bit_mask, info.driver_version, info.dyn_enable),
        (8, 0x501, 12)
    );
    // SAFETY: the device is open.
    let stat = unsafe { api.bm_get_stat(handle) }.unwrap();
    assert_eq!((stat.mem_total, stat.heap_num), (16384, 2));
    assert_eq!(stat.heap_stat.map(|heap| heap.mem_used), [3, 6, 9, 12]);
    // SAFETY: the device is open.
    let heap = unsafe { api.bm_get_gmem_heap_stat_byte_by_id(handle, 3) }.unwrap();
    assert_eq!(
        (heap.heap_id, heap.mem_total, heap.mem_start_addr),
        (3, 1 << 33, 4)
    );
    // SAFETY: the device is open.
    assert_eq!(unsafe { api.bm_get_tpu_power(handle) }.unwrap(), 12.5);
}

/// A runtime on a device, ended before it.
struct Runtime {
    bmrt: NonNull<c_void>,
    device: Device,
}

impl Runtime {
    fn new() -> Self {
        let device = Device::open();
        // SAFETY: the device outlives the runtime.
        let bmrt = unsafe { device.api.bmrt_create(device.handle) }.unwrap();
        Self { bmrt, device }
    }

    /// With the bmodel that the fake library knows.
    fn loaded() -> Self {
        let runtime = Self::new();
        runtime.load("/models/small.bmodel").unwrap();
        runtime
    }

    fn load(&self, path: &str) -> Result<(), Error> {
        // SAFETY: alive, used here alone.
        unsafe { self.device.api.bmrt_load_bmodel(self.bmrt, Path::new(path)) }
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        // SAFETY: alive, idle, not used again.
        unsafe { self.device.api.bmrt_destroy(self.bmrt) };
    }
}

#[test]
fn a_runtime_keeps_its_flags_and_begins_without_nets() {
    let Runtime { bmrt, device } = &Runtime::new();
    // SAFETY: alive, without nets.
    unsafe {
        device
            .api
            .bmrt_set_flags(*bmrt, bm_runtime_flag_t::BM_RUNTIME_SHARE_MEM);
    }
    // SAFETY: alive.
    let flags = unsafe { device.api.bmrt_get_flags(*bmrt) };
    assert_eq!(flags, bm_runtime_flag_t::BM_RUNTIME_SHARE_MEM);
    // SAFETY: alive.
    assert!(unsafe { device.api.bmrt_get_network_names(*bmrt) }.is_empty());
}

#[test]
fn what_is_no_bmodel_is_refused() {
    let runtime = Runtime::new();
    let refused = runtime.load("/models/other.bmodel").unwrap_err();
    assert_eq!(
        refused.to_string(),
        "bmrt_load_bmodel did not accept /models/other.bmodel"
    );
    let refused = runtime.load("a\0b");
    assert!(
        matches!(
            refused,
            Err(Error::Argument(ArgumentError::ZeroByte { .. }))
        ),
        "{refused:?}"
    );
    let api = &runtime.device.api;
    // SAFETY: alive, used here alone.
    assert!(unsafe { api.bmrt_load_bmodel_data(runtime.bmrt, b"bad") }.is_err());
}

#[test]
fn nets_are_found_by_name() {
    let Runtime { bmrt, device } = &Runtime::loaded();
    // SAFETY: alive.
    let names = unsafe { device.api.bmrt_get_network_names(*bmrt) };
    assert_eq!(names, [c"block_0", c"lm_head"].map(CString::from));
    // SAFETY: alive.
    assert!(unsafe { device.api.bmrt_get_network_info(*bmrt, c"vit") }.is_err());
    // SAFETY: alive, and so is what comes back.
    let info = unsafe {
        let info = device.api.bmrt_get_network_info(*bmrt, c"block_0");
        info.unwrap().as_ref()
    };
    assert_eq!(
        (
            info.is_dynamic != 0,
            info.stage_num,
            info.core_num,
            info.addr_mode
        ),
        (true, 1, 2, 1)
    );
}

#[test]
fn a_launch_reads_and_writes_the_memory_it_is_given() {
    let Runtime { bmrt, device } = &Runtime::loaded();
    let api = &device.api;
    let bytes =
        |numbers: [i32; 3]| -> Vec<u8> { numbers.iter().flat_map(|n| n.to_ne_bytes()).collect() };
    let mem = device.alloc(32);
    device.write(mem, &bytes([10, 20, -1]), 0).unwrap();
    let tensor = |dims: [i32; 2]| {
        let mut shape = bm_shape_t {
            num_dims: 2,
            ..Default::default()
        };
        shape.dims[..2].copy_from_slice(&dims);
        let dtype = bm_data_type_t::BM_INT32;
        bm_tensor_t {
            dtype,
            shape,
            device_mem: mem,
            ..Default::default()
        }
    };
    let mut results = [tensor([1, 8])];
    // SAFETY: alive, used here alone, memory for eight numbers.
    unsafe { api.bmrt_launch_tensor_ex(*bmrt, c"block_0", &[tensor([1, 3])], &mut results) }
        .unwrap();
    // SAFETY: the device is open, and this thread has launched on its cores.
    unsafe {
        api.bm_thread_sync_from_core(device.handle, 0).unwrap();
        api.bm_thread_sync_from_core(device.handle, 1).unwrap();
    }
    assert_eq!(results[0].shape.dims[..2], [1, 3]);
    assert_eq!(device.read(mem, 0, 12), bytes([11, 21, 0]));
    // SAFETY: as above; the fake library refuses this shape.
    let refused =
        unsafe { api.bmrt_launch_tensor_ex(*bmrt, c"block_0", &[tensor([1, 9])], &mut results) };
    assert!(matches!(refused, Err(Error::Refused { .. })), "{refused:?}");
    device.free(mem);
}

#[test]
fn a_runtime_without_device_is_refused() {
    let device = Device::open();
    // SAFETY: the fake library looks at the handle.
    let refused = unsafe { device.api.bmrt_create(std::ptr::null_mut()) };
    assert!(
        matches!(
            refused,
            Err(Error::Refused {
                op: "bmrt_create",
                ..
            })
        ),
        "{refused:?}"
    );
}
