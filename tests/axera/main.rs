// SPDX-License-Identifier: MPL-2.0

//! `backend=axera` against transformers, on stand-ins for both of the vendor's runtimes.
//!
//! There is no emulator of these chips. What runs here are the checkpoints of `tests/data/logits` and
//! the demo model, written as folders of axmodels (`make.rs`) in a format that the stand-ins run
//! (`axera-sys/tests/standin/README.md`). Each test runs in processes of its own, one for each
//! runtime: the libraries stay open, and a process whose device is not given back is aborted.

#![expect(clippy::print_stdout, reason = "processes of their own answer so")]
#![expect(unsafe_code, reason = "asks the stand-in how often it was called")]

#[path = "../common/answers.rs"]
mod answers;
#[path = "../../axera-sys/tests/standin/build.rs"]
mod build;
#[path = "../common/mod.rs"]
mod common;
mod compare;
mod drafts;
mod element;
#[path = "../common/golden.rs"]
mod golden;
mod make;
mod net;
mod refusals;
mod run;
mod sampled;
mod worker;

use std::env;
use std::ffi::{CString, c_char, c_long};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::LazyLock;

use build::{build_card, build_soc};

/// The stand-ins, built once: a folder for each runtime.
static LIBRARIES: LazyLock<tempfile::TempDir> = LazyLock::new(|| {
    let folder = tempfile::tempdir().unwrap();
    for kind in KINDS {
        std::fs::create_dir(folder.path().join(kind)).unwrap();
    }
    build_soc(&folder.path().join("soc"), "axera-test", &[]);
    build_card(&folder.path().join("card"), "axera-test", &[]);
    folder
});

const KINDS: [&str; 2] = ["soc", "card"];

/// Runs an ignored test of this program in a process of its own, on one runtime.
fn elsewhere(test: &str, kind: &str, state: &[(&str, &str)]) -> Output {
    Command::new(env::current_exe().unwrap())
        .args(["--ignored", "--exact", test, "--nocapture"])
        .env("VLMCAPTION_AXERA_LIB", LIBRARIES.path().join(kind))
        .env("TEST_KIND", kind)
        .envs(state.iter().copied())
        .output()
        .unwrap()
}

/// The same on both, which must end well.
#[track_caller]
fn both(test: &str) {
    for kind in KINDS {
        let output = elsewhere(test, kind, &[]);
        let said = String::from_utf8_lossy(&output.stdout);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success() && said.contains("1 passed"),
            "{kind}:\n{said}{errors}"
        );
        for line in said.lines().filter(|line| line.starts_with("  ")) {
            println!("{kind}{line}");
        }
    }
}

/// The library that holds the stand-in's counters in this process.
fn library() -> PathBuf {
    let folder = PathBuf::from(env::var_os("VLMCAPTION_AXERA_LIB").unwrap());
    match env::var("TEST_KIND").unwrap().as_str() {
        "soc" => folder.join("libax_sys.so"),
        _ => folder.join("libaxcl_rt.so"),
    }
}

fn is_card() -> bool {
    env::var("TEST_KIND").unwrap() == "card"
}

/// What the stand-in of this process has counted.
fn counted(what: &str) -> i64 {
    // SAFETY: the stand-in is open already and stays so.
    let library = unsafe { libloading::Library::new(library()) }.unwrap();
    // SAFETY: its type in `standin.h`.
    let count =
        unsafe { library.get::<unsafe extern "C" fn(*const c_char) -> c_long>(b"standin_count") }
            .unwrap();
    let what = CString::new(what).unwrap();
    // SAFETY: a C string.
    unsafe { count(what.as_ptr()) }
}

#[track_caller]
fn says(got: &str, words: &[&str]) {
    for word in words {
        assert!(got.contains(word), "no {word:?} in: {got}");
    }
}

fn name(folder: &Path) -> String {
    folder.file_name().unwrap().to_string_lossy().into_owned()
}
