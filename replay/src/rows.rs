// SPDX-License-Identifier: MPL-2.0

//! What a question came to in each record, and what a threshold makes of that.

use crate::questions::Question;

/// What one question came to, record by record.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// The question.
    pub question: Question,
    /// In order of time.
    pub points: Vec<Point>,
}

/// What a question came to in a record.
#[derive(Debug, Clone, PartialEq)]
pub struct Point {
    /// The record.
    pub id: String,
    /// When its last frame was, seconds since the Unix epoch.
    pub at: f64,
    /// How likely yes is, or the first choice.
    pub p: f64,
    /// What is true, if that is marked.
    pub truth: Option<bool>,
}

/// What a threshold makes of a question.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Score {
    /// From this p on it is yes.
    pub threshold: f64,
    /// Of those that it says yes to, the part that is true; `None` if there are none.
    pub precision: Option<f64>,
    /// Of those that are true, the part that it says yes to; `None` if there are none.
    pub recall: Option<f64>,
    /// How often its answer changes from record to record.
    pub flaps: usize,
}

impl Row {
    /// What a threshold makes of it.
    pub fn score(&self, threshold: f64) -> Score {
        let says = |point: &Point| point.p >= threshold;
        let count = |of: &dyn Fn(&Point) -> bool| self.points.iter().filter(|p| of(p)).count();
        let right = count(&|p| says(p) && p.truth == Some(true));
        let part = |of: usize| (of > 0).then(|| right as f64 / of as f64);
        Score {
            threshold,
            precision: part(count(&|p| says(p) && p.truth.is_some())),
            recall: part(count(&|p| p.truth == Some(true))),
            flaps: changes(self.points.iter().map(says)),
        }
    }

    /// How often what is true changes, as far as it is marked.
    pub fn true_changes(&self) -> usize {
        changes(self.points.iter().filter_map(|point| point.truth))
    }

    /// The threshold in the middle of those that are best: by F1, then by fewer flaps. `None` if
    /// nothing is marked, or all alike.
    pub fn best(&self) -> Option<Score> {
        let marked = |is: bool| self.points.iter().any(|point| point.truth == Some(is));
        if !marked(true) || !marked(false) {
            return None;
        }
        let mut ps: Vec<f64> = self.points.iter().map(|point| point.p).collect();
        ps.extend([0.0, 1.0]);
        ps.sort_by(f64::total_cmp);
        ps.dedup();
        let between = ps
            .windows(2)
            .map(|pair| self.score(f64::midpoint(pair[0], pair[1])));
        between.reduce(|best, other| {
            let better =
                other.f1() > best.f1() || (other.f1() == best.f1() && other.flaps < best.flaps);
            if better { other } else { best }
        })
    }
}

impl Score {
    /// The harmonic mean of precision and recall.
    pub fn f1(&self) -> f64 {
        match (self.precision, self.recall) {
            (Some(p), Some(r)) if p + r > 0.0 => 2.0 * p * r / (p + r),
            _ => 0.0,
        }
    }
}

fn changes(mut answers: impl Iterator<Item = bool>) -> usize {
    let Some(mut before) = answers.next() else {
        return 0;
    };
    answers
        .filter(|now| std::mem::replace(&mut before, *now) != *now)
        .count()
}

#[cfg(test)]
pub(crate) mod tests {
    use gstvlmcaption::caption::evidence::again::Asked;
    use gstvlmcaption::caption::evidence::record::Record;

    use super::*;

    pub(crate) fn record(id: &str, time: &str) -> Record {
        let value = serde_json::json!({
            "format": 1, "id": id, "version": "", "written": "", "element": "", "stream": "",
            "sequence": 1, "inquiry": false, "alarm": null,
            "question": {"id": "q", "kind": "yes-no", "template": "", "text": "", "choices": [],
                "schema": null, "prompt_hash": ""},
            "system": {"template": "", "text": ""}, "last": "", "history": [], "forgotten": 0,
            "prompt": null,
            "generation": {"max_tokens": 1, "temperature": 0.0, "top_p": 1.0, "top_k": 0,
                "min_p": 0.0, "repetition_penalty": 1.0, "seed": 0, "stop": [], "eos": []},
            "answer": {"text": "yes", "tokens": [], "likelihoods": [], "probability": 0.5,
                "probabilities": [0.5, 0.5], "finish": "", "tokens_in": 0, "reused": 0,
                "tokens_out": 0},
            "frames": [{"file": "f.png", "sha256": "", "width": 1, "height": 1, "pts": 0,
                "running_time": 0, "wallclock": 0, "time": time, "clock": "system"}],
            "skipped": 0, "times": {"queue_wait": 0, "ttft": 0, "total": 0},
            "window": {"timeline": 0, "scene": 0, "scene_cut": false, "overload": "", "repeats": 0},
            "model": {"name": "", "backend": "", "device": "", "properties": [], "kernels": null,
                "weight_bytes": null, "files": [], "sha256": null, "unknown": null}
        });
        serde_json::from_value(value).unwrap()
    }

    pub(crate) fn row(points: &[(f64, Option<bool>)]) -> Row {
        let points = points.iter().enumerate().map(|(n, (p, truth))| Point {
            id: format!("r{n}"),
            at: n as f64,
            p: *p,
            truth: *truth,
        });
        Row {
            question: Question {
                id: "person".into(),
                asked: Asked {
                    text: "?".into(),
                    kind: None,
                    max_tokens: None,
                },
                threshold: Some(0.5),
            },
            points: points.collect(),
        }
    }

    #[test]
    fn a_threshold_is_scored_against_what_is_marked() {
        let (yes, no) = (Some(true), Some(false));
        let row = row(&[(0.9, yes), (0.2, no), (0.6, no), (0.4, yes), (0.7, None)]);
        let score = row.score(0.5);
        // Says yes to 0.9, 0.6 and 0.7; of those marked one of two is right, and one of two is found.
        assert_eq!((score.precision, score.recall), (Some(0.5), Some(0.5)));
        assert_eq!(score.flaps, 4);
        assert_eq!(row.score(0.95).precision, None);
        assert_eq!(row.true_changes(), 2);
    }

    #[test]
    fn the_best_threshold_parts_what_can_be_parted() {
        let (yes, no) = (Some(true), Some(false));
        let best = row(&[(0.3, no), (0.35, no), (0.8, yes), (0.7, yes)])
            .best()
            .unwrap();
        assert!((0.35..0.7).contains(&best.threshold), "{best:?}");
        assert_eq!((best.f1(), best.flaps), (1.0, 1));
        assert_eq!(
            row(&[(0.3, None), (0.9, yes)]).best(),
            None,
            "nothing is marked as no"
        );
    }
}
