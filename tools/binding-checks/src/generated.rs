// SPDX-License-Identifier: MPL-2.0

//! Bindings that were made just now, beside the committed ones.

use std::env;
use std::fs;
use std::path::Path;

use crate::read::layouts;

/// That the committed file is what bindgen made. With `UPDATE_BINDINGS` in the environment
/// (`cargo xtask bindings` sets it) the file is written instead.
pub fn assert_committed(made: &Path, committed: &Path) {
    let text = |path: &Path| {
        fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    };
    let new = text(made);
    if env::var_os("UPDATE_BINDINGS").is_some() {
        fs::write(committed, new).expect("a folder of the sources");
        return;
    }
    let old = text(committed);
    let differs = new
        .lines()
        .zip(old.lines())
        .position(|(new, old)| new != old);
    assert!(
        new == old,
        "{} is not what bindgen makes (first at line {differs:?}, from 0); run `cargo xtask bindings`",
        committed.display()
    );
}

/// That structures are laid out as in bindings of the vendor's own headers; those of `except`, which
/// the vendor has without a name, are left out.
pub fn assert_same_layouts(committed: &str, made: &str, except: &[&str]) {
    let theirs = layouts(made);
    let mut n = 0;
    for (layout, bytes) in layouts(committed) {
        if !except.contains(&layout.structure()) {
            assert_eq!(theirs.get(&layout), Some(&bytes), "{layout:?}");
            n += 1;
        }
    }
    assert!(n > 0, "there is no layout to compare");
}

#[cfg(test)]
mod tests {
    use super::*;

    const OURS: &str = "[\"Size of x_s\"][size_of::<x_s>() - 16usize];";

    #[test]
    fn equal_layouts_are_equal_whatever_else_there_is() {
        let theirs = format!("{OURS}\n[\"Size of y_s\"][size_of::<y_s>() - 8usize];");
        assert_same_layouts(OURS, &theirs, &[]);
    }

    #[test]
    #[should_panic(expected = "Size(\"x_s\")")]
    fn another_size_is_noticed() {
        assert_same_layouts(OURS, &OURS.replace("16", "24"), &[]);
    }

    #[test]
    #[should_panic(expected = "run `cargo xtask bindings`")]
    fn another_text_is_noticed() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (made, committed) = (folder.path().join("made.rs"), folder.path().join("old.rs"));
        fs::write(&made, OURS).expect("a file in it");
        fs::write(&committed, "").expect("a file in it");
        assert_committed(&made, &committed);
    }
}
