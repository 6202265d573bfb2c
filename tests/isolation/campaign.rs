// SPDX-License-Identifier: MPL-2.0

//! Every way to end a worker at every stage, over and over: `VLMCAPTION_ROUNDS=200 cargo test --workspace
//! --test isolation -- --ignored --exact campaign::rounds --nocapture`.

use std::time::Duration;

use rustix::process::Signal;

use crate::processes::{held, workers_of};
use crate::{OUTSIDE, Round, crashes, from_outside, idle, turn};

/// Ends a worker in one way; by its number.
fn round(number: usize) -> (String, Round) {
    const SIGNALS: [Signal; 4] = [Signal::KILL, Signal::STOP, Signal::ABORT, Signal::TERM];
    const CRASHES: [&str; 6] = ["abort", "exit", "kill", "stop", "memory", "rubbish"];
    const STAGES: [&str; 3] = ["encode", "prefill", "decode"];
    let n_outside = SIGNALS.len() * OUTSIDE.len();
    let n_scripted = CRASHES.len() * STAGES.len();
    let at = number % (n_outside + n_scripted + 1);
    if at < n_outside {
        let (signal, outside) = (SIGNALS[at % 4], &OUTSIDE[at / 4]);
        let round = from_outside(signal, outside);
        return (format!("{signal:?} while {}", outside.stage), round);
    }
    if at < n_outside + n_scripted {
        let at = at - n_outside;
        let (crash, stage) = (CRASHES[at % 6], STAGES[at / 6]);
        return (format!("{crash} in {stage}"), crashes(crash, stage).0);
    }
    ("KILL while idle".into(), idle())
}

fn memory() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.unwrap()
        .trim()
        .trim_end_matches(" kB")
        .parse()
        .unwrap()
}

fn spread(name: &str, mut times: Vec<Duration>) {
    times.sort();
    let (middle, most) = (times[times.len() / 2], times[times.len() - 1]);
    println!("  {name}: {middle:.2?} in the middle, {most:.2?} at most");
}

#[test]
#[ignore = "takes minutes; VLMCAPTION_ROUNDS says how many rounds"]
fn rounds() {
    let _turn = turn();
    let rounds = std::env::var("VLMCAPTION_ROUNDS").map_or(35, |rounds| rounds.parse().unwrap());
    let (mut frames, mut to_error, mut to_caption) = (0, Vec::new(), Vec::new());
    let mut slow = Vec::new();
    let mut before = (0, 0);
    for number in 0..rounds {
        let (what, round) = round(number);
        frames += round.frames;
        if round.to_error > Duration::from_secs(1) {
            slow.push(format!("{what} ({:.2?})", round.to_error));
        }
        to_error.push(round.to_error);
        to_caption.push(round.to_caption);
        assert_eq!(workers_of(std::process::id()), [], "left behind by {what}");
        if number == rounds / 4 {
            before = (held(), memory());
        }
    }
    println!("  {rounds} rounds, {frames} frames, 0 lost; no worker and no zombie left behind");
    spread("to status=error", to_error);
    spread("from there to the next caption", to_caption);
    println!("  later than a second: {}", slow.join(", "));
    let after = (held(), memory());
    println!(
        "  descriptors of workers {} and {}, memory {} and {} kB, after a quarter and at the end",
        before.0, after.0, before.1, after.1
    );
    assert!(after.0 <= before.0, "descriptors are left");
}
