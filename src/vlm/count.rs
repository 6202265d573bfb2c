// SPDX-License-Identifier: MPL-2.0

//! A whole number: tokens that are digits and nothing else.

use super::Error;
use super::choice::probabilities;
use super::interview::{Interview, Prefilled};
use super::request::{Generated, Request, StopReason};
use super::sampling::Sampler;
use crate::backend::Next;

/// Digits of the largest number.
const MAX_DIGITS: usize = 9;

impl Interview<'_> {
    /// The likeliest number: of the first token only digits are looked at; then digits go on as long
    /// as one of them is likelier than everything else together.
    pub(super) fn count(&mut self, request: &Request<'_>) -> Result<Generated, Error> {
        let tokenizer = self.tokenizer;
        let digits = tokenizer.digits();
        let ids: Vec<u32> = digits.iter().map(|(id, _)| *id).collect();
        let mut sampler = Sampler::new(&request.options.sampling);
        let Prefilled { next, reused } =
            self.prefill(request.prompt, &mut sampler, request.cancel)?;
        let mut odds = match next {
            Next::Logits(logits) => Ok(probabilities(logits, &ids)?),
            Next::Token(token) => Err(token),
        };
        let ttft = request.started.elapsed();
        let mut text = String::new();
        let (mut tokens_out, mut probability) = (0, Some(1.0));
        let mut tokens = Vec::new();
        loop {
            let now = match odds {
                Ok(odds) => odds,
                Err(token) => {
                    let said;
                    (said, tokens_out) = self.continued(request, token)?;
                    text = first_number(&said)?;
                    probability = None;
                    break;
                }
            };
            let digit: f64 = now.iter().sum();
            let best = (0..now.len()).max_by(|&a, &b| now[a].total_cmp(&now[b]));
            let Some(best) = best.filter(|_| digit > 0.0) else {
                return Err(Error::Logits);
            };
            let first = text.is_empty();
            if !first && now[best] <= 1.0 - digit {
                probability = probability.map(|p| p * (1.0 - digit));
                break;
            }
            let (id, word) = &digits[best];
            if text.len() + word.len() > MAX_DIGITS {
                break;
            }
            let among = if first { digit } else { 1.0 };
            probability = probability.map(|p| p * now[best] / among);
            text.push_str(word);
            tokens_out += 1;
            tokens.push(*id);
            if tokens_out >= request.options.max_tokens || self.n_rows() >= self.context() {
                break;
            }
            odds = match self.step(*id, request.position(tokens_out - 1), request.cancel)? {
                Next::Logits(logits) => Ok(probabilities(logits, &ids)?),
                Next::Token(_) => return Err(Error::Logits),
            };
        }
        // At most nine digits.
        let number: u64 = text.parse().map_err(|_| Error::Logits)?;
        Ok(Generated {
            reused,
            tokens_out,
            tokens,
            probability,
            ttft,
            ..request.generated(number.to_string(), StopReason::Complete)
        })
    }
}

/// The first number in a text, of digits or a word up to ten.
fn first_number(text: &str) -> Result<String, Error> {
    const WORDS: [&str; 11] = [
        "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten",
    ];
    let words = text.split(|c: char| !c.is_alphanumeric());
    let number = |word: &str| {
        let digits = !word.is_empty() && word.bytes().all(|b| b.is_ascii_digit());
        let lower = word.to_lowercase();
        match WORDS.iter().position(|known| *known == lower) {
            _ if digits && word.len() <= MAX_DIGITS => Some(word.to_owned()),
            Some(n) => Some(n.to_string()),
            None if lower == "no" || lower == "none" => Some("0".to_owned()),
            None => None,
        }
    };
    words
        .filter(|w| !w.is_empty())
        .find_map(number)
        .ok_or_else(|| {
            Error::Answer(format!(
                "the model said {text:?}, which names no number; ask for a number alone"
            ))
        })
}
