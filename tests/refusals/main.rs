// SPDX-License-Identifier: MPL-2.0

//! What `backend=sophgo` refuses: before it loads anything where that is possible, and in words
//! that say what to do. The libraries here are fakes; see `fake.c`.

#[path = "../common/mod.rs"]
mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use common::Run;
use gst::prelude::*;
use gstvlmcaption::backend::isolation::{Isolated, Patience, find};
use gstvlmcaption::backend::sophgo::{Described, Options, Tables};
use gstvlmcaption::backend::{Cancel, Error, Recipe};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// A folder with a bmodel that is as long as its description says, and the demo's configuration.
/// The description is the compiler's, the rest is empty.
fn bmodel(variant: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("small.bmodel");
    fs::copy(format!("{ROOT}/tests/data/bmodel/{variant}.head"), &path).unwrap();
    let short = Described::open(&path).unwrap_err().to_string();
    let (_, rest) = short.split_once("at least ").unwrap();
    let length = rest.split(' ').next().unwrap().parse().unwrap();
    let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
    file.set_len(length).unwrap();
    let config = folder.path().join("config");
    fs::create_dir(&config).unwrap();
    for entry in fs::read_dir(format!("{ROOT}/models/demo")).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() && path.extension().is_none_or(|e| e != "safetensors") {
            fs::copy(&path, config.join(path.file_name().unwrap())).unwrap();
        }
    }
    folder
}

/// The fake libraries, compiled once.
static FAKE: LazyLock<tempfile::TempDir> = LazyLock::new(|| {
    let folder = tempfile::tempdir().unwrap();
    for name in ["libbmlib.so", "libbmrt.so"] {
        let done = Command::new(std::env::var_os("CC").unwrap_or_else(|| "cc".into()))
            .args(["-std=gnu11", "-Wall", "-Werror", "-shared", "-fPIC"])
            .arg(format!("-I{ROOT}/sophgo-sys"))
            .arg(format!("-Wl,-soname,{name}"))
            .arg(format!("{ROOT}/tests/refusals/fake.c"))
            .arg(format!("{ROOT}/tests/refusals/faults.c"))
            .arg("-ldl")
            .arg("-o")
            .arg(folder.path().join(name))
            .status();
        assert!(done.unwrap().success(), "the fake does not compile");
    }
    folder
});

/// What loading says with the fake in a state: in a process of its own, since libraries stay open
/// and are asked through the environment.
fn refusal(variant: &str, state: &[(&str, &str)]) -> String {
    refused("in_a_process_of_its_own", variant, state)
}

/// The same by a worker of such a process.
fn refusal_of_worker(variant: &str, state: &[(&str, &str)]) -> String {
    refused("by_a_worker", variant, state)
}

fn refused(test: &str, variant: &str, state: &[(&str, &str)]) -> String {
    let model = bmodel(variant);
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", test, "--nocapture"])
        .env("VLMCAPTION_SOPHON_LIB", FAKE.path())
        .env("TEST_BMODEL", model.path().join("small.bmodel"))
        .envs(state.iter().copied())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let line = text.lines().find_map(|line| line.split_once("refused: "));
    line.unwrap_or_else(|| panic!("{text}")).1.to_owned()
}

fn options() -> Options {
    Options {
        device: std::env::var("TEST_DEVICE").map_or(0, |n| n.parse().unwrap()),
        vocab_size: 2048,
        tables: Tables::default(),
        embedding: None,
    }
}

#[expect(clippy::print_stdout, reason = "this is how it answers")]
fn answer<T>(loaded: Result<T, impl std::fmt::Display>) {
    match loaded {
        Ok(_) => println!("loaded"),
        Err(error) => println!("refused: {error}"),
    }
}

fn model() -> PathBuf {
    PathBuf::from(std::env::var_os("TEST_BMODEL").unwrap())
}

#[test]
#[ignore = "called by the others"]
fn in_a_process_of_its_own() {
    let described = Described::open(&model()).unwrap();
    answer(described.load(&options(), &mut |_| {}, &Cancel::default()));
}

#[test]
#[ignore = "called by the others"]
fn by_a_worker() {
    let recipe = Recipe::Sophgo {
        model: model(),
        options: options(),
    };
    let (patience, cancel) = (Arc::<Mutex<Patience>>::default(), Cancel::default());
    if std::env::var("FAKE_FAULT").is_ok_and(|fault| fault == "hang") {
        let end = cancel.clone();
        std::thread::spawn(move || {
            std::thread::sleep(Duration::from_secs(1));
            end.cancel();
        });
    }
    let worker = find().unwrap();
    answer(Isolated::load(
        &worker,
        recipe,
        patience,
        &mut |_| (),
        &cancel,
    ));
}

