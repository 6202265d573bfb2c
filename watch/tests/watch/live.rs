// SPDX-License-Identifier: MPL-2.0

//! The program with the real plugin and its built-in model, on test pictures and a loopback camera.

use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use gst::prelude::*;

use vlmcaption_watch::camera::session::Playing;
use vlmcaption_watch::camera::supervisor::{Heard, Session};
use vlmcaption_watch::config::{Config, Process};
use vlmcaption_watch::store::files::Layout;
use vlmcaption_watch::store::reader::{Reader, Scope, Wanted};

use crate::site::{
    CANARY, PATIENCE, Running, Site, files_below, free_port, init, plugin, rtsp_camera,
};

#[test]
fn captions_of_a_camera_are_kept_found_exported_and_backed_up() {
    let site = Site::new(
        "[[camera]]\nid = \"bars\"\nurl = \"test:smpte\"\n\
         [[camera]]\nid = \"off\"\nurl = \"test:ball\"\nenabled = false\n",
    );
    let mut command = site.command(&["run"]);
    command.arg("--print");
    let mut running = Running::start(command);
    running.wait_for("bars  SMPTE");
    running.terminate();
    let found = site.says(&["search", "color", "bars"]);
    assert!(found.contains("bars  SMPTE color bars"), "{found}");
    assert!(
        site.says(&["search", "elephant"])
            .contains("nothing was found")
    );
    let lines = site.says(&["export", "--from", "1h"]);
    let first: serde_json::Value = serde_json::from_str(lines.lines().next().unwrap()).unwrap();
    assert_eq!(first["camera"], "bars");
    let copy = site.folder.path().join("copy");
    site.says(&["backup", copy.to_str().unwrap()]);
    std::fs::remove_dir_all(site.store()).unwrap();
    site.says(&["restore", copy.to_str().unwrap()]);
    assert!(site.says(&["search", "color"]).contains("SMPTE"));
    let report = site.says(&["doctor"]);
    for word in [
        "ok    plugin",
        "ok    state.db: sound",
        "camera off (test:ball): disabled",
    ] {
        assert!(report.contains(word), "{word}: {report}");
    }
    // The first caption has a picture, and it is a picture.
    let mut reader = Reader::new(Layout::new(&site.store()));
    let kept = reader.latest(&Scope::All, Some("bars"), None, 200).unwrap();
    let with_picture = kept.iter().filter(|kept| kept.spot.is_some());
    let pictures = with_picture
        .filter_map(|kept| reader_thumb(&site, kept.id))
        .count();
    assert!(pictures >= 1, "{kept:?}");
}

fn reader_thumb(site: &Site, id: vlmcaption_watch::store::reader::CaptionId) -> Option<Vec<u8>> {
    Reader::new(Layout::new(&site.store()))
        .thumb(&Scope::All, id)
        .unwrap()
}

#[test]
fn an_alarm_begins_ends_with_its_camera_and_is_kept() {
    let site = Site::new(
        "[[camera]]\nid = \"door\"\nurl = \"test:ball\"\n\
         [[camera.alarm]]\nid = \"open\"\nquestion = \"Is the door open?\"\non = 0.8\noff = 0.3\n",
    );
    site.mock(&serde_json::json!([{"text": "Yes"}]));
    let mut running = Running::start(site.command(&["run"]));
    running.wait_for("alarm open begins");
    running.terminate();
    let events = Reader::new(Layout::new(&site.store()))
        .events(&Scope::All, &Wanted::default(), 10)
        .unwrap();
    assert_eq!(events.len(), 1, "{events:?}");
    assert_eq!(
        (events[0].camera.as_str(), events[0].alarm.as_str()),
        ("door", "open")
    );
    assert_eq!(events[0].reason.as_deref(), Some("stop"));
}

