// SPDX-License-Identifier: MPL-2.0

//! The queue: with sinks that are slow, full or stuck, and with a folder.

use std::sync::mpsc::{Receiver, Sender, channel};

use super::*;
use crate::backend::{Arithmetic, cpu};
use crate::caption::evidence::reading::Whole;
use crate::caption::frames::window::{FrameTime, WallClock};
use crate::caption::questions::question::Question;
use crate::caption::reports::caption::Caption;
use crate::caption::reports::evidence::{Evidence, Shown, ShownFrame};
use crate::caption::reports::window_info::WindowInfo;
use crate::vlm::generate::{Drafts, GenerateOptions, Generated, StopReason};
use crate::vlm::image::RgbImage;
use crate::vlm::sampling::Sampling;

fn answer() -> Generated {
    Generated {
        text: "A red circle.".into(),
        tokens_in: 9,
        reused: 0,
        tokens_out: 3,
        tokens: vec![1, 2, 3],
        likelihoods: vec![0.5, 0.25, 0.125],
        drafts: Drafts::default(),
        stop_reason: StopReason::Eos,
        probability: None,
        probabilities: Vec::new(),
        branches: Vec::new(),
        ttft: Duration::ZERO,
        total: Duration::ZERO,
    }
}

fn entry(sequence: u64) -> Entry {
    let at = Duration::from_secs(sequence);
    let time = FrameTime {
        pts: at,
        running_time: at,
        wallclock: at,
        clock: WallClock::System,
    };
    let image = RgbImage {
        width: 8,
        height: 4,
        pixels: vec![sequence as u8; 96],
    };
    let evidence = Evidence {
        frames: vec![ShownFrame {
            time,
            picture: Shown::Rgb(Arc::new(image)),
        }],
        skipped: 0,
        stream: "cam".into(),
        last: String::new(),
        system_template: String::new(),
        system: String::new(),
        text: "?".into(),
        history: Vec::new(),
        forgotten: 0,
        prompt: None,
        options: GenerateOptions {
            max_tokens: 8,
            sampling: Sampling::greedy(),
            eos: vec![7],
            stop: Vec::new(),
        },
        answer: answer(),
        weight_bytes: Some(1),
        arithmetic: Arithmetic::default(),
    };
    Entry {
        caption: Caption {
            question: Arc::new(Question::plain("?")),
            text: "A red circle.".into(),
            probability: None,
            probabilities: Vec::new(),
            sequence,
            frames: vec![time],
            prompt_hash: "0".into(),
            tokens_in: 9,
            reused: 0,
            reused_pairs: 0,
            drafts: Drafts::default(),
            tokens_out: 3,
            stop_reason: StopReason::Eos,
            queue_wait: Duration::ZERO,
            ttft: Duration::ZERO,
            total: Duration::ZERO,
            evidence: Some(Arc::new(evidence)),
            window_info: WindowInfo::default(),
        },
        element: "a/b c".into(),
        model: "demo".into(),
        source: Arc::new(Source::Cpu {
            model: None,
            options: cpu::Options::default(),
        }),
        alarm: None,
        inquiry: false,
    }
}

/// Does with each record what it is told by the test.
struct Scripted {
    results: Mutex<Receiver<io::Result<()>>>,
}

impl Sink for Scripted {
    fn write(&self, name: &str, _: &dyn Fn(&str) -> Files) -> io::Result<(String, u64)> {
        // A test that has ended has nothing more to say.
        let result = self.results.lock().unwrap().recv().unwrap_or(Ok(()));
        result.map(|()| (name.to_owned(), 1))
    }

    fn replace(&self, _: &str, _: &str, _: &[u8]) -> io::Result<()> {
        Ok(())
    }

    fn place(&self) -> &Path {
        Path::new("/nonexistent/evidence")
    }
}

fn scripted() -> (Recorder, Sender<io::Result<()>>, Receiver<Writing>) {
    let (results, script) = channel();
    let (told, hears) = channel();
    let sink = Scripted {
        results: Mutex::new(script),
    };
    let on_writing = move |writing| {
        let _ = told.send(writing);
    };
    let recorder = Recorder::to(Arc::new(sink), Box::new(on_writing)).unwrap();
    (recorder, results, hears)
}

const SOON: Duration = Duration::from_secs(20);

