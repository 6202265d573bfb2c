// SPDX-License-Identifier: MPL-2.0

//! Axmodels through the whole element.

use std::fs;
use std::path::Path;

use gst::prelude::*;
use gstvlmcaption::backend::GridThw;

use crate::common::clips::{ask_with, clips, draw};
use crate::common::{self, Run};
use crate::compare::Folders;
use crate::golden::demo;
use crate::make::Build;
use crate::{both, says};

#[test]
fn held_out_clips_are_captioned_at_the_one_size_there_is() {
    both("element::captions");
}

#[test]
#[ignore = "called by another"]
fn captions() {
    let mut folders = Folders::new(&demo(), Build::for_windows());
    let clips = clips();
    let size = clips[0].size();
    let (width, height) = (size.0 / 32 * 32, size.1 / 32 * 32);
    let folder = folders.folder(GridThw {
        t: 1,
        h: height / 16,
        w: width / 16,
    });
    let evidence = tempfile::tempdir().unwrap();
    let model = format!(
        "model={} config={} evidence={}",
        folder.display(),
        demo().display(),
        evidence.path().display()
    );
    let alike = clips.iter().filter(|clip| clip.size() == size).take(4);
    let mut n = 0;
    for (i, clip) in alike.enumerate() {
        // The folder says what it is.
        let backend = ["backend=auto", "backend=axera device=0"][i % 2];
        // Said in whichever process the vendor's library is.
        let isolation = ["process", "none"][i % 2];
        let (pictures, decoy) = draw(clip, 4.0);
        let properties = format!("{backend} isolation={isolation} {model}");
        let prompt = "Describe the video.";
        let said = ask_with(
            &properties,
            &pictures,
            &decoy,
            "I420",
            prompt,
            common::PATIENCE,
        );
        println!("  {}: {said}", clip.id);
        assert_eq!(said, clip.caption, "{}", clip.id);
        n += 1;
    }
    assert!(n >= 2, "only {n} clips of {size:?}");
    assert_eq!(common::records::made_again(evidence.path()), n);
}

/// What the element says at READY.
fn complaint(properties: &[(&str, &str)]) -> String {
    let caps = "video/x-raw,format=RGB,width=64,height=64,framerate=1/1";
    let run = Run::new(properties, caps);
    let bus = run.pipeline.bus().unwrap();
    assert!(run.pipeline.set_state(gst::State::Ready).is_err());
    let message = bus.timed_pop_filtered(common::PATIENCE, &[gst::MessageType::Error]);
    let message = message.unwrap();
    let gst::MessageView::Error(error) = message.view() else {
        unreachable!()
    };
    error.error().to_string()
}

#[test]
fn a_folder_is_asked_for_if_there_is_none() {
    let text = complaint(&[("backend", "axera")]);
    says(
        &text,
        &["backend=axera needs model=", ".axmodel", "docs/axera.md"],
    );
}

#[test]
fn an_empty_folder_says_what_it_lacks() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_str().unwrap();
    let text = complaint(&[("backend", "axera"), ("model", path)]);
    says(&text, &[path, "no layer files", "pulsar2 llm_build"]);
}

fn models(folder: &Path) {
    for name in [
        "qwen3_vl_text_p128_l0_together.axmodel",
        "qwen3_vl_text_post.axmodel",
        "Qwen3-VL-2B-Instruct_vision.axmodel",
        "model.embed_tokens.weight.bfloat16.bin",
    ] {
        fs::write(folder.join(name), "x").unwrap();
    }
}

#[test]
fn a_folder_without_the_checkpoints_files_says_where_they_come_from() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("AX650");
    fs::create_dir(&path).unwrap();
    models(&path);
    let text = complaint(&[("model", path.to_str().unwrap())]);
    says(
        &text,
        &["tokenizer.json", "set config to a folder", "hf download"],
    );
}

#[test]
fn a_pointer_of_git_lfs_is_told_at_once() {
    let folder = tempfile::tempdir().unwrap();
    models(folder.path());
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n";
    fs::write(folder.path().join("qwen3_vl_text_post.axmodel"), pointer).unwrap();
    let text = complaint(&[("model", folder.path().to_str().unwrap())]);
    says(&text, &["qwen3_vl_text_post.axmodel is a Git LFS pointer"]);
}

#[test]
fn a_size_that_cannot_be_cut_into_blocks_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    models(folder.path());
    let config = r#"{"vision_width": 100, "vision_height": 100}"#;
    fs::write(folder.path().join("config.json"), config).unwrap();
    let demo = demo();
    let (model, config) = (folder.path().to_str().unwrap(), demo.to_str().unwrap());
    let text = complaint(&[("model", model), ("config", config)]);
    says(&text, &["100x100", "blocks of 32 pixels", "vision_width"]);
}
