// SPDX-License-Identifier: MPL-2.0

//! What a process between the application and the device costs.

use std::time::{Duration, Instant};

use gstvlmcaption::backend::isolation::find;
use gstvlmcaption::backend::mock::Script;
use gstvlmcaption::backend::{Cancel, GridThw, Patches, Position, Program, Segment, Surroundings};

use crate::impostors::{load, recipe};

/// Times of single calls, in the middle and of the slowest in twenty.
fn microseconds(n: usize, mut call: impl FnMut()) -> (f64, f64) {
    let mut times: Vec<Duration> = (0..n)
        .map(|_| {
            let began = Instant::now();
            call();
            began.elapsed()
        })
        .collect();
    times.sort();
    let us = |time: Duration| time.as_secs_f64() * 1e6;
    (us(times[n / 2]), us(times[n * 19 / 20]))
}

/// Memory of a process, MiB: its own, and what it shares.
fn memory(pid: u32) -> String {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = |key: &str| {
        let found = status.lines().find_map(|line| line.strip_prefix(key));
        let kib: f64 = found
            .unwrap()
            .trim()
            .trim_end_matches(" kB")
            .parse()
            .unwrap();
        kib / 1024.0
    };
    let (own, shared) = (line("RssAnon:"), line("RssShmem:"));
    format!("{own:.1} MiB its own, {shared:.1} MiB shared")
}

/// A pair of two frames of 448 x 448, and a vocabulary of Qwen3-VL's size.
#[test]
fn a_call_costs_microseconds_and_a_pair_less_than_a_frame_of_video() {
    const VOCAB: usize = 151_936;
    let _turn = crate::turn();
    let script = r#"[{"probabilities": {"y": 0.5}}]"#;
    let file = crate::common::script(script);
    let recipe = recipe(VOCAB, Script::read(file.path()).unwrap());
    let cancel = Cancel::default();
    let mut isolated = load(find().unwrap(), recipe.clone()).unwrap();
    let mut here = recipe
        .load(Surroundings::default(), &mut |_| (), &cancel)
        .unwrap();
    let grid = GridThw { t: 1, h: 28, w: 28 };
    let patches = Patches {
        grid,
        pixels: vec![7; grid.n_patches() * 3 * 2 * 16 * 16],
        mean: [0.5; 3],
        std: [0.5; 3],
    };
    let mut pair = Vec::new();
    for (place, program) in [("here", here.as_mut()), ("isolated", &mut isolated)] {
        let call = microseconds(2000, || assert!(program.continues(10, 1)));
        let encode = microseconds(200, || drop(program.encode(&patches, &cancel).unwrap()));
        let tokens = [1_u32; 200];
        let positions: Vec<Position> = (0..200).map(|at| [at; 3]).collect();
        let prefill = microseconds(200, || {
            let sequence = program.open().unwrap();
            let next = program.extend(sequence, &[Segment::Tokens(&tokens)], &positions, &cancel);
            assert!(next.is_ok());
            program.close(sequence);
        });
        let us = |(middle, most): (f64, f64)| format!("{middle:.0} ({most:.0})");
        println!(
            "  {place}: a call {}, a pair of {} kB {}, 200 rows in and {} kB of logits back {} µs",
            us(call),
            patches.pixels.len() / 1000,
            us(encode),
            VOCAB * 4 / 1000,
            us(prefill),
        );
        pair.push(encode.0);
    }
    let remark = isolated.remark().unwrap();
    let pid = remark.rsplit(' ').next().unwrap().parse().unwrap();
    println!("  the worker: {}", memory(pid));
    // Loosely, since other programs run beside it.
    assert!(pair[1] - pair[0] < 30_000.0, "{pair:?}");
}
