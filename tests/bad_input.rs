// SPDX-License-Identifier: MPL-2.0

//! Whatever comes in: nothing panics, the video flows on, and the message names the fix.

mod common;

use std::fs;
use std::path::Path;
use std::time::Duration;

use common::{Run, captions, warnings};
use gst::prelude::*;

const DEMO: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/models/demo");

/// A copy of the demo model that a test may spoil.
fn checkpoint() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(DEMO).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_file() {
            fs::copy(entry.path(), folder.path().join(entry.file_name())).unwrap();
        }
    }
    folder
}

fn edit(folder: &Path, name: &str, from: &str, to: &str) {
    let path = folder.join(name);
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.contains(from), "{name} has no {from}");
    fs::write(path, text.replacen(from, to, 1)).unwrap();
}

/// What the element says when it is to use a model: the error at READY, or else the warning once
/// the weights were read, after which video must still pass.
fn complaint(folder: &Path) -> String {
    common::init();
    let run = Run::new(
        &[("model", folder.to_str().unwrap()), ("window", "1")],
        "video/x-raw,format=RGB,width=64,height=64,framerate=1/1",
    );
    let bus = run.pipeline.bus().unwrap();
    if run.pipeline.set_state(gst::State::Playing).is_err() {
        let message = bus.timed_pop_filtered(common::PATIENCE, &[gst::MessageType::Error]);
        let message = message.unwrap();
        let gst::MessageView::Error(error) = message.view() else {
            unreachable!()
        };
        return error.error().to_string();
    }
    for second in 0..3 {
        run.push(Duration::from_secs(second), None).unwrap();
    }
    let messages = run.finish();
    assert_eq!(run.buffers.lock().unwrap().len(), 3);
    assert!(captions(&messages).is_empty());
    warnings(&messages).concat()
}

#[track_caller]
fn says(complaint: &str, words: &[&str]) {
    for word in words {
        assert!(complaint.contains(word), "no {word:?} in: {complaint}");
    }
}

#[test]
fn a_checkpoint_without_a_tokenizer_is_named() {
    let folder = checkpoint();
    // Older checkpoints have the vocabulary in files of its own, which would do.
    for name in ["tokenizer.json", "vocab.json"] {
        let _ = fs::remove_file(folder.path().join(name));
    }
    says(
        &complaint(folder.path()),
        &["tokenizer.json", folder.path().to_str().unwrap()],
    );
}

#[test]
fn a_checkpoint_without_weights_is_named() {
    let folder = checkpoint();
    fs::remove_file(folder.path().join("model.safetensors")).unwrap();
    says(&complaint(folder.path()), &["model.safetensors"]);
}

#[test]
fn a_truncated_weight_file_is_named() {
    let folder = checkpoint();
    let path = folder.path().join("model.safetensors");
    for keep in [4, 1000, 3_000_000] {
        let bytes = fs::read(Path::new(DEMO).join("model.safetensors")).unwrap();
        fs::write(&path, &bytes[..keep]).unwrap();
        says(&complaint(folder.path()), &["model.safetensors"]);
    }
}

#[test]
fn a_pointer_instead_of_weights_is_explained() {
    let folder = checkpoint();
    fs::write(
        folder.path().join("model.safetensors"),
        "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n",
    )
    .unwrap();
    says(
        &complaint(folder.path()).to_lowercase(),
        &["model.safetensors", "lfs"],
    );
}

#[test]
fn an_unknown_family_is_told_what_is_supported() {
    let folder = checkpoint();
    edit(
        folder.path(),
        "config.json",
        "\"model_type\": \"qwen3_vl\"",
        "\"model_type\": \"llava\"",
    );
    says(&complaint(folder.path()), &["llava", "qwen3_vl"]);
}

#[test]
fn weights_that_do_not_fit_the_config_are_named() {
    let folder = checkpoint();
    edit(
        folder.path(),
        "config.json",
        "\"intermediate_size\": 384",
        "\"intermediate_size\": 400",
    );
    says(&complaint(folder.path()), &["mlp", "400", "384"]);
}

#[test]
fn a_config_that_contradicts_itself_is_refused() {
    let folder = checkpoint();
    let heads = "\"num_key_value_heads\": 2";
    edit(
        folder.path(),
        "config.json",
        heads,
        "\"num_key_value_heads\": 3",
    );
    says(
        &complaint(folder.path()),
        &["num_key_value_heads", "config.json"],
    );
}

