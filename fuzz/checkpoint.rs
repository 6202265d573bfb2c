// SPDX-License-Identifier: MPL-2.0

//! Any bytes in place of one file of a checkpoint: opened, its weights read, or refused; never a panic,
//! nor memory for what is not there.

#![no_main]

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use gstvlmcaption::backend::Cancel;
use gstvlmcaption::backend::cpu::Options;
use gstvlmcaption::vlm::Checkpoint;
use gstvlmcaption::vlm::files::ModelFiles;
use libfuzzer_sys::fuzz_target;

/// The files that are replaced; the first byte of an input says which.
const FILES: [&str; 7] = [
    "config.json",
    "preprocessor_config.json",
    "generation_config.json",
    "tokenizer_config.json",
    "chat_template.jinja",
    "model.safetensors",
    "tokenizer.json",
];

const DEMO: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../models/demo");

static FOLDER: LazyLock<PathBuf> = LazyLock::new(|| {
    let name = format!("vlmcaption-fuzz-{}", std::process::id());
    let folder = std::env::temp_dir().join(name);
    fs::create_dir_all(&folder).expect("a temporary folder");
    for entry in fs::read_dir(DEMO).expect("the demo model") {
        let entry = entry.expect("the demo model");
        link(&entry.path(), &folder.join(entry.file_name()));
    }
    folder
});

fn link(from: &Path, to: &Path) {
    std::os::unix::fs::symlink(from, to).expect("a link to the demo model");
}

// A panic that the plugin catches is none: only one that gets here counts, and ends the process.
fuzz_target!(init: drop(std::panic::take_hook()), |bytes: &[u8]| {
    let Some((which, content)) = bytes.split_first() else {
        return;
    };
    let name = FILES[usize::from(*which) % FILES.len()];
    let place = FOLDER.join(name);
    fs::remove_file(&place).expect("a link to the demo model");
    fs::write(&place, content).expect("a temporary file");
    let opened = Checkpoint::open(ModelFiles::Folder(FOLDER.clone()));
    // What does not concern the weights cannot change how they are read.
    let concerns = matches!(name, "config.json" | "model.safetensors");
    if let (Ok(checkpoint), true) = (&opened, concerns) {
        let options = Options {
            threads: Some(1),
            ..Options::default()
        };
        let loaded = checkpoint.load_cpu(&options, &mut |_| (), &Cancel::default());
        if let Err(error) = loaded {
            assert!(!error.to_string().is_empty());
        }
    }
    fs::remove_file(&place).expect("a temporary file");
    link(&Path::new(DEMO).join(name), &place);
    if let Err(error) = opened {
        assert!(!error.to_string().is_empty());
    }
});
