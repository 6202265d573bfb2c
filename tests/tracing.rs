// SPDX-License-Identifier: MPL-2.0

//! Where the time of windows goes, as a file for Perfetto and as records of a tracer. Both are chosen by
//! the environment, so each test plays in a process of its own.

mod common;

use std::collections::HashMap;
use std::process::Command;

use common::{captions, play};
use gst::prelude::*;
use serde_json::Value;

/// Names a tracer to the test that is run in a process of its own.
const TRACER: &str = "TEST_TRACER";

#[test]
#[ignore = "run by the others, which set its environment"]
fn two_cameras_share_a_model() {
    common::init();
    // GST_TRACERS is read by gst_init, before a plugin that is linked into this test is known.
    let tracer = std::env::var(TRACER).ok().map(|name| {
        let factories = gst::TracerFactory::factories();
        let factory = factories.iter().find(|factory| factory.name() == name);
        gst::glib::Object::with_type(factory.unwrap().tracer_type())
    });
    let cameras = ["north", "south"].map(|name| {
        format!(
            "videotestsrc pattern=ball num-buffers=13 ! video/x-raw,width=320,height=240,framerate=2/1 !
             vlmcaption name={name} window=4 sample-rate=2/1 drop-policy=block device=threads=1 !
             fakesink "
        )
    });
    let messages = play(&cameras.concat(), |_| {});
    assert_eq!(captions(&messages).len(), 8);
    drop(tracer);
}

/// What the test above writes to its log, in this environment.
fn played(variables: &[(&str, &str)]) -> String {
    let mut child = Command::new(std::env::current_exe().unwrap());
    let child = child
        .args(["--ignored", "--exact", "two_cameras_share_a_model"])
        .env("GST_DEBUG_NO_COLOR", "1")
        .envs(variables.iter().copied());
    let output = child.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Spans of each stage that two cameras of four windows must have.
fn check(counts: &HashMap<(String, String), usize>) {
    for element in ["north", "south"] {
        for (stage, want) in [("window", 4), ("queue", 4), ("prefill", 4), ("decode", 4)] {
            let key = (element.to_owned(), stage.to_owned());
            assert_eq!(counts.get(&key), Some(&want), "{key:?}: {counts:?}");
        }
        let key = (element.to_owned(), "encode".to_owned());
        let encoded = counts.get(&key).copied().unwrap_or(0);
        assert!(
            (7..=8).contains(&encoded),
            "two pairs a window, the last has one: {counts:?}"
        );
    }
}

#[test]
fn a_file_for_perfetto_has_every_span_on_its_cameras_track() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("trace.json");
    played(&[("VLMCAPTION_TRACE", file.to_str().unwrap())]);
    let events: Vec<Value> = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    let mut tracks = HashMap::new();
    for event in events.iter().filter(|event| event["ph"] == "M") {
        assert_eq!(event["name"], "thread_name");
        tracks.insert(
            event["tid"].as_u64().unwrap(),
            event["args"]["name"].as_str().unwrap(),
        );
    }
    let mut counts = HashMap::new();
    let mut ended: HashMap<u64, f64> = HashMap::new();
    let mut open = HashMap::new();
    for event in events.iter().filter(|event| event["ph"] != "M") {
        let track = event["tid"].as_u64().unwrap();
        let (element, stage) = (tracks[&track].to_owned(), event["name"].as_str().unwrap());
        let ts = event["ts"].as_f64().unwrap();
        match event["ph"].as_str().unwrap() {
            "X" => {
                let end = ts + event["dur"].as_f64().unwrap();
                // One camera's work is done one after the other, or Perfetto draws it wrongly.
                let before = ended.insert(track, end).unwrap_or(0.0);
                assert!(ts >= before - 1.0, "{event} begins before {before}");
            }
            "b" => {
                open.insert(event["id"].to_string(), ts);
                continue;
            }
            "e" => {
                let began = open.remove(&event["id"].to_string()).unwrap();
                assert!(ts >= began, "{event}");
            }
            other => panic!("{other}"),
        }
        *counts.entry((element, stage.to_owned())).or_insert(0) += 1;
    }
    assert!(open.is_empty(), "{open:?}");
    check(&counts);
}

#[test]
fn a_tracer_logs_every_span_as_its_record() {
    let log = played(&[
        ("VLMCAPTION_TRACE", ""),
        (TRACER, "vlmcaption-trace"),
        ("GST_DEBUG", "GST_TRACER:7"),
    ]);
    assert!(log.contains("vlmcaption-span.class"), "{log}");
    let mut counts = HashMap::new();
    for line in log.lines().filter(|line| line.contains("vlmcaption-span,")) {
        let field = |name: &str| {
            let (_, rest) = line.split_once(&format!("{name}=")).unwrap();
            let rest = rest.split_once(')').unwrap().1;
            rest.split([',', ';'])
                .next()
                .unwrap()
                .trim()
                .trim_matches('"')
                .to_owned()
        };
        assert!(field("duration").parse::<u64>().is_ok(), "{line}");
        *counts
            .entry((field("element"), field("stage")))
            .or_insert(0) += 1;
    }
    check(&counts);
}
