// SPDX-License-Identifier: MPL-2.0

//! Runs steps one after the other, says how long each took, and sums up.

use std::time::{Duration, Instant};

use crate::Outcome;

/// How one step ended.
struct Record {
    name: &'static str,
    time: Duration,
    outcome: Outcome,
}

/// The steps so far.
#[derive(Default)]
pub struct Steps {
    records: Vec<Record>,
}

impl Steps {
    /// Announces and runs one step; a failure is kept, and the next steps run all the same.
    pub fn step(&mut self, name: &'static str, what: &str, run: impl FnOnce() -> Outcome) {
        println!("\n=== {name}: {what}");
        let start = Instant::now();
        let outcome = run();
        let time = start.elapsed();
        match &outcome {
            Ok(()) => println!("=== {name}: ok, {}", seconds(time)),
            Err(reason) => println!("=== {name}: FAILED after {}: {reason}", seconds(time)),
        }
        self.records.push(Record {
            name,
            time,
            outcome,
        });
    }

    /// Prints the table and the last line.
    ///
    /// # Errors
    /// The names of the steps that failed.
    pub fn finish(self) -> Outcome {
        println!("\n=== summary");
        let mut failed = Vec::new();
        for record in &self.records {
            let word = match record.outcome {
                Ok(()) => "ok",
                Err(_) => "FAILED",
            };
            println!(
                "{:<12} {word:<7} {:>9}",
                record.name,
                seconds(record.time).trim()
            );
            if let Err(reason) = &record.outcome {
                println!("             {}", reason.replace('\n', "\n             "));
                failed.push(record.name);
            }
        }
        let passed = self.records.len() - failed.len();
        println!("{passed} passed, {} failed", failed.len());
        if failed.is_empty() {
            Ok(())
        } else {
            Err(format!("failed: {}", failed.join(", ")))
        }
    }
}

/// `12.3 s`, or `4 min 05 s` from two minutes on.
fn seconds(time: Duration) -> String {
    if time < Duration::from_secs(120) {
        format!("{:.1} s", time.as_secs_f64())
    } else {
        format!("{} min {:02} s", time.as_secs() / 60, time.as_secs() % 60)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_step_does_not_stop_the_next_and_fails_the_whole() {
        let mut steps = Steps::default();
        let mut ran = false;
        steps.step("first", "fails", || Err("on purpose".into()));
        steps.step("second", "runs", || {
            ran = true;
            Ok(())
        });
        assert_eq!(steps.finish(), Err("failed: first".into()));
        assert!(ran);
    }

    #[test]
    fn times_are_short_to_read() {
        assert_eq!(seconds(Duration::from_millis(12_340)), "12.3 s");
        assert_eq!(seconds(Duration::from_secs(245)), "4 min 05 s");
    }
}