#[test]
fn the_clip_of_an_alarm_survives_a_kill_and_is_finished_at_the_end() {
    let port = free_port();
    let _camera = rtsp_camera(port);
    let site = Site::new(&format!(
        "[[camera]]\nid = \"front\"\nurl = \"rtsp://127.0.0.1:{port}/camera\"\n\
         [[camera.alarm]]\nid = \"open\"\nquestion = \"Is the door open?\"\non = 0.8\noff = 0.3\n\
         clip = {{ before = \"3s\", after = \"2s\", longest = \"20s\" }}\n"
    ));
    site.mock(&serde_json::json!([{"text": "Yes"}]));
    let layout = Layout::new(&site.store());
    let part = layout.clip("front", 1).with_extension("part");
    let mut running = Running::start(site.command(&["run"]));
    running.wait_for("alarm open begins");
    let begin = Instant::now();
    while std::fs::metadata(&part).map_or(0, |meta| meta.len()) < 20_000 {
        assert!(begin.elapsed() < PATIENCE, "{}", running.seen.join("\n"));
        std::thread::sleep(Duration::from_millis(50));
    }
    running.child.kill().unwrap();
    running.child.wait().unwrap();
    assert!(part.exists() && !layout.clip("front", 1).exists());
    let mut running = Running::start(site.command(&["run"]));
    running.wait_for_all(&["the clip of alarm 1 is finished now", "alarm open begins"]);
    std::thread::sleep(Duration::from_secs(1));
    running.terminate();
    for id in [1, 2] {
        let event = Reader::new(layout.clone())
            .event(&Scope::All, id)
            .unwrap()
            .unwrap();
        let clip = event.clip.unwrap_or_else(|| panic!("{event:?}"));
        // The alarm is in it.
        assert!(
            clip.from <= event.start && event.start <= clip.to,
            "{event:?}"
        );
        let trace = Reader::new(layout.clone()).trace(id).unwrap();
        assert!(id == 1 || !trace.is_empty(), "no trace of {id}");
        match crate::video::probed(&layout.clip("front", id)) {
            Some((frames, seconds)) => {
                assert!(frames >= 10, "{id}: {frames} pictures");
                let told = (clip.to.0 - clip.from.0) as f64 / 1_000.0;
                assert!((seconds - told).abs() < 1.0, "{seconds}, told {told}");
            }
            None => println!("NOT RUN: there is no ffprobe"),
        }
    }
}

/// Kills the program again and again while alarms begin and clips grow.
#[test]
#[ignore = "kills the program 50 times, some minutes"]
fn fifty_kills_leave_a_sound_store_and_clips_that_play() {
    let port = free_port();
    let _camera = rtsp_camera(port);
    let alarms = |camera: &str, url: &str| {
        format!(
            "[[camera]]\nid = \"{camera}\"\nurl = \"{url}\"\n\
             [[camera.alarm]]\nid = \"open\"\nquestion = \"Is the door open?\"\non = 0.8\noff = 0.3\n\
             clip = {{ before = \"1s\", after = \"1s\", longest = \"4s\" }}\n"
        )
    };
    let url = format!("rtsp://127.0.0.1:{port}/camera");
    let site = Site::new(&format!(
        "{}{}{}",
        alarms("one", &url),
        alarms("two", &url),
        alarms("three", "test:ball")
    ));
    site.mock(&serde_json::json!([{"text": "Yes"}, {"text": "No"}]));
    let layout = Layout::new(&site.store());
    for n in 0..50_u64 {
        let mut running = Running::start(site.command(&["run"]));
        running.wait_for("begins");
        // Anywhere in the life of a clip.
        std::thread::sleep(Duration::from_millis(137 * n % 4_000));
        running.child.kill().unwrap();
        running.child.wait().unwrap();
        let mut databases = vec![layout.state()];
        databases.extend(layout.weeks().into_iter().map(|week| layout.week(week)));
        for path in databases {
            assert_eq!(vlmcaption_watch::store::db::damage(&path), None, "{n}");
        }
    }
    let mut running = Running::start(site.command(&["run"]));
    running.wait_for("begins");
    running.terminate();
    let mut reader = Reader::new(layout.clone());
    let events = reader
        .events(&Scope::All, &Wanted::default(), usize::MAX)
        .unwrap();
    let (mut n_clips, mut n_frames) = (0, 0);
    for event in &events {
        assert!(event.end.is_some(), "{event:?}");
        if event.clip.is_some() {
            let path = layout.clip(&event.camera, event.id);
            let (frames, _) = crate::video::probed(&path).expect("ffprobe is not there");
            assert!(frames > 0, "{event:?}");
            (n_clips, n_frames) = (n_clips + 1, n_frames + frames);
        }
    }
    let left: Vec<PathBuf> = files_below(&layout.clips())
        .into_iter()
        .filter(|path| path.extension().is_none_or(|end| end != "mp4"))
        .collect();
    assert_eq!(left, Vec::<PathBuf>::new());
    println!(
        "{} events, none open; {n_clips} clips play, {n_frames} pictures",
        events.len()
    );
    assert!(
        events.len() >= 50 && n_clips >= 25,
        "{} {n_clips}",
        events.len()
    );
}

