// SPDX-License-Identifier: MPL-2.0

//! Records of captions: what is in them, that captions are made again from them, and that nothing that a
//! disk does is felt by the video.

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use common::records::{examiner, made_again, read};
use common::{Run, captions, play, script, warnings};
use gst::prelude::*;
use gstvlmcaption::caption::evidence::again::{Asked, Change, again};
use gstvlmcaption::caption::evidence::reading::{Whole, records};
use gstvlmcaption::caption::evidence::record::Alarm;
use gstvlmcaption::caption::question::Kind;
use gstvlmcaption::caption::reports::evidence::Shown;

const SMALL: &str = "video/x-raw,format=I420,width=64,height=48,framerate=30/1";
const MOCK: (&str, &str) = ("backend", "mock");

fn folder(place: &Path) -> PathBuf {
    place.join("evidence")
}

fn number(stats: &gst::StructureRef, name: &str) -> u64 {
    stats.get(name).unwrap()
}

/// Three questions about each of so many windows of a pattern that moves, and one more by `ask`.
fn watched(place: &Path, windows: u64, more: &str) -> Vec<Whole> {
    let evidence = folder(place);
    let prompts = r#"<"what,text=(string)\"Describe the video.\"", "circle,kind=yes-no,text=(string)\"Is there a circle?\"", "n,kind=count,text=(string)\"How many shapes are there?\"">"#;
    let pipeline = format!(
        "videotestsrc pattern=ball num-buffers={} ! video/x-raw,width=320,height=240,framerate=2/1 !
         vlmcaption name=c window=4 stride=2 sample-rate=2/1 drop-policy=block device=threads=1
             evidence={} {more} ! fakesink",
        windows * 2 + 2,
        evidence.display()
    );
    let messages = play(&pipeline, |pipeline| {
        let element = pipeline.by_name("c").unwrap();
        element.set_property_from_str("prompts", prompts);
    });
    let said = captions(&messages);
    assert!(warnings(&messages).is_empty(), "{:?}", warnings(&messages));
    let all = read(&evidence);
    assert_eq!(all.len(), said.len(), "a record for every caption");
    for caption in &said {
        let of = |whole: &&Whole| {
            let (id, sequence) = (&whole.record.question.id, whole.record.sequence);
            caption.get::<&str>("prompt-id").as_deref() == Ok(id)
                && caption.get::<u64>("sequence") == Ok(sequence)
        };
        let whole = all.iter().find(of).unwrap();
        let record = &whole.record;
        assert_eq!(caption.get::<&str>("text").unwrap(), record.answer.text);
        let pts = record.frames.iter().map(|frame| frame.pts);
        assert_eq!(common::pts_list(caption), pts.collect::<Vec<_>>());
        assert_eq!(
            caption.get::<u32>("tokens-out").unwrap() as usize,
            record.answer.tokens_out
        );
    }
    all
}

#[test]
fn fifty_captions_are_made_again_token_by_token() {
    let place = tempfile::tempdir().unwrap();
    // What is random, what was said before, and a template of the window are in the prompt, too.
    let more = "temperature=0.9 seed=11 history=2 system-prompt=\"Camera {stream}, window {n}, {wallclock}.\"";
    let all = watched(place.path(), 18, more);
    assert!(all.len() >= 50, "{}", all.len());
    assert_eq!(made_again(&folder(place.path())), all.len());
    let texts = all
        .iter()
        .filter(|whole| whole.record.question.kind == "caption");
    assert!(texts.clone().all(|whole| {
        let answer = &whole.record.answer;
        answer.tokens.len() == answer.tokens_out && answer.likelihoods.len() == answer.tokens_out
    }));
    assert!(texts.clone().any(|whole| !whole.record.history.is_empty()));
    // What came of `auto`, and what computed it.
    let model = &all[0].record.model;
    let auto = ("precision".to_owned(), "auto".to_owned());
    assert!(model.properties.contains(&auto), "{model:?}");
    assert_eq!(model.precision.as_deref(), Some("f32"));
    assert!(model.kernels.is_some(), "{model:?}");
    for whole in all
        .iter()
        .filter(|whole| whole.record.question.id == "circle")
    {
        decided(whole);
    }
    let prompt = all[0].record.prompt.as_ref().unwrap();
    assert!(
        prompt.text.contains("window 1, 20") && prompt.text.contains("[0]"),
        "{}",
        prompt.text
    );
}

