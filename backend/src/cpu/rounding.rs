// SPDX-License-Identifier: MPL-2.0

//! What rounding does to each linear layer: its result beside that of f32, on the same input.

use std::sync::{Arc, Mutex};

use super::epilogue::Epilogue;
use super::gemm::Gemm;
use super::int8::Int8Matrix;

/// The errors of the layers of a model that was loaded to be compared.
#[derive(Debug, Clone, Default)]
pub struct RoundingErrors(Arc<Mutex<Vec<LayerSums>>>);

#[derive(Debug, Default)]
struct LayerSums {
    name: String,
    many: Sums,
    few: Sums,
}

/// Sums of squares of each column of the results.
#[derive(Debug, Default)]
struct Sums {
    error: Vec<f64>,
    size: Vec<f64>,
}

impl Sums {
    fn add(&mut self, got: &[f32], want: &[f32], width: usize) {
        self.error.resize(width, 0.0);
        self.size.resize(width, 0.0);
        for (got, want) in got.chunks_exact(width).zip(want.chunks_exact(width)) {
            for (i, (&got, &want)) in got.iter().zip(want).enumerate() {
                self.error[i] += f64::from(got - want).powi(2);
                self.size[i] += f64::from(want).powi(2);
            }
        }
    }

    /// The root mean square of the columns' relative errors: large columns hide no small ones.
    fn relative(&self) -> f64 {
        let columns = self.error.iter().zip(&self.size);
        let parts: Vec<f64> = columns
            .filter(|(_, size)| **size > 0.0)
            .map(|(error, size)| error / size)
            .collect();
        (parts.iter().sum::<f64>() / parts.len() as f64).sqrt()
    }
}

/// The error of one layer over all it has computed.
#[derive(Debug, Clone, PartialEq)]
pub struct LayerError {
    /// Name of its (first) tensor.
    pub name: String,
    /// Error of an output as a part of its size, root mean square over the outputs, in products of
    /// many rows (vision, prefill); NaN if there were none.
    pub many: f64,
    /// The same in products of few rows (decode).
    pub few: f64,
}

impl RoundingErrors {
    /// All layers, the worst in products of many rows first, or of few where there were no others: of a prompt, what
    /// the last layer makes of all rows but the last is never asked for.
    pub fn errors(&self) -> Vec<LayerError> {
        let entries = self.0.lock().unwrap();
        let mut errors: Vec<LayerError> = entries
            .iter()
            .map(|entry| LayerError {
                name: entry.name.clone(),
                many: entry.many.relative(),
                few: entry.few.relative(),
            })
            .collect();
        let size = |error: &LayerError| match error.many {
            many if many.is_nan() => error.few,
            many => many,
        };
        errors.sort_by(|a, b| size(b).total_cmp(&size(a)));
        errors
    }

    /// Adds a layer, and hands out what records its errors.
    pub(super) fn recorder(&self, name: &str) -> Recorder {
        let mut entries = self.0.lock().unwrap();
        entries.push(LayerSums {
            name: name.to_owned(),
            ..LayerSums::default()
        });
        Recorder {
            errors: self.clone(),
            index: entries.len() - 1,
        }
    }
}

/// Records a layer's errors.
pub(super) struct Recorder {
    errors: RoundingErrors,
    index: usize,
}

impl Recorder {
    /// Records a result and what it should be.
    fn note(&self, rows: usize, got: &[f32], want: &[f32]) {
        let mut entries = self.errors.0.lock().unwrap();
        let entry = &mut entries[self.index];
        let sums = match rows {
            0..=8 => &mut entry.few,
            _ => &mut entry.many,
        };
        sums.add(got, want, want.len() / rows);
    }
}

/// A matrix in f32, which is computed with, and the same rounded, for comparison.
pub(super) struct Compared {
    /// `[out_features, in_features]`
    pub(super) exact: Vec<f32>,
    pub(super) rounded: Int8Matrix,
    pub(super) recorder: Recorder,
}

impl Compared {
    /// Notes how far the rounded matrix is from the result `y` for `x` `[rows, in_features]`.
    pub(super) fn note(&self, gemm: &Gemm, rows: usize, x: &[f32], y: &[f32]) {
        let mut got = vec![0.0; y.len()];
        self.rounded.forward(gemm, x, Epilogue::default(), &mut got);
        self.recorder.note(rows, &got, y);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_layer_comes_first() {
        let errors = RoundingErrors::default();
        let (good, bad) = (errors.recorder("good"), errors.recorder("bad"));
        // Ten rows of two outputs, of which the second is small.
        good.note(
            10,
            &[[100.0, 0.11]; 10].concat(),
            &[[100.0, 0.1]; 10].concat(),
        );
        bad.note(
            10,
            &[[100.0, 0.15]; 10].concat(),
            &[[100.0, 0.1]; 10].concat(),
        );
        bad.note(1, &[1.0, 1.0], &[1.0, 1.0]);
        let errors = errors.errors();
        let names: Vec<&str> = errors.iter().map(|error| error.name.as_str()).collect();
        assert_eq!(names, ["bad", "good"]);
        let half = 0.5f64.sqrt();
        assert!((errors[0].many - 0.5 * half).abs() < 1e-5 && errors[0].few == 0.0);
        assert!((errors[1].many - 0.1 * half).abs() < 1e-5 && errors[1].few.is_nan());
    }
}
