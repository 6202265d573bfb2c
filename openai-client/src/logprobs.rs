// SPDX-License-Identifier: MPL-2.0

//! How likely answers are, by the probabilities that a server tells of its tokens.

use serde_json::Value;

/// A token with its alternatives.
#[derive(Debug, Clone, PartialEq)]
pub struct Token {
    /// Its text.
    pub text: String,
    /// Natural logarithm of its probability.
    pub logprob: f64,
    /// The likeliest tokens in its place, which it may be one of.
    pub top: Vec<(String, f64)>,
}

impl Token {
    /// The tokens in this place with their probabilities, this one among them, each once.
    fn alternatives(&self) -> Vec<(&str, f64)> {
        let mut all: Vec<(&str, f64)> = Vec::with_capacity(self.top.len() + 1);
        let own = (&self.text, &self.logprob);
        let top = self.top.iter().map(|(text, logprob)| (text, logprob));
        for (text, logprob) in std::iter::once(own).chain(top) {
            if !all.iter().any(|(known, _)| known == text) {
                all.push((text, logprob.exp().clamp(0.0, 1.0)));
            }
        }
        all
    }
}

/// How likely each of several answers is.
#[derive(Debug, Clone, PartialEq)]
pub struct Shares {
    /// Of each, 0..=1; they sum to 1.
    pub shares: Vec<f64>,
    /// What part of all that the model might have said they are, 0..=1. Where it is small, the model
    /// wanted to say something else.
    pub covered: f64,
}

/// Reads `logprobs.content`.
pub(crate) fn tokens(content: &Value) -> Vec<Token> {
    let entry = |value: &Value| -> Option<(String, f64)> {
        let text = value.get("token")?.as_str()?.to_owned();
        // What is impossible has no logarithm, and some servers write null.
        let logprob = value.get("logprob").and_then(Value::as_f64);
        Some((
            text,
            logprob.filter(|l| !l.is_nan()).unwrap_or(f64::NEG_INFINITY),
        ))
    };
    let token = |value: &Value| {
        let (text, logprob) = entry(value)?;
        let top = value.get("top_logprobs").and_then(Value::as_array);
        let top = top.map(|top| top.iter().filter_map(entry).collect());
        Some(Token {
            text,
            logprob,
            top: top.unwrap_or_default(),
        })
    };
    let list = content.as_array().map(Vec::as_slice).unwrap_or_default();
    list.iter().filter_map(token).collect()
}

/// How likely each of `options` is, by the tokens of an answer and their alternatives, in any case
/// of letters. Options that begin with the same tokens are followed along the answer.
///
/// `None` if the tokens tell nothing about them.
pub fn shares(tokens: &[Token], options: &[String]) -> Option<Shares> {
    let wanted: Vec<String> = options.iter().map(|option| plain(option)).collect();
    let mut shares = vec![0.0; options.len()];
    // What was said so far, and how likely that was.
    let (mut said, mut reach) = (String::new(), 1.0);
    for token in tokens {
        let mut followed = None;
        for (text, probability) in token.alternatives() {
            let whole = plain(&format!("{said}{text}"));
            let fits = fitting(&wanted, &whole);
            let is_own = text == token.text;
            match fits.as_slice() {
                [] => (),
                [one] => shares[*one] += reach * probability,
                _ if is_own => followed = Some(probability),
                // A branch that the answer did not take: nothing tells them apart.
                several => {
                    let each = reach * probability / several.len() as f64;
                    several.iter().for_each(|&index| shares[index] += each);
                }
            }
        }
        match followed {
            Some(probability) => {
                reach *= probability;
                said.push_str(&token.text);
            }
            None => {
                reach = 0.0;
                break;
            }
        }
    }
    // The answer ended where several options still began with it: the shortest was said.
    if reach > 0.0 && !said.is_empty() {
        let said = plain(&said);
        if let Some(index) = wanted.iter().position(|option| *option == said) {
            shares[index] += reach;
        }
    }
    let covered: f64 = shares.iter().sum();
    (covered > 0.0).then(|| Shares {
        shares: shares.iter().map(|share| share / covered).collect(),
        covered: covered.min(1.0),
    })
}

/// The options that `said` may become or has become.
fn fitting(wanted: &[String], said: &str) -> Vec<usize> {
    // White space and quotes alone say nothing yet: everything may follow.
    let fits = |(_, option): &(usize, &String)| {
        option.starts_with(said) || ended(said).is_some_and(|said| **option == *said)
    };
    let all = wanted.iter().enumerate().filter(fits);
    all.map(|(index, _)| index).collect()
}

/// A text that goes on after a word with a mark: `yes.` is `yes`.
fn ended(said: &str) -> Option<&str> {
    let word = said.trim_end_matches(|c: char| c.is_whitespace() || "\"'.,!:;`*".contains(c));
    (word.len() < said.len() && !word.is_empty()).then_some(word)
}

