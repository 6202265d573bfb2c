// SPDX-License-Identifier: MPL-2.0

//! One seed, one answer, however many threads compute it and however many sequences beside it.

#[path = "common/golden.rs"]
#[allow(dead_code, reason = "each test file uses its own part")]
mod golden;

use golden::{Case, begin, cases, data, demo, spec, weight_files};
use gstvlmcaption::backend::cpu::{self, Options, Precision, Weights};
use gstvlmcaption::backend::{Cancel, Next, Program, Step};
use gstvlmcaption::vlm::sampling::{Sampler, Sampling};

const N_TOKENS: usize = 16;

fn load(precision: Precision, threads: usize) -> Box<dyn Program> {
    let options = Options {
        precision,
        threads: Some(threads),
        ..Options::default()
    };
    let weights = Weights::Files(weight_files(&demo()));
    let (cancel, mut ignore) = (Cancel::default(), |_| ());
    cpu::load(&spec(&demo()), &weights, &options, &mut ignore, &cancel).expect("a model")
}

fn sampler(seed: usize) -> Sampler {
    Sampler::new(&Sampling {
        temperature: 1.5,
        top_k: 100,
        top_p: 0.98,
        min_p: 0.001,
        repetition_penalty: 1.1,
        seed: seed as u64,
    })
}

fn logits(next: Next<'_>) -> Vec<f32> {
    match next {
        Next::Logits(logits) => logits.to_vec(),
        Next::Token(_) => panic!("logits expected"),
    }
}

/// Answers to all prompts, `batch` of them made side by side; the seed is the number of the prompt.
fn answers(program: &mut dyn Program, cases: &[Case], batch: usize) -> Vec<Vec<u32>> {
    let mut answers = Vec::new();
    for (first, cases) in (0..).step_by(batch).zip(cases.chunks(batch)) {
        let mut begun: Vec<_> = cases.iter().map(|case| begin(program, case)).collect();
        let mut samplers: Vec<_> = (first..first + begun.len()).map(sampler).collect();
        let mut tokens = vec![Vec::new(); begun.len()];
        for n in 0..N_TOKENS {
            let mut steps = Vec::new();
            for (i, (sequence, logits)) in begun.iter().enumerate() {
                let token = samplers[i].choose(logits).expect("a token");
                tokens[i].push(token);
                steps.push(Step {
                    sequence: *sequence,
                    token,
                    position: [cases[i].next_position() + n as u32; 3],
                });
            }
            let mut take = |i: usize, next: Next<'_>| begun[i].1 = logits(next);
            let extended = program.extend_each(&steps, &Cancel::default(), &mut take);
            extended.expect("logits of each");
        }
        for (sequence, _) in begun {
            program.close(sequence);
        }
        answers.extend(tokens);
    }
    answers
}

#[test]
fn neither_threads_nor_neighbours_change_what_a_seed_draws() {
    let cases = cases(&data().join("logits"), &demo());
    for precision in [Precision::F32, Precision::Bf16, Precision::Int8] {
        let want = answers(&mut *load(precision, 1), &cases, 1);
        for (threads, batch) in [(1, 3), (2, 1), (3, 4)] {
            let got = answers(&mut *load(precision, threads), &cases, batch);
            assert_eq!(
                got, want,
                "{precision:?}, {threads} threads, {batch} at once"
            );
        }
        assert!(want.windows(2).any(|pair| pair[0] != pair[1]));
    }
}

#[test]
fn the_number_of_threads_changes_no_bit_of_what_follows() {
    let cases = cases(&data().join("logits"), &demo());
    for precision in [Precision::F32, Precision::Bf16, Precision::Int8] {
        // One thread has the largest tasks, sixteen the smallest.
        let [want, other, many] = [1, 3, 16].map(|threads| {
            let mut program = load(precision, threads);
            let follows = |case: &Case| {
                let (sequence, mut all) = begin(&mut *program, case);
                // Some tokens in one step, and one more.
                let tokens = &case.greedy[..5];
                let positions: Vec<_> =
                    (case.next_position()..).map(|at| [at; 3]).take(5).collect();
                let (cancel, last) = (
                    Cancel::default(),
                    [(&tokens[..4], 0..4), (&tokens[4..], 4..5)],
                );
                for (tokens, at) in last {
                    let mut take = |_: usize, next: Next<'_>| all.extend(logits(next));
                    let said = program.verify(sequence, tokens, &positions[at], &cancel, &mut take);
                    said.expect("logits of each");
                }
                program.close(sequence);
                all.into_iter().map(f32::to_bits).collect::<Vec<_>>()
            };
            cases.iter().map(follows).collect::<Vec<_>>()
        });
        assert!(want == other && want == many, "{precision:?}");
    }
}
