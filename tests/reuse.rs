// SPDX-License-Identifier: MPL-2.0

//! What is computed once for several windows changes no caption, and is counted.

mod common;

use common::clips::frame;
use common::{Run, captions, pts_list};
use gst::prelude::*;

const SECOND: u64 = 1_000_000_000;
const PROMPT: &str = "Describe the video.";

/// Shows pictures one a second from a time on; all captions, and the statistics at the end.
fn watch(
    pictures: &[world::Canvas],
    properties: &[(&str, &str)],
) -> (Vec<gst::Structure>, gst::Structure) {
    let (width, height) = (pictures[0].width(), pictures[0].height());
    let caps = format!(
        "video/x-raw,format=RGB,width={width},height={height},framerate=1/1,\
         colorimetry=sRGB,pixel-aspect-ratio=1/1"
    );
    let mut all = vec![
        ("prompt", PROMPT),
        ("drop-policy", "block"),
        ("precision", "f32"),
        ("eos-timeout", "600000000000"),
    ];
    all.extend(properties);
    let run = Run::start(&all, &caps);
    for (second, picture) in (0..).zip(pictures) {
        let mut buffer = frame(picture);
        let buffer_mut = buffer.get_mut().unwrap();
        buffer_mut.set_pts(gst::ClockTime::from_nseconds(second * SECOND));
        buffer_mut.set_duration(gst::ClockTime::SECOND);
        run.src.push_buffer(buffer).unwrap();
    }
    let messages = run.finish();
    let stats = run.element.property::<gst::Structure>("stats");
    (captions(&messages), stats)
}

fn text(caption: &gst::Structure) -> String {
    caption.get("text").unwrap()
}

/// Twelve seconds of a circle on its way, without a cut.
fn pictures() -> Vec<world::Canvas> {
    let second = |second: u8| {
        let mut canvas = world::Canvas::filled(320, 192, [20, 20, 20]);
        let centre = [30.0 + 22.0 * f32::from(second), 96.0];
        canvas.paint(world::Shape::Circle, centre, [24.0, 24.0], [220, 30, 30]);
        canvas
    };
    (0..12).map(second).collect()
}

#[test]
fn windows_that_overlap_say_what_each_says_alone() {
    let pictures = pictures();
    let (together, stats) = watch(&pictures, &[("window", "4"), ("stride", "2")]);
    assert_eq!(together.len(), 5);
    for (n, caption) in together.iter().enumerate() {
        let first = 2 * n as u64;
        assert_eq!(pts_list(caption)[0], first * SECOND);
        let (alone, _) = watch(&pictures[2 * n..][..4], &[("window", "4")]);
        assert_eq!(text(&alone[0]), text(caption), "window {n}");
        // The second pair of the window before is the first of this one.
        let pairs = caption.get::<u32>("reused-pairs").unwrap();
        assert_eq!(pairs, u32::from(n > 0), "window {n}");
        let reused = caption.get::<u32>("reused").unwrap();
        assert!(n == 0 || reused > 0, "the beginning of the prompt");
    }
    assert_eq!(stats.get::<u64>("reused-pairs").unwrap(), 4);
    assert!(stats.get::<u64>("reused-tokens").unwrap() > 0);
}

#[test]
fn a_prompt_begun_while_its_window_fills_says_the_same() {
    let pictures = pictures();
    let run = |properties: &[(&str, &str)]| watch(&pictures, properties).0;
    // A system prompt with the window's end is not known before it: nothing is begun.
    let late = run(&[("window", "12"), ("system-prompt", "{end}")]);
    let early = run(&[("window", "12"), ("system-prompt", "0:00:11.000")]);
    assert_eq!(text(&early[0]), text(&late[0]));
    let tokens = |caption: &gst::Structure| caption.get::<u32>("tokens-in").unwrap();
    assert_eq!(tokens(&early[0]), tokens(&late[0]));
}

#[test]
fn what_was_said_before_is_a_draft_and_changes_no_caption() {
    let mut pictures = pictures();
    // A scene that does not change after that.
    let still = pictures[11].clone();
    pictures.extend((0..12).map(|_| still.clone()));
    let run = |drafts| watch(&pictures, &[("window", "4"), ("drafts", drafts)]);
    let ((with, counts), (without, none)) = (run("auto"), run("off"));
    let texts = |captions: &[gst::Structure]| captions.iter().map(text).collect::<Vec<_>>();
    assert_eq!(texts(&with), texts(&without));
    let number = |stats: &gst::Structure, name| stats.get::<u64>(name).unwrap();
    assert_eq!(number(&none, "drafted-tokens"), 0);
    // What they save is not known before the first was tried.
    let drafted = number(&counts, "drafted-tokens");
    assert!(drafted > 0);
    assert!(number(&counts, "accepted-tokens") <= drafted);
    let sum = |name| -> u64 {
        let of = |caption: &gst::Structure| u64::from(caption.get::<u32>(name).unwrap());
        with.iter().map(of).sum()
    };
    assert_eq!(sum("drafted"), drafted);
    assert_eq!(sum("accepted"), number(&counts, "accepted-tokens"));
}
