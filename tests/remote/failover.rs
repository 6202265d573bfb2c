// SPDX-License-Identifier: MPL-2.0

//! Several backends: whatever becomes of the first, windows are answered, each of them once.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use gst::prelude::*;

use crate::common::{script, warnings};
use crate::server::{FakeServer, Kind, said};
use crate::switch::{Does, FAST, Heard, SLOW, play_for, switched, until_answered};
use crate::{infos, start, stats};

#[test]
fn the_cpu_takes_over_from_a_server_that_is_killed_and_gives_back_to_it() {
    let (server, switch) = switched("A yard.");
    let run = start(&server, &[("backend", "openai,cpu"), FAST[0], FAST[1]]);
    let (mut heard, mut frame) = (Heard::new(), 0);
    until_answered(&run, &mut heard, &mut frame, "openai");
    switch.set(Does::Dies);
    let began = Instant::now();
    until_answered(&run, &mut heard, &mut frame, "cpu");
    assert!(
        began.elapsed() < Duration::from_secs(4),
        "{:?}",
        began.elapsed()
    );
    assert_eq!(stats(&run).get::<String>("backend").unwrap(), "cpu");
    switch.set(Does::Works);
    until_answered(&run, &mut heard, &mut frame, "openai");
    assert!(
        began.elapsed() >= Duration::from_secs(5),
        "it is left alone for a while"
    );
    assert_eq!(stats(&run).get::<String>("backend").unwrap(), "openai");
    assert_eq!(heard.changes(), ["cpu".to_owned(), server.host()]);
    let told = infos(&heard.messages);
    assert!(
        told.iter()
            .any(|told| told.contains("backend cpu (cpu) answers from now on: backend openai")),
        "{told:?}"
    );
}

#[test]
fn a_server_that_hangs_or_is_slow_is_left_after_the_latency_budget() {
    for does in [Does::Hangs, Does::IsSlow] {
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
        switch.set(does);
        let took = until_answered(&run, &mut heard, &mut frame, "mock");
        assert!(took < Duration::from_millis(2500), "{does:?}: {took:?}");
        // What was asked of the server before may not come in late.
        until_answered(&run, &mut heard, &mut frame, "mock");
    }
}

#[test]
fn a_backend_that_is_not_there_at_the_start_is_passed_over() {
    let (server, switch) = switched("A yard.");
    switch.set(Does::Dies);
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
    switch.set(Does::Works);
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
    switch.set(Does::Hangs);
    run.element.set_property("latency-budget", 500_000_000u64);
    until_answered(&run, &mut heard, &mut frame, "mock");
    switch.set(Does::Works);
    until_answered(&run, &mut heard, &mut frame, "openai");
    let warned = warnings(&heard.messages);
    assert!(
        warned
            .iter()
            .any(|told| told.contains("/no/such/model") && told.contains("another backend")),
        "{warned:?}"
    );
}

/// An address at which nothing is ever accepted: the queue of those that wait is full.
fn black_hole() -> (TcpListener, Vec<TcpStream>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let wait = Duration::from_millis(100);
    let waiting = std::iter::from_fn(|| TcpStream::connect_timeout(&address, wait).ok());
    let waiting = waiting.collect();
    (listener, waiting)
}

