// SPDX-License-Identifier: MPL-2.0

//! The layering rule: dependencies run one way, element → caption → vlm → backend → `*-sys`,
//! GStreamer's types stop at the element, and a vendor's at its backend. The client of remote servers
//! stands beside the backend, is used by the caption layer alone, and knows nothing of ours.

use std::path::Path;

use crate::{Outcome, sources};

/// The layers from the top down; a file may use its own and those after it.
const LAYERS: &[&str] = &["vlmcaption", "caption", "vlm", "backend"];

/// Crates that one folder alone may use, and that folder.
const CRATES: &[(&str, &str)] = &[
    ("axera_sys", "backend/axera"),
    ("openai_client", "caption"),
    ("sophgo_sys", "backend/sophgo"),
];

/// The client of remote servers, and what it must not name.
const CLIENT: &str = "openai-client/src";
const NOT_IN_CLIENT: &[&str] = &["gstvlmcaption", "gst", "glib", "axera_sys", "sophgo_sys"];

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

/// The crate that a line of this file must not name.
fn foreign(path: &str, line: &str) -> Option<String> {
    let code = line.split("//").next().unwrap_or_default();
    let outside = CRATES.iter().filter(|(_, home)| !path.starts_with(home));
    let mut named = outside.filter(|(name, _)| names(code, name));
    named
        .next()
        .map(|(name, home)| format!("`{name}` belongs to `{home}`"))
}

/// What a line of the client must not name.
fn not_in_client(line: &str) -> Option<String> {
    let code = line.split("//").next().unwrap_or_default();
    let named = NOT_IN_CLIENT
        .iter()
        .find(|name| names(code, &format!("{name}::")));
    named.map(|name| format!("the client uses `{name}`"))
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

/// Checks every file below `src/`, and the client's.
///
/// # Errors
/// Each breach, with its file and line.
pub fn check(root: &Path) -> Outcome {
    let mut breaches = Vec::new();
    let n_files = each_line(root, "src", &mut breaches, &|path, line| {
        let found = breach(layer_of(path)?, line);
        found.or_else(|| foreign(path, line))
    })?;
    each_line(root, CLIENT, &mut breaches, &|_, line| not_in_client(line))?;
    if breaches.is_empty() {
        println!("{n_files} files keep the order {}.", LAYERS.join(" → "));
        Ok(())
    } else {
        Err(breaches.join("\n"))
    }
}

/// Looks at each line of each file of a folder; gives the number of files.
fn each_line(
    root: &Path,
    folder: &str,
    breaches: &mut Vec<String>,
    look: &dyn Fn(&str, &str) -> Option<String>,
) -> Result<usize, String> {
    let src = root.join(folder);
    let files = sources::rust_files(&src).map_err(|error| format!("{}: {error}", src.display()))?;
    for file in &files {
        let path = file.strip_prefix(&src).unwrap_or(file).to_string_lossy();
        let text = std::fs::read_to_string(file)
            .map_err(|error| format!("{}: {error}", file.display()))?;
        for (index, line) in text.lines().enumerate() {
            if let Some(what) = look(&path, line) {
                breaches.push(format!("{folder}/{path}:{}: {what}", index + 1));
            }
        }
    }
    Ok(files.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    const CAPTION: usize = 1;
    const BACKEND: usize = 3;

    #[test]
    fn using_a_layer_above_is_a_breach() {
        assert!(breach(BACKEND, "use crate::vlm::config::Config;").is_some());
        assert!(breach(CAPTION, "use crate::vlmcaption::VlmCaption;").is_some());
    }

    #[test]
    fn using_a_layer_below_or_a_longer_name_is_not() {
        assert_eq!(breach(CAPTION, "use crate::vlm::Vlm;"), None);
        assert_eq!(breach(BACKEND, "use crate::vlm_tables::TABLE;"), None);
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
        assert!(foreign("backend/sophgo/board.rs", line).is_some());
        assert!(foreign("vlm/compiled.rs", line).is_some());
        assert_eq!(foreign("backend/axera/device.rs", line), None);
        assert_eq!(foreign("vlm/compiled.rs", "// axera_sys"), None);
    }

    #[test]
    fn the_client_is_used_by_the_caption_layer_and_knows_nothing_of_ours() {
        let line = "use openai_client::Client;";
        assert_eq!(foreign("caption/remote.rs", line), None);
        assert!(foreign("backend/mock.rs", line).is_some());
        assert!(foreign("vlmcaption/imp.rs", line).is_some());
        assert!(not_in_client("use gst::prelude::*;").is_some());
        assert!(not_in_client("fn cancel(it: &gstvlmcaption::Cancel) {").is_some());
        assert_eq!(not_in_client("use rustls::ClientConfig; // gst::"), None);
    }

    #[test]
    fn files_belong_to_the_layer_of_their_folder() {
        assert_eq!(layer_of("vlmcaption/imp.rs"), Some(0));
        assert_eq!(layer_of("caption.rs"), Some(1));
        assert_eq!(layer_of("backend/cpu/mod.rs"), Some(3));
        assert_eq!(layer_of("lib.rs"), None);
    }
}
