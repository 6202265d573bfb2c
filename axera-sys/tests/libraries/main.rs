// SPDX-License-Identifier: MPL-2.0

//! Loading and calling, with the stand-ins of `tests/standin`: the same tests on a board's runtime
//! and on a card's.

#![expect(clippy::print_stdout, reason = "processes of their own answer so")]
#![expect(unsafe_code, reason = "does what must not be done, to see it noticed")]

#[path = "../standin/build.rs"]
mod build;
mod misuse;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::{Arc, LazyLock};
use std::{env, fs, thread};

use axera_sys::{Api, DataType, Device, ENV_LIB, Error, Kind, LoadError, Mem, Model, Search};
use build::{build_card, build_soc};
use tempfile::TempDir;

/// The libraries of this process, one of each kind: what is in them is shared.
static SOC: LazyLock<(TempDir, Arc<Api>)> = LazyLock::new(|| open("soc"));
static CARD: LazyLock<(TempDir, Arc<Api>)> = LazyLock::new(|| open("card"));

fn make(kind: &str, defines: &[&str]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let tag = folder.path().file_name().unwrap().to_str().unwrap();
    match kind {
        "soc" => build_soc(folder.path(), tag, defines),
        _ => build_card(folder.path(), tag, defines),
    }
    folder
}

fn open(kind: &str) -> (TempDir, Arc<Api>) {
    let folder = make(kind, &[]);
    let api = Api::open(&Search::folder(folder.path())).unwrap();
    (folder, Arc::new(api))
}

fn both(test: impl Fn(&Arc<Api>)) {
    test(&SOC.1);
    test(&CARD.1);
}

/// A net that adds a constant row to the rows of its input, in two groups of one and two rows.
const NET: &str = "AXSTANDIN 1\ncompiler 5.1 standin\ncores 3\n\
    in 0 input bf16 1,1,4\nin 0 indices u32 1,1\nout 0 output bf16 1,1,4\n\
    in 1 input bf16 1,2,4\nin 1 indices u32 3,2\nout 1 output bf16 1,2,4\n\
    const 0 1 4 0\nget 1 input\nadd 2 1 0\nput output 2\nweights\n";

fn net() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("small.axmodel");
    let mut bytes = NET.as_bytes().to_vec();
    for number in [1.0f32, 2.0, 3.0, 0.5] {
        bytes.extend(number.to_le_bytes());
    }
    fs::write(&path, bytes).unwrap();
    (folder, path)
}

fn bf16(numbers: &[f32]) -> Vec<u8> {
    let halves = numbers.iter().map(|n| (n.to_bits() >> 16) as u16);
    halves.flat_map(u16::to_le_bytes).collect()
}

fn run(device: &mut Device, model: &Model, group: usize, rows: &[f32]) -> Vec<u8> {
    let ports = &model.groups[group];
    let inputs: Vec<Mem> = ports
        .inputs
        .iter()
        .map(|tensor| device.alloc(tensor.size_bytes).unwrap())
        .collect();
    let output = device.alloc(ports.outputs[0].size_bytes).unwrap();
    device.write(inputs[0], 0, &bf16(rows)).unwrap();
    device.run(model, group, &inputs, &[output]).unwrap();
    let mut bytes = vec![0; output.size_bytes()];
    device.read(output, 0, &mut bytes).unwrap();
    bytes
}

#[test]
fn a_folder_says_which_runtime_it_has() {
    assert_eq!(SOC.1.kind(), Kind::Soc);
    assert_eq!(CARD.1.kind(), Kind::Card);
    let version = SOC.1.library().version.as_deref();
    assert_eq!(version, Some("V1.45.0_P39_20250801 standin"));
    assert_eq!(CARD.1.library().version.as_deref(), Some("3.10.2"));
    assert!(CARD.1.library().path.ends_with("libaxcl_rt.so"));
}

