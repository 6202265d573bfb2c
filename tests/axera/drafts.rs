// SPDX-License-Identifier: MPL-2.0

//! Drafts on the NPU: one chunk in place of many decode runs, and the same answer.

use gstvlmcaption::backend::Program;
use gstvlmcaption::vlm::generate::Form;
use gstvlmcaption::vlm::sampling::Sampling;

use crate::answers::{answer, expecting, options, tokenizer};
use crate::compare::{Folders, data, grid_of};
use crate::golden::{cases, demo};
use crate::make::Build;
use crate::{both, counted};

/// Tokens of an answer.
const N_TOKENS: usize = 14;

#[test]
fn a_draft_saves_runs_and_changes_no_word() {
    both("drafts::saved");
}

#[test]
#[ignore = "called by another"]
fn saved() {
    let (checkpoint, tokenizer) = (demo(), tokenizer());
    let mut folders = Folders::new(&checkpoint, Build::default());
    let layers = folders.spec.text.num_hidden_layers as i64;
    let mut drafted = 0;
    for case in &cases(&data(), &checkpoint) {
        let mut npu = folders.load(grid_of(case, &folders.spec));
        let options = options(Sampling::greedy(), N_TOKENS);
        // Twelve tokens are drafted behind the first, and one comes behind them: a chunk and 13 heads in
        // place of 13 decode runs with theirs.
        let saved = match npu.verifies(case.positions.len()).is_empty() {
            true => 0,
            false => 12 * layers,
        };
        let mut ask = |drafter| {
            let before = counted("runs");
            let said = answer(&mut npu, &tokenizer, case, (Form::Text, &options), drafter).0;
            (said, counted("runs") - before)
        };
        // The prompt's rows that are there from the answer before are the same in all that follow.
        ask(None);
        let (want, runs) = ask(None);
        let (got, fewer) = ask(expecting(&want.tokens));
        assert_eq!(got.tokens, want.tokens, "{}", case.name);
        assert_eq!(runs - fewer, saved, "{}", case.name);
        drafted += got.drafts.accepted;
        for at in 0..want.tokens.len() {
            let mut other = want.tokens.clone();
            other[at] = (other[at] + 1) % 500;
            let (got, _) = ask(expecting(&other));
            assert_eq!(got.tokens, want.tokens, "{} at {at}", case.name);
        }
    }
    assert!(drafted > 0);
    println!("  {drafted} tokens drafted and said");
}
