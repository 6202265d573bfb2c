// SPDX-License-Identifier: MPL-2.0

//! Video of a real encoder through the ring and the boxes, checked by readers that are not ours: GStreamer's
//! `qtdemux` with a decoder, and ffprobe where it is installed.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use gst::prelude::*;

use vlmcaption_watch::time::Millis;
use vlmcaption_watch::video::clip::{self, Growing};
use vlmcaption_watch::video::format::{Codec, Format};
use vlmcaption_watch::video::ring::{Coming, Ring};

/// Pictures a second.
const RATE: i64 = 30;

/// What an encoder makes of a test picture: three seconds with a keyframe each second.
fn encoded(encoder: &str, codec: Codec) -> Option<Vec<(Format, Coming)>> {
    gst::init().unwrap();
    let (parser, caps) = match codec {
        Codec::H264 => ("h264parse", "video/x-h264,stream-format=avc,alignment=au"),
        Codec::H265 => ("h265parse", "video/x-h265,stream-format=hvc1,alignment=au"),
    };
    let text = format!(
        "videotestsrc num-buffers=90 pattern=ball ! video/x-raw,format=I420,width=320,height=180,framerate={RATE}/1 ! {encoder} ! {parser} ! {caps} ! appsink name=sink sync=false"
    );
    let pipeline = gst::parse::launch(&text).ok()?;
    let pipeline = pipeline.downcast::<gst::Pipeline>().unwrap();
    let sink = pipeline.by_name("sink").unwrap();
    let sink = sink.downcast::<gst_app::AppSink>().unwrap();
    pipeline.set_state(gst::State::Playing).unwrap();
    let mut found = Vec::new();
    while let Ok(sample) = sink.pull_sample() {
        let fields = sample.caps().unwrap().structure(0).unwrap();
        let config = fields.get::<gst::Buffer>("codec_data").unwrap();
        let buffer = sample.buffer().unwrap();
        // Encoders count from an hour, so that nothing is before zero.
        let pts = buffer.pts().unwrap().nseconds() as i64;
        found.push((
            Format {
                codec,
                config: config.map_readable().unwrap().to_vec(),
                width: 320,
                height: 180,
            },
            Coming {
                key: !buffer.flags().contains(gst::BufferFlags::DELTA_UNIT),
                pts,
                at: Millis(1_795_000_000_000 + 1_000 * found.len() as i64 / RATE),
                data: buffer.map_readable().unwrap().as_slice().into(),
            },
        ));
    }
    pipeline.set_state(gst::State::Null).unwrap();
    Some(found)
}

/// A clip of it, as fragments and as a movie: the paths and what the movie says of itself.
fn clip_of(
    folder: &Path,
    pictures: Vec<(Format, Coming)>,
) -> (std::path::PathBuf, vlmcaption_watch::heard::Clip) {
    let ring = Ring::new(Duration::from_secs(60));
    let part = folder.join("7.part");
    let (first, rest) = pictures.split_at(40);
    for (format, coming) in first.iter().cloned() {
        ring.push(format, coming);
    }
    let mut growing = Growing::begin(part.clone(), &ring.since(Millis(0)))
        .unwrap()
        .unwrap();
    for (format, coming) in rest.iter().cloned() {
        ring.push(format, coming);
        if ring.after(growing.last).len() >= 12 {
            assert!(growing.add(&ring.after(growing.last)).unwrap());
        }
    }
    assert!(growing.add(&ring.after(growing.last)).unwrap());
    std::fs::copy(&part, folder.join("fragments.mp4")).unwrap();
    let clip = growing.finish().unwrap().unwrap();
    assert!(!part.exists());
    (folder.join("7.mp4"), clip)
}

/// The times at which pictures are shown, by GStreamer's own demuxer and decoder.
fn decoded(path: &Path, demuxed: &str) -> Vec<Duration> {
    let text = format!(
        "filesrc location={} ! qtdemux ! {demuxed} ! appsink name=sink sync=false",
        path.display()
    );
    let pipeline = gst::parse::launch(&text).unwrap();
    let pipeline = pipeline.downcast::<gst::Pipeline>().unwrap();
    let sink = pipeline.by_name("sink").unwrap();
    let sink = sink.downcast::<gst_app::AppSink>().unwrap();
    pipeline.set_state(gst::State::Playing).unwrap();
    let mut times = Vec::new();
    while let Ok(sample) = sink.pull_sample() {
        let buffer = sample.buffer().unwrap();
        let segment = sample.segment().unwrap();
        let segment = segment.downcast_ref::<gst::ClockTime>().unwrap();
        let time = segment.to_stream_time(buffer.pts().unwrap()).unwrap();
        times.push(Duration::from_nanos(time.nseconds()));
    }
    let errors = pipeline
        .bus()
        .unwrap()
        .pop_filtered(&[gst::MessageType::Error]);
    assert!(errors.is_none(), "{errors:?}");
    pipeline.set_state(gst::State::Null).unwrap();
    times
}

