// SPDX-License-Identifier: MPL-2.0

//! How an answer is to look: what is asked of the server for it, and what is checked here, since
//! some servers ignore what they do not know.

use serde_json::Value;

use crate::answer::{Answer, Finish};
use crate::logprobs::{self, number_share, plain};
use crate::probe::{ServerTraits, Support};
use crate::request::{ChatRequest, Guide};
use crate::shape::one_line;

/// The most alternatives of a token that servers tell.
const MOST_ALTERNATIVES: u8 = 20;

/// Where the options cover less than this of what the model might have said, it wanted to say
/// something else, and its words decide.
const LEAST_COVERED: f64 = 0.01;

/// How an answer is to look.
#[derive(Debug, Clone, PartialEq)]
pub enum Form {
    /// Text, as the model says it.
    Text,
    /// One of these, decided by probabilities where the server tells them.
    Choice(Vec<String>),
    /// A whole number from 0.
    Count,
    /// JSON.
    Json {
        /// A name for the schema: letters, digits, `_` and `-`.
        name: String,
        /// The schema.
        schema: Value,
    },
}

/// An answer in its form.
#[derive(Debug, Clone, PartialEq)]
pub struct Verdict {
    /// The text; of a choice one of its options as they were given, of a count the number.
    pub text: String,
    /// How likely it is among all that have its form, 0..=1; `None` where the server does not tell.
    pub probability: Option<f64>,
    /// The same for each option of a choice; empty where `probability` is `None`.
    pub probabilities: Vec<f64>,
}

/// An answer that does not have its form.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FormError {
    /// None of the options.
    #[error("the server answers {said:?}, which is none of {options}; name them in the question")]
    Choice {
        /// What it said.
        said: String,
        /// What there was to say.
        options: String,
    },
    /// No number.
    #[error("the server answers {said:?}, which is no whole number; ask for a number alone")]
    Count {
        /// What it said.
        said: String,
    },
    /// Not JSON.
    #[error(
        "the server answers {said:?}, which is not JSON; it may not hold answers to a schema, so ask \
         for JSON in the question"
    )]
    Json {
        /// What it said.
        said: String,
    },
    /// JSON that was cut.
    #[error("the JSON was cut at max-tokens; raise it, or ask for less")]
    Cut,
}

impl Form {
    /// Asks a server for this form, by the means that it has.
    pub fn apply(&self, request: &mut ChatRequest, traits: &ServerTraits) {
        let guides = traits.structured_outputs == Support::Yes;
        if matches!(self, Self::Choice(_) | Self::Count) && traits.logprobs != Support::No {
            request.top_logprobs = Some(MOST_ALTERNATIVES);
        }
        request.guide = match self {
            Self::Choice(options) if guides => Some(Guide::Choice(options.clone())),
            Self::Count if guides => Some(Guide::Regex("[0-9]{1,9}".into())),
            Self::Json { name, schema } if traits.json_schema != Support::No => Some(Guide::Json {
                name: name.clone(),
                schema: schema.clone(),
            }),
            _ => None,
        };
    }

    /// Reads an answer. Whether JSON follows its schema is left to who has a validator.
    ///
    /// # Errors
    /// [`FormError`] if it does not have the form.
    pub fn read(&self, answer: &Answer) -> Result<Verdict, FormError> {
        match self {
            Self::Text => Ok(certain(answer.text.trim())),
            Self::Choice(options) => choice(options, answer),
            Self::Count => count(answer),
            Self::Json { .. } => json(answer),
        }
    }
}

fn certain(text: &str) -> Verdict {
    Verdict {
        text: text.to_owned(),
        probability: None,
        probabilities: Vec::new(),
    }
}

fn choice(options: &[String], answer: &Answer) -> Result<Verdict, FormError> {
    let found = logprobs::shares(&answer.tokens, options);
    if let Some(found) = found.filter(|found| found.covered >= LEAST_COVERED) {
        let mut best = 0;
        for (index, share) in found.shares.iter().enumerate() {
            // The first of equals.
            if *share > found.shares[best] {
                best = index;
            }
        }
        return Ok(Verdict {
            text: options[best].clone(),
            probability: Some(found.shares[best]),
            probabilities: found.shares,
        });
    }
    let said = plain(&answer.text);
    let begins = |option: &&String| {
        let rest = said.strip_prefix(plain(option).as_str());
        rest.is_some_and(|rest| !rest.starts_with(|c: char| c.is_alphanumeric()))
    };
    let fits = options
        .iter()
        .filter(begins)
        .max_by_key(|option| option.len());
    match fits {
        Some(option) => Ok(certain(option)),
        None => Err(FormError::Choice {
            said: one_line(&answer.text),
            options: options.join(", "),
        }),
    }
}

/// The only number in the answer.
fn count(answer: &Answer) -> Result<Verdict, FormError> {
    let refuse = || FormError::Count {
        said: one_line(&answer.text),
    };
    let runs = answer.text.split(|c: char| !c.is_ascii_digit());
    let mut numbers = runs.filter(|run| !run.is_empty());
    let (Some(number), None) = (numbers.next(), numbers.next()) else {
        return Err(refuse());
    };
    if answer.text.contains(&format!("-{number}")) {
        return Err(refuse());
    }
    let value: u64 = number.parse().map_err(|_| refuse())?;
    Ok(Verdict {
        text: value.to_string(),
        probability: number_share(&answer.tokens),
        probabilities: Vec::new(),
    })
}

