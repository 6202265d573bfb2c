// SPDX-License-Identifier: MPL-2.0

//! Three servers that fail one after another and come back, in every order and every way: the element
//! as it is. By a clock of its own, and in more cases, this is played in `caption/engine/succession`.

use std::time::Duration;

use crate::server::FakeServer;
use crate::start;
use crate::switch::{Does, FAST, Heard, Switch, play_for, switched, until_answered};

const ORDERS: [[usize; 3]; 6] = [
    [0, 1, 2],
    [1, 2, 0],
    [2, 0, 1],
    [0, 2, 1],
    [2, 1, 0],
    [1, 0, 2],
];
const FAULTS: [Does; 3] = [Does::Dies, Does::Hangs, Does::IsSlow];

/// After so long a server that does not answer has failed.
const TIMEOUT: Duration = Duration::from_secs(1);
/// From frame to frame, each of them a window.
const WINDOW: Duration = Duration::from_millis(200);
/// What looking, a frame and an answer take on a machine that has other things to do.
const SLACK: Duration = Duration::from_millis(900);
/// A server that stands by is looked at within this time, and known to be gone after it.
const IS_SEEN: Duration = Duration::from_secs(7);

#[test]
fn three_servers_fail_and_come_back_in_every_order_and_way() {
    std::thread::scope(|scope| {
        for (n, order) in ORDERS.iter().enumerate() {
            scope.spawn(move || play(order, n));
        }
    });
}

/// The servers fail in this order, each in its own way.
fn play(order: &[usize; 3], n: usize) {
    let servers: Vec<(FakeServer, Switch)> = (0..3).map(|_| switched("A yard.")).collect();
    let entries = servers.iter().map(|(server, _)| {
        let uri = server.uri();
        format!(r#""openai,server-uri=\"{uri}\"""#)
    });
    let backends = format!("<{}>", entries.collect::<Vec<_>>().join(","));
    let timeout = TIMEOUT.as_nanos().to_string();
    let run = start(
        &servers[0].0,
        &[
            ("backend", "openai,openai,openai"),
            ("backends", &backends),
            ("server-timeout", &timeout),
            FAST[0],
            FAST[1],
        ],
    );
    let (mut heard, mut frame) = (Heard::new(), 0);
    let host = |which: usize| servers[which].0.host();
    until_answered(&run, &mut heard, &mut frame, &host(0));
    heard.take_gap();
    let mut works = [true; 3];
    for (at, which) in order[..2].iter().enumerate() {
        let fault = FAULTS[(n + at) % 3];
        servers[*which].1.set(fault);
        works[*which] = false;
        let best = works.iter().position(|works| *works).unwrap();
        until_answered(&run, &mut heard, &mut frame, &host(best));
        play_for(&run, &mut heard, &mut frame, IS_SEEN);
        let gap = heard.take_gap();
        let most = WINDOW + TIMEOUT + WINDOW + SLACK;
        assert!(gap < most, "{order:?}: {which} {fault:?} cost {gap:?}");
    }
    for which in order[..2].iter().rev() {
        servers[*which].1.set(Does::Works);
        works[*which] = true;
    }
    until_answered(&run, &mut heard, &mut frame, &host(0));
    let gap = heard.take_gap();
    assert!(
        gap < WINDOW + TIMEOUT + WINDOW + SLACK,
        "{order:?}: {gap:?}"
    );
    let changes = heard.changes();
    assert!(changes.len() <= 5, "{order:?}: {changes:?}");
}