#[test]
fn what_a_slow_disk_does_not_take_is_counted_and_told_once() {
    let (recorder, results, told) = scripted();
    let began = Instant::now();
    for sequence in 0..100 {
        recorder.put(entry(sequence));
    }
    assert!(
        began.elapsed() < Duration::from_secs(2),
        "putting waits for nobody"
    );
    let dropped = recorder.counts().dropped;
    // One may be on its way to the disk.
    let kept = 100 - dropped;
    assert!((8..=9).contains(&kept), "{kept} wait");
    let Writing::Fails(reason) = told.recv_timeout(SOON).unwrap() else {
        panic!("it is said to work");
    };
    assert!(
        reason.contains("slower") && reason.contains("evidence-of=alarms"),
        "{reason}"
    );
    for _ in 0..kept {
        results.send(Ok(())).unwrap();
    }
    assert!(recorder.wait_written(SOON));
    assert_eq!(told.recv_timeout(SOON), Ok(Writing::Works));
    assert!(told.try_recv().is_err());
    let counts = recorder.counts();
    assert_eq!((counts.written, counts.dropped), (kept, dropped));
}

#[test]
fn each_kind_of_failure_names_its_fix_and_is_told_once_until_it_is_over() {
    for (kind, fix) in [
        (io::ErrorKind::StorageFull, "evidence-max-bytes"),
        (io::ErrorKind::QuotaExceeded, "evidence-max-bytes"),
        (io::ErrorKind::FileTooLarge, "evidence-max-bytes"),
        (io::ErrorKind::ReadOnlyFilesystem, "set evidence to another"),
        (io::ErrorKind::PermissionDenied, "let this user write there"),
        (io::ErrorKind::NotADirectory, "to a folder"),
        (io::ErrorKind::Other, "look after its disk"),
    ] {
        let (recorder, results, told) = scripted();
        for sequence in 0..3 {
            results.send(Err(kind.into())).unwrap();
            recorder.put(entry(sequence));
        }
        results.send(Ok(())).unwrap();
        recorder.put(entry(3));
        assert!(recorder.wait_written(SOON));
        let all: Vec<Writing> = told.try_iter().collect();
        let [Writing::Fails(reason), Writing::Works] = all.as_slice() else {
            panic!("{all:?}");
        };
        assert!(reason.contains(fix), "{reason}");
        let counts = recorder.counts();
        assert_eq!((counts.written, counts.dropped), (1, 3));
    }
}

#[test]
fn a_disk_that_does_not_return_holds_nobody_up() {
    let (recorder, results, _told) = scripted();
    for sequence in 0..3 {
        recorder.put(entry(sequence));
    }
    let began = Instant::now();
    recorder.end(Duration::from_millis(50));
    assert!(began.elapsed() < Duration::from_secs(5));
    recorder.put(entry(4));
    assert!(recorder.counts().dropped >= 2);
    drop(recorder);
    // The thread ends once the disk returns.
    results.send(Ok(())).unwrap();
}

#[test]
fn a_record_is_read_back_as_it_was_and_learns_its_model() {
    let place = tempfile::tempdir().unwrap();
    let options = EvidenceOptions {
        folder: place.path().join("evidence"),
        which: Which::All,
        bounds: Bounds {
            bytes: 0,
            age: Duration::ZERO,
        },
    };
    let recorder = Recorder::start(&options, Box::new(|_| {})).unwrap();
    let deadline = Instant::now() + SOON;
    recorder.put(entry(5));
    let whole = loop {
        assert!(Instant::now() < deadline, "its model is not known");
        std::thread::sleep(Duration::from_millis(20));
        let records = crate::caption::evidence::reading::records(&options.folder);
        let Some(first) = records.ok().and_then(|records| records.into_iter().next()) else {
            continue;
        };
        let whole = Whole::read(&first).unwrap();
        if whole.record.model.sha256.is_some() {
            break whole;
        }
    };
    let want = entry(5);
    let evidence = want.caption.evidence.as_ref().unwrap();
    assert_eq!(whole.frames, evidence.frames);
    assert!(
        whole.record.id.ends_with("-a_b_c-5-default"),
        "{}",
        whole.record.id
    );
    assert_eq!(whole.record.answer.tokens, [1, 2, 3]);
    assert_eq!(whole.record.answer.likelihoods, [0.5, 0.25, 0.125]);
    assert!(
        whole
            .record
            .model
            .files
            .iter()
            .any(|f| f.name == "model.safetensors")
    );
    let frame = whole.folder.join(&whole.record.frames[0].file);
    std::fs::write(frame, b"another").unwrap();
    let error = Whole::read(&whole.folder).unwrap_err().to_string();
    assert!(error.contains("damaged"), "{error}");
}