#[test]
fn a_broken_config_is_named() {
    let folder = checkpoint();
    fs::write(folder.path().join("config.json"), "{").unwrap();
    says(&complaint(folder.path()), &["config.json"]);
}

#[test]
fn an_empty_prompt_is_refused_at_ready() {
    common::init();
    let run = Run::new(
        &[("prompt", "")],
        "video/x-raw,format=RGB,width=64,height=64",
    );
    assert!(run.pipeline.set_state(gst::State::Playing).is_err());
}

#[test]
fn a_window_that_the_context_cannot_hold_is_cut_and_says_what_to_lower() {
    let run = Run::start(
        &[
            ("window", "700"),
            ("drop-policy", "block"),
            ("eos-timeout", "300000000000"),
        ],
        "video/x-raw,format=GRAY8,width=128,height=128,framerate=1/1",
    );
    for second in 0..700 {
        run.push(Duration::from_secs(second), None).unwrap();
    }
    let messages = run.finish();
    assert_eq!(run.buffers.lock().unwrap().len(), 700);
    let warnings = warnings(&messages);
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    says(&warnings[0], &["700 frames", "last", "lower", "window"]);
    let captions = captions(&messages);
    assert_eq!(captions.len(), 1);
    // It is about the frames that were left, whole pairs up to the last one.
    let pts = common::pts_list(&captions[0]);
    assert_eq!(pts.last(), Some(&699_000_000_000));
    assert!(
        pts.len() < 700 && pts.len().is_multiple_of(2),
        "{}",
        pts.len()
    );
    assert!(!captions[0].get::<String>("text").unwrap().is_empty());
}

/// One frame of these caps through the demo model: what was said and what was complained of.
fn one_frame(caps: &str) -> (usize, Vec<String>) {
    let run = Run::start(&[("window", "1")], caps);
    run.push(Duration::ZERO, None).unwrap();
    let messages = run.finish();
    assert_eq!(run.buffers.lock().unwrap().len(), 1);
    (captions(&messages).len(), warnings(&messages))
}

#[test]
fn frames_of_any_size_and_kind_are_captioned() {
    for caps in [
        "video/x-raw,format=RGB,width=1,height=1,framerate=0/1",
        "video/x-raw,format=I420,width=1,height=1,framerate=0/1",
        "video/x-raw,format=NV12,width=7680,height=4320,framerate=30/1",
        "video/x-raw,format=I420,width=1917,height=1079,framerate=0/1",
        "video/x-raw,format=I420,width=720,height=576,framerate=25/1,interlace-mode=interleaved",
        "video/x-raw,format=UYVY,width=720,height=480,framerate=30/1,interlace-mode=mixed",
        "video/x-raw,format=P010_10LE,width=640,height=360,framerate=30/1",
        "video/x-raw,format=RGBA,width=33,height=17,framerate=30/1",
    ] {
        assert_eq!(one_frame(caps), (1, vec![]), "{caps}");
    }
}

#[test]
fn a_shape_that_no_model_takes_is_refused_in_words() {
    let (n_captions, warnings) =
        one_frame("video/x-raw,format=GRAY8,width=4000,height=2,framerate=0/1");
    assert_eq!(n_captions, 0);
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    says(&warnings[0], &["4000", "200"]);
}

#[test]
fn padded_strides_show_the_same_picture() {
    common::init();
    let (width, height, stride) = (320usize, 240usize, 512usize);
    let said = |padded: bool| {
        let caps = format!("video/x-raw,format=GRAY8,width={width},height={height},framerate=0/1");
        let run = Run::start(&[("window", "1"), ("prompt", "Describe the image.")], &caps);
        let stride = if padded { stride } else { width };
        // White in the picture, black in the padding.
        let mut bytes = vec![0u8; stride * height];
        for row in bytes.chunks_mut(stride) {
            row[..width].fill(255);
        }
        let mut buffer = gst::Buffer::from_slice(bytes);
        let buffer_mut = buffer.get_mut().unwrap();
        buffer_mut.set_pts(gst::ClockTime::ZERO);
        gst_video::VideoMeta::add_full(
            buffer_mut,
            gst_video::VideoFrameFlags::empty(),
            gst_video::VideoFormat::Gray8,
            width as u32,
            height as u32,
            &[0],
            &[stride as i32],
        )
        .unwrap();
        run.src.push_buffer(buffer).unwrap();
        let text = captions(&run.finish())[0].get::<String>("text").unwrap();
        assert!(text.contains("white"), "{text}");
        text
    };
    assert_eq!(said(true), said(false));
}

