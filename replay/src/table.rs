// SPDX-License-Identifier: MPL-2.0

//! Questions and records: how likely each question's yes is in each, and what a threshold makes of
//! that, held against marked truth.

use std::fmt::Write;
use std::path::Path;

use gstvlmcaption::caption::evidence::again::Change;
use gstvlmcaption::caption::evidence::record::{Record, chance};

use crate::labels::{Truth, blank};
use crate::models::{Models, records};
use crate::options::Options;
use crate::outcome::Outcome;
use crate::rows::{Point, Row};
use crate::{again, picture, questions};

/// Asks every question about every record.
///
/// # Errors
/// A file that cannot be read or written, or a model that cannot be used.
pub fn run(options: &Options, file: &Path) -> Result<Outcome, String> {
    let questions = questions::read(file)?;
    let paths = records(&options.records)?;
    if let Some(path) = &options.write_truth {
        let records = paths.iter().map(|path| {
            let record = gstvlmcaption::caption::evidence::reading::read(path);
            record.map_err(|error| error.to_string())
        });
        let records = records.collect::<Result<Vec<_>, _>>()?;
        write(path, &blank(&records, &questions))?;
        return Ok(Outcome::Same);
    }
    let truth = options.truth.as_deref().map(Truth::read).transpose()?;
    let truth = truth.unwrap_or_default();
    let mut models = Models::default();
    let mut rows: Vec<Row> = questions
        .into_iter()
        .map(|question| Row {
            question,
            points: Vec::new(),
        })
        .collect();
    for path in &paths {
        for row in &mut rows {
            let change = Change {
                question: Some(row.question.asked.clone()),
                frames: options.window.clone(),
            };
            let (whole, again) = again::one(&mut models, path, options, &change)?;
            let p = chance(again.kind.name(), &again.answer);
            let p = p.ok_or("an answer without a probability")?;
            row.points
                .push(point(&whole.record, p, &truth, &row.question.id));
        }
    }
    for row in &mut rows {
        row.points.sort_by(|a, b| a.at.total_cmp(&b.at));
    }
    match options.json {
        true => println!("{}", as_json(&rows)),
        false => print!("{}", text(&rows)),
    }
    if let Some(path) = &options.svg {
        write(path, &picture::svg(&rows))?;
    }
    Ok(Outcome::Same)
}

fn point(record: &Record, p: f64, truth: &Truth, question: &str) -> Point {
    let last = record.frames.last();
    Point {
        id: record.id.clone(),
        at: last.map_or(0.0, |frame| frame.wallclock as f64 / 1e9),
        p,
        truth: truth.of(record, question),
    }
}

fn write(path: &Path, text: &str) -> Result<(), String> {
    std::fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()))
}

/// The table as text.
fn text(rows: &[Row]) -> String {
    let mut out = String::new();
    let width = rows
        .iter()
        .flat_map(|row| &row.points)
        .map(|p| p.id.len())
        .max()
        .unwrap_or(0);
    // Writing to a string does not fail.
    let _ = write!(out, "{:width$}", "record");
    for row in rows {
        let _ = write!(out, "  {:>10}", row.question.id);
    }
    out.push('\n');
    let n = rows.first().map_or(0, |row| row.points.len());
    for at in 0..n {
        let _ = write!(out, "{:width$}", rows[0].points[at].id);
        for row in rows {
            let point = &row.points[at];
            let mark = match point.truth {
                Some(true) => " yes",
                Some(false) => " no ",
                None => "    ",
            };
            let _ = write!(out, "  {:>6.3}{mark}", point.p);
        }
        out.push('\n');
    }
    for row in rows {
        out.push_str(&summary(row));
    }
    out
}

/// What thresholds make of one question.
fn summary(row: &Row) -> String {
    let marked = |is: bool| row.points.iter().filter(|p| p.truth == Some(is)).count();
    let (yes, no) = (marked(true), marked(false));
    let mut out = format!(
        "\n{}: {} records, marked {yes} yes and {no} no; truth changes {} times\n\
         threshold  precision  recall  flaps\n",
        row.question.id,
        row.points.len(),
        row.true_changes()
    );
    let best = row.best();
    let steps = (1..10).map(|step| f64::from(step) / 10.0);
    let mut thresholds: Vec<f64> = steps.chain(row.question.threshold).collect();
    thresholds.extend(best.map(|best| best.threshold));
    thresholds.sort_by(f64::total_cmp);
    thresholds.dedup();
    for threshold in thresholds {
        let score = row.score(threshold);
        let part = |part: Option<f64>| part.map_or("-".into(), |part| format!("{part:.3}"));
        let note = match () {
            () if best.is_some_and(|best| best.threshold == threshold) => "  best",
            () if row.question.threshold == Some(threshold) => "  as set",
            () => "",
        };
        // Writing to a string does not fail.
        let _ = writeln!(
            out,
            "{threshold:9.3}  {:>9}  {:>6}  {:>5}{note}",
            part(score.precision),
            part(score.recall),
            score.flaps
        );
    }
    out
}

fn as_json(rows: &[Row]) -> serde_json::Value {
    let rows = rows.iter().map(|row| {
        let points = row.points.iter().map(|point| {
            serde_json::json!({"record": point.id, "at": point.at, "p": point.p, "truth": point.truth})
        });
        let best = row.best().map(|best| {
            serde_json::json!({
                "threshold": best.threshold, "precision": best.precision,
                "recall": best.recall, "flaps": best.flaps,
            })
        });
        serde_json::json!({
            "question": row.question.id,
            "points": points.collect::<Vec<_>>(),
            "best": best,
        })
    });
    rows.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rows::tests::row;

    #[test]
    fn the_table_tells_each_p_and_each_threshold_once() {
        let text = text(&[row(&[(0.25, Some(false)), (0.75, Some(true))])]);
        assert!(
            text.contains("0.250 no") && text.contains("0.750 yes"),
            "{text}"
        );
        let at_half = text
            .lines()
            .filter(|line| line.trim_start().starts_with("0.500"));
        assert_eq!(at_half.count(), 1, "{text}");
        assert!(text.contains("marked 1 yes and 1 no"), "{text}");
    }
}
