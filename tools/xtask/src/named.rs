// SPDX-License-Identifier: MPL-2.0

//! What a source file names: GStreamer elements in its pipelines, and the Python modules it imports.
//!
//! An element is what stands where only an element can: after a `!`, before the first `!` of a
//! pipeline, or in `ElementFactory::make("…")`. Comments are no code, and of Rust and Python only
//! string literals are pipelines.

use std::collections::BTreeSet;

/// What a file is written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Language {
    /// A `.rs` file.
    Rust,
    /// A `.py` file.
    Python,
    /// A `.sh` file.
    Shell,
}

impl Language {
    /// By the end of a file's name; nothing for what is none of these.
    pub fn of(name: &str) -> Option<Self> {
        match name.rsplit_once('.')?.1 {
            "rs" => Some(Self::Rust),
            "py" => Some(Self::Python),
            "sh" => Some(Self::Shell),
            _ => None,
        }
    }
}

/// The elements that a file names.
pub fn factories(language: Language, text: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    if language == Language::Shell {
        collect_pipeline(&tokens(&without_shell_comments(text)), &mut found);
        return found;
    }
    for Literal { before, text } in literals(language, text) {
        let call = before.trim_end();
        // What stands alone on its line after a colon, or first in a file, is documentation.
        let alone = before
            .lines()
            .last()
            .is_none_or(|line| line.trim().is_empty());
        if language == Language::Python && alone && (call.is_empty() || call.ends_with(':')) {
            continue;
        }
        let made = ["make(", "find("].iter().any(|end| {
            call.ends_with(&format!("ElementFactory::{end}"))
                || call.ends_with(&format!("ElementFactory.{end}"))
        });
        if made && is_name(&text) {
            found.insert(text);
        } else {
            // In a literal a line may end anywhere.
            let mut words = tokens(&without_placeholders(&text));
            words.retain(|word| word != END);
            collect_pipeline(&words, &mut found);
        }
    }
    found
}

/// The top-level modules that a Python file imports; of `gi.repository` its name spaces, as
/// `gi.repository.Gst`.
pub fn modules(text: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for line in text.lines().map(str::trim) {
        if let Some(names) = line.strip_prefix("from gi.repository import ") {
            let names = names.split('#').next().unwrap_or_default();
            found.extend(
                names
                    .split(',')
                    .map(|name| format!("gi.repository.{}", name.trim())),
            );
        } else if let Some(rest) = line.strip_prefix("from ") {
            let module = rest.split_once(" import ").map(|(module, _)| module);
            found.extend(module.and_then(top).map(str::to_owned));
        } else if let Some(names) = line.strip_prefix("import ") {
            let names = names.split('#').next().unwrap_or_default();
            found.extend(
                names
                    .split(',')
                    .filter_map(|name| top(name.trim()).map(str::to_owned)),
            );
        }
    }
    found
}

/// `numpy` of `numpy.random as random`; nothing of a sentence that begins like an import.
fn top(import: &str) -> Option<&str> {
    let mut words = import.split_whitespace();
    let name = words.next()?.split('.').next()?;
    let plain = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    let rest = words.next();
    (plain && !name.is_empty() && rest.is_none_or(|word| word == "as")).then_some(name)
}

/// Whether a word looks like the name of an element.
fn is_name(word: &str) -> bool {
    word.starts_with(|c: char| c.is_ascii_lowercase())
        && word.len() > 2
        && word
            .chars()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_".contains(c))
}

/// What separates commands; no pipeline goes over it.
const END: &str = "\n";

