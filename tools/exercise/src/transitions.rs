// SPDX-License-Identifier: MPL-2.0

//! Everything an application may do to a pipeline, one scenario after the other.

use std::thread;
use std::time::{Duration, Instant};

use gst::prelude::*;
use gst_app::AppSrc;

use crate::leaks::Leaks;
use crate::stage::Stage;

/// Captions come five times a second, so that no scenario has to wait long.
const ELEMENT: &str = "vlmcaption name=captioner window=2 sample-rate=10/1";

const CAMERA: &str = "videotestsrc name=source is-live=true ! \
                      video/x-raw,format=I420,width=320,height=240,framerate=30/1";

const PATIENCE: Duration = Duration::from_secs(60);

/// What a scenario says about itself when it went well.
type Outcome = Result<String, String>;

/// Runs every scenario, or only the one with this name, and looks for leaks after each.
///
/// # Errors
/// How many scenarios failed.
pub fn run(loops: usize, only: Option<&str>) -> Result<(), String> {
    let leaks = Leaks::new();
    if !leaks.are_traced() {
        println!(
            "Leaks are not looked for: start this with GST_TRACERS=leaks (tests/leaks.sh does)."
        );
    }
    let scenarios: [(&str, &dyn Fn() -> Outcome); 9] = [
        ("play", &play),
        ("pause", &pause),
        ("seek", &seek),
        ("flush", &flush),
        ("caps", &caps),
        ("end", &end),
        ("restart", &restart),
        ("text-pad", &text_pad),
        ("loops", &|| ready_playing_loops(loops)),
    ];
    if let Some(unknown) = only.filter(|only| scenarios.iter().all(|(name, _)| name != only)) {
        return Err(format!("there is no scenario `{unknown}`"));
    }
    let mut failed = 0;
    for (name, scenario) in scenarios {
        if only.is_some_and(|only| only != name) {
            continue;
        }
        let before = leaks.alive();
        let begin = Instant::now();
        let outcome = scenario().and_then(|said| match left_over(&leaks, &before) {
            leaked if leaked.is_empty() => Ok(said),
            leaked => Err(format!("leaked\n    {}", leaked.join("\n    "))),
        });
        let (word, said) = match &outcome {
            Ok(said) => ("ok", said),
            Err(reason) => ("FAILED", reason),
        };
        failed += usize::from(outcome.is_err());
        println!(
            "{name:<9} {word:<6} {:5.1} s  {said}",
            begin.elapsed().as_secs_f64()
        );
    }
    if failed == 0 {
        Ok(())
    } else {
        Err(format!("{failed} scenarios failed"))
    }
}

/// What is alive now and was not before; a thread that is just ending gets two seconds.
fn left_over(leaks: &Leaks, before: &[String]) -> Vec<String> {
    let deadline = Instant::now() + Duration::from_secs(2);
    loop {
        let mut alive = leaks.alive();
        alive.retain(|line| !before.contains(line));
        if alive.is_empty() || Instant::now() > deadline {
            return alive;
        }
        thread::sleep(Duration::from_millis(20));
    }
}

fn slowest(stage: &Stage) -> String {
    format!("slowest state change {} ms", stage.slowest().as_millis())
}

fn play() -> Outcome {
    let mut stage = Stage::new(&format!("{CAMERA} ! {ELEMENT} ! fakesink sync=true"))?;
    stage.go(gst::State::Playing)?;
    let captions = stage.captions(5, PATIENCE)?;
    stage.go(gst::State::Null)?;
    let text = &captions[4].text;
    Ok(format!(
        "5 captions, the last `{text}`; {}",
        slowest(&stage)
    ))
}

fn pause() -> Outcome {
    let mut stage = Stage::new(&format!("{CAMERA} ! {ELEMENT} ! fakesink sync=true"))?;
    for _ in 0..5 {
        stage.go(gst::State::Playing)?;
        stage.captions(1, PATIENCE)?;
        stage.go(gst::State::Paused)?;
    }
    stage.go(gst::State::Null)?;
    Ok(format!("5 times; {}", slowest(&stage)))
}