/// The first of two backends, at an address of its own.
fn before_a_mock(
    address: SocketAddr,
    more: &[(&str, &str)],
) -> (crate::Remote, tempfile::NamedTempFile) {
    let script = script(r#"[{"text": "A mock {n}."}]"#);
    let uri = format!("http://{address}/v1");
    let model = format!(r#"<"mock,model=\"{}\"">"#, script.path().display());
    let mut properties = vec![
        ("backend", "openai,mock"),
        ("backends", model.as_str()),
        ("server-uri", uri.as_str()),
        ("server-proxy", "none"),
        ("window", "1"),
        FAST[0],
        FAST[1],
    ];
    properties.extend(more);
    (crate::Remote::start(&properties), script)
}

#[test]
fn a_server_that_never_answers_its_probe_holds_captions_up_for_five_seconds_or_the_budget() {
    let (silent, switch) = switched("A yard.");
    switch.set(Does::Hangs);
    // The second accepts, and reads nothing; a third takes no connection.
    let deaf = TcpListener::bind("127.0.0.1:0").unwrap();
    let (hole, _waiting) = black_hole();
    let silent = silent.host().parse().unwrap();
    let addresses = [
        silent,
        deaf.local_addr().unwrap(),
        hole.local_addr().unwrap(),
    ];
    std::thread::scope(|scope| {
        for (address, budget) in addresses.map(|a| [(a, 1), (a, 0)]).concat() {
            scope.spawn(move || {
                let bound = (budget * 1_000_000_000u64).to_string();
                let (run, _script) = before_a_mock(address, &[("latency-budget", &bound)]);
                let (mut heard, mut frame) = (Heard::new(), 0);
                let took = until_answered(&run, &mut heard, &mut frame, "mock");
                let wait = Duration::from_secs(if budget > 0 { budget } else { 5 });
                assert!(took < wait + Duration::from_secs(2), "{address}: {took:?}");
                assert_eq!(heard.changes(), ["mock"]);
            });
        }
    });
}

#[test]
fn a_server_whose_probe_takes_long_answers_once_it_is_over() {
    let (server, switch) = switched("A yard.");
    switch.set(Does::IsSlow);
    let budget = ("latency-budget", "500000000");
    let address = server.host().parse().unwrap();
    let (run, _script) = before_a_mock(address, &[budget]);
    let (mut heard, mut frame) = (Heard::new(), 0);
    until_answered(&run, &mut heard, &mut frame, "mock");
    switch.set(Does::Works);
    let took = until_answered(&run, &mut heard, &mut frame, "openai");
    // It was not begun anew, which would have taken 5 s at least.
    assert!(took < SLOW + Duration::from_millis(1500), "{took:?}");
    assert_eq!(heard.changes(), ["mock".to_owned(), server.host()]);
    let told = infos(&heard.messages);
    let says = |told: &String| told.contains("is not ready after 0.5 s");
    assert!(told.iter().any(says), "{told:?}");
}

#[test]
fn a_server_that_stands_by_and_dies_is_told_of_and_not_gone_over_to() {
    let (first, first_switch) = switched("A yard.");
    let (second, second_switch) = switched("A street.");
    let script = script(r#"[{"text": "A mock {n}."}]"#);
    let backends = format!(
        r#"<"openai,server-uri=\"{}\"","openai,server-uri=\"{}\"","mock,model=\"{}\"">"#,
        first.uri(),
        second.uri(),
        script.path().display()
    );
    let run = start(
        &first,
        &[
            ("backend", "openai,openai,mock"),
            ("backends", &backends),
            FAST[0],
            FAST[1],
        ],
    );
    let (mut heard, mut frame) = (Heard::new(), 0);
    until_answered(&run, &mut heard, &mut frame, &first.host());
    second_switch.set(Does::Dies);
    // It is looked at every 5 s.
    play_for(&run, &mut heard, &mut frame, Duration::from_secs(7));
    let told = warnings(&heard.messages);
    let gone = format!("backend openai ({}) cannot be used", second.host());
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].contains(&gone), "{told:?}");
    first_switch.set(Does::Dies);
    until_answered(&run, &mut heard, &mut frame, "mock");
    assert_eq!(heard.changes(), ["mock"]);
    assert!(stats(&run).get::<u64>("requests").unwrap() > 0);
}

#[test]
fn a_model_of_this_machine_that_fails_hangs_or_is_slow_gives_way_to_a_server() {
    let server = FakeServer::start(Kind::Vllm, |connection, _, _| {
        connection.send(said("A yard."))
    });
    for (fault, more) in [
        (r#"{"error": "the device is gone"}"#, ("model-timeout", "0")),
        (r#"{"hang": true}"#, ("model-timeout", "500000000")),
        (
            r#"{"text": "Late.", "prefill-ms": 3000}"#,
            ("latency-budget", "500000000"),
        ),
    ] {
        let steps = format!(r#"[{{"text": "A mock {{n}}.", "repeat": 3}}, {fault}]"#);
        let script = script(&steps);
        let backends = format!(r#"<"mock,model=\"{}\"">"#, script.path().display());
        let properties = [
            ("backend", "mock,openai"),
            ("backends", &backends),
            FAST[0],
            FAST[1],
            more,
        ];
        let run = start(&server, &properties);
        let (mut heard, mut frame) = (Heard::new(), 0);
        until_answered(&run, &mut heard, &mut frame, "mock");
        let began = Instant::now();
        until_answered(&run, &mut heard, &mut frame, "openai");
        let took = began.elapsed();
        assert!(took < Duration::from_secs(4), "{fault}: {took:?}");
        assert_eq!(heard.changes(), [server.host()], "{fault}");
    }
}