#[test]
fn a_model_is_described_group_by_group() {
    both(|api| {
        let (_folder, path) = net();
        let mut device = Device::open(api, 0).unwrap();
        let model = device.load(&path).unwrap();
        assert_eq!(model.compiler.as_deref(), Some("5.1 standin"));
        let [one, two] = &model.groups[..] else {
            panic!("{model:?}");
        };
        assert_eq!(one.inputs[0].name, "input");
        assert_eq!(one.inputs[0].dtype, DataType::Bf16);
        assert_eq!(one.inputs[1].dtype, DataType::U32);
        assert_eq!(two.inputs[0].shape, [1, 2, 4]);
        assert_eq!(two.inputs[1].size_bytes, 24);
        assert_eq!(two.outputs[0].size_bytes, 16);
    });
}

#[test]
fn groups_run_on_the_memory_they_are_given() {
    both(|api| {
        let (_folder, path) = net();
        let mut device = Device::open(api, 0).unwrap();
        let model = device.load(&path).unwrap();
        let got = run(&mut device, &model, 0, &[1.0, 1.0, 1.0, 1.0]);
        assert_eq!(got, bf16(&[2.0, 3.0, 4.0, 1.5]));
        let rows = [0.0, 0.0, 0.0, 0.0, 4.0, 4.0, 4.0, 4.0];
        let got = run(&mut device, &model, 1, &rows);
        assert_eq!(got, bf16(&[1.0, 2.0, 3.0, 0.5, 5.0, 6.0, 7.0, 4.5]));
    });
}

#[test]
fn memory_begins_as_zeroes_and_keeps_what_is_written() {
    both(|api| {
        let mut device = Device::open(api, 0).unwrap();
        let (a, b) = (device.alloc(64).unwrap(), device.alloc(32).unwrap());
        let mut bytes = [7; 8];
        device.read(a, 56, &mut bytes).unwrap();
        assert_eq!(bytes, [0; 8]);
        device.write(a, 60, &[1, 2, 3, 4]).unwrap();
        device
            .copy(b.part(1, 8).unwrap(), a.part(58, 6).unwrap())
            .unwrap();
        device.read(b, 0, &mut bytes).unwrap();
        assert_eq!(bytes, [0, 0, 0, 1, 2, 3, 4, 0]);
        assert_eq!(device.allocated(), 96);
    });
}

#[test]
fn what_does_not_fit_never_reaches_the_library() {
    both(|api| {
        let (_folder, path) = net();
        let mut device = Device::open(api, 0).unwrap();
        let mut other = Device::open(api, 0).unwrap();
        let model = device.load(&path).unwrap();
        let small = device.alloc(4).unwrap();
        let mem = device.alloc(64).unwrap();
        let foreign = other.alloc(64).unwrap();
        let refused = device.write(mem, 61, &[0; 4]).unwrap_err();
        let want = "write: bytes 61..65 are not inside memory of 64 bytes";
        assert_eq!(refused.to_string(), want);
        assert!(device.read(mem, usize::MAX, &mut [0; 2]).is_err());
        assert!(mem.part(60, 5).is_err());
        assert!(device.copy(small, mem).is_err());
        assert!(device.write(foreign, 0, &[0]).is_err());
        let overlap = device.copy(mem.part(8, 16).unwrap(), mem.part(0, 16).unwrap());
        assert!(overlap.unwrap_err().to_string().contains("overlap"));

        let at = |offset| mem.part(offset, 16).unwrap();
        for (inputs, outputs, group, word) in [
            (vec![at(0)], vec![at(32)], 0, "1 inputs for 2"),
            (vec![small, at(16)], vec![at(32)], 0, "input: 4 bytes for 8"),
            (vec![at(0), at(16)], vec![at(0)], 0, "overlaps"),
            (vec![at(0), at(16)], vec![at(32)], 2, "group"),
            (vec![foreign, at(16)], vec![at(32)], 0, "another device"),
        ] {
            let refused = device.run(&model, group, &inputs, &outputs).unwrap_err();
            assert!(refused.to_string().contains(word), "{refused}");
        }
        let stranger = other.run(&model, 0, &[foreign], &[foreign]).unwrap_err();
        assert!(
            stranger.to_string().contains("another device"),
            "{stranger}"
        );
    });
}