fn json(answer: &Answer) -> Result<Verdict, FormError> {
    let text = without_fence(answer.text.trim());
    match serde_json::from_str::<Value>(text) {
        Ok(_) => Ok(certain(text)),
        Err(_) if answer.finish == Finish::Length => Err(FormError::Cut),
        Err(_) => Err(FormError::Json {
            said: one_line(text),
        }),
    }
}

/// JSON that a model has put into a block of Markdown.
fn without_fence(text: &str) -> &str {
    let inner = text
        .strip_prefix("```")
        .and_then(|text| text.strip_suffix("```"));
    match inner {
        Some(inner) => inner.strip_prefix("json").unwrap_or(inner).trim(),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::logprobs::Token;

    fn said(text: &str) -> Answer {
        Answer {
            text: text.into(),
            ..Answer::default()
        }
    }

    fn yes_no() -> Form {
        Form::Choice(vec!["yes".into(), "no".into()])
    }

    #[test]
    fn a_choice_is_decided_by_probabilities_whatever_was_said() {
        let mut answer = said("Yes");
        answer.tokens = vec![Token {
            text: "Yes".into(),
            logprob: 0.3f64.ln(),
            top: vec![("No".into(), 0.6f64.ln())],
        }];
        let verdict = yes_no().read(&answer).unwrap();
        assert_eq!(verdict.text, "no");
        assert!((verdict.probability.unwrap() - 2.0 / 3.0).abs() < 1e-9);
        assert_eq!(verdict.probabilities.len(), 2);
    }

    #[test]
    fn without_probabilities_the_words_decide() {
        for (text, option) in [
            ("Yes.", "yes"),
            (" \"No\", it is not", "no"),
            ("**yes**", "yes"),
        ] {
            assert_eq!(yes_no().read(&said(text)).unwrap(), certain(option));
        }
        for text in ["", "Nothing", "Maybe", "yesterday"] {
            assert!(yes_no().read(&said(text)).is_err(), "{text}");
        }
        let several = Form::Choice(vec!["car".into(), "car park".into()]);
        assert_eq!(
            several.read(&said("Car park.")).unwrap(),
            certain("car park")
        );
    }

    #[test]
    fn options_that_the_model_did_not_mean_do_not_decide() {
        let mut answer = said("Maybe");
        answer.tokens = vec![Token {
            text: "Maybe".into(),
            logprob: 0.995f64.ln(),
            top: vec![("Yes".into(), 0.003f64.ln())],
        }];
        let error = yes_no().read(&answer).unwrap_err().to_string();
        assert!(
            error.contains("\"Maybe\"") && error.contains("yes, no"),
            "{error}"
        );
    }

    #[test]
    fn a_count_is_the_only_number() {
        for (text, number) in [
            ("3", "3"),
            (" 12.\n", "12"),
            ("There are 4 cars", "4"),
            ("007", "7"),
        ] {
            assert_eq!(Form::Count.read(&said(text)).unwrap().text, number);
        }
        for text in [
            "",
            "three",
            "3 or 4",
            "-3",
            "3.5",
            "99999999999999999999999",
        ] {
            assert!(Form::Count.read(&said(text)).is_err(), "{text}");
        }
    }

    #[test]
    fn json_is_checked_and_a_cut_one_is_told_apart() {
        let form = Form::Json {
            name: "a".into(),
            schema: json!({}),
        };
        assert_eq!(
            form.read(&said("```json\n{\"a\": 1}\n```")).unwrap().text,
            "{\"a\": 1}"
        );
        assert!(matches!(
            form.read(&said("a: 1")),
            Err(FormError::Json { .. })
        ));
        let mut cut = said("{\"a\": ");
        cut.finish = Finish::Length;
        assert_eq!(form.read(&cut), Err(FormError::Cut));
    }

    #[test]
    fn a_server_is_asked_by_the_means_that_it_has() {
        let applied = |form: &Form, traits: &ServerTraits| {
            let mut request = ChatRequest::default();
            form.apply(&mut request, traits);
            request
        };
        let all = ServerTraits {
            logprobs: Support::Yes,
            structured_outputs: Support::Yes,
            json_schema: Support::Yes,
            ..ServerTraits::default()
        };
        let none = ServerTraits {
            logprobs: Support::No,
            structured_outputs: Support::No,
            json_schema: Support::No,
            ..ServerTraits::default()
        };
        let request = applied(&yes_no(), &all);
        assert_eq!(request.top_logprobs, Some(20));
        assert!(matches!(request.guide, Some(Guide::Choice(_))));
        assert!(matches!(
            applied(&Form::Count, &all).guide,
            Some(Guide::Regex(_))
        ));
        let json = Form::Json {
            name: "a".into(),
            schema: json!({}),
        };
        assert!(matches!(
            applied(&json, &all).guide,
            Some(Guide::Json { .. })
        ));
        for form in [Form::Text, yes_no(), Form::Count, json] {
            assert_eq!(applied(&form, &none), ChatRequest::default());
        }
    }
}