#[test]
fn a_masked_camera_has_neither_video_nor_clips() {
    let port = free_port();
    let _camera = rtsp_camera(port);
    let site = Site::new(&format!(
        "[[camera]]\nid = \"front\"\nurl = \"rtsp://127.0.0.1:{port}/camera\"\n\
         masks = [{{ x = 0.0, y = 0.0, width = 0.5, height = 0.5 }}]\n\
         [[camera.alarm]]\nid = \"open\"\nquestion = \"Is the door open?\"\non = 0.8\noff = 0.3\nclip = {{}}\n"
    ));
    site.mock(&serde_json::json!([{"text": "Yes"}]));
    let mut running = Running::start(site.command(&["run"]));
    running.wait_for("an alarm has no clip");
    running.terminate();
    let event = Reader::new(Layout::new(&site.store()))
        .event(&Scope::All, 1)
        .unwrap()
        .unwrap();
    assert_eq!(event.clip, None);
    let why = event.clip_why.unwrap();
    assert!(why.contains("masks"), "{why}");
    let videos = files_below(&site.store());
    let video = |path: &&PathBuf| path.to_string_lossy().contains("clips");
    assert_eq!(videos.iter().find(video), None);
}

#[test]
fn a_camera_that_goes_and_comes_back_is_captioned_again_and_no_password_is_told() {
    let port = free_port();
    let site = Site::new(&format!(
        "[[camera]]\nid = \"front\"\nurl = \"rtsp://127.0.0.1:{port}/camera?password={CANARY}\"\nuser = \"viewer\"\n\
         password-env = \"WATCH_CANARY\"\noffline-after = \"7s\"\n"
    ));
    let mut camera = rtsp_camera(port);
    let check = site.says(&["check", "--connect", "--wait", "60"]);
    assert!(
        check.contains("H.264, 640x360") && check.contains("they alone are decoded"),
        "{check}"
    );
    let mut command = site.command(&["run"]);
    command.args(["--print", "--verbose"]);
    let mut running = Running::start(command);
    running.wait_for("front  SMPTE");
    camera.child.kill().unwrap();
    drop(camera);
    running.wait_for("camera front: offline");
    let _camera = rtsp_camera(port);
    running.wait_for("camera front: live");
    running.wait_for("front  SMPTE");
    running.terminate();
    let mut told = running.seen.join("\n");
    for arguments in [["doctor"], ["check"], ["export"]] {
        let output = site.output(&arguments);
        told.push_str(&String::from_utf8_lossy(&output.stdout));
        told.push_str(&String::from_utf8_lossy(&output.stderr));
    }
    assert!(!told.contains(CANARY), "{told}");
    for path in files_below(&site.store()) {
        let bytes = std::fs::read(&path).unwrap();
        let found = bytes
            .windows(CANARY.len())
            .any(|part| part == CANARY.as_bytes());
        assert!(!found, "{}", path.display());
    }
    let phases = Reader::new(Layout::new(&site.store()))
        .phases(&Scope::All, vlmcaption_watch::time::Millis(0))
        .unwrap();
    let words: Vec<&str> = phases.iter().map(|span| span.phase.as_str()).collect();
    assert!(
        words.windows(2).any(|pair| pair == ["offline", "live"]),
        "{words:?}"
    );
}

