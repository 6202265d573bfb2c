// SPDX-License-Identifier: MPL-2.0

//! What docs and messages tell a user to write exists: each pipeline and each `element property` in
//! README, docs, doc comments and messages is parsed by GStreamer.

mod common;

use std::path::{Path, PathBuf};

use common::Run;
use gst::prelude::*;

/// Fragments that cannot be parsed here, and why.
const SKIPPED: [(&str, &str); 2] = [
    ("onvifmeta2relationmeta", "its plugin is on crates.io alone"),
    ("relationmeta2onvifmeta", "its plugin is on crates.io alone"),
];

/// A text that a user may copy, and where it stands.
#[derive(Debug)]
struct Fragment {
    place: String,
    text: String,
}

/// Files with an ending, in a folder and those below it.
fn files(folder: &Path, ending: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path, ending));
        } else if path.extension().is_some_and(|is| is == ending) {
            found.push(path);
        }
    }
    found
}

/// Code of a text in Markdown: the pipelines in blocks, and all spans.
fn code(markdown: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut prose = String::new();
    let mut block: Option<String> = None;
    for line in markdown.lines() {
        match (&mut block, line.trim_start().starts_with("```")) {
            (None, true) => block = Some(String::new()),
            (None, false) => prose.extend([line, "\n"]),
            (Some(_), true) => {
                let commands = commands(&block.take().unwrap());
                found.extend(commands.into_iter().filter(|text| pipeline(text).is_some()));
            }
            (Some(text), false) => text.extend([line, "\n"]),
        }
    }
    // A span may go on in the next line.
    found.extend(prose.split('`').skip(1).step_by(2).map(str::to_owned));
    found
}

/// Lines of a block, continued ones joined: by a backslash, or because they go on with a pipe or an
/// indented pad.
fn commands(block: &str) -> Vec<String> {
    let mut commands: Vec<String> = Vec::new();
    for line in block.replace("\\\n", " ").lines() {
        let line = line.split(" #").next().unwrap_or_default();
        let goes_on = line.starts_with(' ') && line.contains(" ! ");
        match commands.last_mut() {
            Some(last) if goes_on && last.contains(" ! ") => last.extend([" ", line.trim()]),
            _ => commands.extend(line.split("&&").map(|part| part.trim().to_owned())),
        }
    }
    commands
}

/// The texts in quotes of a source file, as the compiler joins them.
fn literals(source: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut rest = source;
    while let Some(start) = rest.find('"') {
        let is_char = rest[..start].ends_with('\'') || rest[..start].ends_with("'\\");
        rest = &rest[start + 1..];
        if is_char {
            continue;
        }
        let mut text = String::new();
        let mut chars = rest.char_indices();
        let mut end = rest.len();
        while let Some((at, char)) = chars.next() {
            match char {
                '"' => {
                    end = at + 1;
                    break;
                }
                '\\' => match chars.next() {
                    Some((_, '\n')) => {
                        let left = chars.as_str();
                        let skipped = left.len() - left.trim_start().len();
                        for _ in 0..skipped {
                            chars.next();
                        }
                    }
                    Some((_, other)) => text.push(other),
                    None => break,
                },
                other => text.push(other),
            }
        }
        found.push(text);
        rest = &rest[end..];
    }
    found
}

fn fragments() -> Vec<Fragment> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut fragments = Vec::new();
    let mut add = |path: &Path, texts: Vec<String>| {
        let place = path.strip_prefix(root).unwrap().display().to_string();
        fragments.extend(texts.into_iter().map(|text| Fragment {
            place: place.clone(),
            text,
        }));
    };
    let mut documents = files(&root.join("docs"), "md");
    documents.extend(["README.md", "pipelines/README.md"].map(|name| root.join(name)));
    for path in documents {
        add(&path, code(&std::fs::read_to_string(&path).unwrap()));
    }
    for path in files(&root.join("src"), "rs") {
        let source = std::fs::read_to_string(&path).unwrap();
        let source = source.split("#[cfg(test)]").next().unwrap();
        let (comments, plain): (Vec<&str>, Vec<&str>) = source
            .lines()
            .partition(|line| line.trim_start().starts_with("//"));
        let text = |line: &&str| line.trim_start().trim_start_matches(['/', '!']).to_owned();
        let comments: Vec<String> = comments.iter().map(text).collect();
        add(&path, code(&comments.join("\n")));
        for literal in literals(&plain.join("\n")) {
            add(&path, code(&literal));
        }
    }
    fragments
}