/// A choice's probabilities are those of the tokens that it may begin with.
fn decided(whole: &Whole) {
    let answer = &whole.record.answer;
    for (choice, probability) in ["yes", "no"].iter().zip(&answer.probabilities) {
        let of = answer.candidates.iter().filter(|c| c.answer == *choice);
        assert!(of.clone().count() > 1, "yes, Yes, YES: {answer:?}");
        assert!(of.clone().all(|candidate| !candidate.tokens.is_empty()));
        let sum: f64 = of.map(|candidate| candidate.likelihood).sum();
        assert!((sum - probability).abs() < 1e-9, "{answer:?}");
    }
}

#[test]
fn another_question_about_the_same_frames_gets_another_answer() {
    let place = tempfile::tempdir().unwrap();
    let all = watched(place.path(), 2, "");
    let whole = all
        .iter()
        .find(|whole| whole.record.question.kind == "caption")
        .unwrap();
    let mut examiner = examiner(whole);
    let change = Change {
        question: Some(Asked {
            text: "Is there a circle?".into(),
            kind: Some(Kind::YesNo),
            max_tokens: None,
        }),
        frames: None,
    };
    let asked = again(&mut examiner, whole, &change).unwrap();
    assert_eq!(asked.answer.probabilities.len(), 2);
    // The element asked the same about the same frames.
    let circle = |whole: &&Whole| {
        whole.record.question.id == "circle" && whole.record.sequence == all[0].record.sequence
    };
    let circle = all.iter().find(circle).unwrap();
    let differs = asked.answer.probabilities[0] - circle.record.answer.probabilities[0];
    assert!(differs.abs() < 1e-3, "{asked:?}");
    let change = Change {
        frames: Some(0..2),
        ..Change::default()
    };
    let fewer = again(&mut examiner, whole, &change).unwrap();
    let rows = |prompt: &Option<_>| {
        let prompt: &gstvlmcaption::caption::evidence::record::Prompt = prompt.as_ref().unwrap();
        prompt.rows
    };
    assert!(rows(&fewer.prompt) < rows(&whole.record.prompt));
    let change = Change {
        frames: Some(9..12),
        ..Change::default()
    };
    let error = again(&mut examiner, whole, &change).unwrap_err();
    assert!(error.contains("counted from 0"), "{error}");
}

#[test]
fn a_record_tells_the_model_by_the_hash_of_its_files_and_is_for_nobody_else() {
    let place = tempfile::tempdir().unwrap();
    let evidence = folder(place.path());
    let text = evidence.display().to_string();
    let run = Run::start(&[MOCK, ("window", "1"), ("evidence", &text)], SMALL);
    run.push_frames(31, 30);
    run.finish();
    // The hash may come a moment after the record.
    let deadline = std::time::Instant::now() + Duration::from_secs(30);
    let record = loop {
        let record = read(&evidence).remove(0).record;
        if record.model.sha256.is_some() {
            break record;
        }
        assert!(std::time::Instant::now() < deadline, "{record:?}");
        std::thread::sleep(Duration::from_millis(20));
    };
    let script = run.element.property::<Option<String>>("model").unwrap();
    let sum = Command::new("sha256sum").arg(script).output().unwrap();
    let sum = String::from_utf8(sum.stdout).unwrap();
    assert_eq!(record.model.files[0].sha256, sum[..64]);
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&evidence), 0o700);
    let first = records(&evidence).unwrap().remove(0);
    assert_eq!(mode(&first), 0o700);
    for file in fs::read_dir(&first).unwrap() {
        assert_eq!(mode(&file.unwrap().path()), 0o600);
    }
    let stats = kept(&run, 2);
    assert_eq!(number(&stats, "evidence-records"), 2);
    assert_eq!(number(&stats, "dropped-evidence"), 0);
    assert!(number(&stats, "evidence-bytes") > 0);
}

