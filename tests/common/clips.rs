// SPDX-License-Identifier: MPL-2.0

//! Clips of coloured shapes, drawn at the sizes of cameras and shown to the element.

use gst::prelude::*;
use world::Clip;

const SECOND: u64 = 1_000_000_000;

/// Held out from the demo model's training.
pub fn clips() -> Vec<Clip> {
    world::read_clips(include_str!("../data/demo-clips.jsonl")).unwrap()
}

/// Shows pictures one a second, others in between, and gives what is said of the window.
/// `properties` are the element's, as gst-launch-1.0 takes them.
pub fn ask_with(
    properties: &str,
    pictures: &[world::Canvas],
    decoy: &world::Canvas,
    format: &str,
    prompt: &str,
    patience: gst::ClockTime,
) -> String {
    super::init();
    let (width, height) = (decoy.width(), decoy.height());
    let pipeline = gst::parse::launch(&format!(
        "appsrc name=src format=time block=true
             caps=video/x-raw,format=RGB,width={width},height={height},framerate=30/1 !
         videoconvert ! video/x-raw,format={format} !
         vlmcaption name=c drop-policy=block window={} {properties} ! fakesink sync=false",
        pictures.len()
    ))
    .unwrap()
    .downcast::<gst::Pipeline>()
    .unwrap();
    pipeline
        .by_name("c")
        .unwrap()
        .set_property("prompt", prompt);
    let src = pipeline
        .by_name("src")
        .unwrap()
        .downcast::<gst_app::AppSrc>()
        .unwrap();
    pipeline.set_state(gst::State::Playing).unwrap();
    let push = |picture: &world::Canvas, at: u64| {
        let mut buffer = frame(picture);
        let buffer_mut = buffer.get_mut().unwrap();
        buffer_mut.set_pts(gst::ClockTime::from_nseconds(at));
        buffer_mut.set_duration(gst::ClockTime::from_nseconds(SECOND / 30));
        src.push_buffer(buffer).unwrap();
    };
    for (second, picture) in (0..).zip(pictures) {
        push(picture, second * SECOND);
        for thirtieth in [1, 15, 29] {
            push(decoy, second * SECOND + thirtieth * SECOND / 30);
        }
    }
    src.end_of_stream().unwrap();
    let messages = super::play_out(&pipeline, patience);
    let captions = super::captions(&messages);
    assert_eq!(captions.len(), 1, "{:?}", super::warnings(&messages));
    captions[0].get("text").unwrap()
}

/// The picture as a buffer: GStreamer wants rows of RGB to begin at multiples of four bytes.
pub fn frame(picture: &world::Canvas) -> gst::Buffer {
    let (row, stride) = (
        picture.width() * 3,
        (picture.width() * 3).next_multiple_of(4),
    );
    let mut bytes = vec![0; stride * picture.height()];
    for (to, from) in bytes.chunks_mut(stride).zip(picture.rgb().chunks(row)) {
        to[..row].copy_from_slice(from);
    }
    gst::Buffer::from_slice(bytes)
}

/// The clip's pictures at a native size of its aspect, and a decoy.
pub fn draw(clip: &Clip, scale: f32) -> (Vec<world::Canvas>, world::Canvas) {
    let (width, height) = clip.size();
    let native = |side: usize| (side as f32 * scale) as usize / 2 * 2;
    let (width, height) = (native(width), native(height));
    let pictures = (0..clip.n_frames())
        .map(|n| clip.draw(n, width, height))
        .collect();
    let mut decoy = world::Canvas::filled(width, height, [40, 40, 40]);
    let half = [width as f32 / 2.0, height as f32 / 2.0];
    decoy.paint(world::Shape::Square, half, [30.0, 30.0], [255, 0, 255]);
    (pictures, decoy)
}

/// Format and scale of the n-th clip: 320x240 to 1080p, both planar and semi-planar.
pub fn camera(n: usize) -> (&'static str, f32) {
    (["I420", "NV12"][n % 2], [2.5, 4.0, 5.3, 8.0, 11.25][n % 5])
}
