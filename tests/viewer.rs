// SPDX-License-Identifier: MPL-2.0

//! The model sees what a viewer of the video sees: fields, crops, overlays, the pixels' shape; and
//! nothing of frames that no viewer is meant to look at.

mod common;

use common::clips::frame;
use common::{Run, captions, named, pts_list, script, warnings};
use gst::prelude::*;
use gst_video::{VideoFormat, VideoOverlayComposition, VideoOverlayRectangle};

const MOCK: (&str, &str) = ("backend", "mock");
const SMALL: &str = "video/x-raw,format=I420,width=64,height=48,framerate=30/1";
const LOOK: (&str, &str) = ("prompt", "Describe the image.");
const BLUE: [u8; 3] = [0, 0, 255];
const RED: [u8; 3] = [255, 0, 0];
/// The format that overlays have on this machine.
const ARGB: VideoFormat = if cfg!(target_endian = "big") {
    VideoFormat::Argb
} else {
    VideoFormat::Bgra
};

/// What the built-in model says of one frame of these caps.
fn caption_of(caps: &str, properties: &[(&str, &str)], buffer: gst::Buffer) -> gst::Structure {
    let mut all = vec![("window", "1"), LOOK];
    all.extend(properties);
    let run = Run::start(&all, caps);
    run.src.push_buffer(at(buffer, 0)).unwrap();
    let messages = run.finish();
    assert_eq!(warnings(&messages), [""; 0], "{caps}");
    captions(&messages).remove(0)
}

/// A buffer of these bytes.
fn bytes(bytes: Vec<u8>) -> gst::Buffer {
    common::init();
    gst::Buffer::from_slice(bytes)
}

fn text(caption: &gst::StructureRef) -> String {
    caption.get("text").unwrap()
}

fn at(mut buffer: gst::Buffer, nanos: u64) -> gst::Buffer {
    buffer
        .get_mut()
        .unwrap()
        .set_pts(gst::ClockTime::from_nseconds(nanos));
    buffer
}

/// A red circle on the left and a blue square on the right of a grey picture of 640x240.
fn two_things() -> world::Canvas {
    common::init();
    let mut picture = world::Canvas::filled(640, 240, [40, 40, 40]);
    picture.paint(world::Shape::Circle, [160.0, 120.0], [60.0, 60.0], RED);
    picture.paint(world::Shape::Square, [480.0, 120.0], [60.0, 60.0], BLUE);
    picture
}

#[test]
fn a_field_of_its_own_is_read_as_one() {
    // Of a size at which memory behind the field is no longer the process's.
    for (width, height) in [(320, 240), (3840, 2160)] {
        let caps = format!(
            "video/x-raw(format:Interlaced),format=GRAY8,width={width},height={height},\
             framerate=25/1,interlace-mode=alternate"
        );
        let field = bytes(vec![255; width * height / 2]);
        let said = text(&caption_of(&caps, &[], field));
        assert!(said.contains("white"), "{width}x{height}: {said}");
    }
}

#[test]
fn what_a_crop_takes_away_is_not_shown_to_the_model() {
    let caps = "video/x-raw,format=RGB,width=320,height=240,framerate=30/1";
    for (left, sees, not) in [(320, "blue", "red"), (0, "red", "blue")] {
        let mut buffer = frame(&two_things());
        let edit = buffer.get_mut().unwrap();
        let flags = gst_video::VideoFrameFlags::empty();
        gst_video::VideoMeta::add(edit, flags, VideoFormat::Rgb, 640, 240).unwrap();
        gst_video::VideoCropMeta::add(edit, (left, 0, 320, 240));
        let said = text(&caption_of(caps, &[], buffer));
        assert!(said.contains(sees) && !said.contains(not), "{said}");
    }
}

#[test]
fn a_mask_lies_where_the_viewer_sees_it() {
    let mut buffer = frame(&two_things());
    let edit = buffer.get_mut().unwrap();
    let flags = gst_video::VideoFrameFlags::empty();
    gst_video::VideoMeta::add(edit, flags, VideoFormat::Rgb, 640, 240).unwrap();
    gst_video::VideoCropMeta::add(edit, (240, 0, 400, 240));
    let caps = "video/x-raw,format=RGB,width=400,height=240,framerate=30/1";
    // The square is at 0.45 to 0.75 of the crop, the circle is cut away.
    let said = |mask: &str| {
        let masks = format!("<\"mask,{mask},y=0.0,height=1.0\">");
        text(&caption_of(
            caps,
            &[("privacy-masks", masks.as_str())],
            buffer.copy(),
        ))
    };
    assert!(!said("x=0.4,width=0.4").contains("blue"));
    assert!(said("x=0.0,width=0.3").contains("blue"));
}