#[test]
fn what_is_masked_is_masked_in_the_record() {
    let place = tempfile::tempdir().unwrap();
    let evidence = folder(place.path());
    let masks = r#"<"mask,x=0.0,y=0.0,width=0.5,height=1.0">"#;
    let properties = [
        MOCK,
        ("window", "1"),
        ("evidence", evidence.to_str().unwrap()),
        ("privacy-masks", masks),
    ];
    let run = Run::start(&properties, SMALL);
    let mut buffer = gst::Buffer::from_slice(vec![235u8; 64 * 48 * 3 / 2]);
    buffer.get_mut().unwrap().set_pts(gst::ClockTime::ZERO);
    run.src.push_buffer(buffer).unwrap();
    run.finish();
    run.element.set_state(gst::State::Null).unwrap();
    let whole = read(&evidence).remove(0);
    let Shown::Rgb(image) = &whole.frames[0].picture else {
        panic!("no pixels");
    };
    let pixel = |x: usize| {
        let at = (image.height / 2 * image.width + x) * 3;
        image.pixels[at..at + 3].to_vec()
    };
    let (left, right) = (pixel(image.width / 8), pixel(image.width * 7 / 8));
    assert!(left.iter().all(|value| value.abs_diff(128) < 4), "{left:?}");
    assert_ne!(left, right);
}

#[test]
fn of_alarms_alone_those_are_kept_that_speak_for_one() {
    let place = tempfile::tempdir().unwrap();
    let evidence = folder(place.path());
    let answers = r#"[{"text": "no"}, {"text": "yes"}, {"text": "yes"}, {"text": "yes"}, {"text": "no"},
        {"text": "no"}]"#;
    let script = script(answers);
    let prompts = r#"<"fire,kind=yes-no,text=(string)\"Is there fire?\",on=0.6,off=0.4,min-duration=(guint64)1000000000">"#;
    let properties = [
        MOCK,
        ("model", script.path().to_str().unwrap()),
        ("window", "1"),
        ("evidence", evidence.to_str().unwrap()),
        ("evidence-of", "alarms"),
        ("prompts", prompts),
    ];
    let run = Run::start(&properties, SMALL);
    run.push_frames(151, 30);
    let n = captions(&run.finish()).len();
    run.element.set_state(gst::State::Null).unwrap();
    assert_eq!(n, 6);
    let alarms = read(&evidence).into_iter().map(|whole| whole.record.alarm);
    let want = [Alarm::Rising, Alarm::Begin, Alarm::Open, Alarm::End].map(Some);
    assert_eq!(alarms.collect::<Vec<_>>(), want);
}

