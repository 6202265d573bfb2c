// SPDX-License-Identifier: MPL-2.0

//! One of several answers, decided by the probabilities of the tokens that they may begin with.
//!
//! Each answer is spelled in the ways that models spell it (`yes`, `Yes`, `YES`, each with a space
//! before it or not); all spellings make one tree of tokens. Where all that follows is one and the
//! same answer, the probability of the branch is the answer's and nothing more is computed: for
//! answers that begin differently that is the first token. Where answers begin with the same tokens
//! the tree is followed, branch by branch.

use super::Error;
use super::answer::without_reasoning;
use super::interview::{Interview, Prefilled};
use super::request::{Branch, Generated, Request, StopReason};
use super::sampling::{Sampler, numbers};
use super::tokenizer::Tokenizer;
use crate::backend::Next;

/// Branches that are less likely than this are not followed.
const NEGLIGIBLE: f64 = 0.01;

/// A place in the tree of spellings.
#[derive(Debug, Default)]
struct Node {
    /// Tokens that go on, in the order of the answers.
    children: Vec<(u32, Node)>,
    /// The answer that is complete here.
    complete: Option<usize>,
}

impl Node {
    fn tree(tokenizer: &Tokenizer, choices: &[String]) -> Result<Self, Error> {
        let mut root = Self::default();
        // An answer's own spelling goes before another's in capitals.
        for variant in 0..N_SPELLINGS {
            for (index, choice) in choices.iter().enumerate() {
                let spelled = spelling(choice, variant);
                for text in [format!(" {spelled}"), spelled] {
                    let mut node = &mut root;
                    for id in tokenizer.encode_text(&text)? {
                        let at = match node.children.iter().position(|(token, _)| *token == id) {
                            Some(at) => at,
                            None => {
                                node.children.push((id, Node::default()));
                                node.children.len() - 1
                            }
                        };
                        node = &mut node.children[at].1;
                    }
                    node.complete.get_or_insert(index);
                }
            }
        }
        Ok(root)
    }

    /// The answer that all paths from here come to; `None` if they differ.
    fn only(&self) -> Option<usize> {
        let mut answers = Vec::new();
        self.answers(&mut answers);
        match answers.as_slice() {
            [one, rest @ ..] if rest.iter().all(|answer| answer == one) => Some(*one),
            _ => None,
        }
    }

    fn answers(&self, into: &mut Vec<usize>) {
        into.extend(self.complete);
        for (_, child) in &self.children {
            child.answers(into);
        }
    }
}

const N_SPELLINGS: usize = 4;

fn spelling(choice: &str, variant: usize) -> String {
    let mut chars = choice.chars();
    match (variant, chars.next()) {
        (1, _) => choice.to_lowercase(),
        (2, Some(first)) => first.to_uppercase().chain(chars).collect(),
        (3, _) => choice.to_uppercase(),
        _ => choice.to_owned(),
    }
}

/// What is found out on the way through the tree.
struct Tally {
    /// Of each answer.
    shares: Vec<f64>,
    /// Where each of them was decided, if somebody wants to know.
    branches: Option<Vec<Branch>>,
    /// Tokens from the prompt to where it is.
    path: Vec<u32>,
    /// Tokens that were appended to the prompt.
    n_tokens: usize,
}

impl Tally {
    /// What comes after `last`, or ends where it is, is this answer.
    fn decide(&mut self, answer: usize, last: Option<u32>, weight: f64) {
        self.shares[answer] += weight;
        if let Some(branches) = &mut self.branches {
            branches.push(Branch {
                choice: answer,
                tokens: self.path.iter().copied().chain(last).collect(),
                share: weight,
            });
        }
    }

    /// Their shares as parts of a sum.
    fn branches(self, sum: f64) -> Vec<Branch> {
        let branches = self.branches.unwrap_or_default().into_iter();
        let branches = branches.map(|branch| Branch {
            share: branch.share / sum,
            ..branch
        });
        branches.collect()
    }
}

