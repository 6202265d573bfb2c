// SPDX-License-Identifier: MPL-2.0

//! Records one by one: each caption is made again, and compared or shown.

use std::path::Path;

use gstvlmcaption::caption::evidence::again::{Again, Change};
use gstvlmcaption::caption::evidence::compare::Comparison;
use gstvlmcaption::caption::evidence::reading::Whole;
use gstvlmcaption::caption::evidence::record::Record;
use serde_json::json;

use crate::models::{Models, records};
use crate::options::Options;
use crate::outcome::Outcome;

/// Makes each record's caption again.
///
/// # Errors
/// A record that cannot be read, or a model that cannot be used.
pub fn run(options: &Options) -> Result<Outcome, String> {
    let mut models = Models::default();
    let change = Change {
        question: options.asked.clone(),
        frames: options.window.clone(),
    };
    let compares = options.asked.is_none() && options.window.is_none();
    let (mut n_same, mut n_different) = (0, 0);
    for path in records(&options.records)? {
        let (whole, again) = one(&mut models, &path, options, &change)?;
        let compared = again.compared(&whole.record);
        match !compares || compared.is_same() {
            true => n_same += 1,
            false => n_different += 1,
        }
        if options.json {
            println!(
                "{}",
                as_json(&whole.record, &again, compares.then_some(&compared))
            );
        } else if compares {
            print!("{}", verdict(&whole.record, &again, &compared));
        } else {
            print!("{}", shown(&whole.record, &again));
        }
    }
    let n = n_same + n_different;
    if compares && n > 1 && !options.json {
        println!("{n_same} of {n} are the same, by {}", models.name());
    }
    Ok(match n_different {
        0 => Outcome::Same,
        _ => Outcome::Different,
    })
}

/// Reads a record and makes its caption again.
///
/// # Errors
/// What is wrong, with the record's name.
pub fn one(
    models: &mut Models,
    path: &Path,
    options: &Options,
    change: &Change,
) -> Result<(Whole, Again), String> {
    let whole = Whole::read(path).map_err(|error| error.to_string())?;
    let mut change = change.clone();
    if let Some(frames) = &mut change.frames {
        frames.end = frames.end.min(whole.frames.len());
    }
    let again = models.again(&whole, &options.properties, &change);
    let again = again.map_err(|reason| format!("{}: {reason}", path.display()))?;
    Ok((whole, again))
}

/// Whether it is the same, and where it begins to differ.
fn verdict(record: &Record, again: &Again, compared: &Comparison) -> String {
    let id = &record.id;
    if compared.is_same() {
        let prompt = match compared.prompt {
            None => String::new(),
            Some(at) => format!(", though the prompt differs from token {at} on"),
        };
        return format!("{id}: same{prompt}: {:?}\n", record.answer.text);
    }
    let mut lines = vec![format!("{id}: differs")];
    if let Some(at) = compared.prompt {
        lines.push(format!("  prompt: from token {at} on"));
    }
    if let Some(at) = compared.token {
        let of = |tokens: &[u32], likelihoods: &[f64]| match tokens.get(at) {
            None => "ends".to_owned(),
            Some(token) => {
                let p = likelihoods.get(at).map(|p| format!(" (p {p:.4})"));
                format!("{token}{}", p.unwrap_or_default())
            }
        };
        let (was, is) = (&record.answer, &again.answer);
        lines.push(format!(
            "  token {at}: was {}, is {}",
            of(&was.tokens, &was.likelihoods),
            of(&is.tokens, &is.likelihoods)
        ));
    }
    if let Some(difference) = compared.probability {
        let (was, is) = (record.answer.probability, again.answer.probability);
        let p = |p: Option<f64>| p.map_or("-".into(), |p| format!("{p:.4}"));
        lines.push(format!(
            "  p: was {}, is {} (by {difference:.4} at most)",
            p(was),
            p(is)
        ));
    }
    lines.push(format!("  was: {:?}", record.answer.text));
    lines.push(format!("  is:  {:?}", again.answer.text));
    lines.push(String::new());
    lines.join("\n")
}

/// The answer to another question.
fn shown(record: &Record, again: &Again) -> String {
    let p = again.answer.probability;
    let p = p.map_or(String::new(), |p| format!(" (p {p:.3})"));
    format!("{}: {:?}{p}\n", record.id, again.answer.text)
}

fn as_json(record: &Record, again: &Again, compared: Option<&Comparison>) -> serde_json::Value {
    let mut line = json!({
        "record": record.id,
        "was": record.answer.text,
        "answer": again.answer,
        "seconds": again.took.as_secs_f64(),
    });
    if let Some(compared) = compared {
        line["same"] = compared.is_same().into();
        line["prompt-differs-from"] = json!(compared.prompt);
        line["token-differs-from"] = json!(compared.token);
        line["probability-differs-by"] = json!(compared.probability);
    }
    line
}
