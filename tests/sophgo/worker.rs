// SPDX-License-Identifier: MPL-2.0

//! A bmodel in a process of its own: the same words, the same device after its process was killed in the middle
//! of a launch, and what that costs.

use std::sync::PoisonError;
use std::time::Duration;

use gstvlmcaption::backend::isolation::{Isolated, find};
use gstvlmcaption::backend::sophgo::{Options, Tables};
use gstvlmcaption::backend::{
    Cancel, Error, Position, Program, Recipe, Segment, Surroundings, VisualTokens,
};
use rustix::process::{Pid, Signal, kill_process};

use super::common::cost::{Asked, compare, isolated, pid};
use super::reference::{Case, Part, Reference, Turn};
use super::{TURN, bmodel, folder, token};

fn reference() -> Reference {
    Reference::read(&folder("VLMCAPTION_TPU_MODELS").join("reference/qwen3vl"))
}

fn recipe(reference: &Reference) -> Recipe {
    Recipe::Sophgo {
        model: bmodel("q3_static"),
        options: Options {
            device: 0,
            vocab_size: reference.vocab_size,
            tables: Tables {
                side: 48,
                window: 4,
            },
            embedding: None,
        },
    }
}

fn one_pair(reference: &Reference) -> &Turn {
    let found = reference.cases.iter().find_map(|case| match case {
        Case::One { name, turn } if name == "one_pair" => Some(turn),
        _ => None,
    });
    found.unwrap()
}

/// The first tokens of an answer.
fn answer(program: &mut dyn Program, reference: &Reference) -> Result<Vec<u32>, Error> {
    let (turn, cancel) = (one_pair(reference), Cancel::default());
    let mut visuals: Vec<VisualTokens> = Vec::new();
    for part in &turn.segments {
        if let Part::Visual(k) = part {
            visuals.push(program.encode(&reference.patches(*k), &cancel)?);
        }
    }
    let mut seen = visuals.iter();
    let segments = turn.segments.iter().map(|part| match part {
        Part::Tokens(ids) => Segment::Tokens(ids),
        Part::Visual(_) => Segment::Visual(seen.next().unwrap()),
    });
    let segments: Vec<_> = segments.collect();
    let sequence = program.open()?;
    let mut tokens = vec![token(&program.extend(
        sequence,
        &segments,
        &turn.positions,
        &cancel,
    )?)];
    for n in 0..4 {
        let position: Position = [turn.next_position + n; 3];
        let last = [tokens[n as usize]];
        let next = program.extend(sequence, &[Segment::Tokens(&last)], &[position], &cancel)?;
        tokens.push(token(&next));
    }
    program.close(sequence);
    Ok(tokens)
}

fn load(reference: &Reference) -> Isolated {
    isolated(find().unwrap(), recipe(reference)).unwrap()
}

#[test]
#[ignore = "needs bmodels, references and libsophon: cargo xtask test --tpu"]
fn says_the_same_and_is_begun_anew_after_it_was_killed() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let reference = reference();
    let here = {
        let made =
            recipe(&reference).load(Surroundings::default(), &mut |_| (), &Cancel::default());
        answer(made.unwrap().as_mut(), &reference).unwrap()
    };
    assert_eq!(here[0], one_pair(&reference).greedy[0].token);
    let mut there = load(&reference);
    assert_eq!(answer(&mut there, &reference).unwrap(), here);
    println!("  {} tokens compared, the same in a worker", here.len());
    let worker = Pid::from_raw(pid(&there) as i32).unwrap();
    let killer = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_secs(1));
        kill_process(worker, Signal::KILL).unwrap();
    });
    let error = answer(&mut there, &reference).unwrap_err().to_string();
    killer.join().unwrap();
    println!("  {error}");
    assert!(error.contains("was ended by signal 9"), "{error}");
    assert!(error.contains(" while the vision net ran"), "{error}");
    drop(there);
    let mut again = load(&reference);
    assert_eq!(answer(&mut again, &reference).unwrap(), here);
    let arithmetic = again.arithmetic();
    assert_eq!(arithmetic.precision.as_deref(), Some("bf16"));
    assert_eq!(arithmetic.kernels.as_deref(), Some("BM1684X"));
}

/// Only in `--tpu-long`: on a machine of two cores an emulator's threads wait for each other, and a pair took 1.8
/// times as long in the worker as here, a caption 0.6 times.
#[test]
#[ignore = "measures: run it alone; needs bmodels, references and libsophon: cargo xtask test --tpu-long"]
fn costs_an_emulator_little() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let reference = reference();
    let patches = [reference.patches(0)];
    let asked = Asked {
        patches: &patches,
        tokens: 3,
        calls: 500,
        pairs: 3,
        captions: 1,
    };
    let ([here, there], line) = compare("emulator", &recipe(&reference), &asked);
    println!("{line} (compared)");
    assert!(there.pair < here.pair * 1.5, "{} µs", there.pair);
}