#[track_caller]
fn says(got: &str, words: &[&str]) {
    for word in words {
        assert!(got.contains(word), "no {word:?} in: {got}");
    }
}

/// One library, in whichever process: what it makes of a model is said in the same words.
#[test]
fn a_worker_refuses_in_the_same_words() {
    let states: [(&str, &[(&str, &str)]); 5] = [
        ("q3_static", &[("FAKE_CHIP", "0x1686a200")]),
        (
            "q3_1688",
            &[("FAKE_CHIP", "0x1686a200"), ("FAKE_CORES", "1")],
        ),
        ("q3_static", &[("FAKE_FREE_MIB", "10")]),
        ("q3_embdisk", &[]),
        ("q3_static", &[]),
    ];
    for (variant, state) in states {
        // Each has a file of its own.
        let [there, here] = [refusal_of_worker, refusal].map(|refusal| {
            let text = refusal(variant, state);
            text.split_once("small.bmodel")
                .expect("its name")
                .1
                .to_owned()
        });
        assert_eq!(there, here);
    }
}

#[test]
fn a_library_that_ends_its_process_ends_the_worker_and_is_told_with_its_last_words() {
    let told = |fault: &str| refusal_of_worker("q3_static", &[("FAKE_FAULT", fault)]);
    let loading = "while the model was being loaded";
    says(&told("null"), &["was ended by signal 11 (SIGSEGV", loading]);
    says(
        &told("throw"),
        &[
            "was ended by signal 6 (SIGABRT",
            loading,
            "terminate called after throwing an instance of 'std::runtime_error'",
            "the firmware is of another day",
        ],
    );
    says(
        &told("twice"),
        &["was ended by signal 6 (SIGABRT", "double free"],
    );
    says(&told("exit"), &["ended by itself with status 7", loading]);
    says(
        &told("socket"),
        &[
            "ended by itself with status 4",
            "socket(AF_INET): Permission denied",
        ],
    );
    // Nobody waits for it any more: it is killed, and whoever asked hears that it was cancelled.
    assert_eq!(told("hang"), Error::Cancelled.to_string());
}

#[test]
fn another_chip_is_named_with_the_flag_to_compile_for_it() {
    let got = refusal("q3_static", &[("FAKE_CHIP", "0x1686a200")]);
    says(
        &got,
        &[
            "was compiled for BM1684X",
            "device 0 is a BM1688",
            "--chip bm1688",
        ],
    );
}

#[test]
fn more_cores_than_there_are_is_refused() {
    let state = [("FAKE_CHIP", "0x1686a200"), ("FAKE_CORES", "1")];
    says(
        &refusal("q3_1688", &state),
        &["needs 2 cores", "device 0 has 1", "--num_core 1"],
    );
}

#[test]
fn too_little_memory_is_said_before_loading_with_the_number() {
    let got = refusal("q3_static", &[("FAKE_FREE_MIB", "10")]);
    says(
        &got,
        &[
            "MiB of device memory",
            "has 20 MiB free",
            "heap 0: 10 of 4096 MiB free",
            "npu area",
        ],
    );
}

#[test]
fn embeddings_that_are_not_there_are_told_before_loading() {
    says(
        &refusal("q3_embdisk", &[]),
        &[
            "small.bmodel cannot be run",
            "no embedding nets",
            "no embedding.bin in its config folder or beside it",
            "llm_convert.py",
        ],
    );
}

#[test]
fn a_device_that_is_not_there_is_refused_with_the_count() {
    let state = [("TEST_DEVICE", "3"), ("FAKE_DEVICES", "2")];
    says(
        &refusal("q3_static", &state),
        &["there is no device 3", "this system has 2"],
    );
}

#[test]
fn a_busy_device_is_refused_with_what_to_check() {
    says(
        &refusal("q3_static", &[("FAKE_REQUEST", "7")]),
        &[
            "device 0 could not be opened",
            "busy",
            "/dev/bm-tpu",
            "bm-smi",
        ],
    );
}

#[test]
fn a_file_that_the_library_does_not_load_is_told() {
    says(
        &refusal("q3_static", &[]),
        &["libsophon did not load", "small.bmodel", "0.5.1 or newer"],
    );
}