/// Seeks in a source that is read as fast as captions come.
fn seek() -> Outcome {
    let mut stage = Stage::new(&format!(
        "videotestsrc ! video/x-raw,width=160,height=120,framerate=30/1 ! {ELEMENT} ! fakesink"
    ))?;
    stage.go(gst::State::Playing)?;
    stage.captions(2, PATIENCE)?;
    for seconds in [100, 7, 3000] {
        let target = gst::ClockTime::from_seconds(seconds);
        let flags = gst::SeekFlags::FLUSH | gst::SeekFlags::ACCURATE;
        stage
            .pipeline()
            .seek_simple(flags, target)
            .map_err(|error| error.to_string())?;
        // Whatever was said before the seek has been said; from here on it counts.
        stage.forget();
        let caption = &stage.captions(1, PATIENCE)?[0];
        let ahead = caption.start.checked_sub(target);
        if ahead.is_none_or(|ahead| ahead > gst::ClockTime::SECOND) {
            return Err(format!(
                "after a seek to {target} the caption begins at {}",
                caption.start
            ));
        }
    }
    stage.go(gst::State::Null)?;
    Ok(format!("3 seeks; {}", slowest(&stage)))
}

/// Flushes a live stream at odd moments, most of them while the model is busy.
fn flush() -> Outcome {
    let mut stage = Stage::new(&format!("{CAMERA} ! {ELEMENT} ! fakesink sync=true"))?;
    stage.go(gst::State::Playing)?;
    stage.captions(1, PATIENCE)?;
    for round in 0..20 {
        stage
            .pipeline()
            .seek_simple(gst::SeekFlags::FLUSH, gst::ClockTime::from_mseconds(round))
            .map_err(|error| error.to_string())?;
        // Not a wait for anything: it spreads the flushes over the time that a caption takes.
        thread::sleep(Duration::from_millis(13 * (round % 7)));
    }
    stage.captions(2, PATIENCE)?;
    stage.go(gst::State::Null)?;
    Ok(format!("20 flushes; {}", slowest(&stage)))
}

/// Changes resolution, format and frame rate while the stream runs.
fn caps() -> Outcome {
    let mut stage = Stage::new(&format!(
        "appsrc name=source format=time block=true max-bytes=4000000 ! {ELEMENT} \
         drop-policy=block ! fakesink"
    ))?;
    let source = stage
        .element("source")?
        .downcast::<AppSrc>()
        .map_err(|_| "no appsrc")?;
    stage.begin()?;
    let looks = [
        ("I420", 320, 240, "30/1"),
        ("I420", 640, 360, "30/1"),
        ("NV12", 640, 360, "30/1"),
        ("RGB", 128, 96, "15/1"),
        ("BGRx", 128, 96, "0/1"),
        ("GRAY8", 240, 320, "0/1"),
        ("I420", 320, 240, "25/1"),
    ];
    let mut pts = gst::ClockTime::ZERO;
    for (format, width, height, rate) in looks {
        let caps: gst::Caps =
            format!("video/x-raw,format={format},width={width},height={height},framerate={rate}")
                .parse()
                .map_err(|_| "caps do not parse")?;
        source.set_caps(Some(&caps));
        for _ in 0..10 {
            let mut buffer = gst::Buffer::from_slice(vec![128; size(format, width, height)]);
            // A buffer that was just made has no other owner.
            if let Some(buffer) = buffer.get_mut() {
                buffer.set_pts(pts);
            }
            source
                .push_buffer(buffer)
                .map_err(|error| error.to_string())?;
            pts += gst::ClockTime::from_mseconds(100);
        }
    }
    source.end_of_stream().map_err(|error| error.to_string())?;
    let captions = stage.end(PATIENCE)?;
    let want = looks.len() * 4;
    if captions.len() < want {
        return Err(format!(
            "{} captions, at least {want} wanted",
            captions.len()
        ));
    }
    stage.go(gst::State::Null)?;
    Ok(format!(
        "{} looks, {} captions; {}",
        looks.len(),
        captions.len(),
        slowest(&stage)
    ))
}

