// SPDX-License-Identifier: MPL-2.0

//! What came of a simulation.

use std::fmt;

/// One camera's windows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CameraReport {
    /// Complete.
    pub windows: u64,
    /// Answered.
    pub captions: u64,
    /// Dropped because the model was busy.
    pub dropped: u64,
    /// Lost with a replica.
    pub failed: u64,
}

/// All of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// By camera.
    pub cameras: Vec<CameraReport>,
    /// From the last frame to the caption, s; sorted.
    ages: Vec<f64>,
    /// From the complete window to its turn, s.
    waits: Vec<f64>,
    seconds: f64,
    /// Part of the time that a replica was at work.
    pub utilisation: f64,
}

impl Report {
    /// Of what was counted.
    pub fn new(
        cameras: Vec<CameraReport>,
        mut ages: Vec<f64>,
        waits: Vec<f64>,
        seconds: f64,
        utilisation: f64,
    ) -> Self {
        ages.sort_by(f64::total_cmp);
        Self {
            cameras,
            ages,
            waits,
            seconds,
            utilisation,
        }
    }

    fn sum(&self, of: impl Fn(&CameraReport) -> u64) -> f64 {
        self.cameras.iter().map(of).sum::<u64>() as f64
    }

    /// Captions a second of all cameras.
    pub fn rate(&self) -> f64 {
        self.sum(|camera| camera.captions) / self.seconds
    }

    /// Captions a minute of one camera.
    pub fn per_camera(&self) -> f64 {
        60.0 * self.rate() / self.cameras.len().max(1) as f64
    }

    /// Windows dropped, of all.
    pub fn share_dropped(&self) -> f64 {
        self.sum(|camera| camera.dropped) / self.sum(|camera| camera.windows).max(1.0)
    }

    /// Windows lost with a replica, of all.
    pub fn share_failed(&self) -> f64 {
        self.sum(|camera| camera.failed) / self.sum(|camera| camera.windows).max(1.0)
    }

    /// The most captions of a camera by the fewest.
    pub fn spread(&self) -> f64 {
        let captions = self.cameras.iter().map(|camera| camera.captions);
        let most = captions.clone().max().unwrap_or(0);
        most as f64 / captions.min().unwrap_or(0).max(1) as f64
    }

    /// Mean age, s.
    pub fn age(&self) -> f64 {
        mean(&self.ages)
    }

    /// The age that this part of the captions does not exceed, s.
    pub fn age_at(&self, part: f64) -> f64 {
        let last = self.ages.len().saturating_sub(1);
        let at = (last as f64 * part).round() as usize;
        self.ages.get(at).copied().unwrap_or(0.0)
    }

    /// Mean time from a complete window to its turn, s.
    pub fn wait(&self) -> f64 {
        mean(&self.waits)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, out: &mut fmt::Formatter) -> fmt::Result {
        writeln!(
            out,
            "{} cameras: {:.2} captions a second, {:.2} a minute each, most by fewest {:.2}",
            self.cameras.len(),
            self.rate(),
            self.per_camera(),
            self.spread()
        )?;
        writeln!(
            out,
            "dropped {:.1} %, lost with a replica {:.2} %; replicas at work {:.1} % of the time",
            100.0 * self.share_dropped(),
            100.0 * self.share_failed(),
            100.0 * self.utilisation
        )?;
        write!(
            out,
            "age at the caption, s: mean {:.3}, p50 {:.3}, p95 {:.3}; waited mean {:.3}",
            self.age(),
            self.age_at(0.5),
            self.age_at(0.95),
            self.wait()
        )
    }
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}