#[test]
fn memory_that_cannot_be_read_passes_and_is_explained_once() {
    common::init();
    let run = Run::start(
        &[("window", "1")],
        "video/x-raw(memory:DMABuf),format=NV12,width=64,height=64,framerate=1/1",
    );
    for second in 0..3 {
        // Too small to be what the caps say: it cannot be mapped as a frame.
        let mut buffer = gst::Buffer::with_size(16).unwrap();
        buffer
            .get_mut()
            .unwrap()
            .set_pts(gst::ClockTime::from_seconds(second));
        run.src.push_buffer(buffer).unwrap();
    }
    let messages = run.finish();
    assert_eq!(run.buffers.lock().unwrap().len(), 3);
    let warnings = warnings(&messages);
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    says(&warnings[0], &["before vlmcaption"]);
}

#[test]
fn buffers_without_timestamps_pass_and_are_explained_once() {
    let run = Run::start(
        &[],
        "video/x-raw,format=GRAY8,width=64,height=64,framerate=0/1",
    );
    for _ in 0..3 {
        run.src
            .push_buffer(gst::Buffer::with_size(64 * 64).unwrap())
            .unwrap();
    }
    let messages = run.finish();
    assert_eq!(run.buffers.lock().unwrap().len(), 3);
    let warnings = warnings(&messages);
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    says(&warnings[0], &["timestamps"]);
}

/// What a model says of two seconds of grey.
fn said_by(properties: &[(&str, &str)]) -> Vec<String> {
    common::init();
    let caps = "video/x-raw,format=RGB,width=64,height=64,framerate=1/1";
    let run = Run::new(&[properties, &[("window", "2")]].concat(), caps);
    run.pipeline.set_state(gst::State::Playing).unwrap();
    for second in 0..2 {
        run.push(Duration::from_secs(second), None).unwrap();
    }
    let captions = captions(&run.finish());
    captions.iter().map(|c| c.get("text").unwrap()).collect()
}

#[test]
fn text_files_may_begin_with_a_byte_order_mark() {
    let folder = checkpoint();
    for entry in fs::read_dir(folder.path()).unwrap() {
        let path = entry.unwrap().path();
        if path
            .extension()
            .is_some_and(|is| is == "json" || is == "jinja")
        {
            let text = fs::read_to_string(&path).unwrap();
            fs::write(&path, format!("\u{feff}{text}")).unwrap();
        }
    }
    let marked = said_by(&[("model", folder.path().to_str().unwrap())]);
    assert_eq!(marked.len(), 1);
    assert_eq!(marked, said_by(&[("model", DEMO)]));
    for script in [
        "[{\"text\": \"Hm.\"}]",
        "{\"answers\": [{\"text\": \"Hm.\"}]}",
    ] {
        let script = common::script(&format!("\u{feff}{script}"));
        let path = script.path().to_str().unwrap();
        assert_eq!(said_by(&[("backend", "mock"), ("model", path)]), ["Hm."]);
    }
}

#[test]
fn a_folder_of_the_hubs_cache_is_the_checkpoint_in_it() {
    let cache = tempfile::tempdir().unwrap();
    let model = cache.path().join("models--us--demo");
    let snapshot = model.join("snapshots/0a1b2c");
    fs::create_dir_all(&snapshot).unwrap();
    for entry in fs::read_dir(checkpoint().path()).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), snapshot.join(entry.file_name())).unwrap();
    }
    let said = said_by(&[("model", model.to_str().unwrap())]);
    assert_eq!(said, said_by(&[("model", DEMO)]));
    fs::create_dir(model.join("snapshots/3d4e5f")).unwrap();
    let complaint = complaint(&model);
    assert!(complaint.contains("give one of"), "{complaint}");
    assert!(complaint.contains("snapshots/0a1b2c"), "{complaint}");
}