/// Bytes of a frame whose rows need no padding.
fn size(format: &str, width: usize, height: usize) -> usize {
    let pixels = width * height;
    match format {
        "I420" | "NV12" => pixels * 3 / 2,
        "RGB" => pixels * 3,
        "BGRx" => pixels * 4,
        _ => pixels,
    }
}

/// The end of a stream comes after the caption of the last, incomplete window.
fn end() -> Outcome {
    let mut stage = Stage::new(
        "videotestsrc num-buffers=75 ! video/x-raw,width=160,height=120,framerate=30/1 ! \
         vlmcaption name=captioner window=2 drop-policy=block ! fakesink",
    )?;
    stage.go(gst::State::Playing)?;
    let starts: Vec<u64> = stage
        .end(PATIENCE)?
        .iter()
        .map(|caption| caption.start.seconds())
        .collect();
    if starts != [0, 2] {
        return Err(format!("windows begin at {starts:?} s, not at 0 and 2 s"));
    }
    stage.go(gst::State::Null)?;
    Ok(format!("2.5 s are 2 windows; {}", slowest(&stage)))
}

/// Stops and starts the same pipeline, from NULL, from READY, and before it has done anything.
fn restart() -> Outcome {
    let mut stage = Stage::new(&format!("{CAMERA} ! {ELEMENT} ! fakesink sync=true"))?;
    for stop in [gst::State::Null, gst::State::Ready, gst::State::Null] {
        stage.go(gst::State::Playing)?;
        stage.captions(2, PATIENCE)?;
        stage.go(stop)?;
        stage.forget();
    }
    for _ in 0..10 {
        stage.go(gst::State::Playing)?;
        stage.go(gst::State::Null)?;
    }
    Ok(format!(
        "3 times with captions, 10 without; {}",
        slowest(&stage)
    ))
}

/// Takes the text pad and gives it back while the stream runs.
fn text_pad() -> Outcome {
    let mut stage = Stage::new(&format!("{CAMERA} ! {ELEMENT} ! fakesink sync=true"))?;
    let captioner = stage.element("captioner")?;
    stage.go(gst::State::Playing)?;
    for _ in 0..3 {
        let text = captioner
            .request_pad_simple("text_src")
            .ok_or("no text pad on request")?;
        let sink = gst::ElementFactory::make("fakesink")
            .property("async", false)
            .build()
            .map_err(|error| error.to_string())?;
        stage
            .pipeline()
            .add(&sink)
            .map_err(|error| error.to_string())?;
        sink.sync_state_with_parent()
            .map_err(|error| error.to_string())?;
        let entry = sink.static_pad("sink").ok_or("a sink without a pad")?;
        text.link(&entry).map_err(|error| error.to_string())?;
        stage.captions(2, PATIENCE)?;
        captioner.release_request_pad(&text);
        stage
            .pipeline()
            .remove(&sink)
            .map_err(|error| error.to_string())?;
        sink.set_state(gst::State::Null)
            .map_err(|error| error.to_string())?;
        stage.captions(1, PATIENCE)?;
    }
    stage.go(gst::State::Null)?;
    Ok(format!("3 times; {}", slowest(&stage)))
}

fn ready_playing_loops(count: usize) -> Outcome {
    let mut stage = Stage::new(&format!("{CAMERA} ! {ELEMENT} ! fakesink sync=true"))?;
    for round in 0..count {
        stage.go(gst::State::Playing)?;
        // Not a wait for anything: the loops end at different moments of a caption.
        thread::sleep(Duration::from_millis(17 * (round as u64 % 16)));
        stage.go(gst::State::Ready)?;
    }
    stage.go(gst::State::Null)?;
    Ok(format!("{count} times; {}", slowest(&stage)))
}
