// SPDX-License-Identifier: MPL-2.0

//! Whether memory grows: resident memory, and a straight line through looks at it.

use std::fs;

/// A growth below this is the allocator's noise, whatever its error.
pub const NOISE_KIB: f64 = 1024.0;

/// Resident memory of this process, KiB.
///
/// # Errors
/// The system does not tell.
pub fn resident_kib() -> Result<f64, String> {
    let status = fs::read_to_string("/proc/self/status").map_err(|error| error.to_string())?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    kib.ok_or_else(|| "/proc/self/status has no VmRSS".into())
}

/// A straight line through points.
pub struct Line {
    /// Of y by x.
    pub slope: f64,
    /// Standard error of the slope.
    pub error: f64,
    /// From the first x to the last.
    pub span: f64,
}

impl Line {
    /// Least squares; `None` below three points.
    pub fn fit(points: &[(f64, f64)]) -> Option<Self> {
        if points.len() < 3 {
            return None;
        }
        let n = points.len() as f64;
        let mean = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / n;
        let (x, y) = (mean(|p| p.0), mean(|p| p.1));
        let spread: f64 = points.iter().map(|p| (p.0 - x).powi(2)).sum();
        let slope = points.iter().map(|p| (p.0 - x) * (p.1 - y)).sum::<f64>() / spread;
        let rest: f64 = points
            .iter()
            .map(|p| (p.1 - y - slope * (p.0 - x)).powi(2))
            .sum();
        Some(Self {
            slope,
            error: (rest / (n - 2.0) / spread).sqrt(),
            span: points.last()?.0 - points.first()?.0,
        })
    }

    /// Whether y grows by more than three standard errors and [`NOISE_KIB`] over all.
    pub fn grows(&self) -> bool {
        self.slope > 3.0 * self.error && self.slope * self.span > NOISE_KIB
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slope_of_a_line_with_noise_is_within_its_error() {
        let noise = [0.3, -0.2, 0.1, -0.3, 0.2, -0.1];
        let points: Vec<_> = (0..60)
            .map(|n| {
                (
                    f64::from(n),
                    5.0 + 2.0 * f64::from(n) + noise[n as usize % 6],
                )
            })
            .collect();
        let line = Line::fit(&points).unwrap();
        assert!((line.slope - 2.0).abs() < 3.0 * line.error && line.error < 0.01);
        assert!(!line.grows(), "118 KiB are noise");
        let steep: Vec<_> = points.iter().map(|(x, y)| (*x, 10.0 * y)).collect();
        assert!(Line::fit(&steep).unwrap().grows());
        assert!(Line::fit(&points[..2]).is_none());
    }
}