#[test]
fn missing_libraries_are_told_with_the_variable() {
    let got = refusal("q3_static", &[("VLMCAPTION_SOPHON_LIB", "/nowhere")]);
    says(
        &got,
        &[
            "/nowhere: no such folder",
            "install Sophgo's libsophon",
            "VLMCAPTION_SOPHON_LIB",
        ],
    );
}

/// What the element says at READY.
fn complaint(properties: &[(&str, &str)]) -> String {
    let run = Run::new(
        properties,
        "video/x-raw,format=RGB,width=64,height=64,framerate=1/1",
    );
    let bus = run.pipeline.bus().unwrap();
    assert!(run.pipeline.set_state(gst::State::Ready).is_err());
    let message = bus.timed_pop_filtered(common::PATIENCE, &[gst::MessageType::Error]);
    let message = message.unwrap();
    let gst::MessageView::Error(error) = message.view() else {
        unreachable!()
    };
    error.error().to_string()
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn a_bmodel_is_known_by_its_first_bytes_in_a_file_or_a_folder() {
    let folder = bmodel("q3_static");
    fs::remove_dir_all(folder.path().join("config")).unwrap();
    let odd = folder.path().join("model.bin");
    fs::rename(folder.path().join("small.bmodel"), &odd).unwrap();
    // It came as far as looking for the configuration of a compiled model.
    says(
        &complaint(&[("model", text(&odd))]),
        &["there is no config.json beside", "set config to the folder"],
    );
    fs::rename(&odd, folder.path().join("x.bmodel")).unwrap();
    says(
        &complaint(&[("model", text(folder.path()))]),
        &["there is no config.json beside", "x.bmodel"],
    );
}

#[test]
fn a_configuration_of_another_family_is_refused() {
    let folder = bmodel("q25_static");
    says(
        &complaint(&[("model", text(folder.path()))]),
        &[
            "the family is qwen2_5_vl in the bmodel and qwen3_vl there",
            "set config to the folder that llm_convert.py wrote",
        ],
    );
}

#[test]
fn a_vocabulary_of_another_model_is_refused() {
    let folder = bmodel("q3_sample");
    says(
        &complaint(&[("model", text(folder.path()))]),
        &["vocab_size is 2048 in the bmodel and 512 there"],
    );
}

#[test]
fn a_configuration_of_other_patches_is_refused() {
    let folder = bmodel("q3_static");
    for name in ["config", "preprocessor_config", "video_preprocessor_config"] {
        let path = folder.path().join(format!("config/{name}.json"));
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains("\"patch_size\": 16"), "{text}");
        fs::write(
            &path,
            text.replace("\"patch_size\": 16", "\"patch_size\": 14"),
        )
        .unwrap();
    }
    says(
        &complaint(&[("model", text(folder.path()))]),
        &["the size of a patch row or tile is 1536 in the bmodel and 1176 there"],
    );
}

#[test]
fn damaged_and_missing_files_are_told_at_ready() {
    let folder = bmodel("q3_static");
    let path = folder.path().join("small.bmodel");
    let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
    file.set_len(100_000).unwrap();
    says(
        &complaint(&[("model", text(&path))]),
        &[
            "small.bmodel is truncated or damaged",
            "and has 100000",
            "fetch it again",
        ],
    );
    let config = folder.path().join("config");
    let none = folder.path().join("none.bmodel");
    let properties = [
        ("model", text(&none)),
        ("config", text(&config)),
        ("backend", "sophgo"),
    ];
    says(&complaint(&properties), &["none.bmodel", "No such file"]);
}

#[test]
fn properties_that_do_not_go_together_are_told() {
    let folder = bmodel("q3_static");
    let model = folder.path().join("small.bmodel");
    let got = complaint(&[("model", text(&model)), ("device", "left")]);
    says(&got, &["device=\"left\" is no number", "bm-smi"]);
    says(
        &complaint(&[("backend", "sophgo")]),
        &["needs model=", "cargo xtask bmodel"],
    );
    let demo = format!("{ROOT}/models/demo");
    let got = complaint(&[("model", &demo), ("config", text(folder.path()))]);
    says(
        &got,
        &["config is for compiled models", "leave config empty"],
    );
    let got = complaint(&[("device", "gpu")]);
    says(&got, &["device=\"gpu\"", "threads=4"]);
}
