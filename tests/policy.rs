// SPDX-License-Identifier: MPL-2.0

//! What the element shows its model, and when: masks.

mod common;

use std::time::Duration;

use common::{Run, warnings};
use gst::prelude::*;

const SMALL: &str = "video/x-raw,format=I420,width=64,height=48,framerate=30/1";
const MOCK: (&str, &str) = ("backend", "mock");

fn second(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// `privacy-masks` as numbers.
fn masks(element: &gst::Element) -> Vec<f64> {
    let masks = element.property::<gst::Array>("privacy-masks");
    let structures = masks
        .iter()
        .map(|mask| mask.get::<gst::Structure>().unwrap());
    structures
        .flat_map(|mask| ["x", "y", "width", "height"].map(|name| mask.get::<f64>(name).unwrap()))
        .collect()
}

fn structure(x: f64, width: f64) -> gst::Structure {
    gst::Structure::builder("mask")
        .field("x", x)
        .field("y", 0.0)
        .field("width", width)
        .field("height", 1.0)
        .build()
}

#[test]
fn masks_can_be_written_on_a_command_line() {
    common::init();
    let pipeline = gst::parse::launch(
        r#"videotestsrc num-buffers=1 ! vlmcaption backend=mock name=c
           privacy-masks=<"mask,x=0.0,y=0.0,width=0.5,height=0.25","mask,x=0.9,y=0.5,width=0.1,height=0.5">
           ! fakesink"#,
    )
    .unwrap()
    .downcast::<gst::Pipeline>()
    .unwrap();
    let element = pipeline.by_name("c").unwrap();
    assert_eq!(masks(&element), [0.0, 0.0, 0.5, 0.25, 0.9, 0.5, 0.1, 0.5]);
    pipeline.set_state(gst::State::Playing).unwrap();
    let bus = pipeline.bus().unwrap();
    let ends = [gst::MessageType::Eos, gst::MessageType::Error];
    let end = bus.timed_pop_filtered(common::PATIENCE, &ends).unwrap();
    assert_eq!(end.type_(), gst::MessageType::Eos, "{end:?}");
    pipeline.set_state(gst::State::Null).unwrap();
}

#[test]
fn a_mask_that_cannot_be_painted_fails_before_a_frame_is_seen() {
    common::init();
    let element = gst::ElementFactory::make("vlmcaption").build().unwrap();
    element.set_property_from_str("backend", "mock");
    let bus = gst::Bus::new();
    element.set_bus(Some(&bus));
    for bad in [
        r#"<"mask,x=0.0,y=0.0,width=2.0,height=0.25">"#,
        r#"<"mask,x=0.0">"#,
    ] {
        element.set_property_from_str("privacy-masks", bad);
        assert!(element.set_state(gst::State::Ready).is_err(), "{bad}");
        let message = bus.pop_filtered(&[gst::MessageType::Error]).unwrap();
        let gst::MessageView::Error(error) = message.view() else {
            unreachable!()
        };
        let text = error.error().to_string();
        assert!(text.contains("privacy-masks: mask 1"), "{text}");
        element.set_state(gst::State::Null).unwrap();
    }
}

#[test]
fn a_bad_mask_set_while_playing_is_refused_and_the_ones_before_stay() {
    let run = Run::start(&[MOCK, ("window", "1")], SMALL);
    let good = gst::Array::new([structure(0.0, 0.5)]);
    run.element.set_property("privacy-masks", good);
    run.push(second(0), None).unwrap();
    run.next_caption();
    let bad = gst::Array::new([structure(0.0, 0.5), structure(0.9, 0.5)]);
    run.element.set_property("privacy-masks", bad);
    let refused = run.messages_until(|m| m.type_() == gst::MessageType::Warning);
    let text = &warnings(&refused)[0];
    assert!(
        text.contains("mask 2") && text.contains("the one before stays"),
        "{text}"
    );
    assert_eq!(masks(&run.element), [0.0, 0.0, 0.5, 1.0]);
    run.push(second(1), None).unwrap();
    run.next_caption();
}

#[test]
fn video_passes_unmasked() {
    let all = r#"<"mask,x=0.0,y=0.0,width=1.0,height=1.0">"#;
    let run = Run::start(&[MOCK, ("window", "1"), ("privacy-masks", all)], SMALL);
    run.push_frames(31, 30);
    run.finish();
    let buffers = run.buffers.lock().unwrap();
    assert_eq!(buffers.len(), 31);
    for buffer in buffers.iter() {
        assert!(
            buffer
                .map_readable()
                .unwrap()
                .iter()
                .all(|byte| *byte == 128)
        );
    }
}