#[test]
fn a_device_may_go_to_another_thread_and_be_closed_there() {
    both(|api| {
        let (_folder, path) = net();
        let mut device = Device::open(api, 0).unwrap();
        let model = device.load(&path).unwrap();
        let moved = thread::spawn(move || {
            let got = run(&mut device, &model, 0, &[0.0; 4]);
            drop(device);
            got
        });
        assert_eq!(moved.join().unwrap(), bf16(&[1.0, 2.0, 3.0, 0.5]));
    });
}

#[test]
fn devices_of_several_threads_take_turns() {
    both(|api| {
        let (_folder, path) = net();
        let threads: Vec<_> = (0..4)
            .map(|n| {
                let (api, path) = (Arc::clone(api), path.clone());
                thread::spawn(move || {
                    let mut device = Device::open(&api, 0).unwrap();
                    let model = device.load(&path).unwrap();
                    let row = [n as f32; 4];
                    // Loads and runs go on side by side with those of the others.
                    for _ in 0..5 {
                        let got = run(&mut device, &model, 0, &row);
                        assert_eq!(got[..2], bf16(&[n as f32 + 1.0]));
                        device.load(&path).unwrap();
                    }
                })
            })
            .collect();
        for thread in threads {
            thread.join().unwrap();
        }
    });
}

#[test]
fn files_that_are_no_models_are_refused_with_the_code() {
    both(|api| {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("text.axmodel");
        fs::write(&path, "text, not a model").unwrap();
        let mut device = Device::open(api, 0).unwrap();
        let error = device.load(&path).unwrap_err();
        assert!(matches!(error, Error::Status { .. }), "{error}");
        assert!(
            error.to_string().contains("a parameter is not valid"),
            "{error}"
        );
        assert!(device.load(Path::new("/nowhere/x.axmodel")).is_err());
    });
}

#[test]
fn a_device_that_is_not_there_is_refused_with_the_count() {
    let error = Device::open(&SOC.1, 1).err().unwrap().to_string();
    assert!(error.contains("no device 1: this system has 1"), "{error}");
    let error = Device::open(&CARD.1, 1).err().unwrap().to_string();
    assert!(error.contains("no device 1"), "{error}");
    assert!(error.contains("PCIe bus 129"), "{error}");
}

#[test]
fn a_missing_function_is_named_with_the_library_and_what_has_it() {
    for (kind, function, remedy) in [
        ("soc", "AX_ENGINE_GetGroupIOInfoCount", "SDK 2.18"),
        ("card", "axclrtEngineGetUsage", "axclhost"),
    ] {
        let folder = make(kind, &["-DSTANDIN_OLD"]);
        let error = Api::open(&Search::folder(folder.path())).unwrap_err();
        assert!(
            matches!(error, Error::Load(LoadError::Unusable { .. })),
            "{error}"
        );
        let text = error.to_string();
        assert!(text.contains(function) && text.contains(remedy), "{text}");
    }
}

#[test]
fn the_libraries_of_another_family_are_refused() {
    let folder = make("soc", &["-DSTANDIN_FAMILY"]);
    let error = Api::open(&Search::folder(folder.path())).unwrap_err();
    assert!(
        matches!(error, Error::Load(LoadError::Unusable { .. })),
        "{error}"
    );
    assert!(error.to_string().contains("AX620E"), "{error}");
}

