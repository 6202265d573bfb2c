// SPDX-License-Identifier: MPL-2.0

//! Where two answers differ.

use super::record::{Answer, Prompt};

/// Probabilities that differ by no more are the same: what is added up in another order differs by
/// rounding.
pub const TOLERANCE: f64 = 1e-3;

/// How an answer that was made again stands to the one before.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Comparison {
    /// The first token of the prompt that differs; `None` if none does, or a prompt is not known.
    pub prompt: Option<usize>,
    /// The first token of the answer that differs, if both are known by their tokens.
    pub token: Option<usize>,
    /// Whether the texts differ.
    pub text: bool,
    /// The largest difference of two probabilities of the answer, or of its choices.
    pub probability: Option<f64>,
    /// The largest difference of two tokens' likelihoods, before the first that differs.
    pub likelihood: Option<f64>,
}

impl Comparison {
    /// Of two answers, and of what they were answers to.
    pub fn of(before: (Option<&Prompt>, &Answer), now: (Option<&Prompt>, &Answer)) -> Self {
        let prompt = match (before.0, now.0) {
            (Some(before), Some(now)) => first_difference(&rows(before), &rows(now)),
            _ => None,
        };
        let (before, now) = (before.1, now.1);
        let known = !before.tokens.is_empty() && !now.tokens.is_empty();
        let token = known
            .then(|| first_difference(&before.tokens, &now.tokens))
            .flatten();
        let same = token.unwrap_or(usize::MAX);
        let chances = |answer: &Answer| match answer.probabilities.is_empty() {
            true => answer.probability.into_iter().collect(),
            false => answer.probabilities.clone(),
        };
        Self {
            prompt,
            token,
            text: before.text != now.text,
            probability: largest(&chances(before), &chances(now)),
            likelihood: largest(
                &before.likelihoods[..before.likelihoods.len().min(same)],
                &now.likelihoods[..now.likelihoods.len().min(same)],
            ),
        }
    }

    /// Whether the answer is the same: its text, its tokens, and its probabilities but for rounding.
    pub fn is_same(&self) -> bool {
        let differs = |p: Option<f64>| p.is_some_and(|p| p > TOLERANCE);
        !self.text && self.token.is_none() && !differs(self.probability)
    }
}

/// The tokens of a prompt in one row, a pair's visual tokens as one that no text has.
fn rows(prompt: &Prompt) -> Vec<i64> {
    use super::record::Run;
    let rows = prompt.runs.iter().flat_map(|run| match run {
        Run::Tokens(ids) => ids.iter().map(|id| i64::from(*id)).collect(),
        Run::Visual { .. } => vec![-1],
    });
    rows.collect()
}

/// Where two lists begin to differ.
fn first_difference<T: PartialEq>(a: &[T], b: &[T]) -> Option<usize> {
    let same = a.iter().zip(b).take_while(|(a, b)| a == b).count();
    (same < a.len().max(b.len())).then_some(same)
}

/// The largest difference, if both lists have something.
fn largest(a: &[f64], b: &[f64]) -> Option<f64> {
    let differences = a.iter().zip(b).map(|(a, b)| (a - b).abs());
    differences.max_by(f64::total_cmp)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(tokens: &[u32], text: &str, probabilities: &[f64]) -> Answer {
        Answer {
            text: text.into(),
            tokens: tokens.to_vec(),
            likelihoods: tokens.iter().map(|id| f64::from(*id) / 10.0).collect(),
            probability: probabilities.first().copied(),
            probabilities: probabilities.to_vec(),
            candidates: Vec::new(),
            finish: "eos".into(),
            tokens_in: 1,
            reused: 0,
            tokens_out: tokens.len(),
        }
    }

    fn compared(before: &Answer, now: &Answer) -> Comparison {
        Comparison::of((None, before), (None, now))
    }

    #[test]
    fn the_first_token_that_differs_is_named() {
        let before = answer(&[1, 2, 3], "a b c", &[]);
        assert!(compared(&before, &before).is_same());
        let other = compared(&before, &answer(&[1, 5, 3], "a e c", &[]));
        assert_eq!((other.token, other.text), (Some(1), true));
        assert_eq!(other.likelihood, Some(0.0), "of the token before it");
        let longer = compared(&before, &answer(&[1, 2, 3, 4], "a b c d", &[]));
        assert_eq!(longer.token, Some(3));
        assert!(!longer.is_same());
    }

    #[test]
    fn a_text_without_tokens_is_compared_as_text_and_choices_by_their_probabilities() {
        let before = answer(&[], "yes", &[0.9, 0.1]);
        assert!(compared(&before, &answer(&[], "yes", &[0.9004, 0.0996])).is_same());
        let other = compared(&before, &answer(&[], "yes", &[0.8, 0.2]));
        assert!(!other.is_same() && !other.text);
        assert!(!compared(&before, &answer(&[], "no", &[0.9, 0.1])).is_same());
    }
}
