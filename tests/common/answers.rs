// SPDX-License-Identifier: MPL-2.0

//! Whole answers to golden prompts, drafted or not.

use std::sync::Arc;

use gstvlmcaption::backend::{Cancel, Program};
use gstvlmcaption::vlm::drafter::Drafter;
use gstvlmcaption::vlm::generate::{Form, GenerateOptions, Generated};
use gstvlmcaption::vlm::interview::Interview;
use gstvlmcaption::vlm::sampling::Sampling;
use gstvlmcaption::vlm::tokenizer::Tokenizer;
use gstvlmcaption::vlm::{Prompt, PromptRun};

use crate::golden::{Case, Run, demo, encode};

/// The demo model's.
pub fn tokenizer() -> Tokenizer {
    let file = demo().join("tokenizer.json");
    Tokenizer::from_bytes(&std::fs::read(file).expect("a tokenizer")).expect("a tokenizer")
}

pub fn options(sampling: Sampling, max_tokens: usize) -> GenerateOptions {
    GenerateOptions {
        max_tokens,
        sampling,
        // No answer of these prompts ends by itself.
        eos: vec![u32::MAX],
        stop: Vec::new(),
    }
}

fn prompt(case: &Case) -> Prompt {
    let mut visuals = 0..;
    let run = |run: &Run| match run {
        Run::Tokens(ids) => PromptRun::Tokens(ids.clone()),
        Run::Visual(_) => PromptRun::Visual(visuals.next().expect("a number")),
    };
    Prompt {
        runs: case.runs.iter().map(run).collect(),
        positions: case.positions.clone(),
        next_position: case.next_position(),
        placeholder: None,
    }
}

/// Answers the prompt of a case, and what the drafter became.
pub fn answer(
    program: &mut dyn Program,
    tokenizer: &Tokenizer,
    case: &Case,
    (form, options): (Form<'_>, &GenerateOptions),
    drafter: Option<Drafter>,
) -> (Generated, Option<Drafter>) {
    let visuals: Vec<_> = encode(program, case).into_iter().map(Arc::new).collect();
    let mut interview = Interview::new(program, tokenizer, &visuals);
    interview.keep_likelihoods(true);
    interview.set_drafter(drafter);
    let (prompt, cancel) = (prompt(case), Cancel::default());
    let answer = interview.answer(&prompt, form, options, &cancel, &mut |_| {});
    let drafter = interview.take_drafter();
    (answer.expect("an answer"), drafter)
}

/// One that drafts all it can and expects an answer.
pub fn expecting(answer: &[u32]) -> Option<Drafter> {
    let mut drafter = Drafter::eager();
    drafter.expect(answer);
    Some(drafter)
}