/// What ffprobe says of a file: how many pictures could be decoded, and for how long it plays.
pub fn probed(path: &Path) -> Option<(usize, f64)> {
    let output = Command::new("ffprobe")
        .args(["-v", "error", "-count_frames", "-select_streams", "v:0"])
        .args([
            "-show_entries",
            "stream=nb_read_frames:format=duration",
            "-of",
            "csv=p=0",
        ])
        .arg(path)
        .output()
        .ok()?;
    let complaints = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(complaints, "", "{}", path.display());
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut lines = text.lines();
    let n = lines.next()?.trim_end_matches(',').parse().ok()?;
    Some((n, lines.next()?.parse().unwrap_or(0.0)))
}

/// A clip of a stream has each picture from keyframe `begin` on, at its time, for readers that are not ours.
fn every_picture_is_there(encoder: &str, codec: Codec, decoder: &str, begin: usize) {
    let Some(pictures) = encoded(encoder, codec) else {
        println!("NOT RUN: GStreamer has no {encoder}");
        return;
    };
    assert_eq!(pictures.len(), 90);
    let keys = (0..90).filter(|n| pictures[*n].1.key);
    let n = 90 - keys.collect::<Vec<_>>()[begin];
    let folder = tempfile::tempdir().unwrap();
    let (movie, clip) = clip_of(folder.path(), pictures);
    assert_eq!(clip.size, movie.metadata().unwrap().len());
    let length = (clip.to.0 - clip.from.0) * RATE / 1_000;
    assert!(length.abs_diff(n as i64) <= 1, "{length} of {n}");
    for (path, shift) in [(movie, true), (folder.path().join("fragments.mp4"), false)] {
        let times = decoded(&path, decoder);
        assert_eq!(times.len(), n, "{}", path.display());
        for pair in times.windows(2) {
            let apart = (pair[1] - pair[0]).as_millis();
            assert!((32..=35).contains(&apart), "{apart}: {times:?}");
        }
        if shift {
            assert!(times[0] < Duration::from_millis(2), "{times:?}");
        }
        match probed(&path) {
            Some((frames, seconds)) => {
                assert_eq!(frames, n, "{}", path.display());
                let whole = n as f64 / RATE as f64;
                assert!(!shift || (seconds - whole).abs() < 0.05, "{seconds}");
            }
            None => println!("NOT RUN: there is no ffprobe"),
        }
    }
}

#[test]
fn a_clip_without_b_frames_plays() {
    let encoder = "x264enc tune=zerolatency key-int-max=30";
    every_picture_is_there(encoder, Codec::H264, "h264parse ! avdec_h264", 0);
}

/// Until the order of its pictures is known nothing is kept of such a stream.
#[test]
fn a_clip_with_b_frames_plays_in_order() {
    let encoder = "x264enc bframes=3 b-adapt=false key-int-max=30";
    every_picture_is_there(encoder, Codec::H264, "h264parse ! avdec_h264", 1);
}

#[test]
fn a_clip_of_h265_plays() {
    let encoder = "x265enc key-int-max=30 option-string=\"bframes=2:open-gop=0\"";
    every_picture_is_there(encoder, Codec::H265, "h265parse ! avdec_h265", 1);
}

#[test]
fn a_clip_of_a_killed_process_plays_as_far_as_it_is_whole() {
    let Some(pictures) = encoded("x264enc tune=zerolatency key-int-max=30", Codec::H264) else {
        println!("NOT RUN: GStreamer has no x264enc");
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    clip_of(folder.path(), pictures);
    let whole = std::fs::read(folder.path().join("fragments.mp4")).unwrap();
    for cut in [whole.len() - 1, whole.len() / 2, 900] {
        let part = folder.path().join("8.part");
        std::fs::write(&part, &whole[..cut]).unwrap();
        let made = clip::finish(&part).unwrap();
        assert!(!part.exists());
        if cut == 900 {
            // Nothing but the head.
            assert_eq!(made, None);
            continue;
        }
        let times = decoded(&folder.path().join("8.mp4"), "h264parse ! avdec_h264");
        assert!(times.len() >= 40 && times.len() < 90, "{}", times.len());
    }
}

#[test]
fn another_size_of_the_picture_ends_a_clip() {
    let ring = Ring::new(Duration::from_secs(60));
    let picture = |width: u16, key| {
        let format = Format {
            codec: Codec::H264,
            config: vec![1, 0x42, 0xc0, 0x1e],
            width,
            height: 180,
        };
        let coming = Coming {
            key,
            pts: 0,
            at: Millis(1),
            data: Arc::from([0_u8]),
        };
        ring.push(format, coming);
    };
    let folder = tempfile::tempdir().unwrap();
    picture(320, true);
    let begun = Growing::begin(folder.path().join("1.part"), &ring.since(Millis(0)));
    let mut growing = begun.unwrap().unwrap();
    picture(640, true);
    assert!(!growing.add(&ring.after(growing.last)).unwrap());
}
