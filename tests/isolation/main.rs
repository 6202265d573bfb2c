// SPDX-License-Identifier: MPL-2.0

//! A device in a process of its own: whatever becomes of it, at whatever moment, the video loses no
//! frame, buffers say so soon, one message says why, captions come again by themselves, and nothing is
//! left behind.

#![expect(clippy::print_stdout, reason = "reports what was measured")]

mod campaign;
#[path = "../common/mod.rs"]
mod common;
mod cost;
mod faults;
mod impostors;
mod processes;
mod rounds;

use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use common::camera::{Camera, good};
use common::{script, warnings};
use processes::{descriptors, held, send, wait_for, worker, workers_of};
use rounds::{OUTSIDE, camera, crashes, from_outside, idle};
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

/// The same within bounds; nobody is left.
fn crash_of(crash: &str, stage: &str, within: Duration) -> String {
    let _turn = turn();
    let (round, told) = crashes(crash, stage);
    round.check(within, AGAIN);
    assert_eq!(workers_of(std::process::id()), [], "nobody is left");
    told
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
    // By what was measured of the calls before, three quarters of a second.
    for stage in ["encode", "prefill", "decode"] {
        let told = crash_of("hang", stage, SOON);
        says(&told, &["was silent for ", " and was killed while "]);
        let (_, seconds) = told.split_once("was silent for ").unwrap();
        let seconds: f32 = seconds.split_once(' ').unwrap().0.parse().unwrap();
        assert!((0.7..1.8).contains(&seconds), "{told}");
    }
}

#[test]
fn a_signal_from_outside_at_every_stage() {
    let _turn = turn();
    for signal in [Signal::KILL, Signal::STOP, Signal::ABORT, Signal::SEGV] {
        for outside in &OUTSIDE {
            from_outside(signal, outside).check(SOON, AGAIN);
        }
    }
}

#[test]
fn a_device_that_dies_while_nobody_asks_it_anything() {
    let _turn = turn();
    for signal in [Signal::KILL, Signal::STOP] {
        idle(signal).check(SOON, AGAIN);
    }
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
            // The thread that watched it may have to end yet.
            _ => wait_for("their end", || (held() <= before).then_some(())),
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