/// A square of one colour that a sink would lay over the video.
fn overlay(side: usize, (x, y): (i32, i32), [r, g, b]: [u8; 3]) -> VideoOverlayComposition {
    let mut pixels = bytes([b, g, r, 255].repeat(side * side));
    let side = side as u32;
    gst_video::VideoMeta::add(
        pixels.get_mut().unwrap(),
        gst_video::VideoFrameFlags::empty(),
        ARGB,
        side,
        side,
    )
    .unwrap();
    let flags = gst_video::VideoOverlayFormatFlags::empty();
    let rectangle = VideoOverlayRectangle::new_raw(&pixels, x, y, side, side, flags);
    VideoOverlayComposition::new([&rectangle]).unwrap()
}

#[test]
fn what_a_sink_lays_over_the_video_is_shown_to_the_model() {
    let caps = "video/x-raw,format=I420,width=320,height=240,framerate=30/1";
    let grey = || {
        let mut buffer = bytes(vec![128; 320 * 240 * 3 / 2]);
        let edit = buffer.get_mut().unwrap();
        edit.set_pts(gst::ClockTime::ZERO);
        buffer
    };
    let said = text(&caption_of(caps, &[], grey()));
    assert!(!said.contains("blue"), "{said}");
    let mut buffer = grey();
    let square = overlay(100, (110, 70), BLUE);
    gst_video::VideoOverlayCompositionMeta::add(buffer.get_mut().unwrap(), &square);
    let said = text(&caption_of(caps, &[], buffer));
    assert!(said.contains("blue") && said.contains("square"), "{said}");
}

#[test]
fn an_overlay_is_laid_over_the_models_copy_and_not_over_the_video() {
    let run = Run::start(&[MOCK, ("window", "1")], SMALL);
    let mut buffer = bytes(vec![128; 64 * 48 * 3 / 2]);
    let square = overlay(16, (8, 8), RED);
    gst_video::VideoOverlayCompositionMeta::add(buffer.get_mut().unwrap(), &square);
    run.src.push_buffer(at(buffer, 0)).unwrap();
    run.finish();
    let passed = run.buffers.lock().unwrap()[0].clone();
    assert!(
        passed
            .map_readable()
            .unwrap()
            .iter()
            .all(|byte| *byte == 128)
    );
    assert!(
        passed
            .meta::<gst_video::VideoOverlayCompositionMeta>()
            .is_some()
    );
}

/// Captions and warnings of a pipeline that is run to its end.
fn play(description: &str) -> (Vec<gst::Structure>, Vec<String>) {
    let messages = common::play(description, |_| {});
    (captions(&messages), warnings(&messages))
}

#[test]
fn a_crop_that_is_left_to_a_sink_is_honoured() {
    // Red bars on the left of white noise: `smpte` has its red bar in columns 458 to 548 of 640.
    let of = |crop: &str, sink: &str| {
        let (captions, warnings) = play(&format!(
            "videotestsrc pattern=smpte num-buffers=1 ! video/x-raw,format=I420,width=640,\
             height=480,framerate=1/1 ! {crop} ! vlmcaption window=1 name=c \
             prompt=\"Describe the image.\" ! {sink}"
        ));
        assert_eq!(warnings, [""; 0]);
        text(&captions[0])
    };
    // Without the metas `videocrop` copies: what the model must see with them, too.
    for crop in [
        "left=320 top=0 right=0 bottom=160",
        "left=0 top=340 right=0 bottom=0",
    ] {
        let crop = format!("videocrop {crop}");
        let copied = of(&crop, "fakesink");
        assert_eq!(of(&crop, "fakevideosink sync=false"), copied, "{crop}");
    }
}

