// SPDX-License-Identifier: MPL-2.0

//! A file of questions.

use std::path::Path;

use gstvlmcaption::caption::evidence::again::Asked;
use gstvlmcaption::caption::question::Kind;
use serde::Deserialize;

/// A question that is asked about every record.
#[derive(Debug, Clone, PartialEq)]
pub struct Question {
    /// Names it.
    pub id: String,
    /// What is asked.
    pub asked: Asked,
    /// From which p of yes on it counts as yes, if that is set.
    pub threshold: Option<f64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    question: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    id: String,
    text: String,
    kind: Option<String>,
    threshold: Option<f64>,
    #[serde(rename = "max-tokens")]
    max_tokens: Option<usize>,
}

/// Reads a file of questions.
///
/// # Errors
/// A sentence that names the file and what is wrong.
pub fn read(path: &Path) -> Result<Vec<Question>, String> {
    let place = path.display();
    let text = std::fs::read_to_string(path).map_err(|error| format!("{place}: {error}"))?;
    parse(&text).map_err(|reason| format!("{place}: {reason}"))
}

fn parse(text: &str) -> Result<Vec<Question>, String> {
    let file: File = toml::from_str(text).map_err(|error| error.to_string())?;
    let mut questions: Vec<Question> = Vec::new();
    for entry in file.question {
        let id = entry.id;
        if questions.iter().any(|other| other.id == id) {
            return Err(format!(
                "two questions are called {id:?}; each needs its own id"
            ));
        }
        if entry.threshold.is_some_and(|t| !(0.0..=1.0).contains(&t)) {
            return Err(format!("question {id:?}: threshold goes from 0 to 1"));
        }
        let kind = kind(entry.kind.as_deref().unwrap_or("yes-no"))?;
        if !matches!(kind, Kind::YesNo | Kind::Choice(_)) {
            return Err(format!(
                "question {id:?}: a table is of yes-no and choice, whose answers have probabilities"
            ));
        }
        questions.push(Question {
            asked: Asked {
                text: entry.text,
                kind: Some(kind),
                max_tokens: entry.max_tokens,
            },
            threshold: entry.threshold,
            id,
        });
    }
    match questions.is_empty() {
        true => Err("has no [[question]]".into()),
        false => Ok(questions),
    }
}

/// A kind of answer by its word.
///
/// # Errors
/// It is none.
pub fn kind(word: &str) -> Result<Kind, String> {
    match word.split_once(':') {
        None if word == "caption" => Ok(Kind::Caption),
        None if word == "yes-no" => Ok(Kind::YesNo),
        None if word == "count" => Ok(Kind::Count),
        Some(("choice", choices)) => {
            let choices: Vec<String> = choices.split(',').map(|c| c.trim().to_owned()).collect();
            match choices.len() >= 2 && choices.iter().all(|choice| !choice.is_empty()) {
                true => Ok(Kind::Choice(choices)),
                false => Err(format!(
                    "kind {word}: name two or more answers, choice:red,green"
                )),
            }
        }
        _ => Err(format!(
            "kind {word} is none of caption, yes-no, count and choice:red,green"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_are_yes_no_unless_they_say_otherwise() {
        let text = "[[question]]\nid = 'a'\ntext = 'Is it?'\nthreshold = 0.6\n\
                    [[question]]\nid = 'b'\ntext = 'Which?'\nkind = 'choice:red, green'\n";
        let questions = parse(text).unwrap();
        assert_eq!(questions[0].asked.kind, Some(Kind::YesNo));
        assert_eq!(questions[0].threshold, Some(0.6));
        let choices = Kind::Choice(vec!["red".into(), "green".into()]);
        assert_eq!(questions[1].asked.kind, Some(choices));
    }

    #[test]
    fn what_is_wrong_is_told() {
        let one = |rest: &str| format!("[[question]]\nid='a'\ntext='?'\n{rest}");
        for (text, want) in [
            (one("kind='caption'"), "yes-no and choice"),
            (one("kind='choice:red'"), "two or more"),
            (one("threshold=2"), "0 to 1"),
            (one("colour='red'"), "unknown field"),
            (one(&one("")), "each needs its own id"),
            (String::new(), "question"),
        ] {
            let error = parse(&text).unwrap_err();
            assert!(error.contains(want), "{text}: {error}");
        }
    }
}
