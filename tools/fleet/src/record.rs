// SPDX-License-Identifier: MPL-2.0

//! Runs that were measured, as `vlmcaption-exercise cameras --json` writes them.

use serde_json::Value;

use crate::report::Report;
use crate::scenario::{Scenario, Times};

/// A measured run.
#[derive(Debug, Clone)]
pub struct Record {
    /// Cameras that it had.
    pub cameras: usize,
    /// Captions a second.
    pub rate: f64,
    /// Windows dropped, of all.
    pub share_dropped: f64,
    /// Mean age at the caption, s.
    pub age: f64,
    /// What stands beside the figures: stride, pairs, and times measured with one camera.
    pub stride: f64,
    /// When a window of each camera was complete, s.
    pub phases: Vec<f64>,
    /// Temporal patches of a window.
    pub pairs: usize,
    /// Device time of a pair, s.
    pub pair: f64,
    /// Device time of an answer, s.
    pub window: f64,
    /// From the last frame to the queue and from the device to the message, s.
    pub overhead: f64,
}

impl Record {
    /// Reads one.
    ///
    /// # Errors
    /// What is missing.
    pub fn parse(text: &str) -> Result<Self, String> {
        let value: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
        let number = |name: &str| {
            let found = value.get(name).and_then(Value::as_f64);
            found.ok_or_else(|| format!("the record has no number `{name}`"))
        };
        let captions = value.get("captions").and_then(Value::as_array);
        let captions = captions.ok_or("the record has no list `captions`")?;
        let total: f64 = captions.iter().filter_map(Value::as_f64).sum();
        Ok(Self {
            cameras: captions.len(),
            rate: total / number("seconds")?,
            share_dropped: number("dropped")? / number("windows")?.max(1.0),
            age: number("age_mean")?,
            stride: number("stride")?,
            phases: value
                .get("phases")
                .and_then(Value::as_array)
                .map_or_else(Vec::new, |phases| {
                    phases.iter().filter_map(Value::as_f64).collect()
                }),
            pairs: number("pairs")? as usize,
            pair: number("pair")?,
            window: number("window")?,
            overhead: number("overhead")?,
        })
    }

    /// What the simulator is given: nothing of the run with many cameras but their number.
    pub fn scenario(&self) -> Scenario {
        Scenario {
            cameras: self.cameras,
            stride: Times::Fixed(self.stride),
            phases: self.phases.clone(),
            pairs: self.pairs,
            pair: self.pair,
            window: Times::Fixed(self.window),
            overhead: self.overhead,
            ..Scenario::default()
        }
    }

    /// Figure by figure: name, measured, simulated, and how far apart, of the measured one; shares in
    /// points of a hundred.
    pub fn compare(&self, report: &Report) -> Vec<(&'static str, f64, f64, f64)> {
        let of = |name, measured: f64, simulated: f64| {
            (
                name,
                measured,
                simulated,
                (simulated - measured).abs() / measured.max(1e-9),
            )
        };
        let (measured, simulated) = (self.share_dropped, report.share_dropped());
        vec![
            of("captions a second", self.rate, report.rate()),
            (
                "share dropped",
                measured,
                simulated,
                (simulated - measured).abs(),
            ),
            of("mean age, s", self.age, report.age()),
        ]
    }
}
