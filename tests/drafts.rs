// SPDX-License-Identifier: MPL-2.0

//! Drafts save launches and change no word: tokens that are verified together have the logits that they
//! have one by one, and an answer is the same whatever was expected.

#[path = "common/golden.rs"]
#[allow(dead_code, reason = "each test file uses its own part")]
mod golden;

#[path = "common/answers.rs"]
mod answers;

use std::path::Path;

use answers::{answer, expecting, options, tokenizer};
use golden::{Case, begin, cases, data, demo, extend, golden_folders, spec, weight_files};
use gstvlmcaption::backend::cpu::{self, Options, Precision, Weights};
use gstvlmcaption::backend::{Cancel, Error, Next, Position, Program, Segment};
use gstvlmcaption::vlm::drafter::Drafter;
use gstvlmcaption::vlm::generate::{Form, GenerateOptions, StopReason};
use gstvlmcaption::vlm::grammar::Schema;
use gstvlmcaption::vlm::sampling::Sampling;

const PRECISIONS: [Precision; 3] = [Precision::F32, Precision::Bf16, Precision::Int8];

fn load(folder: &Path, precision: Precision) -> Box<dyn Program> {
    let options = Options {
        precision,
        threads: Some(2),
        ..Options::default()
    };
    let weights = Weights::Files(weight_files(folder));
    let (cancel, mut ignore) = (Cancel::default(), |_| ());
    cpu::load(&spec(folder), &weights, &options, &mut ignore, &cancel).expect("a model")
}

fn positions(case: &Case, first: usize, n: usize) -> Vec<Position> {
    let begin = case.next_position() + first as u32;
    (begin..).map(|at| [at; 3]).take(n).collect()
}

#[test]
fn tokens_verified_together_have_the_logits_that_they_have_one_by_one() {
    let mut folders = golden_folders(&data().join("logits"));
    folders.push(demo());
    for folder in folders {
        let case = &cases(&data().join("logits"), &folder)[0];
        for precision in PRECISIONS {
            let mut program = load(&folder, precision);
            let [(together, _), (alone, _)] = [(); 2].map(|()| begin(&mut *program, case));
            let n_rows = case.positions.len();
            let longest = program.verifies(n_rows).last().expect("a launch").tokens;
            // What was not accepted is forgotten, and it goes on from there with other tokens.
            for (first, n, kept) in [(0, longest, 3), (3, 2, 1), (4, 5, 5)] {
                let tokens: Vec<u32> = (0..n as u32).map(|i| 40 + 7 * i + first as u32).collect();
                let positions = positions(case, first, n);
                let mut said = Vec::new();
                let mut take = |i: usize, next: Next<'_>| {
                    assert_eq!(i, said.len());
                    match next {
                        Next::Logits(logits) => said.push(logits.to_vec()),
                        Next::Token(_) => panic!("logits expected"),
                    }
                };
                let cancel = Cancel::default();
                let verified = program.verify(together, &tokens, &positions, &cancel, &mut take);
                verified.expect("logits of each");
                assert_eq!(said.len(), n);
                program.truncate(together, n_rows + first + kept);
                for (i, (token, position)) in tokens.iter().zip(positions).enumerate() {
                    let token = [Segment::Tokens(std::slice::from_ref(token))];
                    let logits = extend(&mut *program, alone, &token, &[position]);
                    let name = folder.display();
                    assert!(logits == said[i], "{name}, {precision:?}, row {i} of {n}");
                }
                program.truncate(alone, n_rows + first + kept);
            }
        }
    }
}