#[test]
fn a_place_with_libraries_that_will_not_do_is_not_the_end_of_the_search() {
    let old = make("soc", &["-DSTANDIN_OLD"]);
    let family = make("soc", &["-DSTANDIN_FAMILY"]);
    let good = make("card", &[]);
    let folders = |list: &[&TempDir]| {
        let paths = list.iter().map(|folder| folder.path().to_owned());
        Search::folders(paths.collect::<Vec<_>>())
    };
    let api = Api::open(&folders(&[&old, &family, &good])).unwrap();
    assert_eq!(api.kind(), Kind::Card);
    let text = Api::open(&folders(&[&old, &family]))
        .unwrap_err()
        .to_string();
    for part in [
        &*old.path().display().to_string(),
        "lacks AX_ENGINE_GetGroupIOInfoCount",
        &*family.path().display().to_string(),
        "is for AX620E",
        "no libaxcl_rt.so in this folder",
    ] {
        assert!(text.contains(part), "{part} is not in: {text}");
    }
}

#[test]
fn a_folder_without_libraries_says_which_are_not_there() {
    let folder = tempfile::tempdir().unwrap();
    let error = Api::open(&Search::folder(folder.path())).unwrap_err();
    let text = error.to_string();
    for part in [
        "no libax_sys.so in this folder",
        "no libaxcl_rt.so in this folder",
        ENV_LIB,
        "axclhost",
    ] {
        assert!(text.contains(part), "{part} is not in: {text}");
    }
    let error = Api::open(&Search::folder("/nonexistent")).unwrap_err();
    assert!(error.to_string().contains("/nonexistent: no such folder"));
}

#[test]
fn a_file_that_is_no_library_is_reported_in_the_loaders_words() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("libaxcl_rt.so");
    fs::write(&path, "text, not a program").unwrap();
    let error = Api::open(&Search::folder(folder.path())).unwrap_err();
    let Error::Load(LoadError::NotFound { tried, .. }) = &error else {
        panic!("{error}")
    };
    assert_eq!(tried[1].path, path);
    assert!(!tried[1].reason.contains("in this folder"), "{error}");
}

/// What a process of its own says that opens a device with a stand-in in a state, loads a net twice
/// and runs it. Libraries stay open, and are asked through the environment.
fn elsewhere(kind: &Arc<Api>, state: &[(&str, &str)]) -> Output {
    elsewhere_as("in_a_process_of_its_own", kind, state)
}

fn elsewhere_as(test: &str, kind: &Arc<Api>, state: &[(&str, &str)]) -> Output {
    let folder = kind.library().path.parent().unwrap().to_owned();
    let (_net, path) = net();
    Command::new(env::current_exe().unwrap())
        .args(["--ignored", "--exact", test])
        .arg("--nocapture")
        .env(ENV_LIB, folder)
        .env("TEST_NET", path)
        .envs(state.iter().copied())
        .output()
        .unwrap()
}

fn said(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let line = text.lines().find_map(|line| line.split_once("said: "));
    let errors = String::from_utf8_lossy(&output.stderr);
    line.unwrap_or_else(|| panic!("{text}{errors}"))
        .1
        .to_owned()
}

#[test]
#[ignore = "called by the others"]
fn in_a_process_of_its_own() {
    let path = PathBuf::from(env::var_os("TEST_NET").unwrap());
    let index = env::var("TEST_DEVICE").map_or(0, |n| n.parse().unwrap());
    let done = (|| {
        let api = Api::load()?;
        let mut device = Device::open(&api, index)?;
        if env::var_os("TEST_FORGET").is_some() {
            std::mem::forget(device);
            return Ok(String::new());
        }
        let usage = device.usage(&path)?;
        device.load(&path)?;
        let model = device.load(&path)?;
        let ports = &model.groups[0];
        let mems: Vec<Mem> = ports
            .inputs
            .iter()
            .chain(&ports.outputs)
            .map(|tensor| device.alloc(tensor.size_bytes))
            .collect::<Result<_, _>>()?;
        device.run(&model, 0, &mems[..2], &mems[2..])?;
        let dtype = model.groups[0].inputs[0].dtype;
        Ok::<_, Error>(format!("{usage} {dtype:?} {:?}", device.health()))
    })();
    match done {
        Ok(text) => println!("said: {text}"),
        Err(error) => println!("said: {error}"),
    }
}

