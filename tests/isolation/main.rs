// SPDX-License-Identifier: MPL-2.0

//! A device in a process of its own: whatever becomes of it, at whatever moment, the video loses no
//! frame, buffers say so soon, one message says why, captions come again by themselves, and nothing is
//! left behind.

#![expect(clippy::print_stdout, reason = "reports what was measured")]

mod campaign;
#[path = "../common/mod.rs"]
mod common;
mod cost;
mod impostors;
mod processes;

use std::cell::Cell;
use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use common::camera::{Camera, Seen, good};
use common::{script, warnings};
use processes::{descriptors, held, send, wait_for, worker, workers_of};
use rustix::process::Signal;

/// How soon buffers say that something is wrong. On an idle machine it is less than a second.
const SOON: Duration = Duration::from_secs(2);
/// How soon captions come again: a second's pause, and a caption. Five on an idle machine.
const AGAIN: Duration = Duration::from_secs(8);

/// One at a time: each looks at the workers of this process.
fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

fn camera(model: &tempfile::NamedTempFile) -> Camera {
    Camera::new(model.path().to_str().unwrap(), &[("isolation", "process")])
}

/// It has a caption, if a late one, and nothing is wrong.
fn is_captioned(seen: &Seen) -> bool {
    seen.status == "fresh" || seen.status == "held"
}

/// The first buffer that says `error`, and the first caption after it.
fn turning_points(buffers: &[Seen]) -> (Instant, Instant) {
    let bad = buffers.iter().position(|seen| seen.status == "error");
    let bad = bad.expect("a buffer that says error");
    let good = buffers[bad..].iter().find(|seen| is_captioned(seen));
    (buffers[bad].at, good.expect("captions again").at)
}

/// That the video never stood still; that all frames came out `Camera::play` has seen to.
fn flows(buffers: &[Seen]) {
    let gaps = buffers.windows(2).map(|pair| pair[1].at - pair[0].at);
    let longest = gaps.max().unwrap();
    assert!(longest < Duration::from_millis(500), "{longest:?}");
}

/// What came of one end of a worker.
struct Round {
    frames: usize,
    /// From its end to the first buffer that says so.
    to_error: Duration,
    /// From there to the next caption.
    to_caption: Duration,
}

/// Plays a script that crashes; what was told.
fn crashes(crash: &str, stage: &str) -> (Round, String) {
    let model = script(&format!(
        r#"[{{"text": "before {{n}}", "repeat": 3}}, {{"crash": "{crash}", "crash-at": "{stage}", "text": "it is"}},
            {{"text": "after", "repeat": 9999}}]"#
    ));
    let camera = camera(&model);
    let bad = Cell::new(false);
    let buffers = camera.play(good, Duration::from_secs(60), |seen| {
        bad.set(bad.get() || seen.status == "error");
        bad.get() && is_captioned(seen) && seen.text == "after"
    });
    flows(&buffers);
    // It crashes in the window after that, the next sample or two later.
    let last = buffers
        .iter()
        .find(|seen| seen.text == "before 3")
        .unwrap()
        .at;
    let (bad, again) = turning_points(&buffers);
    let told = warnings(&camera.messages());
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].contains("vlmcaption-worker, pid "), "{told:?}");
    let round = Round {
        frames: buffers.len(),
        to_error: bad - last,
        to_caption: again - bad,
    };
    (round, told[0].clone())
}

/// The same within bounds; nobody is left.
fn crash_of(crash: &str, stage: &str, within: Duration) -> String {
    let _turn = turn();
    let (round, told) = crashes(crash, stage);
    round.check(within);
    assert_eq!(workers_of(std::process::id()), [], "nobody is left");
    told
}

impl Round {
    #[track_caller]
    fn check(&self, within: Duration) {
        assert!(self.to_error < within, "told after {:?}", self.to_error);
        assert!(
            self.to_caption < AGAIN,
            "captions after {:?}",
            self.to_caption
        );
    }
}

#[track_caller]
fn says(text: &str, words: &[&str]) {
    for word in words {
        assert!(text.contains(word), "no {word:?} in {text:?}");
    }
}

#[test]
fn an_exception_that_nobody_catches() {
    let words = [
        "signal 6 (SIGABRT)",
        "its last words",
        "the script says to crash",
    ];
    says(&crash_of("abort", "encode", SOON), &words);
    says(&crash_of("abort", "decode", SOON), &words);
    says(
        &crash_of("abort", "prefill", SOON),
        &["while a prompt was being computed"],
    );
}