#[test]
fn what_cannot_be_verified_leaves_the_sequence_as_it_was() {
    let case = &cases(&data().join("logits"), &demo())[0];
    let mut program = load(&demo(), Precision::F32);
    let (cancel, mut ignore) = (Cancel::default(), |_: usize, _: Next<'_>| ());
    let empty = program.open().expect("a sequence");
    let at = positions(case, 0, 2);
    let refused = program.verify(empty, &[1, 2], &at, &cancel, &mut ignore);
    assert!(
        matches!(refused, Err(Error::Shape { .. })),
        "no rows before them"
    );
    let (sequence, _) = begin(&mut *program, case);
    let refused = program.verify(sequence, &[1, 1 << 30], &at, &cancel, &mut ignore);
    assert!(matches!(refused, Err(Error::Shape { .. })), "no such token");
    let cancelled = Cancel::default();
    cancelled.cancel();
    let refused = program.verify(sequence, &[1, 2], &at, &cancelled, &mut ignore);
    assert!(matches!(refused, Err(Error::Cancelled)));
    let (other, _) = begin(&mut *program, case);
    let [after, want] =
        [sequence, other].map(|id| extend(&mut *program, id, &[Segment::Tokens(&[1])], &at[..1]));
    assert!(after == want);
}

/// Greedy, and three ways to draw.
fn samplings() -> [Sampling; 4] {
    let warm = Sampling {
        temperature: 1.0,
        seed: 3,
        ..Sampling::greedy()
    };
    [
        Sampling::greedy(),
        Sampling {
            repetition_penalty: 1.3,
            ..Sampling::greedy()
        },
        Sampling {
            temperature: 1.5,
            top_k: 100,
            top_p: 0.98,
            min_p: 0.001,
            repetition_penalty: 1.1,
            ..warm.clone()
        },
        warm,
    ]
}

#[test]
fn an_answer_is_the_same_whatever_was_expected() {
    let tokenizer = tokenizer();
    let cases = cases(&data().join("logits"), &demo());
    for precision in PRECISIONS {
        let mut program = load(&demo(), precision);
        for (case, sampling) in cases.iter().zip(samplings().iter().cycle()) {
            let asked = (Form::Text, &options(sampling.clone(), 20));
            // The rows that all of them find there are there from now on.
            answer(&mut *program, &tokenizer, case, asked, None);
            let (want, _) = answer(&mut *program, &tokenizer, case, asked, None);
            assert_eq!(want.drafts.drafted, 0);
            let what = format!("{}, {precision:?}, {sampling:?}", case.name);
            let mut again = |expected: &[u32]| {
                let drafter = expecting(expected);
                let (got, _) = answer(&mut *program, &tokenizer, case, asked, drafter);
                assert_eq!(got.tokens, want.tokens, "{what}");
                assert_eq!(got.likelihoods, want.likelihoods, "{what}");
                assert_eq!(got.text, want.text, "{what}");
                assert_eq!(got.stop_reason, StopReason::MaxTokens);
                got.drafts
            };
            let drafts = again(&want.tokens);
            assert_eq!((drafts.drafted, drafts.accepted), (16, 16), "{what}");
            // Rejected at each place, and nothing of it at all.
            for at in 0..want.tokens.len() {
                let mut other = want.tokens.clone();
                other[at] = (other[at] + 1) % 500;
                again(&other);
            }
            let drafts = again(&[501, 502, 503]);
            assert_eq!(drafts.accepted, 0, "{what}");
        }
    }
}

#[test]
fn an_answer_ends_where_it_ends_without_a_draft() {
    let tokenizer = tokenizer();
    let case = &cases(&data().join("logits"), &demo())[0];
    let mut program = load(&demo(), Precision::F32);
    let mut options = options(Sampling::greedy(), 20);
    let mut ask = |options: &GenerateOptions, drafter| {
        answer(
            &mut *program,
            &tokenizer,
            case,
            (Form::Text, options),
            drafter,
        )
        .0
    };
    let all = ask(&options, None);
    for n in 1..20 {
        options.max_tokens = n;
        let drafted = ask(&options, expecting(&all.tokens));
        assert_eq!(drafted.tokens, all.tokens[..n], "{n} tokens");
    }
    options.max_tokens = 20;
    let mut same = |options: &GenerateOptions| {
        let (want, drafted) = (ask(options, None), ask(options, expecting(&all.tokens)));
        assert_eq!((&drafted.text, &drafted.tokens), (&want.text, &want.tokens));
        assert_eq!(drafted.stop_reason, want.stop_reason);
        drafted.stop_reason
    };
    for at in 0..20 {
        options.eos = vec![all.tokens[at]];
        assert_eq!(same(&options), StopReason::Eos);
    }
    options.eos = vec![u32::MAX];
    for (at, _) in all.text.char_indices().skip(1) {
        options.stop = vec![all.text[at..].chars().take(2).collect()];
        same(&options);
    }
}

#[test]
fn an_answer_in_json_is_drafted_as_well() {
    let schema = r#"{"type": "object", "additionalProperties": false, "required": ["a", "b"],
        "properties": {"a": {"type": "integer"}, "b": {"enum": ["walking", "standing"]}}}"#;
    let schema = Schema::parse(schema).expect("a schema");
    let tokenizer = tokenizer();
    let cases = cases(&data().join("logits"), &demo());
    let mut program = load(&demo(), Precision::F32);
    for (case, sampling) in cases.iter().zip(samplings().iter().cycle()) {
        let options = options(sampling.clone(), 60);
        let asked = (Form::Json(&schema), &options);
        let (want, _) = answer(&mut *program, &tokenizer, case, asked, None);
        for at in 0..want.tokens.len() {
            let mut other = want.tokens.clone();
            other[at] = (other[at] + 1) % 500;
            let (got, _) = answer(&mut *program, &tokenizer, case, asked, expecting(&other));
            assert_eq!((&got.text, &got.tokens), (&want.text, &want.tokens));
        }
        let (got, _) = answer(
            &mut *program,
            &tokenizer,
            case,
            asked,
            expecting(&want.tokens),
        );
        assert_eq!((&got.text, &got.tokens), (&want.text, &want.tokens));
        assert_eq!(got.drafts.drafted, got.drafts.accepted);
        assert!(got.drafts.accepted > 0);
    }
}

#[test]
fn what_was_said_is_expected_again() {
    let tokenizer = tokenizer();
    let case = &cases(&data().join("logits"), &demo())[0];
    let mut program = load(&demo(), Precision::F32);
    let options = options(Sampling::greedy(), 20);
    let asked = (Form::Text, &options);
    let mut drafter = Some(Drafter::eager());
    let mut accepted = Vec::new();
    for _ in 0..3 {
        let said;
        (said, drafter) = answer(&mut *program, &tokenizer, case, asked, drafter);
        accepted.push(said.drafts.accepted);
    }
    assert_eq!(accepted[1..], [16, 16]);
}
