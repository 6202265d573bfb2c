// SPDX-License-Identifier: MPL-2.0

//! The built-in model through the whole element: pixels of a camera in, true captions out.
//!
//! The clips of `tests/data/demo-clips.jsonl` were held out from training; another renderer than
//! the one that trained the model draws them here, at native camera sizes.

mod common;

use std::fmt::Write;

use common::clips::{ask_with, camera, clips, draw};
use gst::prelude::*;
use world::Clip;

/// What the built-in model says of pictures.
fn ask(pictures: &[world::Canvas], decoy: &world::Canvas, format: &str, prompt: &str) -> String {
    ask_with("", pictures, decoy, format, prompt, common::PATIENCE)
}

#[test]
fn held_out_clips_are_captioned_and_questions_answered() {
    let clips = clips();
    let (mut wrong, mut n_wrong_captions, mut n_wrong_answers) = (String::new(), 0, 0);
    let mut n_questions = 0;
    for (n, clip) in clips.iter().enumerate() {
        let (format, scale) = camera(n);
        let (pictures, decoy) = draw(clip, scale);
        let said = ask(&pictures, &decoy, format, "Describe the video.");
        if said != clip.caption {
            n_wrong_captions += 1;
            writeln!(wrong, "{}: {said} (is: {})", clip.id, clip.caption).unwrap();
        }
        for (question, answer) in &clip.questions {
            n_questions += 1;
            let said = ask(&pictures, &decoy, format, question);
            if said != *answer {
                n_wrong_answers += 1;
                writeln!(wrong, "{}: {question} {said} (is: {answer})", clip.id).unwrap();
            }
        }
    }
    assert!(
        n_wrong_captions * 100 <= clips.len() * 3,
        "captions below 97 %:\n{wrong}"
    );
    assert!(
        n_wrong_answers * 100 <= n_questions * 5,
        "answers below 95 %:\n{wrong}"
    );
}

/// Clips of one pair whose objects are there in both frames, at least one of them moving.
fn moving() -> Vec<Clip> {
    let mut clips = clips();
    clips.retain(|clip| {
        let there = clip
            .objects
            .iter()
            .all(|object| object.visible.iter().all(|seen| *seen));
        clip.pairs == 1 && there && clip.caption.contains("moves")
    });
    assert!(clips.len() >= 4, "{}", clips.len());
    clips
}

#[test]
fn a_pair_with_its_frames_swapped_moves_the_other_way() {
    let opposite = |word: &str| match word {
        "left" => "right",
        "right" => "left",
        "up" => "down",
        "down" => "up",
        _ => panic!("{word} is no direction"),
    };
    for clip in moving() {
        let (mut pictures, decoy) = draw(&clip, 4.0);
        pictures.reverse();
        let mut want = String::new();
        let mut direction = false;
        for word in clip.caption.trim_end_matches('.').split(' ') {
            let bare = word.trim_end_matches(',');
            let comma = if bare == word { "" } else { "," };
            let word = if direction {
                bare.split('-').map(opposite).collect::<Vec<_>>().join("-")
            } else {
                bare.to_owned()
            };
            direction = word == "moves";
            write!(
                want,
                "{}{word}{comma}",
                if want.is_empty() { "" } else { " " }
            )
            .unwrap();
        }
        let said = ask(&pictures, &decoy, "I420", "Describe the video.");
        assert_eq!(said, format!("{want}."), "{}", clip.id);
    }
}

#[test]
fn a_pair_of_the_same_frame_stays_still() {
    for clip in moving() {
        let (mut pictures, decoy) = draw(&clip, 4.0);
        pictures[1] = clip.draw(0, decoy.width(), decoy.height());
        let said = ask(&pictures, &decoy, "NV12", "Describe the video.");
        assert!(
            !said.contains("moves") && said.contains("stays still"),
            "{}: {said}",
            clip.id
        );
    }
}

#[test]
fn the_patterns_of_videotestsrc_are_known() {
    common::init();
    let known = [
        ("smpte", "SMPTE color bars."),
        ("snow", "Random noise like television snow."),
        ("black", "A black screen."),
        ("white", "A white screen."),
        ("red", "A red screen."),
        ("green", "A green screen."),
        ("blue", "A blue screen."),
        ("checkers-1", "A red and green checkerboard."),
        ("checkers-2", "A red and green checkerboard."),
        ("checkers-4", "A red and green checkerboard."),
        ("checkers-8", "A red and green checkerboard."),
        ("circular", "Concentric circles."),
        ("smpte75", "Vertical color bars."),
        ("smpte100", "Vertical color bars."),
        ("zone-plate", "A gray screen."),
        ("gamut", "Horizontal stripes of black, white, red and blue."),
        ("chroma-zone-plate", "A gray screen."),
        ("solid-color", "A white screen."),
        ("bar", "A white vertical bar."),
        ("pinwheel", "A black and white pinwheel."),
        ("spokes", "White spokes on a black background."),
        ("gradient", "A vertical gradient from black to white."),
        ("colors", "A grid of many colors."),
        ("smpte-rp-219", "SMPTE RP 219 color bars."),
    ];
    for (pattern, want) in known {
        let pipeline = gst::parse::launch(&format!(
            "videotestsrc pattern={pattern} num-buffers=31 !
             video/x-raw,format=I420,width=640,height=360,framerate=10/1 !
             vlmcaption window=4 ! fakesink"
        ))
        .unwrap();
        pipeline.set_state(gst::State::Playing).unwrap();
        let bus = pipeline.bus().unwrap();
        let message = loop {
            let message = bus.timed_pop(common::PATIENCE).expect("no caption in time");
            if common::named(&message, "vlmcaption/caption") {
                break message;
            }
        };
        let text: String = message.structure().unwrap().get("text").unwrap();
        pipeline.set_state(gst::State::Null).unwrap();
        assert_eq!(text, want, "{pattern}");
    }
}

#[test]
fn one_frame_is_a_picture_and_has_no_motion() {
    let clip = &moving()[0];
    let (pictures, decoy) = draw(clip, 4.0);
    let said = ask(&pictures[..1], &decoy, "I420", "Describe the image.");
    let thing = &clip.objects[0];
    let named = format!("{} {}", thing.color, thing.shape.word());
    assert!(said.contains(&named), "{said} (is: {})", clip.caption);
    assert!(!said.contains("moves") && !said.contains("still"), "{said}");
}