/// The words of a text. A quoted value stays with its property unless a pipeline is in it; a line's
/// end is a word of its own unless a backslash or a `!` is at it or after it.
fn tokens(text: &str) -> Vec<String> {
    let text = text.replace("\\\n", " ");
    let mut found: Vec<String> = Vec::new();
    let mut word = String::new();
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        if "\"'".contains(c) && word.ends_with('=') {
            let value = rest.as_str().split(c).next().unwrap_or_default();
            if !value.contains(" ! ") {
                word.push_str(value);
                rest = rest.as_str()[value.len()..].chars();
                rest.next();
                continue;
            }
        }
        let parts = c.is_whitespace() || "\"'()[]`;".contains(c) && !word.contains('/');
        if !parts {
            word.push(c);
            continue;
        }
        if !word.is_empty() {
            found.push(std::mem::take(&mut word));
        }
        if c == '\n' || c == ';' {
            found.push(END.into());
        }
    }
    found.push(word);
    found.retain(|word| !word.is_empty());
    found
}

/// Words of a shell before a `!` that means "not".
const BEFORE_NOT: &[&str] = &[
    END, "if", "elif", "while", "until", "&&", "||", "[[", "{", "then", "do",
];

/// Adds the elements of the pipelines in a text.
fn collect_pipeline(words: &[String], found: &mut BTreeSet<String>) {
    let mut start = 0;
    for (at, word) in words.iter().enumerate() {
        let before = at.checked_sub(1).map(|before| words[before].as_str());
        if word != "!" || before.is_some_and(|word| BEFORE_NOT.contains(&word)) {
            continue;
        }
        found.extend(words.get(at + 1).filter(|word| is_name(word)).cloned());
        let source = words[start..at]
            .iter()
            .rev()
            .take_while(|word| *word != END)
            .find(|word| is_name(word) || word.ends_with('.') || word.contains(".src"));
        found.extend(source.filter(|word| is_name(word)).cloned());
        start = at + 1;
    }
}

/// A text for `format!` or of Python's f-strings without what is filled in: that names nothing here.
fn without_placeholders(text: &str) -> String {
    let mut depth = 0_usize;
    let mut result = String::new();
    for c in text.chars() {
        match c {
            '{' => depth += 1,
            '}' => {
                depth = depth.saturating_sub(1);
                result.push_str("{}");
            }
            _ if depth == 0 => result.push(c),
            _ => {}
        }
    }
    result
}

/// A shell script without its comments.
fn without_shell_comments(text: &str) -> String {
    let code = text.lines().map(|line| {
        let comment = line
            .char_indices()
            .find(|(at, c)| *c == '#' && (*at == 0 || line[..*at].ends_with(char::is_whitespace)));
        comment.map_or(line, |(at, _)| &line[..at])
    });
    code.collect::<Vec<_>>().join("\n")
}

/// A string literal, and the code right before it.
struct Literal {
    before: String,
    text: String,
}

/// The string literals of a file; neighbours with nothing or a comma between them are one, as the
/// words of a command are.
fn literals(language: Language, text: &str) -> Vec<Literal> {
    let mut found: Vec<Literal> = Vec::new();
    let mut rest = text;
    let mut code = String::new();
    while let Some(c) = rest.chars().next() {
        let comment = match language {
            Language::Rust => rest.starts_with("//"),
            _ => c == '#',
        };
        if comment {
            rest = &rest[rest.find('\n').unwrap_or(rest.len())..];
        } else if let Some((inner, length)) = literal(language, rest, &code) {
            match found.last_mut() {
                Some(last) if code.trim().is_empty() || code.trim() == "," => {
                    last.text.push(' ');
                    last.text.push_str(&inner);
                }
                _ => found.push(Literal {
                    before: code.clone(),
                    text: inner,
                }),
            }
            code.clear();
            rest = &rest[length..];
        } else {
            code.push(c);
            rest = &rest[c.len_utf8()..];
        }
    }
    found
}