#[test]
fn a_process_that_closes_its_devices_ends_well() {
    both(|api| {
        let output = elsewhere(api, &[]);
        assert!(output.status.success(), "{output:?}");
        let text = said(&output);
        assert!(text.contains("Bf16"), "{text}");
        assert!(text.contains("memory: Some((7381975040"), "{text}");
    });
    let text = said(&elsewhere(&CARD.1, &[]));
    assert!(text.contains("utilisation: Some(7)"), "{text}");
    assert!(text.contains("temperature: Some(54)"), "{text}");
}

#[test]
fn a_process_that_forgets_a_device_is_aborted_by_the_stand_in() {
    both(|api| {
        let output = elsewhere(api, &[("TEST_FORGET", "1")]);
        assert!(!output.status.success());
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(text.contains("standin:"), "{text}");
    });
}

#[test]
fn a_failed_load_gives_everything_back() {
    both(|api| {
        for failing in ["1", "2"] {
            let output = elsewhere(api, &[("STANDIN_LOAD_FAILS", failing)]);
            assert!(output.status.success(), "{output:?}");
            assert!(said(&output).contains("returned 0x80"));
        }
    });
}

#[test]
fn a_failed_run_is_an_error_with_its_code() {
    both(|api| {
        let output = elsewhere(api, &[("STANDIN_RUN_FAILS", "1")]);
        assert!(output.status.success(), "{output:?}");
    });
    let text = said(&elsewhere(&CARD.1, &[("STANDIN_RUN_FAILS", "1")]));
    assert!(
        text.contains("axclrtEngineExecute returned 0x80300709"),
        "{text}"
    );
    assert!(text.contains("the card's own program has ended"), "{text}");
}

#[test]
fn no_memory_is_an_error_with_its_code() {
    both(|api| {
        let output = elsewhere(api, &[("STANDIN_CMM_MIB", "0")]);
        assert!(output.status.success(), "{output:?}");
        assert!(said(&output).contains("no memory is left"));
    });
}

#[test]
fn virtual_npus_are_refused() {
    both(|api| {
        let output = elsewhere(api, &[("STANDIN_VNPU", "2")]);
        assert!(output.status.success(), "{output:?}");
        let text = said(&output);
        assert!(text.contains("virtual mode big-little"), "{text}");
    });
}

#[test]
fn an_engine_that_another_program_started_is_joined() {
    let output = elsewhere(&CARD.1, &[("STANDIN_VNPU", "0")]);
    assert!(output.status.success(), "{output:?}");
    assert!(said(&output).contains("Bf16"));
}

#[test]
fn a_card_that_is_not_connected_is_told_with_what_to_look_at() {
    let text = said(&elsewhere(&CARD.1, &[("STANDIN_DEVICES", "0")]));
    for part in ["no card is connected", "lspci -d 1f4b:", "Raspberry Pi 5"] {
        assert!(text.contains(part), "{part} is not in: {text}");
    }
}

#[test]
fn cards_are_counted_from_0_and_called_by_their_bus() {
    let state = [("STANDIN_DEVICES", "2"), ("TEST_DEVICE", "1")];
    let output = elsewhere(&CARD.1, &state);
    assert!(output.status.success(), "{output:?}");
    assert!(said(&output).contains("Bf16"));
}

#[test]
fn an_old_engine_is_refused_with_the_version_that_will_do() {
    let text = said(&elsewhere(&SOC.1, &[("STANDIN_VERSION", "V1.45.0_P20")]));
    assert!(
        text.contains("V1.45.0_P20") && text.contains("V1.45.0_P38"),
        "{text}"
    );
}

#[test]
fn bf16_that_an_old_engine_does_not_name_is_unknown() {
    let text = said(&elsewhere(&SOC.1, &[("STANDIN_BF16_UNKNOWN", "1")]));
    assert!(text.contains("Unknown"), "{text}");
}
