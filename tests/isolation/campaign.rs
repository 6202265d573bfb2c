// SPDX-License-Identifier: MPL-2.0

//! Every way to end a worker at every stage, over and over: `cargo xtask campaign --rounds N` runs it.

use std::collections::BTreeMap;
use std::panic::catch_unwind;
use std::time::Duration;

use rustix::process::Signal;

use crate::processes::{held, workers_of};
use crate::rounds::{OUTSIDE, Round, crashes, from_outside, idle};
use crate::turn;

/// How soon buffers say that something is wrong, and how soon captions come again.
const TO_ERROR: Duration = Duration::from_secs(1);
const TO_CAPTION: Duration = Duration::from_secs(5);
/// How long the video may stand still, of 33 ms from frame to frame.
const GAP: Duration = Duration::from_millis(500);

/// Signals from outside.
const SIGNALS: [(&str, Signal); 5] = [
    ("SIGKILL", Signal::KILL),
    ("SIGSTOP", Signal::STOP),
    ("SIGABRT", Signal::ABORT),
    ("SIGSEGV", Signal::SEGV),
    ("SIGTERM", Signal::TERM),
];
/// What the device program does itself.
const CRASHES: [&str; 6] = ["abort", "exit", "segfault", "memory", "rubbish", "hang"];
const STAGES: [&str; 3] = ["encode", "prefill", "decode"];

/// A way, a stage, and what makes a round of them.
type Way = (&'static str, &'static str, Box<dyn Fn() -> Round>);

/// All ways at all stages.
fn ways() -> Vec<Way> {
    let mut ways: Vec<Way> = Vec::new();
    for (name, signal) in SIGNALS {
        for outside in &OUTSIDE {
            let round = move || from_outside(signal, outside);
            ways.push((name, outside.stage, Box::new(round)));
        }
        ways.push((name, "idle", Box::new(move || idle(signal))));
    }
    for crash in CRASHES {
        for stage in STAGES {
            let round = move || crashes(crash, stage).0;
            ways.push((crash, stage, Box::new(round)));
        }
    }
    ways
}

/// What came of one way at one stage.
#[derive(Default)]
struct Row {
    rounds: usize,
    frames: usize,
    to_error: Vec<Duration>,
    to_caption: Vec<Duration>,
    gaps: Vec<Duration>,
    /// Workers that were left behind, dead ones that nobody waited for included.
    left: usize,
    /// Rounds with a lost frame or without an end.
    failed: Vec<String>,
}

impl Row {
    fn print(&mut self, way: &str, stage: &str) {
        let spread = |times: &mut Vec<Duration>| {
            times.sort();
            let (middle, most) = (times.get(times.len() / 2), times.last());
            let seconds = |time: Option<&Duration>| {
                time.map_or("-".to_owned(), |time| format!("{:.2}", time.as_secs_f32()))
            };
            format!("{:>6} {:>6}", seconds(middle), seconds(most))
        };
        let (error, caption) = (spread(&mut self.to_error), spread(&mut self.to_caption));
        let (rounds, frames, left, failed) =
            (self.rounds, self.frames, self.left, self.failed.len());
        println!(
            "  {way:<9} {stage:<8} {rounds:>6} {frames:>7} {failed:>6}  {error}  {caption}  {left:>4}"
        );
    }

    /// The bounds that are broken.
    fn broken(&self) -> Vec<String> {
        let mut broken = self.failed.clone();
        let over = |times: &[Duration], most, what: &str| {
            let worst = times.iter().max().filter(|worst| **worst > most);
            worst.map(|worst| format!("{what} after {worst:.2?}, at most {most:.0?} are allowed"))
        };
        broken.extend(over(&self.to_error, TO_ERROR, "status=error"));
        broken.extend(over(&self.to_caption, TO_CAPTION, "the next caption"));
        broken.extend(over(&self.gaps, GAP, "a frame"));
        if self.left > 0 {
            broken.push(format!("{} workers were left behind", self.left));
        }
        broken
    }
}

/// What this process holds.
struct Held {
    descriptors: usize,
    threads: usize,
    kb: usize,
}

impl Held {
    fn now() -> Self {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let number = line.unwrap().trim().trim_end_matches(" kB");
        Self {
            descriptors: held(),
            threads: std::fs::read_dir("/proc/self/task").unwrap().count(),
            kb: number.parse().unwrap(),
        }
    }

    /// Prints what has become of it; what grew.
    fn since(&self, before: &Self) -> Vec<String> {
        println!(
            "  after a quarter and at the end: {} and {} descriptors of workers, {} and {} threads, {} and {} kB",
            before.descriptors, self.descriptors, before.threads, self.threads, before.kb, self.kb
        );
        let mut grown = Vec::new();
        if self.descriptors > before.descriptors || self.threads > before.threads {
            grown.push("descriptors or threads are left".to_owned());
        }
        // A leak of a worker's memory, socket or output would be more than this in a handful of rounds.
        if self.kb > before.kb + 8192 {
            grown.push("memory grows".to_owned());
        }
        grown
    }
}

/// Plays rounds, in turns of all ways: a row for each, and what was held after a quarter of them.
fn play(rounds: usize, ways: &[Way]) -> (BTreeMap<usize, Row>, Held) {
    let mut rows: BTreeMap<usize, Row> = BTreeMap::new();
    let mut before = Held::now();
    for number in 0..rounds {
        let at = number % ways.len();
        let (way, stage, make) = &ways[at];
        let row = rows.entry(at).or_default();
        row.rounds += 1;
        match catch_unwind(std::panic::AssertUnwindSafe(make)) {
            Ok(round) => {
                row.frames += round.frames;
                row.to_error.push(round.to_error);
                row.to_caption.push(round.to_caption);
                row.gaps.push(round.longest_gap);
            }
            Err(panic) => {
                let text = panic.downcast_ref::<String>().map(String::as_str);
                let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
                row.failed.push(text.unwrap_or("a panic").to_owned());
            }
        }
        row.left += workers_of(std::process::id()).len();
        if number == rounds / 4 {
            before = Held::now();
        }
        println!("  round {} of {rounds}: {way}, {stage}", number + 1);
    }
    (rows, before)
}

#[test]
#[ignore = "takes minutes: cargo xtask campaign"]
fn rounds() {
    let _turn = turn();
    let rounds = std::env::var("VLMCAPTION_ROUNDS").map_or(43, |rounds| rounds.parse().unwrap());
    let ways = ways();
    let (mut rows, before) = play(rounds, &ways);
    println!();
    println!("  what      while    rounds  frames failed  to error       to caption     left");
    println!("                                            middle   most  middle   most");
    let mut broken = Vec::new();
    let mut all = Row::default();
    for (at, row) in &mut rows {
        let (way, stage, _) = &ways[*at];
        row.print(way, stage);
        let of = row.broken().into_iter();
        broken.extend(of.map(|what| format!("{way}, {stage}: {what}")));
        all.rounds += row.rounds;
        all.frames += row.frames;
        all.left += row.left;
        all.to_error.extend(&row.to_error);
        all.to_caption.extend(&row.to_caption);
        all.gaps.extend(&row.gaps);
        all.failed.append(&mut row.failed);
    }
    all.print("all", "");
    let gap = all.gaps.iter().max().copied().unwrap_or_default();
    println!(
        "  a round that loses a frame fails; the longest time from one frame to the next: {gap:.2?}"
    );
    broken.extend(Held::now().since(&before));
    assert!(
        broken.is_empty(),
        "bounds are broken:\n{}",
        broken.join("\n")
    );
}
