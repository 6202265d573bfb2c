// SPDX-License-Identifier: MPL-2.0

//! What is refused, with which words; everything must be given back all the same.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use gstvlmcaption::backend::axera::{Described, Options, Pixels};
use gstvlmcaption::backend::{Cancel, GridThw};

use crate::compare::Folders;
use crate::golden;
use crate::make::Build;
use crate::{KINDS, elsewhere, says};

const CHECKPOINT: &str = "logits/untied-group4-levels1-head64";
const GRID: GridThw = GridThw { t: 1, h: 4, w: 4 };

/// A folder that loads, made once; tests copy it.
static GOOD: LazyLock<(Folders, PathBuf)> = LazyLock::new(|| {
    let checkpoint = golden::data().join(CHECKPOINT);
    let mut folders = Folders::new(&checkpoint, Build::default());
    let folder = folders.folder(GRID);
    (folders, folder)
});

fn copy() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(&GOOD.1).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, folder.path().join(path.file_name().unwrap())).unwrap();
    }
    folder
}

/// What loading a folder says on a runtime in a state; that the process ends well shows that all is
/// given back.
#[track_caller]
fn refusal(folder: &Path, kind: &str, state: &[(&str, &str)]) -> String {
    let folder = folder.display().to_string();
    let mut all = vec![("TEST_FOLDER", folder.as_str())];
    all.extend(state);
    let output = elsewhere("refusals::in_a_process_of_its_own", kind, &all);
    let said = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}{errors}");
    let line = said.lines().find_map(|line| line.split_once("said: "));
    line.unwrap_or_else(|| panic!("{said}{errors}"))
        .1
        .to_owned()
}

#[test]
#[ignore = "called by the others"]
fn in_a_process_of_its_own() {
    let folder = PathBuf::from(env::var_os("TEST_FOLDER").unwrap());
    let spec = golden::spec(&golden::data().join(CHECKPOINT));
    let number = |name: &str, otherwise: usize| {
        env::var(name).map_or(otherwise, |value| value.parse().unwrap())
    };
    let options = Options {
        device: number("TEST_DEVICE", 0),
        vocab_size: spec.text.vocab_size,
        n_layers: number("TEST_LAYERS", spec.text.num_hidden_layers),
        n_deepstack: number("TEST_LEVELS", 1),
        frame: (number("TEST_WIDTH", 24), 24),
        pixels: Pixels::Rows,
    };
    let cancel = Cancel::default();
    let stop = cancel.clone();
    let after = number("TEST_CANCEL", usize::MAX);
    let mut heard = Vec::new();
    let loaded = Described::open(&folder)
        .map_err(Into::into)
        .and_then(|described| {
            described.load(
                &options,
                &mut |part| {
                    heard.push(part);
                    if heard.len() > after {
                        stop.cancel();
                    }
                },
                &cancel,
            )
        });
    match loaded {
        Ok(_) => println!("said: loaded, {heard:?}"),
        Err(error) => println!("said: {error}"),
    }
}

#[test]
fn a_whole_folder_loads_with_progress() {
    for kind in KINDS {
        let text = refusal(&GOOD.1, kind, &[]);
        says(&text, &["loaded, [0.0, 0.", ", 1.0]"]);
    }
}

#[test]
fn bf16_that_an_old_engine_does_not_name_is_taken_by_its_size() {
    says(
        &refusal(&GOOD.1, "soc", &[("STANDIN_BF16_UNKNOWN", "1")]),
        &["loaded"],
    );
}

#[test]
fn a_pointer_of_git_lfs_is_told_before_anything_is_opened() {
    let folder = copy();
    let file = folder.path().join("tiny_p16_l1_together.axmodel");
    fs::write(
        &file,
        "version https://git-lfs.github.com/spec/v1\noid sha256:0\n",
    )
    .unwrap();
    let text = refusal(
        folder.path(),
        "soc",
        &[("VLMCAPTION_AXERA_LIB", "/nowhere")],
    );
    says(
        &text,
        &[
            "tiny_p16_l1_together.axmodel is a Git LFS pointer",
            "git lfs pull",
        ],
    );
}

#[test]
fn missing_libraries_are_told_with_the_variable() {
    let text = refusal(&GOOD.1, "soc", &[("VLMCAPTION_AXERA_LIB", "/nowhere")]);
    says(
        &text,
        &[
            "/nowhere: no such folder",
            "axclhost",
            "VLMCAPTION_AXERA_LIB",
        ],
    );
}

#[test]
fn an_sdk_that_is_too_old_is_told_with_the_one_that_will_do() {
    let text = refusal(&GOOD.1, "soc", &[("STANDIN_VERSION", "V1.45.0_P31")]);
    says(
        &text,
        &[
            "has version V1.45.0_P31",
            "V1.45.0_P38 or newer",
            "SDK (2.18",
        ],
    );
}

#[test]
fn virtual_npus_are_told_with_what_to_do() {
    for kind in KINDS {
        let text = refusal(&GOOD.1, kind, &[("STANDIN_VNPU", "1")]);
        says(
            &text,
            &["virtual mode standard", "another program", "disabled"],
        );
    }
}

