// SPDX-License-Identifier: MPL-2.0

//! What a board asks of the library when it waits and when it goes.

use std::ffi::{CStr, c_char, c_int};
use std::path::Path;
use std::process::Command;

use libloading::os::unix::Library;

use super::super::bmodel::DataType;
use super::*;

/// The fake libraries of sophgo-sys, opened for one test; what they count is theirs alone.
struct Fake {
    api: &'static Api,
    bmlib: Library,
    bmrt: Library,
}

impl Fake {
    fn new(defines: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (bmlib, bmrt) = (
            folder.path().join("libbmlib.so"),
            folder.path().join("libbmrt.so"),
        );
        build(&bmlib, "-DFAKE_BMLIB", defines, None);
        build(&bmrt, "-DFAKE_BMRT", defines, Some(&bmlib));
        let search = sophgo_sys::Search::folder(folder.path());
        let api = Box::leak(Box::new(Api::open(&search).unwrap()));
        // SAFETY: they are open already.
        let open = |path: &Path| unsafe { Library::new(path) }.unwrap();
        Self {
            api,
            bmlib: open(&bmlib),
            bmrt: open(&bmrt),
        }
    }

    /// A board with a bmodel, whose net takes these cores by its file.
    fn board(&self, cores: u32) -> Board {
        let mut board = Board::open_with(self.api, 0).unwrap();
        let cores = [("block_0".to_owned(), vec![cores])].into();
        board
            .load(Path::new("/models/small.bmodel"), cores)
            .unwrap();
        board
    }

    /// The names of what was called since it was asked last.
    fn calls(&self) -> String {
        // SAFETY: the fake has it so.
        unsafe {
            let calls = self
                .bmlib
                .get::<unsafe extern "C" fn() -> *const c_char>(b"fake_calls");
            CStr::from_ptr(calls.unwrap()())
                .to_str()
                .unwrap()
                .to_owned()
        }
    }

    fn set(&self, library: &Library, name: &[u8], value: c_int) {
        // SAFETY: the fake has it so.
        unsafe {
            let set = library.get::<unsafe extern "C" fn(c_int)>(name);
            set.unwrap()(value);
        }
    }

    fn hang(&self) {
        self.set(&self.bmlib, b"fake_hang", 1);
    }

    fn refuse(&self, refuse: bool) {
        self.set(&self.bmrt, b"fake_refuse", refuse.into());
    }
}

fn build(out: &Path, kind: &str, defines: &[&str], link: Option<&Path>) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../sophgo-sys");
    let mut command = Command::new(std::env::var_os("CC").unwrap_or_else(|| "cc".into()));
    command
        .args(["-std=c11", "-Wall", "-Werror", "-shared", "-fPIC", kind])
        .arg(format!("-I{}", root.display()))
        .args(defines.iter().map(|define| format!("-D{define}")))
        .arg(root.join("tests/fake/sdk.c"))
        // The loader opens a name only once in a process.
        .arg(format!("-Wl,--no-as-needed,-soname,{}", out.display()))
        .arg("-o")
        .arg(out)
        .args(link);
    assert!(
        command.status().unwrap().success(),
        "the fake does not compile"
    );
}

/// Launches the net on memory of its own.
fn launch(board: &mut Board) -> Result<(), Error> {
    let net = board.net("block_0")?;
    let mem = board.alloc(32)?;
    let arg = Arg::new(mem, DataType::I32, &[1, 8])?;
    board.launch(&net, 0, &[arg], &[arg])
}

#[test]
fn a_device_in_trouble_says_which_and_what_to_do() {
    assert_eq!(status_in_words(0), "ok");
    assert_eq!(
        status_in_words(1),
        "the TPU hangs, reboot or reset the card"
    );
    assert_eq!(status_in_words(6), "the PCIe link is down, too hot");
}

#[test]
fn a_board_waits_for_its_cores_and_for_all_before_it_frees() {
    let fake = Fake::new(&["FAKE_CORES=2"]);
    let mut board = fake.board(2);
    launch(&mut board).unwrap();
    assert_eq!(fake.calls(), "launch");
    drop(board);
    let want = "thread_sync core_sync:0 core_sync:1 handle_sync destroy free dev_free";
    assert_eq!(fake.calls(), want);
}

#[test]
fn a_core_that_no_net_was_launched_on_is_not_waited_for() {
    // The bmodel has another net that takes two cores; this one takes one.
    let fake = Fake::new(&["FAKE_CORES=1"]);
    let mut board = fake.board(1);
    board.cores.insert("lm_head".to_owned(), vec![2]);
    launch(&mut board).unwrap();
    board.sync().unwrap();
    assert_eq!(fake.calls(), "launch thread_sync core_sync:0");
}

#[test]
fn a_net_that_the_library_runs_on_other_cores_is_refused() {
    let fake = Fake::new(&["FAKE_CORES=2"]);
    let board = fake.board(1);
    let error = board.net("block_0").unwrap_err();
    assert!(
        matches!(
            error,
            Error::NetCores {
                want: 1,
                got: 2,
                ..
            }
        ),
        "{error}"
    );
    assert!(
        error.to_string().contains("net block_0 on 2 cores"),
        "{error}"
    );
}

#[test]
fn memory_under_a_launch_that_does_not_end_is_left_where_it_is() {
    let fake = Fake::new(&["FAKE_CORES=2"]);
    let mut board = fake.board(2);
    launch(&mut board).unwrap();
    fake.hang();
    let mem = board.alloc(32).unwrap();
    for _ in 0..2 {
        // Nothing is written under it either.
        assert!(board.upload(mem, 0, &[1]).is_err());
        assert!(board.download(mem, &mut [0]).is_err());
    }
    fake.calls();
    drop(board);
    assert_eq!(fake.calls(), "");
}

#[test]
fn a_board_that_hangs_only_at_its_end_is_left_too() {
    let fake = Fake::new(&["FAKE_CORES=1"]);
    let mut board = fake.board(1);
    launch(&mut board).unwrap();
    fake.hang();
    fake.calls();
    drop(board);
    assert_eq!(fake.calls(), "thread_sync");
}

#[test]
fn launches_of_another_thread_are_waited_for_with_those_of_all() {
    let fake = Fake::new(&["FAKE_CORES=2"]);
    let mut board = fake.board(2);
    std::thread::scope(|scope| scope.spawn(|| launch(&mut board).unwrap()).join()).unwrap();
    fake.calls();
    drop(board);
    assert_eq!(
        fake.calls(),
        "handle_sync handle_sync destroy free dev_free"
    );

    let old = Fake::new(&["FAKE_CORES=2", "WITHOUT_WAITING"]);
    let mut board = old.board(2);
    std::thread::scope(|scope| scope.spawn(|| launch(&mut board).unwrap()).join()).unwrap();
    old.calls();
    drop(board);
    assert_eq!(old.calls(), "", "an old library cannot wait for them");
}

#[test]
fn a_launch_that_failed_may_have_begun() {
    let fake = Fake::new(&["FAKE_CORES=2"]);
    let mut board = fake.board(2);
    fake.refuse(true);
    assert!(matches!(launch(&mut board), Err(Error::Launch { .. })));
    board.sync().unwrap();
    assert_eq!(fake.calls(), "launch handle_sync");
    fake.refuse(false);
    launch(&mut board).unwrap();
    board.sync().unwrap();
    assert_eq!(fake.calls(), "launch thread_sync core_sync:0 core_sync:1");
}
