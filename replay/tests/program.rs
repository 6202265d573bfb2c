// SPDX-License-Identifier: MPL-2.0

//! The program as it is called: what it says of records, and how it exits.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use gst::prelude::*;

/// Plays a pattern, one window a second of video: the folder of its records.
fn records(place: &Path, pattern: &str, windows: usize) -> PathBuf {
    gst::init().unwrap();
    // It may be known already.
    let _ = gstvlmcaption::plugin_register_static();
    let evidence = place.join("evidence");
    let pipeline = gst::parse::launch(&format!(
        "videotestsrc pattern={pattern} num-buffers={} ! video/x-raw,width=160,height=120,framerate=2/1 !
         vlmcaption window=2 sample-rate=2/1 drop-policy=block device=threads=1 evidence={} ! fakesink",
        windows * 2,
        evidence.display()
    ));
    let pipeline = pipeline.unwrap();
    pipeline.set_state(gst::State::Playing).unwrap();
    let ends = [gst::MessageType::Eos, gst::MessageType::Error];
    let end = pipeline.bus().unwrap();
    let end = end
        .timed_pop_filtered(gst::ClockTime::from_seconds(60), &ends)
        .unwrap();
    assert_eq!(end.type_(), gst::MessageType::Eos, "{end:?}");
    pipeline.set_state(gst::State::Null).unwrap();
    evidence
}

fn replay(arguments: &[&str]) -> (i32, String, String) {
    let program = env!("CARGO_BIN_EXE_vlmcaption-replay");
    let Output {
        status,
        stdout,
        stderr,
    } = Command::new(program).args(arguments).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code().unwrap(), text(stdout), text(stderr))
}

/// The first record's folder.
fn first(evidence: &Path) -> PathBuf {
    let mut all: Vec<PathBuf> = fs::read_dir(evidence)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_dir())
        .collect();
    all.sort();
    all.remove(0)
}

#[test]
fn what_is_the_same_what_differs_and_what_cannot_be_told_exit_differently() {
    let place = tempfile::tempdir().unwrap();
    let evidence = records(place.path(), "ball", 3);
    let all = evidence.to_str().unwrap();
    let (code, out, err) = replay(&[all]);
    assert_eq!(code, 0, "{out}{err}");
    assert!(out.contains("3 of 3 are the same, by demo"), "{out}");
    // Another answer, as another model would have given it.
    let one = first(&evidence);
    let file = one.join("record.json");
    let record: serde_json::Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    let mut other = record.clone();
    other["answer"]["tokens"][2] = 1.into();
    other["answer"]["text"] = "A red square.".into();
    fs::write(&file, other.to_string()).unwrap();
    let (code, out, _) = replay(&[one.to_str().unwrap()]);
    assert_eq!(code, 1, "{out}");
    assert!(
        out.contains("token 2: was 1 (p ") && out.contains("was: \"A red square.\""),
        "{out}"
    );
    let (code, out, _) = replay(&["--json", all]);
    assert_eq!(code, 1, "{out}");
    let lines = out
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let same: Vec<_> = lines.map(|line| line["same"].as_bool().unwrap()).collect();
    assert_eq!(same, [false, true, true]);
    // A later version's, then a damaged frame.
    other["format"] = 2.into();
    fs::write(&file, other.to_string()).unwrap();
    let (code, _, err) = replay(&[all]);
    assert!(
        code == 2 && err.contains("format 2 is later than 1"),
        "{code} {err}"
    );
    fs::write(&file, record.to_string()).unwrap();
    let frame = one.join(record["frames"][0]["file"].as_str().unwrap());
    let bytes = fs::read(&frame).unwrap();
    fs::write(&frame, &bytes[..bytes.len() - 1]).unwrap();
    let (code, _, err) = replay(&[all]);
    assert!(
        code == 2 && err.contains("damaged or was changed"),
        "{code} {err}"
    );
    let (code, _, err) = replay(&[place.path().join("none").to_str().unwrap()]);
    assert!(code == 2 && err.contains("none"), "{code} {err}");
}