#[test]
fn too_little_memory_is_said_before_loading_with_the_numbers() {
    for (kind, fix) in [
        ("soc", "boot arguments"),
        ("card", "a card with more memory"),
    ] {
        let state = [("STANDIN_CMM_MIB", "60"), ("STANDIN_LOAD_FAILS", "1")];
        let text = refusal(&GOOD.1, kind, &state);
        says(
            &text,
            &["MiB of the NPU's memory", "60 MiB free of 60", fix],
        );
    }
}

#[test]
fn memory_that_others_hold_or_left_is_told_apart() {
    for (kind, fix) in [
        ("soc", "start the board again"),
        ("card", "axcl-smi reboot"),
    ] {
        let state = [("STANDIN_CMM_MIB", "7000"), ("STANDIN_USED_MIB", "6990")];
        let text = refusal(&GOOD.1, kind, &state);
        says(
            &text,
            &["10 MiB free of 7000", "one that was killed left it", fix],
        );
    }
}

#[test]
fn no_card_is_told_with_what_to_look_at() {
    let text = refusal(&GOOD.1, "card", &[("STANDIN_DEVICES", "0")]);
    says(
        &text,
        &["no AXCL card is connected", "lspci -d 1f4b:", "axcl_host"],
    );
}

#[test]
fn a_device_that_is_not_there_is_refused_with_those_that_are() {
    let state = [("STANDIN_DEVICES", "2"), ("TEST_DEVICE", "2")];
    let text = refusal(&GOOD.1, "card", &state);
    says(
        &text,
        &["no device 2: this system has 2", "PCIe bus 129, PCIe bus 3"],
    );
    let text = refusal(&GOOD.1, "soc", &[("TEST_DEVICE", "1")]);
    says(&text, &["no device 1: this system has 1"]);
    let state = [("STANDIN_DEVICES", "2"), ("TEST_DEVICE", "1")];
    says(&refusal(&GOOD.1, "card", &state), &["loaded"]);
}

#[test]
fn a_model_that_is_not_taken_is_told_with_everything_that_helps() {
    for kind in KINDS {
        let text = refusal(&GOOD.1, kind, &[("STANDIN_LOAD_FAILS", "2")]);
        says(
            &text,
            &[
                "_l1_together.axmodel",
                "was not loaded",
                "returned 0x80",
                "MiB are free",
                "is version",
                "fetch the file again",
            ],
        );
    }
}

#[test]
fn a_load_is_cancelled_between_models() {
    for kind in KINDS {
        assert_eq!(refusal(&GOOD.1, kind, &[("TEST_CANCEL", "2")]), "cancelled");
    }
}

#[test]
fn a_file_that_is_no_model_is_told() {
    let folder = copy();
    let file = folder.path().join("tiny_post.axmodel");
    fs::write(&file, vec![b'x'; 5000]).unwrap();
    for kind in KINDS {
        let text = refusal(folder.path(), kind, &[]);
        says(
            &text,
            &[
                "tiny_post.axmodel",
                "was not loaded",
                "a parameter is not valid",
            ],
        );
    }
}

#[test]
fn a_missing_last_layer_is_noticed_by_the_configuration() {
    let text = refusal(&GOOD.1, "soc", &[("TEST_LAYERS", "36")]);
    says(
        &text,
        &[
            "layer files, the model has 36 layers",
            "fetch the missing ones",
        ],
    );
}

#[test]
fn a_table_of_another_type_is_told_with_both_sizes() {
    let folder = copy();
    let file = folder.path().join("model.embed_tokens.weight.bfloat16.bin");
    let bytes = fs::read(&file).unwrap();
    fs::write(&file, [bytes.clone(), bytes.clone()].concat()).unwrap();
    let text = refusal(folder.path(), "card", &[]);
    let sizes = [2 * bytes.len(), bytes.len()].map(|n| format!("{n}"));
    says(&text, &[&sizes[0], &sizes[1], "looks like the f32 table"]);
    fs::write(&file, &bytes[2..]).unwrap();
    says(
        &refusal(folder.path(), "soc", &[]),
        &["another model's, or not whole"],
    );
}

#[test]
fn images_of_another_size_are_told_with_the_right_one() {
    let text = refusal(&GOOD.1, "soc", &[("TEST_WIDTH", "36")]);
    says(
        &text,
        &[
            "3456 bytes of pixels",
            "36x24",
            "vision_width",
            "to 24 each",
        ],
    );
}

#[test]
fn features_of_another_model_are_told() {
    let text = refusal(&GOOD.1, "soc", &[("TEST_LEVELS", "3")]);
    says(&text, &["it has 1 deepstack features, config.json says 3"]);
}

#[test]
fn layers_of_two_builds_are_told_apart() {
    let checkpoint = golden::data().join(CHECKPOINT);
    for (build, what) in [
        (
            Build {
                contexts: vec![127],
                ..Build::default()
            },
            "context 127",
        ),
        (
            Build {
                compiler: "Pulsar2 3.2",
                ..Build::default()
            },
            "Pulsar2 3.2",
        ),
    ] {
        let mut other = Folders::new(&checkpoint, build);
        let folder = copy();
        let name = "tiny_p16_l1_together.axmodel";
        fs::copy(other.folder(GRID).join(name), folder.path().join(name)).unwrap();
        let text = refusal(folder.path(), "soc", &[]);
        says(
            &text,
            &[name, "does not belong to the others", what, "_l0_together"],
        );
    }
}
