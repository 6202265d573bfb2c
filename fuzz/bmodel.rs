// SPDX-License-Identifier: MPL-2.0

//! Any bytes as a `.bmodel`: described or refused, never a panic, an endless loop or much memory.

#![no_main]

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::LazyLock;

use gstvlmcaption::backend::sophgo::Described;
use libfuzzer_sys::fuzz_target;

/// Longer than the parts of any model, so that what they reach for is there: a hole on the disk.
const LENGTH: u64 = 1 << 40;

/// Where the header says how long the description behind it is, and the bytes of the header.
const SIZE: std::ops::Range<usize> = 8..12;
const HEADER: u64 = 64;

static FILE: LazyLock<(File, PathBuf)> = LazyLock::new(|| {
    let name = format!("vlmcaption-fuzz-{}.bmodel", std::process::id());
    let path = std::env::temp_dir().join(name);
    let mut options = OpenOptions::new();
    let options = options.read(true).write(true).create(true).truncate(true);
    let file = options.open(&path).expect("a temporary file");
    (file, path)
});

fuzz_target!(|bytes: &[u8]| {
    let (file, path) = &*FILE;
    // What the input before left behind this one's end would be read as if it were the input's.
    file.set_len(0).expect("a temporary file");
    file.write_all_at(bytes, 0).expect("a temporary file");
    let size = bytes.get(SIZE).and_then(<[u8]>::first_chunk);
    let size = size.map_or(0, |size| u64::from(u32::from_le_bytes(*size)));
    // Megabytes of zeroes in place of a description would only take time.
    if HEADER + size <= bytes.len() as u64 {
        file.set_len(LENGTH).expect("a hole in a temporary file");
    }
    if let Ok(described) = Described::open(path) {
        assert!(described.layout.context > 0 && described.layout.n_layers > 0);
        assert!(described.device_bytes() > 0 && described.max_pixels() > 0);
        assert!(described.layout.max_prompt() > 0);
    }
});