impl Interview<'_> {
    /// One of `choices`.
    pub(super) fn choice(
        &mut self,
        request: &Request<'_>,
        choices: &[String],
    ) -> Result<Generated, Error> {
        let tree = Node::tree(self.tokenizer, choices)?;
        let mut sampler = Sampler::new(&request.options.sampling);
        let Prefilled { next, reused } =
            self.prefill(request.prompt, &mut sampler, request.cancel)?;
        let options: Vec<u32> = tree.children.iter().map(|(token, _)| *token).collect();
        let first = match next {
            Next::Logits(logits) => Ok(probabilities(logits, &options)?),
            Next::Token(token) => Err(token),
        };
        let ttft = request.started.elapsed();
        let generated = match first {
            Err(token) => self.said(request, choices, token)?,
            Ok(first) => {
                let mut tally = Tally {
                    shares: vec![0.0; choices.len()],
                    branches: self.keeps_likelihoods().then(Vec::new),
                    path: Vec::new(),
                    n_tokens: 0,
                };
                let base = self.n_rows();
                self.follow(request, &tree, &first, 1.0, base, &mut tally)?;
                let sum: f64 = tally.shares.iter().sum();
                let probabilities: Vec<f64> =
                    tally.shares.iter().map(|share| share / sum).collect();
                // The first of the likeliest.
                let best = (0..choices.len())
                    .rev()
                    .max_by(|&a, &b| probabilities[a].total_cmp(&probabilities[b]))
                    .ok_or(Error::Logits)?;
                Generated {
                    tokens_out: 1 + tally.n_tokens,
                    probability: Some(probabilities[best]),
                    probabilities,
                    branches: tally.branches(sum),
                    ..request.generated(choices[best].clone(), StopReason::Complete)
                }
            }
        };
        Ok(Generated {
            reused,
            ttft,
            ..generated
        })
    }

    /// Shares `weight` out among the branches of a node, of which `odds` are the probabilities.
    /// The sequence holds the node's tokens up to row `base`, and does again afterwards.
    fn follow(
        &mut self,
        request: &Request<'_>,
        node: &Node,
        odds: &[f64],
        weight: f64,
        base: usize,
        tally: &mut Tally,
    ) -> Result<(), Error> {
        let going_on: f64 = odds.iter().sum();
        // A model that has said one answer may say anything then, but for the others' next tokens.
        let ending = match node.complete {
            Some(_) => (1.0 - going_on).max(0.0),
            None => 0.0,
        };
        let sum = going_on + ending;
        let share = |odds: f64| match sum > 0.0 {
            true => weight * odds / sum,
            false => weight / node.children.len() as f64,
        };
        if let Some(answer) = node.complete {
            tally.decide(answer, None, share(ending));
        }
        for ((token, child), &odds) in node.children.iter().zip(odds) {
            let weight = share(odds);
            if let Some(answer) = child.only() {
                tally.decide(answer, Some(*token), weight);
            } else if weight >= NEGLIGIBLE {
                let depth = base - request.prompt.n_rows();
                if base >= self.context() {
                    return Err(request.full(self.context()));
                }
                let next = self.step(*token, request.position(depth), request.cancel)?;
                tally.n_tokens += 1;
                let options: Vec<u32> = child.children.iter().map(|(token, _)| *token).collect();
                let Next::Logits(logits) = next else {
                    return Err(Error::Logits);
                };
                let odds = probabilities(logits, &options)?;
                tally.path.push(*token);
                self.follow(request, child, &odds, weight, base + 1, tally)?;
                tally.path.pop();
                self.back_to(base);
            }
        }
        Ok(())
    }

    /// The answer of a program that gives tokens and no logits: what its text begins with, or the
    /// only one that it names.
    fn said(
        &mut self,
        request: &Request<'_>,
        choices: &[String],
        first: u32,
    ) -> Result<Generated, Error> {
        let (text, tokens_out) = self.continued(request, first)?;
        match named(&text, choices) {
            Some(answer) => Ok(Generated {
                tokens_out,
                ..request.generated(choices[answer].clone(), StopReason::Complete)
            }),
            None => Err(Error::Answer(format!(
                "the model said {text:?}, which is none of {}; ask for one of these words alone",
                choices.join(", ")
            ))),
        }
    }

    /// The text of an answer whose first token was chosen by the program, and its tokens.
    pub(super) fn continued(
        &mut self,
        request: &Request<'_>,
        first: u32,
    ) -> Result<(String, usize), Error> {
        let (mut token, mut ids) = (first, Vec::new());
        let n = loop {
            if request.options.eos.contains(&token) {
                break ids.len() + 1;
            }
            ids.push(token);
            if ids.len() >= request.options.max_tokens || self.n_rows() >= self.context() {
                break ids.len();
            }
            token = match self.step(token, request.position(ids.len() - 1), request.cancel)? {
                Next::Token(token) => token,
                Next::Logits(_) => break ids.len(),
            };
        };
        let text = self.tokenizer.decode(&ids)?;
        Ok((without_reasoning(text.trim())?.to_owned(), n))
    }
}

/// Probabilities of some tokens among all.
///
/// # Errors
/// [`Error::Logits`] if none of these tokens has a finite logit.
pub(super) fn probabilities(logits: &[f32], tokens: &[u32]) -> Result<Vec<f64>, Error> {
    numbers(logits)?;
    let finite = |logit: &&f32| logit.is_finite();
    let largest = logits.iter().filter(finite).copied();
    let largest = largest.max_by(f32::total_cmp).ok_or(Error::Logits)?;
    let power = |logit: f32| f64::from(logit - largest).exp();
    let sum: f64 = logits.iter().filter(finite).map(|&l| power(l)).sum();
    let of = |token: &u32| match logits.get(*token as usize) {
        Some(logit) if logit.is_finite() => power(*logit) / sum,
        _ => 0.0,
    };
    Ok(tokens.iter().map(of).collect())
}

/// The answer that a text begins with, the longest of several, or the only one that stands in it.
fn named(text: &str, choices: &[String]) -> Option<usize> {
    let text = text.to_lowercase();
    let word = |c: Option<char>| c.is_none_or(|c| !c.is_alphanumeric());
    let starts = |choice: &str| {
        text.strip_prefix(choice)
            .is_some_and(|rest| word(rest.chars().next()))
    };
    let stands = |choice: &str| {
        text.match_indices(choice).any(|(at, found)| {
            word(text[..at].chars().next_back()) && word(text[at + found.len()..].chars().next())
        })
    };
    let lower: Vec<String> = choices.iter().map(|choice| choice.to_lowercase()).collect();
    let begins = (0..lower.len()).filter(|&index| starts(&lower[index]));
    if let Some(longest) = begins.max_by_key(|&index| lower[index].len()) {
        return Some(longest);
    }
    let mut inside = (0..lower.len()).filter(|&index| stands(&lower[index]));
    match (inside.next(), inside.next()) {
        (only, None) => only,
        _ => None,
    }
}
