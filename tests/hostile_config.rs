// SPDX-License-Identifier: MPL-2.0

//! Any number in a `config.json` may be anything: nothing aborts, no memory is taken for what the
//! weights do not have, and the complaint names the key.

#![expect(unsafe_code, reason = "an allocator that keeps the largest request")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use gstvlmcaption::backend::Cancel;
use gstvlmcaption::backend::cpu::{self, Options, Precision, Weights};
use gstvlmcaption::vlm::Checkpoint;
use gstvlmcaption::vlm::config;
use gstvlmcaption::vlm::files::ModelFiles;
use serde_json::{Value, json};

/// The largest piece of memory that was asked for since it was 0, bytes.
static LARGEST: AtomicUsize = AtomicUsize::new(0);

/// More than the largest file among the checkpoints, and far less than a hostile number of anything.
const ENOUGH: usize = 64 << 20;

struct Noting;

// SAFETY: all requests go to the system's allocator as they are.
unsafe impl GlobalAlloc for Noting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        LARGEST.fetch_max(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        LARGEST.fetch_max(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller keeps the contract of `alloc_zeroed`.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        LARGEST.fetch_max(size, Ordering::Relaxed);
        // SAFETY: the caller keeps the contract of `realloc`.
        unsafe { System.realloc(ptr, layout, size) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the contract of `dealloc`.
        unsafe { System.dealloc(ptr, layout) }
    }
}

#[global_allocator]
static NOTING: Noting = Noting;

/// What a number may be instead.
fn hostile() -> Vec<Value> {
    vec![
        json!(0),
        json!(1),
        json!(-1),
        json!(7),
        json!(1_000_000),
        json!(1_000_000_000_000u64),
        json!(1u64 << 63),
        json!(u64::MAX),
        json!(1e12),
        json!(1e300),
        json!(1e-300),
        json!(-1e300),
        json!(0.5),
        json!("NaN"),
        json!("Infinity"),
        json!([]),
        json!({}),
    ]
}

/// Places of all numbers of a document, as JSON pointers.
fn numbers(value: &Value, place: &str, found: &mut Vec<String>) {
    match value {
        Value::Number(_) => found.push(place.to_owned()),
        Value::Object(map) => {
            for (key, value) in map {
                numbers(value, &format!("{place}/{key}"), found);
            }
        }
        Value::Array(list) => {
            for (i, value) in list.iter().enumerate() {
                numbers(value, &format!("{place}/{i}"), found);
            }
        }
        _ => {}
    }
}

/// The key that a place belongs to: its last part that is no index.
fn key(place: &str) -> &str {
    let mut parts = place.rsplit('/');
    let key = parts.find(|part| part.parse::<usize>().is_err());
    key.unwrap_or(place)
}

fn loaded(spec: &gstvlmcaption::backend::spec::Spec, weights: &Weights) -> Result<(), String> {
    let options = Options {
        precision: Precision::F32,
        threads: Some(1),
        cache: None,
    };
    let (cancel, mut ignore) = (Cancel::default(), |_| ());
    match cpu::load(spec, weights, &options, &mut ignore, &cancel) {
        Ok(_) => Ok(()),
        Err(error) => Err(error.to_string()),
    }
}

/// Puts every hostile value in place of every number and hands the result to `open`.
fn try_all(config: &Value, open: &dyn Fn(&str) -> Result<(), String>) {
    open(&config.to_string()).expect("the file as it is");
    let mut places = Vec::new();
    numbers(config, "", &mut places);
    for place in &places {
        for value in hostile() {
            let mut changed = config.clone();
            *changed.pointer_mut(place).expect("a number") = value.clone();
            LARGEST.store(0, Ordering::Relaxed);
            let said = open(&changed.to_string());
            let largest = LARGEST.load(Ordering::Relaxed);
            assert!(
                largest < ENOUGH,
                "{place} = {value}: {largest} bytes at once, {said:?}"
            );
            let Err(said) = said else { continue };
            // A small number may be a good one by itself, and what differs then is something that
            // depends on it.
            let all_in_one = key(place) == "group_size" && value == -1;
            let by_itself =
                all_in_one || value.as_u64().is_some_and(|n| (1..=1_000_000).contains(&n));
            assert!(
                said.contains(key(place)) || by_itself && said.contains("config.json"),
                "{place} = {value}: {said}"
            );
        }
    }
}

/// The weights of a checkpoint's folder.
fn weights(folder: &Path) -> Weights {
    let entries = fs::read_dir(folder).expect("a folder");
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|e| e == "safetensors"));
    files.sort();
    Weights::Files(files)
}

#[test]
fn any_number_of_any_family_s_config_is_loaded_or_refused_by_key() {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/logits");
    let mut families = std::collections::BTreeSet::new();
    for entry in fs::read_dir(root).expect("the checkpoints") {
        let folder = entry.expect("an entry").path();
        let Ok(text) = fs::read_to_string(folder.join("config.json")) else {
            continue;
        };
        let config: Value = serde_json::from_str(&text).expect("JSON");
        families.insert(config["model_type"].as_str().expect("a family").to_owned());
        let weights = weights(&folder);
        try_all(&config, &|text| {
            let spec = config::spec("config.json".to_owned(), text.as_bytes());
            loaded(&spec.map_err(|error| error.to_string())?, &weights)
        });
    }
    let families: Vec<&str> = families.iter().map(String::as_str).collect();
    let all = ["internvl", "internvl_chat", "qwen2_5_vl", "qwen3_vl"];
    assert_eq!(families, all);
}

/// The demo as a folder in which one file may be changed.
fn demo() -> tempfile::TempDir {
    let from = concat!(env!("CARGO_MANIFEST_DIR"), "/models/demo");
    let folder = tempfile::tempdir().expect("a folder");
    for entry in fs::read_dir(from).expect("the demo") {
        let path = entry.expect("an entry").path();
        if path.is_file() {
            let name = path.file_name().expect("a name");
            fs::copy(&path, folder.path().join(name)).expect("a copy");
        }
    }
    folder
}

#[test]
fn any_number_of_any_file_of_a_checkpoint_is_taken_or_refused_by_key() {
    let folder = demo();
    for name in [
        "config.json",
        "preprocessor_config.json",
        "video_preprocessor_config.json",
        "generation_config.json",
    ] {
        let path = folder.path().join(name);
        let text = fs::read_to_string(&path).expect("a file of the demo");
        let config: Value = serde_json::from_str(&text).expect("JSON");
        try_all(&config, &|text| {
            fs::write(&path, text).expect("a file");
            let checkpoint = Checkpoint::open(ModelFiles::Folder(folder.path().to_owned()));
            let checkpoint = checkpoint.map_err(|error| error.to_string())?;
            let options = Options {
                threads: Some(1),
                ..Options::default()
            };
            let program = checkpoint.load_cpu(&options, &mut |_| (), &Cancel::default());
            program.map(|_| ()).map_err(|error| error.to_string())
        });
        fs::write(&path, text).expect("a file");
    }
}
