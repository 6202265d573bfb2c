// SPDX-License-Identifier: MPL-2.0

//! The layering rule: dependencies run one way, element → caption → vlm → backend → `*-sys`,
//! GStreamer's types stop at the element, and a vendor's at its backend. The backends, a crate of their
//! own, and the client of remote servers beside them know nothing of the layers above; the client is
//! used by the caption layer alone.

use std::path::Path;

use crate::{Outcome, sources};

/// Folders of `src/` that are layers, from the top down; a file may use its own and those after it.
const LAYERS: &[&str] = &["vlmcaption", "caption", "vlm"];

/// Crates that one folder alone may use, and that folder.
const CRATES: &[(&str, &str)] = &[
    ("axera_sys", "backend/src/axera"),
    ("openai_client", "src/caption"),
    ("sophgo_sys", "backend/src/sophgo"),
];

/// Crates below the layers, and what none of their files may name.
const BELOW: &[&str] = &["backend/src", "openai-client/src", "worker"];
const NOT_BELOW: &[&str] = &["gstvlmcaption", "gst", "gst_base", "gst_video", "glib"];

/// The layer that a source file belongs to, by its path below `src/`; the plugin's entry has none.
fn layer_of(path: &str) -> Option<usize> {
    let first = path.split(['/', '.']).next()?;
    LAYERS.iter().position(|layer| *layer == first)
}

/// What a line of code of this layer must not name; `None` if the line keeps the rule.
fn breach(layer: usize, line: &str) -> Option<String> {
    let code = line.split("//").next().unwrap_or_default();
    for above in &LAYERS[..layer] {
        if names(code, &format!("crate::{above}")) {
            return Some(format!("`{}` uses `{above}`", LAYERS[layer]));
        }
    }
    if layer > 0 {
        for api in ["gst", "gst_video", "gst_base", "glib"] {
            if names(code, &format!("{api}::")) {
                return Some(format!("`{}` uses `{api}`", LAYERS[layer]));
            }
        }
    }
    None
}

/// The crate that a line of this file, by its path from the root, must not name.
fn foreign(path: &str, line: &str) -> Option<String> {
    let code = line.split("//").next().unwrap_or_default();
    let outside = CRATES.iter().filter(|(_, home)| !path.starts_with(home));
    let mut named = outside.filter(|(name, _)| names(code, name));
    named
        .next()
        .map(|(name, home)| format!("`{name}` belongs to `{home}`"))
}

/// What a line of a crate below the layers must not name.
fn above(line: &str) -> Option<String> {
    let code = line.split("//").next().unwrap_or_default();
    let named = NOT_BELOW
        .iter()
        .find(|name| names(code, &format!("{name}::")));
    named.map(|name| format!("a crate below the layers uses `{name}`"))
}

/// Whether `path` occurs in `code` as a path of its own, not as the tail or head of another word.
fn names(code: &str, path: &str) -> bool {
    let word = |c: char| c.is_alphanumeric() || c == '_';
    code.match_indices(path).any(|(at, _)| {
        let before = code[..at].chars().next_back();
        let after = code[at + path.len()..].chars().next();
        !before.is_some_and(|c| word(c) || c == ':')
            && (path.ends_with(':') || !after.is_some_and(word))
    })
}

/// Checks every file of the layers, and of the crates below them.
///
/// # Errors
/// Each breach, with its file and line.
pub fn check(root: &Path) -> Outcome {
    let mut breaches = Vec::new();
    let mut n_files = each_line(root, "src", &mut breaches, &|path, line| {
        let layer = layer_of(path.strip_prefix("src/")?)?;
        breach(layer, line).or_else(|| foreign(path, line))
    })?;
    for folder in BELOW {
        n_files += each_line(root, folder, &mut breaches, &|path, line| {
            above(line).or_else(|| foreign(path, line))
        })?;
    }
    if breaches.is_empty() {
        println!(
            "{n_files} files keep the order {} → backend.",
            LAYERS.join(" → ")
        );
        Ok(())
    } else {
        Err(breaches.join("\n"))
    }
}

/// Looks at each line of each file of a folder, with its path from the root; gives the number of
/// files.
fn each_line(
    root: &Path,
    folder: &str,
    breaches: &mut Vec<String>,
    look: &dyn Fn(&str, &str) -> Option<String>,
) -> Result<usize, String> {
    let src = root.join(folder);
    let files = sources::rust_files(&src).map_err(|error| format!("{}: {error}", src.display()))?;
    for file in &files {
        let path = file.strip_prefix(root).unwrap_or(file).to_string_lossy();
        let text = std::fs::read_to_string(file)
            .map_err(|error| format!("{}: {error}", file.display()))?;
        for (index, line) in text.lines().enumerate() {
            if let Some(what) = look(&path, line) {
                breaches.push(format!("{path}:{}: {what}", index + 1));
            }
        }
    }
    Ok(files.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    const CAPTION: usize = 1;
    const VLM: usize = 2;

    #[test]
    fn using_a_layer_above_is_a_breach() {
        assert!(breach(VLM, "use crate::caption::Captioner;").is_some());
        assert!(breach(CAPTION, "use crate::vlmcaption::VlmCaption;").is_some());
    }

    #[test]
    fn using_a_layer_below_or_a_longer_name_is_not() {
        assert_eq!(breach(CAPTION, "use crate::vlm::Vlm;"), None);
        assert_eq!(breach(VLM, "use crate::backend::Program;"), None);
        assert_eq!(breach(VLM, "use crate::caption_tables::TABLE;"), None);
    }

    #[test]
    fn gstreamer_below_the_element_is_a_breach() {
        assert!(breach(CAPTION, "fn pts() -> gst::ClockTime {").is_some());
        assert_eq!(
            breach(CAPTION, "/// as `gst::ClockTime` in the element"),
            None
        );
        assert_eq!(breach(0, "use gst::prelude::*;"), None);
        assert_eq!(breach(CAPTION, "use best_gst::thing;"), None);
    }

    #[test]
    fn a_vendors_crate_is_used_by_its_backend_alone() {
        let line = "use axera_sys::Device;";
        assert!(foreign("backend/src/sophgo/board.rs", line).is_some());
        assert!(foreign("src/vlm/compiled.rs", line).is_some());
        assert_eq!(foreign("backend/src/axera/device.rs", line), None);
        assert_eq!(foreign("src/vlm/compiled.rs", "// axera_sys"), None);
    }

    #[test]
    fn the_client_is_used_by_the_caption_layer_alone() {
        let line = "use openai_client::Client;";
        assert_eq!(foreign("src/caption/remote.rs", line), None);
        assert!(foreign("backend/src/mock.rs", line).is_some());
        assert!(foreign("src/vlmcaption/imp.rs", line).is_some());
    }

    #[test]
    fn a_crate_below_the_layers_knows_nothing_of_them() {
        assert!(above("use gst::prelude::*;").is_some());
        assert!(above("fn cancel(it: &gstvlmcaption::Cancel) {").is_some());
        assert_eq!(above("use rustls::ClientConfig; // gst::"), None);
    }

    #[test]
    fn files_belong_to_the_layer_of_their_folder() {
        assert_eq!(layer_of("vlmcaption/imp.rs"), Some(0));
        assert_eq!(layer_of("caption.rs"), Some(1));
        assert_eq!(layer_of("vlm/mod.rs"), Some(2));
        assert_eq!(layer_of("lib.rs"), None);
    }
}