#[test]
fn the_demo_serves_its_page_and_leaves_nothing_behind() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vlmcaption-watch"));
    let temporary = tempfile::tempdir().unwrap();
    command.args(["demo", "--listen", "127.0.0.1:0"]);
    command
        .env("GST_PLUGIN_PATH", plugin())
        .env("TMPDIR", temporary.path());
    let mut running = Running::start(command);
    // The cameras do not wait for the page.
    running.wait_for_all(&["to make the first user", "camera bars: live"]);
    running.terminate();
    assert_eq!(files_below(temporary.path()), Vec::<PathBuf>::new());
}

#[test]
fn what_is_under_a_mask_is_grey_in_every_picture() {
    init();
    let text = "[[camera]]\nid = \"a\"\nurl = \"test:white\"\n\
                masks = [{ x = 0.0, y = 0.0, width = 0.5, height = 1.0 }]\n";
    let config = Config::parse(text, &Process).unwrap();
    let latest = Arc::new(Mutex::new(None));
    let seen = latest.clone();
    let on_still = Arc::new(move |still| *seen.lock().unwrap() = Some(still));
    let mut session = Playing::start(&config.cameras[0], &config.model, on_still, None).unwrap();
    let begin = Instant::now();
    let mut thumb = None;
    while (latest.lock().unwrap().is_none() || thumb.is_none()) && begin.elapsed() < PATIENCE {
        for heard in session.poll(Duration::from_millis(100)) {
            assert!(!matches!(heard, Heard::Failed(_)), "{heard:?}");
        }
        thumb = session.shared.thumb(gst::ClockTime::ZERO);
    }
    Box::new(session).close();
    let still = latest.lock().unwrap().clone().unwrap();
    for (jpeg, width, height) in [(still.jpeg, 640, 360), (thumb.unwrap(), 320, 180)] {
        let grey = decoded(&jpeg, width, height);
        for (at, value) in grey.iter().enumerate() {
            let x = at % width;
            let masked = x < width / 2;
            let near_edge = x.abs_diff(width / 2) < 24;
            assert!(
                !masked || near_edge || value.abs_diff(128) < 8,
                "{x}: {value}"
            );
            assert!(masked || near_edge || *value > 200, "{x}: {value}");
        }
    }
}

/// The brightness of a JPEG's pixels.
fn decoded(jpeg: &[u8], width: usize, height: usize) -> Vec<u8> {
    let line = format!(
        "appsrc name=in caps=image/jpeg ! jpegdec ! videoconvert ! \
         video/x-raw,format=GRAY8,width={width},height={height} ! appsink name=out sync=false"
    );
    let pipeline = gst::parse::launch(&line)
        .unwrap()
        .downcast::<gst::Pipeline>()
        .unwrap();
    let input = pipeline
        .by_name("in")
        .unwrap()
        .downcast::<gst_app::AppSrc>()
        .unwrap();
    let output = pipeline
        .by_name("out")
        .unwrap()
        .downcast::<gst_app::AppSink>()
        .unwrap();
    pipeline.set_state(gst::State::Playing).unwrap();
    input
        .push_buffer(gst::Buffer::from_slice(jpeg.to_vec()))
        .unwrap();
    input.end_of_stream().unwrap();
    let sample = output.pull_sample().unwrap();
    let map = sample.buffer().unwrap().map_readable().unwrap();
    let bytes = map.as_slice().to_vec();
    pipeline.set_state(gst::State::Null).unwrap();
    bytes
}

#[test]
fn what_is_wrong_is_said_with_what_to_do() {
    let site = Site::new("[[camera]]\nid = \"a\"\nurl = \"test:ball\"\npromt = \"x\"\n");
    let output = site.output(&["check"]);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success());
    assert!(
        error.contains("line 11: unknown key `promt`; did you mean `prompt`?"),
        "{error}"
    );
    let site = Site::new(
        "[model]\npath = \"/no/such/model\"\n[[camera]]\nid = \"a\"\nurl = \"test:ball\"\n",
    );
    let output = site.output(&["check"]);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(
        !output.status.success() && error.contains("/no/such/model"),
        "{error}"
    );
    let site = Site::new("[[camera]]\nid = \"a\"\nurl = \"rtsp://127.0.0.1:9/none\"\n");
    let output = site.output(&["check", "--connect", "--wait", "30"]);
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(told.contains("FAILED: no connection"), "{told}");
}