#[test]
fn another_question_and_another_backend_are_asked_about_the_same_frames() {
    let place = tempfile::tempdir().unwrap();
    let evidence = records(place.path(), "ball", 1);
    let all = evidence.to_str().unwrap();
    let question = "Is there a circle?";
    let (code, out, err) = replay(&["--prompt", question, "--kind", "yes-no", all]);
    assert_eq!(code, 0, "{out}{err}");
    assert!(
        out.contains("\"yes\" (p ") || out.contains("\"no\" (p "),
        "{out}"
    );
    let script = place.path().join("script.json");
    fs::write(&script, r#"[{"text": "Something else."}]"#).unwrap();
    let mock = [
        "--backend",
        "mock",
        "--model",
        script.to_str().unwrap(),
        all,
    ];
    let (code, out, err) = replay(&mock);
    assert_eq!(code, 1, "{out}{err}");
    assert!(out.contains("is:  \"Something else.\""), "{out}");
    let (code, _, err) = replay(&["--backend", "gpu", all]);
    assert!(
        code == 2 && err.contains("none of auto, cpu"),
        "{code} {err}"
    );
    let (code, _, err) = replay(&["--hold", "1", all]);
    assert!(
        code == 2 && err.contains("no property that chooses a model"),
        "{code} {err}"
    );
    let (code, _, err) = replay(&["--window", "7..9", all]);
    assert!(code == 2 && err.contains("counted from 0"), "{code} {err}");
    let (code, out, _) = replay(&["--help"]);
    assert!(code == 0 && out.contains("--table QUESTIONS.toml"), "{out}");
}

#[test]
fn it_is_of_the_version_that_it_writes_into_records() {
    let place = tempfile::tempdir().unwrap();
    let evidence = records(place.path(), "ball", 1);
    let file = first(&evidence).join("record.json");
    let record: serde_json::Value = serde_json::from_slice(&fs::read(file).unwrap()).unwrap();
    let (code, out, err) = replay(&["--version"]);
    assert_eq!(code, 0, "{out}{err}");
    let version = record["version"].as_str().unwrap();
    assert_eq!(out, format!("vlmcaption-replay {version}\n"));
    let (_, commit) = version.split_once('-').unwrap();
    assert!(!commit.is_empty(), "{version}");
}

#[test]
fn a_table_holds_questions_against_marked_truth() {
    let place = tempfile::tempdir().unwrap();
    let evidence = records(place.path(), "ball", 3);
    records(place.path(), "red", 3);
    let path = |name: &str| place.path().join(name).to_str().unwrap().to_owned();
    let (questions, truth, svg) = (path("questions.toml"), path("truth.csv"), path("table.svg"));
    let text = "[[question]]\nid = \"circle\"\ntext = \"Is there a circle?\"\nthreshold = 0.5\n";
    fs::write(&questions, text).unwrap();
    let all = evidence.to_str().unwrap();
    let (code, out, err) = replay(&["--table", &questions, "--write-truth", &truth, all]);
    assert_eq!(code, 0, "{out}{err}");
    let blank = fs::read_to_string(&truth).unwrap();
    let marked: Vec<&str> = blank
        .lines()
        .filter(|line| line.ends_with(",circle,"))
        .collect();
    assert_eq!(marked.len(), 6, "{blank}");
    let marked = marked.iter().enumerate().map(|(n, line)| {
        let answer = if n < 3 { "yes" } else { "no" };
        format!("{line}{answer}\n")
    });
    fs::write(&truth, marked.collect::<String>()).unwrap();
    let (code, out, err) = replay(&["--table", &questions, "--truth", &truth, "--svg", &svg, all]);
    assert_eq!(code, 0, "{out}{err}");
    assert!(
        out.contains("6 records, marked 3 yes and 3 no; truth changes 1 times"),
        "{out}"
    );
    assert!(out.contains("  best") && out.contains("  as set"), "{out}");
    let svg = fs::read_to_string(svg).unwrap();
    assert_eq!(svg.matches("<circle").count(), 6);
    let (code, _, err) = replay(&["--table", &truth, all]);
    assert!(code == 2 && err.contains("truth.csv"), "{code} {err}");
}