/// As a shell splits a command: at spaces, but for those in quotes or behind a backslash.
fn words(command: &str) -> Vec<String> {
    let (mut words, mut word, mut quote) = (Vec::new(), String::new(), None);
    let mut chars = command.chars();
    while let Some(char) = chars.next() {
        match (quote, char) {
            (None, ' ') => words.push(std::mem::take(&mut word)),
            (None, '"' | '\'') => quote = Some(char),
            (Some(open), _) if char == open => quote = None,
            (None | Some('"'), '\\') => word.extend(chars.next()),
            _ => word.push(char),
        }
    }
    words.push(word);
    words.retain(|word| !word.is_empty());
    words
}

/// The pipeline of a command or a span, without what it leaves to the reader (`...`).
fn pipeline(text: &str) -> Option<Vec<String>> {
    let start = text
        .find("gst-launch-1.0")
        .map(|at| at + "gst-launch-1.0".len());
    if start.is_none() && !text.contains(" ! ") {
        return None;
    }
    let words = words(&text[start.unwrap_or(0)..]);
    let is_open = |word: &String| word == "..." || word == "…";
    let is_option = |word: &String| word.starts_with('-');
    let mut words: Vec<String> = words.into_iter().filter(|word| !is_open(word)).collect();
    words.drain(..words.iter().take_while(|word| is_option(word)).count());
    let is_link = |word: Option<&String>| word.is_some_and(|word| word == "!");
    while is_link(words.first()) {
        words.remove(0);
    }
    while is_link(words.last()) {
        words.pop();
    }
    (!words.is_empty()).then_some(words)
}

/// Why GStreamer does not take a fragment.
fn complaint(text: &str) -> Option<String> {
    if let Some(words) = pipeline(text) {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let flags = gst::ParseFlags::FATAL_ERRORS;
        let parsed = gst::parse::launchv_full(&words, None, flags);
        return parsed.err().map(|error| error.to_string());
    }
    // An element with properties, as in `appsrc do-timestamp=true`.
    let words = words(text);
    let (name, properties) = words.split_first()?;
    let element = gst::ElementFactory::make(name).build().ok()?;
    let missing = properties.iter().find(|property| {
        let name = property.split('=').next().unwrap_or_default();
        element.find_property(name).is_none()
    });
    missing.map(|property| format!("{name} has no property {property}"))
}

#[test]
fn what_docs_and_messages_tell_to_write_exists() {
    common::init();
    let (mut wrong, mut n_pipelines) = (Vec::new(), 0);
    let mut skips = SKIPPED.map(|(text, _)| text).to_vec();
    for Fragment { place, text } in fragments() {
        if SKIPPED.iter().any(|(skipped, _)| text.contains(skipped)) {
            skips.retain(|skipped| !text.contains(skipped));
            continue;
        }
        n_pipelines += usize::from(pipeline(&text).is_some());
        if let Some(complaint) = complaint(&text) {
            wrong.push(format!("{place}: `{text}`: {complaint}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(n_pipelines >= 10, "{n_pipelines} pipelines found");
    assert!(skips.is_empty(), "these are not there any more: {skips:?}");
}

#[test]
fn a_fragment_that_does_not_exist_is_found() {
    common::init();
    for wrong in [
        "identity do-timestamp",
        "appsrc format=time do-timestam=true",
        "gst-launch-1.0 -m videotestsrc ! vlmcaption promt=\"What is it?\" ! fakesink",
        "gst-launch-1.0 ... ! nosuchelement ! ...",
    ] {
        assert!(complaint(wrong).is_some(), "{wrong}");
    }
    let message = "say(\"put \\\n      `identity \\\n  do-timestamp` there\", '\"', \"and `x`\")";
    let spans: Vec<_> = literals(message)
        .iter()
        .flat_map(|text| code(text))
        .collect();
    assert_eq!(spans, ["identity do-timestamp", "x"]);
}

#[test]
fn the_remedy_for_buffers_without_timestamps_gives_captions() {
    let caps = "video/x-raw,format=I420,width=64,height=48,framerate=30/1";
    let run = Run::new(&[("backend", "mock"), ("window", "1")], caps);
    run.src.set_do_timestamp(true);
    run.pipeline.set_state(gst::State::Playing).unwrap();
    let bus = run.pipeline.bus().unwrap();
    let captioned = || {
        let message = bus.pop_filtered(&[gst::MessageType::Element]);
        message.is_some_and(|message| common::named(&message, "vlmcaption/caption"))
    };
    let began = std::time::Instant::now();
    while !captioned() {
        let buffer = gst::Buffer::with_size(64 * 48 * 3 / 2).unwrap();
        run.src.push_buffer(buffer).unwrap();
        assert!(began.elapsed().as_secs() < 60, "no caption");
        std::thread::yield_now();
    }
}