#[test]
fn a_text_that_is_left_to_a_sink_to_draw_is_seen() {
    // The second text makes the picture another one: only then is there a second caption.
    let n_captions = |sink: &str| {
        let script = script(r#"[{"text": "{n}"}]"#);
        let (captions, warnings) = play(&format!(
            "videotestsrc pattern=black num-buffers=2 ! video/x-raw,format=I420,width=320,\
             height=240,framerate=1/1 ! timeoverlay font-desc=\"Sans 40\" ! \
             vlmcaption backend=mock model={} window=1 motion-threshold=0.001 ! {sink}",
            script.path().to_str().unwrap()
        ));
        assert_eq!(warnings, [""; 0]);
        captions.len()
    };
    assert_eq!(n_captions("fakesink"), 2, "drawn into the frame");
    assert_eq!(
        n_captions("fakevideosink sync=false"),
        2,
        "drawn by the sink"
    );
}

#[test]
fn the_model_is_shown_the_shape_that_the_eye_sees() {
    let shown = |width: usize, height: usize, aspect: &str, mode: &str| {
        let feature = if mode == "alternate" {
            "(format:Interlaced)"
        } else {
            ""
        };
        let caps = format!(
            "video/x-raw{feature},format=GRAY8,width={width},height={height},framerate=25/1,\
             pixel-aspect-ratio={aspect},interlace-mode={mode}"
        );
        let rows = if mode == "alternate" {
            height / 2
        } else {
            height
        };
        let buffer = bytes(vec![255; width * rows]);
        caption_of(&caps, &[], buffer)
            .get::<u32>("tokens-in")
            .unwrap()
    };
    let wide = shown(1024, 576, "1/1", "progressive");
    assert_eq!(shown(704, 576, "16/11", "progressive"), wide);
    assert_eq!(shown(704, 576, "16/11", "interleaved"), wide);
    assert_eq!(shown(704, 576, "16/11", "alternate"), wide);
    assert_eq!(shown(1024, 288, "1/2", "progressive"), wide);
    assert_ne!(shown(704, 576, "1/1", "progressive"), wide);
}

#[test]
fn of_two_views_side_by_side_the_model_sees_one() {
    let caps = "video/x-raw,format=RGB,width=640,height=240,framerate=30/1,\
                multiview-mode=side-by-side";
    let said = text(&caption_of(caps, &[], frame(&two_things())));
    assert!(said.contains("red") && !said.contains("blue"), "{said}");
}

#[test]
fn a_frame_that_a_decoder_marks_as_damaged_is_passed_over() {
    let run = Run::start(&[MOCK, ("window", "2")], SMALL);
    let push = |ms: u64, flags: gst::BufferFlags| {
        let mut buffer = bytes(vec![128; 64 * 48 * 3 / 2]);
        buffer.get_mut().unwrap().set_flags(flags);
        run.src.push_buffer(at(buffer, ms * 1_000_000)).unwrap();
    };
    push(0, gst::BufferFlags::CORRUPTED);
    push(33, gst::BufferFlags::CORRUPTED);
    push(66, gst::BufferFlags::empty());
    // Not due, so not missed.
    push(500, gst::BufferFlags::CORRUPTED);
    push(1000, gst::BufferFlags::GAP);
    push(1033, gst::BufferFlags::DECODE_ONLY);
    push(1066, gst::BufferFlags::empty());
    let messages = run.finish();
    let of: Vec<u64> = captions(&messages)
        .iter()
        .flat_map(|c| pts_list(c))
        .collect();
    assert_eq!(of, [66_000_000, 1_066_000_000]);
    assert_eq!(run.buffers.lock().unwrap().len(), 7, "all pass");
    let stats = run.element.property::<gst::Structure>("stats");
    assert_eq!(stats.get::<u64>("dropped-corrupted").unwrap(), 2);
    run.pipeline.set_state(gst::State::Ready).unwrap();
    let rest = run.pipeline.bus().unwrap().iter().collect::<Vec<_>>();
    let told: u64 = messages
        .iter()
        .chain(&rest)
        .filter(|message| named(message, "vlmcaption/dropped"))
        .filter_map(|message| message.structure())
        .filter(|fields| fields.get::<&str>("reason") == Ok("corrupted"))
        .map(|fields| fields.get::<u64>("count").unwrap())
        .sum();
    assert_eq!(told, 2);
}

#[test]
fn of_captioners_in_a_row_a_reader_finds_the_last_and_through_it_the_others() {
    let model = script(r#"[{"text": "{n}"}]"#);
    let model = model.path().to_str().unwrap();
    let description = format!(
        "videotestsrc num-buffers=60 ! video/x-raw,width=64,height=48,framerate=30/1 !
         vlmcaption name=first backend=mock model={model} window=1 !
         vlmcaption name=second backend=mock model={model} window=2 ! fakesink name=sink"
    );
    let last = std::sync::Arc::new(std::sync::Mutex::new(None));
    let seen = last.clone();
    common::play(&description, |pipeline| {
        let pad = pipeline
            .by_name("sink")
            .unwrap()
            .static_pad("sink")
            .unwrap();
        pad.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
            *seen.lock().unwrap() = info.buffer().and_then(|buffer| common::meta(buffer));
            gst::PadProbeReturn::Ok
        });
    });
    let fields = last.lock().unwrap().take().unwrap();
    assert_eq!(fields.get::<&str>("element").unwrap(), "second");
    let upstream = fields.get::<gst::Array>("upstream").unwrap();
    let upstream = upstream[0].get::<gst::Structure>().unwrap();
    assert_eq!(upstream.get::<&str>("element").unwrap(), "first");
    assert!(upstream.has_field("status"));
}