/// How likely the number is that an answer says, among all numbers that it might have said.
///
/// `None` if the tokens tell nothing about one.
pub fn number_share(tokens: &[Token]) -> Option<f64> {
    let is_number = |text: &str| {
        let text = text.trim();
        !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
    };
    let blank = |token: &&Token| token.text.trim().is_empty();
    let mut share = 1.0;
    let mut digits = 0;
    for token in tokens.iter().skip_while(blank) {
        if !is_number(&token.text) {
            break;
        }
        // After the first digit the number may end, so that everything else is an alternative too.
        let counts = |text: &str| digits > 0 || is_number(text);
        let all = token.alternatives();
        let sum: f64 = all
            .iter()
            .filter(|(text, _)| counts(text))
            .map(|(_, p)| p)
            .sum();
        share *= token.logprob.exp() / sum.max(f64::MIN_POSITIVE);
        digits += 1;
    }
    (digits > 0).then(|| share.clamp(0.0, 1.0))
}

/// A text as it is compared: in small letters, without white space and quotes before it.
pub(crate) fn plain(text: &str) -> String {
    text.trim_start_matches(|c: char| c.is_whitespace() || "\"'`*".contains(c))
        .to_lowercase()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn token(text: &str, top: &[(&str, f64)]) -> Token {
        let own = top
            .iter()
            .find(|(t, _)| *t == text)
            .map_or(0.01, |(_, p)| *p);
        Token {
            text: text.into(),
            logprob: own.ln(),
            top: top.iter().map(|(t, p)| (t.to_string(), p.ln())).collect(),
        }
    }

    fn options(options: &[&str]) -> Vec<String> {
        options.iter().map(|option| option.to_string()).collect()
    }

    fn close(got: &[f64], expected: &[f64]) {
        let near = |(a, b): (&f64, &f64)| (a - b).abs() < 1e-9;
        assert!(
            got.len() == expected.len() && got.iter().zip(expected).all(near),
            "{got:?}"
        );
    }

    #[test]
    fn spellings_of_one_answer_are_added_and_the_rest_is_left_out() {
        let tokens = [token(
            "Yes",
            &[("Yes", 0.5), (" yes", 0.1), ("No", 0.2), ("A", 0.2)],
        )];
        let found = shares(&tokens, &options(&["yes", "no"])).unwrap();
        close(&found.shares, &[0.75, 0.25]);
        assert!((found.covered - 0.8).abs() < 1e-9);
    }

    #[test]
    fn the_token_that_was_said_counts_once_also_if_it_is_not_in_the_list() {
        let said = Token {
            text: "no".into(),
            logprob: 0.1f64.ln(),
            top: vec![("yes".into(), 0.3f64.ln())],
        };
        close(
            &shares(&[said], &options(&["yes", "no"])).unwrap().shares,
            &[0.75, 0.25],
        );
    }

    #[test]
    fn options_with_a_common_beginning_are_followed() {
        let tokens = [
            token("st", &[("st", 0.8), ("lying", 0.2)]),
            token("anding", &[("anding", 0.75), ("ooping", 0.25)]),
        ];
        let found = shares(&tokens, &options(&["standing", "stooping", "lying"])).unwrap();
        close(&found.shares, &[0.6, 0.2, 0.2]);
    }

    #[test]
    fn an_option_that_another_begins_with_is_told_by_the_end() {
        let several = options(&["car", "carriage"]);
        let tokens = [
            token("car", &[("car", 0.9)]),
            token("\n", &[("\n", 0.9), ("riage", 0.1)]),
        ];
        close(&shares(&tokens, &several).unwrap().shares, &[0.9, 0.1]);
        close(&shares(&tokens[..1], &several).unwrap().shares, &[1.0, 0.0]);
    }

    #[test]
    fn tokens_that_say_nothing_of_the_options_give_nothing() {
        let tokens = [token("Maybe", &[("Maybe", 1.0)])];
        assert_eq!(shares(&tokens, &options(&["yes", "no"])), None);
        assert_eq!(shares(&[], &options(&["yes", "no"])), None);
    }

    #[test]
    fn a_number_is_as_likely_as_its_digits_among_numbers() {
        let tokens = [
            token("1", &[("1", 0.4), ("2", 0.4), ("A", 0.2)]),
            token("2", &[("2", 0.5), ("", 0.5)]),
        ];
        assert!((number_share(&tokens).unwrap() - 0.25).abs() < 1e-9);
        assert_eq!(number_share(&[token("many", &[("many", 1.0)])]), None);
    }

    #[test]
    fn what_servers_write_is_read_and_null_is_impossible() {
        let read = tokens(&json!([
            {"token": "yes", "logprob": -0.5, "bytes": [121], "top_logprobs": [
                {"token": "yes", "logprob": -0.5}, {"token": "no", "logprob": null}]},
            {"token": 7}, {"token": "!", "logprob": 0.0}]));
        assert_eq!(read.len(), 2);
        assert_eq!(read[0].top[1], ("no".into(), f64::NEG_INFINITY));
        assert_eq!(tokens(&json!(null)), []);
    }
}