#[test]
fn a_library_that_ends_the_process() {
    says(
        &crash_of("exit", "prefill", SOON),
        &["ended by itself with status 0"],
    );
    says(
        &crash_of("exit", "encode", SOON),
        &["while the vision net ran"],
    );
    says(
        &crash_of("exit", "decode", SOON),
        &["while a token was being computed"],
    );
}

#[test]
fn a_system_that_is_short_of_memory() {
    says(&crash_of("kill", "prefill", SOON), &["signal 9 (SIGKILL"]);
    says(
        &crash_of("memory", "encode", SOON),
        &["SIGABRT", "memory allocation of"],
    );
}

#[test]
fn nonsense_instead_of_an_answer() {
    for stage in ["encode", "prefill", "decode"] {
        says(
            &crash_of("rubbish", stage, SOON),
            &["an answer that is none"],
        );
    }
}

#[test]
fn a_process_that_stops_itself() {
    says(
        &crash_of("stop", "decode", SOON),
        &["was stopped (SIGSTOP)"],
    );
}

#[test]
fn a_call_that_never_returns() {
    // What was measured of the calls before allows two seconds.
    says(
        &crash_of("hang", "prefill", SOON * 2),
        &["was silent for 2."],
    );
}

/// A signal that comes while a slow device is at one stage; the model, and when to send it.
struct Outside {
    stage: &'static str,
    model: &'static str,
    moment: fn(&Seen) -> bool,
}

const OUTSIDE: [Outside; 4] = [
    Outside {
        stage: "it encodes",
        model: r#"[{"text": "slow", "encode-ms": 400}]"#,
        moment: is_captioned,
    },
    Outside {
        stage: "it prefills",
        model: r#"[{"text": "slow", "prefill-ms": 400}]"#,
        moment: is_captioned,
    },
    Outside {
        stage: "it decodes",
        model: r#"[{"text": "slow as a device can be", "token-ms": 100}]"#,
        moment: is_captioned,
    },
    Outside {
        stage: "it loads",
        model: r#"{"load-ms": 1500, "answers": [{"text": "late"}]}"#,
        moment: |_| true,
    },
];

/// Sends a signal at a stage. SIGSEGV is none of them: Rust's handler lets a process go on that has touched
/// no wrong address.
fn from_outside(signal: Signal, outside: &Outside) -> Round {
    let model = script(outside.model);
    let camera = camera(&model);
    let patience = Duration::from_secs(30);
    let before = camera.play(good, patience, outside.moment);
    let pid = worker();
    let sent = Instant::now();
    send(pid, signal);
    let bad = Cell::new(false);
    let buffers = camera.play(good, patience, |seen| {
        bad.set(bad.get() || seen.status == "error");
        bad.get() && is_captioned(seen)
    });
    flows(&buffers);
    let (bad, again) = turning_points(&buffers);
    assert_ne!(worker(), pid);
    Round {
        frames: before.len() + buffers.len(),
        to_error: bad - sent,
        to_caption: again - bad,
    }
}

#[test]
fn a_signal_from_outside_at_every_stage() {
    let _turn = turn();
    for signal in [Signal::KILL, Signal::STOP, Signal::ABORT, Signal::TERM] {
        for outside in &OUTSIDE {
            from_outside(signal, outside).check(SOON);
        }
    }
}