/// Waits until so many captions are written or lost: the numbers then.
fn kept(run: &Run, n: u64) -> gst::Structure {
    let deadline = std::time::Instant::now() + Duration::from_secs(30);
    loop {
        let stats = run.element.property::<gst::Structure>("stats");
        if number(&stats, "dropped-evidence") + number(&stats, "evidence-records") == n {
            return stats;
        }
        assert!(std::time::Instant::now() < deadline, "{stats:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn the_oldest_records_give_way() {
    let place = tempfile::tempdir().unwrap();
    let evidence = folder(place.path());
    let properties = [
        MOCK,
        ("window", "1"),
        ("evidence", evidence.to_str().unwrap()),
        // Two files of one block each a record.
        ("evidence-max-bytes", "40960"),
    ];
    let run = Run::start(&properties, SMALL);
    for second in 0..20 {
        run.push(Duration::from_secs(second), None).unwrap();
        run.next_caption();
        // None waits for longer than a slow disk takes for one.
        kept(&run, second + 1);
    }
    run.finish();
    let left = read(&evidence);
    assert!((1..20).contains(&left.len()), "{}", left.len());
    assert_eq!(left.last().unwrap().record.sequence, 20);
    let total: u64 = left
        .iter()
        .flat_map(|whole| fs::read_dir(&whole.folder).unwrap())
        .map(|file| file.unwrap().metadata().unwrap().len())
        .sum();
    assert!(total <= 40_960, "{total}");
}

/// Plays a second of video whose captions go to a folder that takes none: what was warned of. The video
/// must not feel it.
fn lost(evidence: &str, properties: &[(&str, &str)]) -> Vec<String> {
    let mut all = vec![MOCK, ("window", "1"), ("evidence", evidence)];
    all.extend(properties);
    let run = Run::start(&all, SMALL);
    run.push_frames(301, 30);
    let mut messages = run.finish();
    let n = captions(&messages).len();
    assert_eq!(n, 11, "every window has its caption");
    assert_eq!(run.buffers.lock().unwrap().len(), 301, "the video is whole");
    let stats = kept(&run, 11);
    assert!(number(&stats, "dropped-evidence") >= 1, "{stats:?}");
    assert!(number(&stats, "push-p99") < 50_000_000, "{stats:?}");
    let bus = run.pipeline.bus().unwrap();
    messages.extend(std::iter::from_fn(|| bus.pop()));
    warnings(&messages)
}

#[test]
fn a_folder_that_cannot_be_is_told_once_with_what_to_do() {
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("file");
    fs::write(&file, "x").unwrap();
    let below = file.join("evidence");
    let told = lost(below.to_str().unwrap(), &[]);
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].contains("set evidence to a folder"), "{told:?}");
}

/// A file system of its own at a folder, for as long as it lives.
struct Mount(tempfile::TempDir);

impl Mount {
    /// `None`, with a word about it, where this user may mount nothing.
    fn new(options: &str) -> Option<Self> {
        let place = tempfile::tempdir().unwrap();
        let mut mount = Command::new("mount");
        let mount = mount
            .args(["-t", "tmpfs", "-o", options, "tmpfs"])
            .arg(place.path());
        let mounted = mount.output().is_ok_and(|output| output.status.success());
        if !mounted {
            eprintln!(
                "SKIPPED: this user may mount no tmpfs, so no full or read-only disk was tried"
            );
        }
        mounted.then_some(Self(place))
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

#[test]
fn a_full_disk_is_told_once_and_what_was_written_is_whole() {
    let Some(mount) = Mount::new("size=48k") else {
        return;
    };
    let evidence = folder(mount.0.path());
    let told = lost(evidence.to_str().unwrap(), &[]);
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].contains("lower evidence-max-bytes"), "{told:?}");
    let whole = read(&evidence);
    assert!(!whole.is_empty() && whole.len() < 11, "{}", whole.len());
    // A bound below what there is keeps the newest.
    let bounded = folder(mount.0.path()).join("bounded");
    fs::remove_dir_all(&evidence).unwrap();
    let properties = [
        MOCK,
        ("window", "1"),
        ("evidence", bounded.to_str().unwrap()),
        ("evidence-max-bytes", "16384"),
    ];
    let run = Run::start(&properties, SMALL);
    for second in 0..8 {
        run.push(Duration::from_secs(second), None).unwrap();
        run.next_caption();
    }
    run.finish();
    assert_eq!(number(&kept(&run, 8), "evidence-records"), 8);
    assert_eq!(read(&bounded).last().unwrap().record.sequence, 8);
}

#[test]
fn a_read_only_disk_is_told_once() {
    let Some(mount) = Mount::new("ro,size=1m") else {
        return;
    };
    let told = lost(folder(mount.0.path()).to_str().unwrap(), &[]);
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].contains("let this user write there"), "{told:?}");
}

