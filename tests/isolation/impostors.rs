// SPDX-License-Identifier: MPL-2.0

//! Programs that are no worker, or a worker of another build, or one that has gone mad.

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use gstvlmcaption::backend::isolation::find;
use gstvlmcaption::backend::isolation::protocol::{GREETING, STAMP};
use gstvlmcaption::backend::mock::{Play, Role, Script, Words};
use gstvlmcaption::backend::{Program, Recipe};

use crate::common::cost::isolated as load;
use crate::{says, turn};

/// A mock that knows no words.
pub fn recipe(vocab_size: usize, script: Script) -> Recipe {
    let words = Words::of(&script, |text| text.bytes().map(u32::from).collect());
    let role = Role {
        words,
        eos: 0,
        merge_size: 2,
        vocab_size,
    };
    Recipe::Mock(Play::new(script, role))
}

/// A program that greets with this text and then does that; its stdin is the socket.
fn impostor(greeting: Option<&str>, then: &str) -> tempfile::TempPath {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    let greet = greeting.map_or_else(String::new, |greeting| {
        let length = greeting.len();
        assert!(length < 256);
        format!("printf '\\{length:03o}\\000\\000\\000%s' '{greeting}' >&0\n")
    });
    write!(file, "#!/bin/sh\n{greet}{then}\n").unwrap();
    let path = file.into_temp_path();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path
}

/// What loading says by such a program, and how long that takes.
fn refusal(greeting: Option<&str>, then: &str) -> (String, Duration) {
    let _turn = turn();
    let path = impostor(greeting, then);
    let began = Instant::now();
    let loaded = load(path.to_path_buf(), recipe(64, Script::default()));
    let error = loaded.err().expect("a refusal");
    (error.to_string(), began.elapsed())
}

#[test]
fn a_worker_of_another_build_is_refused_with_the_fix() {
    let other = format!("{GREETING}0.0.9-0123456789abcdef");
    let (text, took) = refusal(Some(&other), "sleep 100");
    says(
        &text,
        &["is of build 0.0.9-0123456789abcdef", STAMP, "same package"],
    );
    assert!(took < Duration::from_secs(5), "{took:?}");
    let (text, _) = refusal(Some("hello there"), "sleep 100");
    says(&text, &["is of build none", "hello there"]);
}

#[test]
fn a_program_that_is_no_worker_says_how_it_ended_and_its_last_words() {
    let (text, _) = refusal(None, "echo 'the card is\x1b[31m gone' >&2; exit 3");
    says(
        &text,
        &[
            "ended by itself with status 3 while it began",
            "the card is [31m gone",
        ],
    );
    let (text, _) = refusal(None, "kill -SEGV $$");
    says(&text, &["signal 11 (SIGSEGV)"]);
    let _turn = turn();
    let error = load("/no/such/worker".into(), recipe(64, Script::default())).err();
    says(
        &error.unwrap().to_string(),
        &["/no/such/worker cannot be started"],
    );
}

#[test]
fn a_worker_that_answers_nonsense_is_ended() {
    let own = format!("{GREETING}{STAMP}");
    let rubbish = "head -c 100000 /dev/urandom >&0; sleep 100";
    let (text, took) = refusal(Some(&own), rubbish);
    says(&text, &["gave an answer that is none", "was killed"]);
    assert!(took < Duration::from_secs(5), "{took:?}");
    // A frame of four gigabytes, and one of a million answers that are not there.
    let (text, _) = refusal(Some(&own), "printf '\\377\\377\\377\\377' >&0; sleep 100");
    says(&text, &["one of 4294967295 bytes"]);
    let (text, _) = refusal(
        Some(&own),
        "printf '\\003\\000\\000\\000\\001\\004\\377' >&0; sleep 100",
    );
    says(&text, &["gave an answer that is none"]);
    let (text, _) = refusal(Some(&own), "exec 0>&-; sleep 100");
    says(&text, &["closed its socket, and was killed"]);
}

#[test]
fn the_worker_beside_the_tests_is_found_and_of_this_build() {
    let _turn = turn();
    let path = find().unwrap();
    let output = std::process::Command::new(&path)
        .arg("--version")
        .output()
        .unwrap();
    assert_eq!(
        String::from_utf8_lossy(&output.stdout).trim(),
        format!("{GREETING}{STAMP}")
    );
    let mut program = load(path, recipe(64, Script::default())).unwrap();
    assert!(program.open().is_ok());
    says(&program.remark().unwrap(), &["device process: pid "]);
}
