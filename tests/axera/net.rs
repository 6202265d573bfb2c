// SPDX-License-Identifier: MPL-2.0

//! Writes nets in the stand-ins' format: see `axera-sys/tests/standin/README.md`.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

/// A value of a net.
pub type Value = usize;

/// A net that is being written.
#[derive(Default)]
pub struct Net {
    head: String,
    body: String,
    weights: Vec<f32>,
    next: usize,
}

/// A matrix: rows and columns, row-major.
#[derive(Clone)]
pub struct Matrix {
    pub rows: usize,
    pub cols: usize,
    pub values: Vec<f32>,
}

impl Matrix {
    pub fn new(rows: usize, cols: usize, values: Vec<f32>) -> Self {
        assert_eq!(values.len(), rows * cols);
        Self { rows, cols, values }
    }

    pub fn row(values: Vec<f32>) -> Self {
        Self::new(1, values.len(), values)
    }

    pub fn numbers(values: impl IntoIterator<Item = usize>) -> Self {
        Self::row(values.into_iter().map(|n| n as f32).collect())
    }
}

impl Net {
    pub fn new(compiler: &str) -> Self {
        let head = format!("AXSTANDIN 1\ncompiler {compiler}\ncores 3\n");
        Self {
            head,
            ..Self::default()
        }
    }

    fn tensor(&mut self, side: &str, group: usize, name: &str, dtype: &str, dims: &[usize]) {
        let dims: Vec<String> = dims.iter().map(usize::to_string).collect();
        writeln!(
            self.head,
            "{side} {group} {name} {dtype} {}",
            dims.join(",")
        )
        .unwrap();
    }

    pub fn input(&mut self, group: usize, name: &str, dtype: &str, dims: &[usize]) {
        self.tensor("in", group, name, dtype, dims);
    }

    pub fn output(&mut self, group: usize, name: &str, dtype: &str, dims: &[usize]) {
        self.tensor("out", group, name, dtype, dims);
    }

    fn value(&mut self) -> Value {
        self.next += 1;
        self.next - 1
    }

    pub fn constant(&mut self, matrix: &Matrix) -> Value {
        let (value, at) = (self.value(), self.weights.len());
        let (rows, cols) = (matrix.rows, matrix.cols);
        writeln!(self.body, "const {value} {rows} {cols} {at}").unwrap();
        self.weights.extend(&matrix.values);
        value
    }

    pub fn get(&mut self, name: &str) -> Value {
        let value = self.value();
        writeln!(self.body, "get {value} {name}").unwrap();
        value
    }

    pub fn put(&mut self, name: &str, value: Value) {
        writeln!(self.body, "put {name} {value}").unwrap();
    }

    /// An operation whose arguments are written as they are.
    pub fn op(&mut self, name: &str, arguments: &str) -> Value {
        let value = self.value();
        writeln!(self.body, "{name} {value} {arguments}").unwrap();
        value
    }

    pub fn linear(&mut self, x: Value, weight: &Matrix, bias: Option<&[f32]>) -> Value {
        let weight = self.constant(weight);
        let bias = match bias {
            Some(bias) => self.constant(&Matrix::row(bias.to_vec())).to_string(),
            None => "-1".to_owned(),
        };
        self.op("linear", &format!("{x} {weight} {bias}"))
    }

    pub fn add(&mut self, a: Value, b: Value) -> Value {
        self.op("add", &format!("{a} {b}"))
    }

    pub fn mul(&mut self, a: Value, b: Value) -> Value {
        self.op("mul", &format!("{a} {b}"))
    }

    /// An RMS norm of each head.
    pub fn rms(&mut self, x: Value, weight: &[f32], eps: f32, heads: usize) -> Value {
        let weight = self.constant(&Matrix::row(weight.to_vec()));
        self.op("rms", &format!("{x} {weight} {eps:e} {heads}"))
    }

    pub fn layer_norm(&mut self, x: Value, weight: &[f32], bias: &[f32], eps: f32) -> Value {
        let weight = self.constant(&Matrix::row(weight.to_vec()));
        let bias = self.constant(&Matrix::row(bias.to_vec()));
        self.op("layer", &format!("{x} {weight} {bias} {eps:e}"))
    }

    pub fn rotary(&mut self, positions: Value, frequencies: &Matrix, axes: &Matrix) -> [Value; 2] {
        let (f, a) = (self.constant(frequencies), self.constant(axes));
        let (c, s) = (self.value(), self.value());
        writeln!(self.body, "rotary {c} {s} {positions} {f} {a}").unwrap();
        [c, s]
    }

    pub fn rope(&mut self, x: Value, [c, s]: [Value; 2], heads: usize) -> Value {
        self.op("rope", &format!("{x} {c} {s} {heads}"))
    }

    pub fn gather(&mut self, x: Value, index: &[usize]) -> Value {
        let index = self.constant(&Matrix::numbers(index.iter().copied()));
        self.op("gather", &format!("{x} {index}"))
    }

    /// Writes the file.
    pub fn write(&self, path: &Path) {
        let mut bytes = format!("{}{}weights\n", self.head, self.body).into_bytes();
        bytes.extend(self.weights.iter().flat_map(|w| w.to_le_bytes()));
        fs::write(path, bytes).unwrap();
    }
}
