// SPDX-License-Identifier: MPL-2.0

//! What the process between the application and a device costs: the same calls of the same program here and
//! in a worker, in turns, so that what else the machine does is in both.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use gstvlmcaption::backend::isolation::{Isolated, Patience, find};
use gstvlmcaption::backend::{
    Cancel, Patches, Position, Program, Recipe, Segment, Surroundings, VisualTokens,
};

/// Loads a program by a worker.
pub fn isolated(
    worker: PathBuf,
    recipe: Recipe,
) -> Result<Isolated, gstvlmcaption::backend::Error> {
    let patience = Arc::<Mutex<Patience>>::default();
    Isolated::load(&worker, recipe, patience, &mut |_| (), &Cancel::default())
}

/// What is asked, and how often.
pub struct Asked<'a> {
    /// Pictures of a caption.
    pub patches: &'a [Patches],
    /// Tokens of its answer.
    pub tokens: usize,
    pub calls: usize,
    pub pairs: usize,
    pub captions: usize,
}

/// Times in the middle, µs.
pub struct Cost {
    pub call: f64,
    pub pair: f64,
    pub caption: f64,
}

fn timed(call: impl FnOnce()) -> Duration {
    let began = Instant::now();
    call();
    began.elapsed()
}

fn middle(mut times: Vec<Duration>) -> f64 {
    times.sort();
    times[times.len() / 2].as_secs_f64() * 1e6
}

/// Encodes pairs, says a prompt with all of them and tokens after it, one by one.
fn caption(program: &mut dyn Program, asked: &Asked<'_>) {
    let cancel = Cancel::default();
    let visuals = asked
        .patches
        .iter()
        .map(|p| program.encode(p, &cancel).unwrap());
    let visuals: Vec<VisualTokens> = visuals.collect();
    let mut segments = vec![Segment::Tokens(&[1; 16])];
    segments.extend(visuals.iter().map(Segment::Visual));
    segments.push(Segment::Tokens(&[2; 8]));
    let rows: usize = segments.iter().map(Segment::n_rows).sum();
    let position = |at: usize| -> Position { [at as u32; 3] };
    let positions: Vec<_> = (0..rows).map(position).collect();
    let sequence = program.open().unwrap();
    let next = program.extend(sequence, &segments, &positions, &cancel);
    assert!(next.is_ok(), "{next:?}");
    for at in rows..rows + asked.tokens {
        // A mock gives all its logits for the first token of an answer alone: this begins another one.
        program.truncate(sequence, at);
        let token = [Segment::Tokens(&[3])];
        let next = program.extend(sequence, &token, &[position(at)], &cancel);
        assert!(next.is_ok(), "{next:?}");
    }
    program.close(sequence);
}

/// Measures both in turns; the times, and a line about them.
pub fn compare(name: &str, recipe: &Recipe, asked: &Asked<'_>) -> ([Cost; 2], String) {
    let cancel = Cancel::default();
    let mut here = recipe
        .load(Surroundings::default(), &mut |_| (), &cancel)
        .unwrap();
    let mut there = isolated(find().unwrap(), recipe.clone()).unwrap();
    let worker = pid(&there);
    let mut times: [[Vec<Duration>; 3]; 2] = Default::default();
    for round in 0..asked.calls.max(asked.pairs).max(asked.captions) {
        let both = [here.as_mut(), &mut there as &mut dyn Program];
        for (program, [calls, pairs, captions]) in both.into_iter().zip(&mut times) {
            if round < asked.calls {
                calls.push(timed(|| {
                    std::hint::black_box(program.continues(10, 1));
                }));
            }
            if round < asked.pairs {
                let patches = &asked.patches[round % asked.patches.len()];
                pairs.push(timed(|| drop(program.encode(patches, &cancel).unwrap())));
            }
            if round < asked.captions {
                captions.push(timed(|| caption(program, asked)));
            }
        }
    }
    let costs = times.map(|[call, pair, caption]| Cost {
        call: middle(call),
        pair: middle(pair),
        caption: middle(caption),
    });
    let [here, there] = &costs;
    let line = format!(
        "  {name}: a call {:.1} and {:.1} µs, a pair of {} kB {:.0} and {:.0} µs, a caption of {} pairs and \
         {} tokens {:.2} and {:.2} ms, here and in a worker; {}",
        here.call,
        there.call,
        asked.patches[0].pixels.len() / 1000,
        here.pair,
        there.pair,
        asked.patches.len(),
        asked.tokens,
        here.caption / 1e3,
        there.caption / 1e3,
        memory(worker)
    );
    (costs, line)
}

/// Measures a small model, of which a process of its own must not be half; a line about it.
pub fn is_little(name: &str, recipe: &Recipe, patches: &[Patches]) -> String {
    let asked = Asked {
        patches,
        tokens: 20,
        calls: 500,
        pairs: 60,
        captions: 10,
    };
    let ([here, there], line) = compare(name, recipe, &asked);
    let times = there.caption / here.caption;
    assert!(times < 2.0, "{line}");
    line
}

/// The worker of a program.
pub fn pid(isolated: &Isolated) -> u32 {
    let remark = isolated.remark().unwrap();
    let mut words = remark.split([' ', ';']);
    words.find_map(|word| word.parse().ok()).unwrap()
}

/// Memory of a process: its own, and what it shares.
fn memory(pid: u32) -> String {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let mib = |key: &str| {
        let found = status
            .lines()
            .find_map(|line| line.strip_prefix(key))
            .unwrap();
        let kib: f64 = found.trim().trim_end_matches(" kB").parse().unwrap();
        kib / 1024.0
    };
    let (own, shared) = (mib("RssAnon:"), mib("RssShmem:"));
    format!("the worker has {own:.1} MiB of its own and {shared:.1} MiB shared")
}
