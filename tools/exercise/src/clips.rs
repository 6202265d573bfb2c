// SPDX-License-Identifier: MPL-2.0

//! The committed clips through the element with given properties, each beside what the local engine
//! says of it.

use std::borrow::Borrow;
use std::time::Duration;

use gst::prelude::*;
use world::Clip;

use crate::stage::Stage;

const SECOND: u64 = 1_000_000_000;

/// A caption takes no longer, whoever makes it.
const PATIENCE: Duration = Duration::from_secs(120);

/// Shows the clips to the element with `properties` and to one without any, and prints where they
/// differ. With `still`, of each clip only its last frame, as an image.
///
/// # Errors
/// A clip is not captioned, or fewer than all captions are equal.
pub fn run(properties: &[&str], still: bool) -> Result<(), String> {
    let clips = world::read_clips(include_str!("../../../tests/data/demo-clips.jsonl"));
    let clips = clips.map_err(|error| error.to_string())?;
    let properties = properties.join(" ");
    let (mut equal, mut right, mut moving, mut moving_equal) = (0, 0, 0, 0);
    for clip in &clips {
        let local = caption(clip, "", still)?;
        let said =
            caption(clip, &properties, still).map_err(|reason| format!("{}: {reason}", clip.id))?;
        let is_equal = said == local;
        equal += usize::from(is_equal);
        right += usize::from(said == clip.caption);
        if local.contains("moves") {
            moving += 1;
            moving_equal += usize::from(is_equal);
        }
        if !is_equal {
            println!("{}: `{said}`, and the local engine `{local}`", clip.id);
        }
    }
    println!(
        "{equal} of {} captions are those of the local engine; {moving_equal} of {moving} with motion",
        clips.len()
    );
    if !still {
        println!("{right} of {} are what is to be seen", clips.len());
    }
    match equal == clips.len() {
        true => Ok(()),
        false => Err(format!("{} captions differ", clips.len() - equal)),
    }
}

/// Writes the first pair of a clip with motion as PPM files, and prints their names.
///
/// # Errors
/// What the file system says.
pub fn frames(folder: &str) -> Result<(), String> {
    let clips = world::read_clips(include_str!("../../../tests/data/demo-clips.jsonl"));
    let clips = clips.map_err(|error| error.to_string())?;
    let clip = clips.iter().find(|clip| clip.caption.contains("moves"));
    let clip = clip.ok_or("no clip has motion")?;
    let (width, height) = clip.size();
    let folder = std::path::Path::new(folder);
    for n in 0..2 {
        let path = folder.join(format!("{n}.jpg"));
        write_jpeg(&clip.draw(n, width, height), &path)?;
        println!("{}", path.display());
    }
    Ok(())
}

/// Writes a picture as a JPEG.
fn write_jpeg(picture: &world::Canvas, path: &std::path::Path) -> Result<(), String> {
    let stage = Stage::new(&format!(
        "appsrc name=src format=time num-buffers=1 caps={} ! videoconvert ! jpegenc quality=90 \
         ! filesink location={}",
        caps(picture),
        path.display()
    ))?;
    show(&stage, [picture])?;
    stage.end(PATIENCE).map(|_| ())
}

/// What the element says of a clip at one frame a second.
fn caption(clip: &Clip, properties: &str, still: bool) -> Result<String, String> {
    // Four times the model's grid in each direction, as a camera's picture is larger than it.
    let (width, height) = clip.size();
    let pictures: Vec<world::Canvas> = (0..clip.n_frames())
        .map(|n| clip.draw(n, 4 * width, 4 * height))
        .collect();
    let shown = match still {
        true => &pictures[pictures.len() - 1..],
        false => &pictures[..],
    };
    let stage = Stage::new(&format!(
        "appsrc name=src format=time block=true caps={} ! videoconvert ! video/x-raw,format=I420 \
         ! vlmcaption name=c drop-policy=block scene-cuts=false window={} {properties} \
         ! fakesink sync=false",
        caps(&shown[0]),
        shown.len(),
    ))?;
    show(&stage, shown)?;
    let captions = stage.end(PATIENCE)?;
    match &captions[..] {
        [one] => Ok(one.text.clone()),
        captions => Err(format!("{} captions in place of one", captions.len())),
    }
}

/// Of frames like this picture.
pub fn caps(picture: &world::Canvas) -> String {
    let (width, height) = (picture.width(), picture.height());
    format!("video/x-raw,format=RGB,width={width},height={height},framerate=1/1")
}

/// Begins a pipeline and shows it pictures, one a second, and nothing after them.
///
/// # Errors
/// What the pipeline says.
pub fn show<P: Borrow<world::Canvas>>(
    stage: &Stage,
    pictures: impl IntoIterator<Item = P>,
) -> Result<(), String> {
    stage.begin()?;
    let source = stage.element("src")?;
    let source: gst_app::AppSrc = source.downcast().map_err(|_| "no appsrc".to_owned())?;
    for (second, picture) in (0..).zip(pictures) {
        push(&source, picture.borrow(), second * SECOND)?;
    }
    let ended = source.end_of_stream();
    ended.map(|_| ()).map_err(|error| error.to_string())
}

/// Shows a picture at a time, ns.
fn push(source: &gst_app::AppSrc, picture: &world::Canvas, at: u64) -> Result<(), String> {
    // Rows of RGB begin at multiples of four bytes; these widths are multiples of 32.
    let mut buffer = gst::Buffer::from_slice(picture.rgb().to_vec());
    let made = buffer.get_mut().ok_or("a buffer that is shared")?;
    made.set_pts(gst::ClockTime::from_nseconds(at));
    made.set_duration(gst::ClockTime::SECOND);
    let pushed = source.push_buffer(buffer);
    pushed.map(|_| ()).map_err(|error| error.to_string())
}