/// The literal that `text` begins with: what is in it, and how long it is with its quotes.
fn literal(language: Language, text: &str, before: &str) -> Option<(String, usize)> {
    let first = text.chars().next()?;
    if language == Language::Rust {
        // `'"'` is a character, and so is `'\''`; a lifetime has no quote after it.
        for character in ["'\"'", "'\\\"'", "'\\''"] {
            if text.starts_with(character) {
                return Some((String::new(), character.len()));
            }
        }
        if first != '"' {
            return None;
        }
        let hashes = before.len() - before.trim_end_matches('#').len();
        if before[..before.len() - hashes].ends_with('r') {
            let close = format!("\"{}", "#".repeat(hashes));
            let end = text[1..].find(&close)?;
            return Some((text[1..=end].to_owned(), end + 1 + close.len()));
        }
    }
    let quote = ["\"\"\"", "'''", "\"", "'"]
        .iter()
        .find(|q| text.starts_with(**q))?;
    let mut inner = String::new();
    let mut rest = text[quote.len()..].char_indices();
    while let Some((at, c)) = rest.next() {
        if text[quote.len() + at..].starts_with(quote) {
            return Some((inner, at + 2 * quote.len()));
        }
        match (c, c == '\\') {
            (_, false) => inner.push(c),
            (_, true) => match rest.next()?.1 {
                'n' | 't' | '\n' => inner.push(' '),
                other => inner.push(other),
            },
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(language: Language, text: &str) -> Vec<String> {
        factories(language, text).into_iter().collect()
    }

    #[test]
    fn elements_stand_around_exclamation_marks() {
        let text = "gst-launch-1.0 -m \\\n  videotestsrc is-live=true num-buffers=$((${D:-20} * 30)) \\\n\
                    ! video/x-raw,width=640 \\\n ! vlmcaption name=c ! queue ! overlay.video_sink \\\n\
                    c.text_src ! webvttenc ! filesink location=\"$out\" | captions";
        assert_eq!(
            named(Language::Shell, text),
            [
                "filesink",
                "queue",
                "videotestsrc",
                "vlmcaption",
                "webvttenc"
            ]
        );
    }

    #[test]
    fn a_shell_that_negates_names_no_element() {
        let text = "if ! has_display; then\n  echo no # comment ! identity\nfi\n\
                    a && ! grep -q x\n[ ! -f file ]\nsink=(x264enc tune=zerolatency ! h264parse)";
        assert_eq!(named(Language::Shell, text), ["h264parse", "x264enc"]);
    }

    #[test]
    fn a_quoted_value_is_no_element() {
        let text = "textoverlay text=\"so it is\" ! fakesink";
        assert_eq!(named(Language::Shell, text), ["fakesink", "textoverlay"]);
    }

    #[test]
    fn literals_of_rust_are_pipelines_and_its_macros_are_not() {
        let text = "println!(\"x\"); // \"audiotestsrc ! \"\n let q = '\"';\n\
                    launch(\"appsrc name=\\\"a b\\\" \\\n ! vlmcaption \\\n c. ! appsink\");\n\
                    gst::ElementFactory::make(\"rtpbin\").build(); r#\"filesrc ! fdsink\"#; a != b;";
        assert_eq!(
            named(Language::Rust, text),
            [
                "appsink",
                "appsrc",
                "fdsink",
                "filesrc",
                "rtpbin",
                "vlmcaption"
            ]
        );
    }

    #[test]
    fn literals_of_python_side_by_side_are_one_pipeline() {
        let text = "def f():\n    \"\"\"source ! sink\"\"\"\nrun([\"gst-launch-1.0\", \"-m\", *source, \"!\", \"fakesink\"])\n\
                    x = (f\"videotestsrc pattern={p} ! \"\n     \"identity ! join. {n(1) ! x}\")  # it's ! tee\n\
                    Gst.ElementFactory.make('udpsrc', None)";
        assert_eq!(
            named(Language::Python, text),
            ["fakesink", "identity", "udpsrc", "videotestsrc"]
        );
    }

    #[test]
    fn imports_are_named_by_their_first_word() {
        let text = "import os, sys\nimport numpy as np\nfrom torch.nn import Linear\n\
                    from gi.repository import GLib, Gst  # noqa\nfrom here on it is a sentence";
        let found: Vec<String> = modules(text).into_iter().collect();
        assert_eq!(
            found,
            [
                "gi.repository.GLib",
                "gi.repository.Gst",
                "numpy",
                "os",
                "sys",
                "torch"
            ]
        );
    }
}