/// A disk of its own that can stand still: an image in a file, with a file system that can be frozen.
struct Disk {
    place: tempfile::TempDir,
    _image: tempfile::NamedTempFile,
}

impl Disk {
    /// `None`, with a word about it, where this user may mount none.
    fn new() -> Option<Self> {
        let (image, place) = (
            tempfile::NamedTempFile::new().unwrap(),
            tempfile::tempdir().unwrap(),
        );
        image.as_file().set_len(16 << 20).unwrap();
        let works = |program: &str, words: &[&str], path: &Path| {
            let mut command = Command::new(program);
            command.args(words).arg(image.path());
            command.arg(path);
            command.output().is_ok_and(|output| output.status.success())
        };
        let is_made = Command::new("mkfs.ext4")
            .args(["-q", "-F"])
            .arg(image.path())
            .output()
            .is_ok_and(|output| output.status.success());
        if !is_made || !works("mount", &["-o", "loop"], place.path()) {
            eprintln!("SKIPPED: this user may mount no image, so no disk stood still");
            return None;
        }
        Some(Self {
            place,
            _image: image,
        })
    }

    /// From now on nothing is written to it for so many seconds. Another process sees to its end, whatever
    /// becomes of this one.
    fn stand_still(&self, seconds: u32) -> std::process::Child {
        use std::io::Read;
        let script = format!(
            "fsfreeze -f \"$0\" && printf x && exec >&- && sleep {seconds}; fsfreeze -u \"$0\""
        );
        let mut child = Command::new("sh")
            .args(["-c", &script])
            .arg(self.place.path())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = String::new();
        child
            .stdout
            .take()
            .unwrap()
            .read_to_string(&mut said)
            .unwrap();
        assert_eq!(said, "x", "it stands still");
        child
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.place.path()).status();
    }
}

#[test]
fn a_disk_that_stands_still_loses_records_and_no_frame_and_is_written_to_again() {
    let Some(disk) = Disk::new() else {
        return;
    };
    let evidence = folder(disk.place.path());
    let mut still = disk.stand_still(4);
    // Waits for the records that are written when it moves again.
    let told = lost(evidence.to_str().unwrap(), &[]);
    still.wait().unwrap();
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(
        told[0].contains("slower than captions are made"),
        "{told:?}"
    );
    let whole = read(&evidence);
    assert!((8..11).contains(&whole.len()), "{}", whole.len());
}

/// The folder of a process that is killed.
const KILLED: &str = "VLMCAPTION_TEST_KILLED";

#[test]
fn a_process_that_is_killed_leaves_no_half_record() {
    for round in 0..5 {
        let place = tempfile::tempdir().unwrap();
        let mut child = Command::new(std::env::current_exe().unwrap());
        let child = child
            .args(["--ignored", "--exact", "keeps_records_until_it_is_killed"])
            .env(KILLED, place.path())
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null());
        let mut child = child.spawn().unwrap();
        let deadline = std::time::Instant::now() + Duration::from_secs(60);
        while !records(&folder(place.path())).is_ok_and(|records| records.len() > 20) {
            assert!(std::time::Instant::now() < deadline, "it keeps nothing");
            std::thread::sleep(Duration::from_millis(round));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        // Reads all of them, each with the hashes of its frames.
        assert!(read(&folder(place.path())).len() > 20);
    }
}

#[test]
#[ignore = "run by a_process_that_is_killed_leaves_no_half_record, which kills it"]
fn keeps_records_until_it_is_killed() {
    let Ok(place) = std::env::var(KILLED) else {
        return;
    };
    let evidence = folder(Path::new(&place));
    let properties = [
        MOCK,
        ("window", "1"),
        ("sample-rate", "30/1"),
        ("evidence", evidence.to_str().unwrap()),
    ];
    let run = Run::start(&properties, SMALL);
    run.push_frames(1_000_000, 30);
}
