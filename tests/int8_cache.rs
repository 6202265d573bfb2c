// SPDX-License-Identifier: MPL-2.0

//! int8 matrices that are kept for the next start change nothing but its time.

#[path = "common/golden.rs"]
#[allow(dead_code, reason = "each test file uses its own part")]
mod golden;

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use golden::{data, spec, weight_files};
use gstvlmcaption::backend::cpu::{self, Options, Precision, Weights};
use gstvlmcaption::backend::{Cancel, Next, Position, Segment};

/// Three files, matrices of several shapes.
const MODEL: &str = "qwen25-published-sharded";

/// The checkpoint in a folder of its own, which may be changed.
fn checkpoint(folder: &Path) -> PathBuf {
    let model = folder.join("model");
    std::fs::create_dir(&model).expect("a writable folder");
    let source = data().join("logits").join(MODEL);
    for entry in std::fs::read_dir(source).expect("a checkpoint") {
        let path = entry.expect("a file").path();
        let name = path.file_name().expect("a name");
        std::fs::copy(&path, model.join(name)).expect("a writable folder");
    }
    model
}

/// Loads in int8; what is said of it, and the logits of a prompt.
fn start(model: &Path, cache: Option<&Path>) -> (String, Vec<f32>) {
    let options = Options {
        precision: Precision::Int8,
        threads: Some(2),
        cache: cache.map(Path::to_owned),
    };
    let (spec, weights) = (spec(model), Weights::Files(weight_files(model)));
    let cancel = Cancel::default();
    let mut parts = Vec::new();
    let mut program = cpu::load(
        &spec,
        &weights,
        &options,
        &mut |part| parts.push(part),
        &cancel,
    )
    .expect("a loadable checkpoint");
    assert_eq!(parts.last(), Some(&1.0), "progress comes to its end");
    let ids: Vec<u32> = (0..40).collect();
    let positions: Vec<Position> = (0..40).map(|i| [i; 3]).collect();
    let sequence = program.open().expect("a sequence");
    let remark = program.remark().unwrap_or_default();
    match program.extend(sequence, &[Segment::Tokens(&ids)], &positions, &cancel) {
        Ok(Next::Logits(logits)) => (remark, logits.to_vec()),
        other => panic!("{other:?}"),
    }
}

fn only_file(folder: &Path) -> PathBuf {
    let mut files = std::fs::read_dir(folder).expect("a folder");
    let file = files.next().expect("a file").expect("a file").path();
    assert!(files.next().is_none(), "one file, and nothing half done");
    file
}

#[test]
fn the_second_start_reads_what_the_first_one_kept() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (model, cache) = (checkpoint(folder.path()), folder.path().join("cache"));
    let (remark, want) = start(&model, None);
    assert_eq!(remark, "");
    for said in ["kept in", "read from", "read from"] {
        let (remark, logits) = start(&model, Some(&cache));
        assert!(remark.contains(said), "{remark}");
        assert_eq!(logits, want, "{remark}");
        only_file(&cache);
    }
}

#[test]
fn a_damaged_or_outdated_file_is_made_anew() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (model, cache) = (checkpoint(folder.path()), folder.path().join("cache"));
    let (_, want) = start(&model, Some(&cache));
    let file = only_file(&cache);
    let whole = std::fs::read(&file).expect("a file");
    let mut damaged = whole.clone();
    damaged[whole.len() / 2] ^= 1;
    let cut = whole[..whole.len() * 3 / 4].to_vec();
    for bytes in [damaged, cut, b"something else".to_vec()] {
        std::fs::write(&file, bytes).expect("a writable folder");
        let (remark, logits) = start(&model, Some(&cache));
        assert!(remark.contains("kept in"), "{remark}");
        assert_eq!(logits, want);
        assert!(std::fs::read(only_file(&cache)).expect("a file") == whole);
    }
    let weights = std::fs::File::options()
        .write(true)
        .open(&weight_files(&model)[1])
        .expect("a weight file");
    let later = SystemTime::now() + Duration::from_secs(100);
    weights
        .set_modified(later)
        .expect("a file system with times");
    let (remark, _) = start(&model, Some(&cache));
    assert!(remark.contains("kept in"), "{remark}");
}

#[test]
fn a_place_that_cannot_be_written_is_no_error() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let model = checkpoint(folder.path());
    let file = folder.path().join("file");
    std::fs::write(&file, "").expect("a writable folder");
    let (remark, logits) = start(&model, Some(&file.join("cache")));
    assert!(remark.contains("not kept in"), "{remark}");
    assert_eq!(logits, start(&model, None).1);
}