/// Kills one that nobody asks anything.
fn idle() -> Round {
    let model = script(r#"[{"text": "well"}]"#);
    let camera = camera(&model);
    let patience = Duration::from_secs(30);
    let before = camera.play(good, patience, |seen| seen.status == "fresh");
    // No frame comes, so nothing is asked.
    std::thread::sleep(Duration::from_millis(300));
    let pid = worker();
    let killed = Instant::now();
    send(pid, Signal::KILL);
    let told = wait_for("a warning", || warnings(&camera.messages()).pop());
    let to_error = killed.elapsed();
    says(&told, &["signal 9"]);
    let buffers = camera.play(good, patience, |seen| seen.status == "fresh");
    assert_ne!(worker(), pid);
    Round {
        frames: before.len() + buffers.len(),
        to_error,
        to_caption: killed.elapsed() - to_error,
    }
}

#[test]
fn a_device_that_dies_while_nobody_asks_it_anything() {
    let _turn = turn();
    idle().check(SOON);
}

#[test]
fn nothing_is_left_however_often_a_device_dies() {
    let _turn = turn();
    let mut before = 0;
    for round in 0..4 {
        let model = script(r#"[{"text": "well"}, {"crash": "kill"}, {"text": "again"}]"#);
        let camera = camera(&model);
        camera.play(good, Duration::from_secs(30), |seen| seen.text == "again");
        drop(camera);
        assert_eq!(workers_of(std::process::id()), []);
        match round {
            // What GStreamer and the tests keep is there by now.
            0 => before = held(),
            _ => assert!(held() <= before, "round {round}: {} of {before}", held()),
        }
    }
}

#[test]
fn a_worker_holds_what_it_needs_and_may_not_use_the_network() {
    let _turn = turn();
    let stray = tempfile::NamedTempFile::new().unwrap();
    // A descriptor that programs inherit, as many libraries open them.
    let _inherited = rustix::io::dup(stray.as_file()).unwrap();
    let model = script(r#"[{"text": "well"}]"#);
    let camera = camera(&model);
    camera.play(good, Duration::from_secs(30), |seen| seen.status == "fresh");
    let pid = worker();
    let held = descriptors(pid);
    let count = |kind: &str| held.iter().filter(|name| name.contains(kind)).count();
    assert!(held.len() <= 7, "{held:?}");
    assert_eq!(
        (count("memfd:vlmcaption"), count("/dev/null")),
        (1, 1),
        "{held:?}"
    );
    assert_eq!(count(stray.path().to_str().unwrap()), 0, "{held:?}");
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    says(&status, &["NoNewPrivs:\t1", "Seccomp:\t2"]);
}

#[test]
fn a_worker_ends_with_its_application_however_that_ends() {
    for signal in [Signal::KILL, Signal::ABORT] {
        let mut application = Command::new(std::env::current_exe().unwrap())
            .args(["--ignored", "--exact", "an_application", "--nocapture"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let parent = application.id();
        let pid = wait_for("its worker", || workers_of(parent).first().map(|w| w.0));
        // It hangs by now, and hears of nothing.
        std::thread::sleep(Duration::from_secs(1));
        send(parent, signal);
        application.wait().unwrap();
        wait_for("its worker's end", || {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            // Whoever inherits it may take his time to wait for it.
            (stat.is_empty() || stat.contains(") Z ")).then_some(())
        });
    }
}

#[test]
#[ignore = "called by another"]
fn an_application() {
    let model = script(r#"[{"crash": "hang"}]"#);
    let camera = camera(&model);
    camera.play(good, Duration::from_secs(60), |_| false);
}

#[test]
fn an_application_that_takes_the_status_of_all_children_gets_its_captions_all_the_same() {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "a_reaper", "--nocapture"])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}");
}

#[test]
#[ignore = "called by another"]
fn a_reaper() {
    std::thread::spawn(|| {
        loop {
            // Whatever child it is.
            if rustix::process::wait(rustix::process::WaitOptions::empty()).is_err() {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
    });
    let model = script(r#"[{"text": "well"}, {"crash": "abort"}, {"text": "again"}]"#);
    let camera = camera(&model);
    camera.play(good, Duration::from_secs(30), |seen| seen.text == "again");
    let told = warnings(&camera.messages());
    says(&told[0], &["pid ", " ended"]);
}

#[test]
fn the_words_are_the_same_in_whichever_process_the_model_runs() {
    let _turn = turn();
    let clips = common::clips::clips();
    for clip in clips.iter().take(3) {
        let (pictures, decoy) = common::clips::draw(clip, 2.0);
        let say = |isolation: &str| {
            common::clips::ask_with(
                &format!("isolation={isolation}"),
                &pictures,
                &decoy,
                "I420",
                "Describe the video.",
                common::PATIENCE,
            )
        };
        let (here, there) = (say("none"), say("process"));
        assert_eq!(here, there, "{}", clip.id);
        assert!(!here.is_empty());
    }
}

#[test]
fn a_script_that_crashes_is_refused_in_the_application_itself() {
    let model = script(r#"[{"crash": "abort"}]"#);
    let camera = Camera::new(model.path().to_str().unwrap(), &[("isolation", "none")]);
    camera.play(good, Duration::from_secs(30), |seen| seen.status == "error");
    says(&warnings(&camera.messages())[0], &["isolation=process"]);
}
