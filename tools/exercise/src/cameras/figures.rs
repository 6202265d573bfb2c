// SPDX-License-Identifier: MPL-2.0

//! The figures of a run.

use std::collections::BTreeMap;
use std::time::Instant;

use super::one::{Camera, Event, What};

/// The measurement.
pub struct Figures {
    seconds: f64,
    engine_cpu: f64,
    captions: Vec<u64>,
    windows: u64,
    dropped: u64,
    failed: u64,
    dropped_frames: u64,
    ages: Vec<f64>,
    waits: Vec<f64>,
    turns: Vec<f64>,
    push_p99: f64,
    push_max: f64,
    gap: f64,
    /// When the last frame of a window of each camera came, s; comparable among cameras.
    phases: Vec<f64>,
}

impl Figures {
    /// Of all that was heard since `began`.
    pub fn of(cameras: &[Camera], heard: &[Event], began: Instant, engine_cpu: f64) -> Self {
        let counted: Vec<_> = cameras.iter().map(Camera::counted).collect();
        let sum = |name: &str| counted.iter().map(|of| of[name]).sum();
        let stats: Vec<_> = cameras.iter().filter_map(Camera::stats).collect();
        let most = |name: &str| {
            let values = stats.iter().filter_map(|stats| stats.get::<u64>(name).ok());
            values.max().unwrap_or(0) as f64 / 1e9
        };
        let (mut ages, mut waits, mut turns) = (Vec::new(), Vec::new(), Vec::new());
        let mut phases = BTreeMap::new();
        for event in heard {
            if let What::Caption {
                age, wait, total, ..
            } = &event.what
            {
                let came = (event.at - began).as_secs_f64() - age;
                phases.entry(event.camera).or_insert(came);
                ages.push(*age);
                waits.push(*wait);
                turns.push(*total);
            }
        }
        for values in [&mut ages, &mut waits, &mut turns] {
            values.sort_by(f64::total_cmp);
        }
        let gaps = cameras.iter().map(Camera::longest_gap);
        Self {
            seconds: began.elapsed().as_secs_f64(),
            engine_cpu,
            captions: counted.iter().map(|of| of["captions"]).collect(),
            windows: sum("windows"),
            dropped: sum("dropped-windows"),
            failed: sum("failed"),
            dropped_frames: sum("dropped-frames"),
            ages,
            waits,
            turns,
            push_p99: most("push-p99"),
            push_max: most("push-max"),
            gap: gaps.max().unwrap_or_default().as_secs_f64(),
            phases: phases.into_values().collect(),
        }
    }

    fn total(&self) -> u64 {
        self.captions.iter().sum()
    }

    /// The most captions of a camera by the fewest.
    fn spread(&self) -> f64 {
        let most = self.captions.iter().max().copied().unwrap_or(0);
        let fewest = self.captions.iter().min().copied().unwrap_or(0);
        most as f64 / fewest.max(1) as f64
    }

    fn share_dropped(&self) -> f64 {
        self.dropped as f64 / self.windows.max(1) as f64
    }

    /// For people.
    pub fn text(&self) -> String {
        let rate = self.total() as f64 / self.seconds;
        format!(
            "{} cameras, {:.1} s: {} captions, {rate:.2} a second; each {:?}, most by fewest {:.2}\n\
             windows {}, dropped {} ({:.1} %), failed {}; frames dropped {}\n\
             age at the caption, s: mean {:.3}, p50 {:.3}, p95 {:.3}; waited mean {:.3}; turn mean {:.4}\n\
             engine threads {:.2} s CPU, {:.4} a caption\n\
             push p99 {:.0} us, longest {:.0} us; longest gap between buffers {:.3} s; load {}\n",
            self.captions.len(),
            self.seconds,
            self.total(),
            self.captions,
            self.spread(),
            self.windows,
            self.dropped,
            100.0 * self.share_dropped(),
            self.failed,
            self.dropped_frames,
            mean(&self.ages),
            percentile(&self.ages, 0.5),
            percentile(&self.ages, 0.95),
            mean(&self.waits),
            mean(&self.turns),
            self.engine_cpu,
            self.engine_cpu / self.total().max(1) as f64,
            self.push_p99 * 1e6,
            self.push_max * 1e6,
            self.gap,
            std::fs::read_to_string("/proc/loadavg")
                .unwrap_or_default()
                .trim(),
        )
    }

    /// For programs.
    pub fn json(&self) -> String {
        let made = serde_json::json!({
            "cameras": self.captions.len(),
            "seconds": self.seconds,
            "captions": self.captions,
            "windows": self.windows,
            "dropped": self.dropped,
            "age_mean": mean(&self.ages),
            "age_p50": percentile(&self.ages, 0.5),
            "age_p95": percentile(&self.ages, 0.95),
            "wait_mean": mean(&self.waits),
            "turn_mean": mean(&self.turns),
            "engine_cpu": self.engine_cpu,
            "push_p99": self.push_p99,
            "phases": self.phases,
        });
        format!("{made:#}\n")
    }
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

/// Of sorted values.
fn percentile(values: &[f64], part: f64) -> f64 {
    let last = values.len().saturating_sub(1);
    values
        .get((last as f64 * part).round() as usize)
        .copied()
        .unwrap_or(0.0)
}
