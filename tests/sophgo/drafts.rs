// SPDX-License-Identifier: MPL-2.0

//! Drafts on a bmodel that sees the cache: one launch of the prompt's nets in place of many of the
//! decode nets, and the tokens are those of transformers.

use gstvlmcaption::backend::sophgo::Embedding;
use gstvlmcaption::backend::{Cancel, Program, SequenceId};

use super::counts::launches;
use super::reference::{Case, Turn};
use super::{Loaded, judge, load, token};

/// Tokens that are drafted.
const N: usize = 12;

impl Loaded {
    /// Verifies tokens: what follows each.
    fn verify(&mut self, sequence: SequenceId, tokens: &[u32], position: u32) -> Vec<u32> {
        let positions: Vec<_> = (position..).map(|at| [at; 3]).take(tokens.len()).collect();
        let mut said = Vec::new();
        let verified = self.program.verify(
            sequence,
            tokens,
            &positions,
            &Cancel::default(),
            &mut |i, next| {
                assert_eq!(i, said.len());
                said.push(token(&next));
            },
        );
        verified.unwrap();
        assert_eq!(said.len(), tokens.len());
        said
    }
}

fn check(variant: &str, name: &str) {
    let mut loaded = load(variant);
    loaded.program.unwatch();
    let cases = std::mem::take(&mut loaded.reference.cases);
    let turn = cases.iter().find_map(|case| match case {
        Case::One { name: one, turn } if one == name => Some(turn),
        _ => None,
    });
    let turn: &Turn = turn.unwrap();
    let greedy: Vec<u32> = turn.greedy.iter().map(|choice| choice.token).collect();
    let n_rows = turn.positions.len();
    let sequence = loaded.program.open().unwrap();
    let first = loaded.prefill(sequence, turn).unwrap();
    let longest = *loaded.program.verifies(n_rows).last().expect("a launch");
    println!("  {variant}: {:?}", loaded.program.verifies(n_rows));
    assert!(longest.tokens > N);

    // The reference's own answer: the first token, then all that follow those before.
    launches("alone");
    for (i, &token) in greedy[..N].iter().enumerate() {
        loaded
            .feed(sequence, token, turn.next_position + i as u32)
            .unwrap();
    }
    let alone = launches("together");
    loaded.program.truncate(sequence, n_rows);
    let said = loaded.verify(sequence, &greedy[..N], turn.next_position);
    let together = launches("end");
    println!("  {variant} {name}: {alone} launches one by one, {together} together");
    let layers = loaded.described.layout.n_layers as u64;
    assert_eq!(
        alone - together,
        (N as u64 - 1) * layers + N as u64 - embeddings(&loaded)
    );
    let choices = [first].into_iter().chain(said);
    let choices: Vec<_> = choices.zip(turn.greedy.iter().copied()).collect();
    judge(name, &choices);

    // Rejected at each place: it goes on from there as if nothing had been drafted.
    for at in [1, 2, N / 2, N - 1] {
        loaded.program.truncate(sequence, n_rows);
        let mut draft = greedy[..N].to_vec();
        draft[at] = (draft[at] + 1) % 500;
        let said = loaded.verify(sequence, &draft, turn.next_position);
        loaded.program.truncate(sequence, n_rows + at);
        let mut choices = vec![(first, turn.greedy[0])];
        choices.extend(
            said[..at]
                .iter()
                .copied()
                .zip(turn.greedy[1..].iter().copied()),
        );
        for step in at + 1..N {
            let position = turn.next_position + step as u32 - 1;
            let got = loaded.feed(sequence, greedy[step - 1], position).unwrap();
            choices.push((got, turn.greedy[step]));
        }
        judge(&format!("{name}, another token at {at}"), &choices);
    }
    loaded.program.close(sequence);
}

/// Launches of the embedding's net for a draft: one, if it has a net.
fn embeddings(loaded: &Loaded) -> u64 {
    match loaded.described.layout.embedding {
        Embedding::Nets(_) => 1,
        Embedding::Disk => N as u64,
    }
}

#[test]
#[ignore = "needs bmodels, references and libsophon: cargo xtask test --tpu"]
fn a_draft_saves_launches_and_changes_no_token() {
    check("q3_kv", "two_pairs");
}

#[test]
#[ignore = "needs bmodels, references and libsophon: cargo xtask test --tpu"]
fn a_draft_of_qwen25_saves_launches_and_changes_no_token() {
    check("q25_kv", "two_pairs");
}
