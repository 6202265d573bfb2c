// SPDX-License-Identifier: MPL-2.0

//! Several backends: whatever becomes of the first, windows are answered, each of them once.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use gst::prelude::*;

use crate::common::{Run, captions, named, script};
use crate::faults::play_until;
use crate::mock::Connection;
use crate::server::{FakeServer, Kind, said};
use crate::{assert_video_untouched, infos, start, stats, text};

const PATIENCE: Duration = Duration::from_secs(60);

/// What a server does.
const WORKS: u8 = 0;
const DIES: u8 = 1;
const HANGS: u8 = 2;
const IS_SLOW: u8 = 3;

/// A server that says `text`, and the switch of what it does instead.
fn switched(text: &str) -> (FakeServer, Arc<AtomicU8>) {
    let (answer, switch) = (said(text), Arc::new(AtomicU8::new(WORKS)));
    let does = switch.clone();
    let hears = move |connection: &mut Connection| match does.load(Ordering::SeqCst) {
        DIES => false,
        HANGS => {
            connection.wait_for_close();
            false
        }
        IS_SLOW => {
            std::thread::sleep(Duration::from_secs(3));
            true
        }
        _ => true,
    };
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let server = FakeServer::start_with(any, Kind::Vllm, hears, move |connection, _, _| {
        connection.send(&answer)
    });
    (server, switch)
}

/// Which backend answered last, and how many captions there were.
struct Heard {
    sequences: BTreeSet<u64>,
    messages: Vec<gst::Message>,
}

impl Heard {
    fn new() -> Self {
        Self {
            sequences: BTreeSet::new(),
            messages: Vec::new(),
        }
    }

    /// Takes what was posted since; whether a caption of this backend is among it. No window may be
    /// answered twice.
    fn has(&mut self, run: &Run, backend: &str) -> bool {
        let bus = run.pipeline.bus().unwrap();
        let new: Vec<gst::Message> = std::iter::from_fn(|| bus.pop()).collect();
        let mut found = false;
        for caption in captions(&new) {
            let sequence = caption.get::<u64>("sequence").unwrap();
            assert!(self.sequences.insert(sequence), "window {sequence} again");
            found |= text(&caption, "backend") == backend;
        }
        self.messages.extend(new);
        found
    }
}

/// Plays until this backend has answered a window; how long that took.
fn until_answered(run: &Run, heard: &mut Heard, frame: &mut u64, backend: &str) -> Duration {
    let heard = std::cell::RefCell::new(heard);
    let (took, next) = play_until(run, *frame, PATIENCE, || {
        heard.borrow_mut().has(run, backend)
    });
    *frame = next;
    took
}

const FAST: [(&str, &str); 2] = [("sample-rate", "5/1"), ("drop-policy", "latest")];

#[test]
fn the_cpu_takes_over_from_a_server_that_is_killed_and_gives_back_to_it() {
    let (server, switch) = switched("A yard.");
    let run = start(&server, &[("backend", "openai,cpu"), FAST[0], FAST[1]]);
    let (mut heard, mut frame) = (Heard::new(), 0);
    until_answered(&run, &mut heard, &mut frame, "openai");
    switch.store(DIES, Ordering::SeqCst);
    let began = Instant::now();
    until_answered(&run, &mut heard, &mut frame, "cpu");
    assert!(
        began.elapsed() < Duration::from_secs(4),
        "{:?}",
        began.elapsed()
    );
    assert_eq!(stats(&run).get::<String>("backend").unwrap(), "cpu");
    switch.store(WORKS, Ordering::SeqCst);
    until_answered(&run, &mut heard, &mut frame, "openai");
    assert!(
        began.elapsed() >= Duration::from_secs(5),
        "it is left alone for a while"
    );
    assert_eq!(stats(&run).get::<String>("backend").unwrap(), "openai");
    let told: Vec<String> = heard
        .messages
        .iter()
        .filter(|message| named(message, "vlmcaption/backend"))
        .map(|message| text(message.structure().unwrap(), "backend"))
        .collect();
    assert_eq!(told, ["cpu", "openai"]);
    let told = infos(&heard.messages);
    assert!(
        told.iter()
            .any(|told| told.contains("backend cpu (cpu) answers from now on: backend openai")),
        "{told:?}"
    );
    assert_video_untouched(&run);
}

#[test]
fn a_server_that_hangs_or_is_slow_is_left_after_the_latency_budget() {
    for does in [HANGS, IS_SLOW] {
        let (server, switch) = switched("A yard.");
        let script = script(r#"[{"text": "A mock {n}."}]"#);
        let model = format!(r#"<"mock,model=\"{}\"">"#, script.path().display());
        let run = start(
            &server,
            &[
                ("backend", "openai,mock"),
                ("backends", &model),
                ("latency-budget", "500000000"),
                FAST[0],
                FAST[1],
            ],
        );
        let (mut heard, mut frame) = (Heard::new(), 0);
        until_answered(&run, &mut heard, &mut frame, "openai");
        switch.store(does, Ordering::SeqCst);
        let took = until_answered(&run, &mut heard, &mut frame, "mock");
        assert!(took < Duration::from_millis(2500), "{does}: {took:?}");
        // What was asked of the server before may not come in late.
        until_answered(&run, &mut heard, &mut frame, "mock");
        assert_video_untouched(&run);
    }
}

#[test]
fn a_backend_that_is_not_there_at_the_start_is_passed_over() {
    let (server, switch) = switched("A yard.");
    switch.store(DIES, Ordering::SeqCst);
    let script = script(r#"[{"text": "A mock {n}."}]"#);
    let model = format!(r#"<"mock,model=\"{}\"">"#, script.path().display());
    let run = start(
        &server,
        &[
            ("backend", "openai,mock"),
            ("backends", &model),
            FAST[0],
            FAST[1],
        ],
    );
    let (mut heard, mut frame) = (Heard::new(), 0);
    let took = until_answered(&run, &mut heard, &mut frame, "mock");
    assert!(took < Duration::from_secs(3), "{took:?}");
    switch.store(WORKS, Ordering::SeqCst);
    until_answered(&run, &mut heard, &mut frame, "openai");
}

#[test]
fn each_of_three_may_fail_and_the_best_that_works_answers() {
    let (first, switch) = switched("A yard.");
    let script = script(r#"[{"text": "A mock {n}."}]"#);
    let backends = format!(
        r#"<"openai,server-uri=\"{}\"","mock,model=\"{}\"","axera,model=/no/such/model">"#,
        first.uri(),
        script.path().display()
    );
    let run = start(
        &first,
        &[
            ("backend", "axera,openai,mock"),
            ("backends", &backends),
            FAST[0],
            FAST[1],
        ],
    );
    let (mut heard, mut frame) = (Heard::new(), 0);
    until_answered(&run, &mut heard, &mut frame, "openai");
    switch.store(HANGS, Ordering::SeqCst);
    run.element.set_property("latency-budget", 500_000_000u64);
    until_answered(&run, &mut heard, &mut frame, "mock");
    switch.store(WORKS, Ordering::SeqCst);
    until_answered(&run, &mut heard, &mut frame, "openai");
    let warned = crate::common::warnings(&heard.messages);
    assert!(
        warned
            .iter()
            .any(|told| told.contains("/no/such/model") && told.contains("another backend")),
        "{warned:?}"
    );
}
