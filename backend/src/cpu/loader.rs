// SPDX-License-Identifier: MPL-2.0

//! Tensors of a checkpoint to layers of the engine.

use std::path::Path;

use half::bf16;
use rayon::ThreadPool;

use super::cache::{Cache, Cached, Damaged};
use super::int8::{Int8Builder, Int8Matrix, Int8Rows};
use super::layout::Layout;
use super::linear::{Linear, Matrix, Table, TableRows};
use super::norm::{LayerNorm, RmsNorm};
use super::options::Precision;
use super::packed::{PackedMatrix, is_packed};
use super::pages::Filling;
use super::rounding::{Compared, RoundingErrors};
use super::weights::Reader;
use crate::spec::{Packing, Spec};
use crate::{Error, finite};

/// A model with fewer numbers than this stays in f32 unless asked otherwise.
const INT8_FROM: u64 = 100_000_000;

/// The form that the large matrices are kept in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stored {
    F32,
    Bf16,
    Int8,
}

/// Builds layers from named tensors, each read once and kept in one form only.
pub(super) struct Loader<'a> {
    reader: Reader<'a>,
    pool: &'a ThreadPool,
    stored: Stored,
    layout: Layout,
    /// How those matrices are packed whose tensors say that they are.
    packing: Option<Packing>,
    /// Where quantised matrices are kept for the next start, and why they cannot be.
    cache: Option<Cache>,
    not_cached: Option<String>,
    /// Where rounding errors are noted, for a model that is loaded to be compared.
    errors: Option<RoundingErrors>,
}

/// Whether matrices that an earlier start kept are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reuse {
    /// If they are of these weights.
    IfGood,
    /// They turned out to be damaged.
    Never,
}

/// What a table is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Rows by id, a few for each prompt.
    LookUp,
    /// All rows for each token, and rows by id where it is the embedding table too.
    Head,
}

/// Whether a linear layer has a bias.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Bias {
    With,
    Without,
}

impl<'a> Loader<'a> {
    /// Readies a reader's tensors for `precision`; `spec` says how they may be called and packed.
    pub(super) fn new(
        reader: Reader<'a>,
        pool: &'a ThreadPool,
        spec: &Spec,
        precision: Precision,
    ) -> Self {
        let layout = Layout::find(&spec.vision.tower, |name| reader.has(name));
        let stored = match precision {
            Precision::Auto if reader.n_parameters() >= INT8_FROM => Stored::Int8,
            Precision::Int8 => Stored::Int8,
            Precision::Bf16 => Stored::Bf16,
            Precision::Auto | Precision::F32 => Stored::F32,
        };
        Self {
            stored,
            reader,
            pool,
            layout,
            packing: spec.text.packing,
            cache: None,
            not_cached: None,
            errors: None,
        }
    }

    /// Keeps the large matrices in f32 and, beside those that would be rounded to 8 bits, what they
    /// would be, whose errors are noted.
    pub(super) fn compare(&mut self, errors: RoundingErrors) {
        self.stored = Stored::Int8;
        self.errors = Some(errors);
    }

    /// Takes the quantised matrices of the checkpoint in `place` from a file in this folder, or keeps
    /// them there; with
    /// [`Reuse::Never`] whatever is there is made anew.
    pub(super) fn use_cache(&mut self, folder: &Path, place: &Path, reuse: Reuse) {
        if self.stored != Stored::Int8 || self.errors.is_some() {
            return;
        }
        let mut cache = Cache::new(folder, place, self.reader.identity());
        let begun = match reuse {
            Reuse::IfGood => cache.open(),
            Reuse::Never => cache.write(),
        };
        self.not_cached = begun.err();
        self.cache = Some(cache);
    }

    /// All has been read: what became of the cache.
    pub(super) fn finish(self) -> Cached {
        match self.cache {
            Some(cache) => cache.finish(self.not_cached),
            None => Cached::default(),
        }
    }

    /// Whether nothing may be rounded: the reference.
    pub(super) fn is_exact(&self) -> bool {
        self.stored == Stored::F32 || self.errors.is_some()
    }

    /// Name of the number type that large matrices are multiplied in.
    pub(super) fn precision(&self) -> &'static str {
        match self.stored {
            _ if self.errors.is_some() => "f32",
            Stored::F32 => "f32",
            Stored::Bf16 => "bf16",
            Stored::Int8 => "int8",
        }
    }

    /// Full name of a tensor of the vision tower.
    pub(super) fn visual(&self, name: &str) -> String {
        format!("{}{name}", self.layout.visual)
    }

    /// Full name of a tensor of the decoder.
    pub(super) fn text(&self, name: &str) -> String {
        format!("{}{name}", self.layout.text)
    }

    /// Whether there is such a tensor.
    pub(super) fn has(&self, name: &str) -> bool {
        self.reader.has(name)
    }

    /// Whether there is a matrix `{name}.weight`, packed or not.
    pub(super) fn has_matrix(&self, name: &str) -> bool {
        let prefix = format!("{name}.");
        let packed = self
            .packing
            .is_some_and(|packing| is_packed(packing, &self.reader, &prefix));
        packed || self.has(&format!("{name}.weight"))
    }

    /// Names of all tensors.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.reader.names()
    }

    /// The shape of a tensor, if there is one.
    pub(super) fn shape(&self, name: &str) -> Option<&[usize]> {
        self.reader.shape(name)
    }

    /// How the tensors are called.
    pub(super) fn layout(&self) -> Layout {
        self.layout
    }

    /// Builds block `index` of the tower or layer `index` of the decoder. Where matrices are rounded to
    /// 8 bits, those of the first stay in bf16.
    ///
    /// What it is given is small beside what it adds, so its errors are errors of all that follows:
    /// of the divergence that 8 bits cause, the decoder's first layer alone makes four tenths.
    pub(super) fn block<T>(
        &mut self,
        index: usize,
        build: impl FnOnce(&mut Self) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let others = self.stored;
        if index == 0 && others == Stored::Int8 {
            self.stored = match self.errors {
                Some(_) => Stored::F32,
                None => Stored::Bf16,
            };
        }
        let block = build(self);
        self.stored = others;
        block
    }

    /// `name.weight` `[out, in]` and `name.bias` `[out]`.
    pub(super) fn linear(&mut self, name: &str, shape: [usize; 2]) -> Result<Linear, Error> {
        self.joined(&[(name.to_owned(), shape[0])], shape[1], Bias::With)
    }

    /// Several `name.weight` `[out, in]`, with or without `name.bias` `[out]`, as one matrix in
    /// their order.
    pub(super) fn joined(
        &mut self,
        parts: &[(String, usize)],
        in_features: usize,
        bias: Bias,
    ) -> Result<Linear, Error> {
        let weights: Vec<_> = parts
            .iter()
            .map(|(name, out)| (format!("{name}.weight"), vec![*out, in_features]))
            .collect();
        let matrix = self.matrix(&weights, in_features, None)?;
        let bias = match bias {
            Bias::Without => None,
            Bias::With => {
                let parts = parts
                    .iter()
                    .map(|(name, out)| (format!("{name}.bias"), vec![*out]));
                Some(self.floats(&parts.collect::<Vec<_>>())?)
            }
        };
        Ok(Linear::new(in_features, matrix, bias))
    }

    /// `name.weight` `[out, in]` and `name.bias` `[out]`, whose results are then multiplied by
    /// `scale` `[out]`: one layer, for the scale is the same for all inputs.
    pub(super) fn scaled(
        &mut self,
        name: &str,
        shape: [usize; 2],
        scale: &str,
    ) -> Result<Linear, Error> {
        let scale = self.reader.vector(scale, shape[0])?;
        let weight = (format!("{name}.weight"), shape.to_vec());
        let matrix = self.matrix(&[weight], shape[1], Some(&scale))?;
        let mut bias = self.reader.vector(&format!("{name}.bias"), shape[0])?;
        for (bias, scale) in bias.iter_mut().zip(&scale) {
            *bias *= scale;
        }
        Ok(Linear::new(shape[1], matrix, Some(bias)))
    }

    /// A convolution whose stride is its kernel, as a matrix; always f32. `shape` is that of its
    /// weight, output channels first.
    pub(super) fn convolution(
        &mut self,
        name: &str,
        shape: &[usize],
        bias: Bias,
    ) -> Result<Linear, Error> {
        let matrix = self.floats(&[(format!("{name}.weight"), shape.to_vec())])?;
        let bias = match bias {
            Bias::Without => None,
            Bias::With => Some(self.reader.vector(&format!("{name}.bias"), shape[0])?),
        };
        let in_features = shape[1..].iter().product();
        Ok(Linear::new(in_features, Matrix::F32(matrix), bias))
    }

    /// `name` of this shape as it is.
    pub(super) fn rows(&mut self, name: &str, shape: &[usize]) -> Result<Vec<f32>, Error> {
        self.floats(&[(name.to_owned(), shape.to_vec())])
    }

    /// `name` `[vocab_size, width]`, packed or not.
    pub(super) fn table(
        &mut self,
        name: &str,
        shape: [usize; 2],
        purpose: Purpose,
    ) -> Result<Table, Error> {
        self.expect(name, &shape)?;
        let rows = match (self.stored, purpose) {
            (Stored::F32, _) => TableRows::F32(self.floats(&[(name.to_owned(), shape.to_vec())])?),
            (Stored::Int8, Purpose::Head) => {
                let mut builder = Int8Rows::new(shape[0], shape[1]);
                self.weights(name, &shape, &mut |piece| builder.push(piece))?;
                TableRows::Int8(builder.finish())
            }
            (Stored::Bf16, _) | (Stored::Int8, Purpose::LookUp) => {
                let mut rows = Filling::new(shape[0] * shape[1]);
                let mut take =
                    |piece: &[f32]| rows.extend(piece.iter().map(|&w| bf16::from_f32(w)));
                self.weights(name, &shape, &mut take)?;
                TableRows::Bf16(rows.finish())
            }
        };
        Ok(Table::new(shape[1], rows))
    }

    /// `name.weight` and `name.bias` `[width]`.
    pub(super) fn layer_norm(
        &mut self,
        name: &str,
        width: usize,
        eps: f32,
    ) -> Result<LayerNorm, Error> {
        Ok(LayerNorm {
            weight: self.reader.vector(&format!("{name}.weight"), width)?,
            bias: self.reader.vector(&format!("{name}.bias"), width)?,
            eps,
        })
    }

    /// `name.weight` `[width]`.
    pub(super) fn rms_norm(
        &mut self,
        name: &str,
        width: usize,
        eps: f32,
    ) -> Result<RmsNorm, Error> {
        Ok(RmsNorm {
            weight: self.reader.vector(&format!("{name}.weight"), width)?,
            eps,
        })
    }

    /// The rows of some tensors one after the other, in the form of the large matrices; each times
    /// its scale, if there are any.
    fn matrix(
        &mut self,
        parts: &[(String, Vec<usize>)],
        in_features: usize,
        scale: Option<&[f32]>,
    ) -> Result<Matrix, Error> {
        for (name, shape) in parts {
            self.expect(name, shape)?;
        }
        let out_features = parts.iter().map(|(_, shape)| shape[0]).sum();
        let (name, shape) = (parts[0].0.as_str(), [out_features, in_features]);
        if let Some(matrix) = self.cached(parts, shape)? {
            return Ok(Matrix::Int8(matrix));
        }
        let mut matrix = match self.stored {
            Stored::F32 => Growing::F32(Vec::with_capacity(out_features * in_features)),
            Stored::Bf16 => Growing::Bf16(Filling::new(out_features * in_features)),
            Stored::Int8 => Growing::Int8(Int8Builder::new(out_features, in_features)),
        };
        self.fill(parts, in_features, scale, &mut matrix)?;
        Ok(match matrix {
            Growing::F32(matrix) => Matrix::F32(matrix),
            Growing::Bf16(matrix) => Matrix::Bf16(matrix.finish()),
            Growing::Int8(builder) => self.rounded(name, shape, builder),
        })
    }

    /// The matrix of these parts, if an earlier start kept it in 8 bits.
    fn cached(
        &mut self,
        parts: &[(String, Vec<usize>)],
        shape: [usize; 2],
    ) -> Result<Option<Int8Matrix>, Error> {
        let (Stored::Int8, Some(cache)) = (self.stored, &mut self.cache) else {
            return Ok(None);
        };
        let matrix = cache.take(&parts[0].0, shape);
        let matrix = matrix.map_err(|Damaged| Error::Cache)?;
        if matrix.is_some() {
            for (name, _) in parts {
                self.reader.skip(name)?;
            }
        }
        Ok(matrix)
    }

    /// Reads the rows of some tensors, each times its scale, if there are any.
    fn fill(
        &mut self,
        parts: &[(String, Vec<usize>)],
        in_features: usize,
        scale: Option<&[f32]>,
        matrix: &mut Growing,
    ) -> Result<(), Error> {
        let mut row = 0;
        let mut scaled = Vec::new();
        for (name, shape) in parts {
            let mut is_finite = true;
            self.weights(name, shape, &mut |piece| {
                is_finite &= finite::is_finite(piece);
                let Some(scale) = scale else {
                    return matrix.push(piece);
                };
                scaled.clear();
                for weights in piece.chunks(in_features) {
                    scaled.extend(weights.iter().map(|w| w * scale[row]));
                    row += 1;
                }
                matrix.push(&scaled);
            })?;
            if !is_finite {
                return Err(Error::NotANumber {
                    place: format!("weight {name} of the checkpoint"),
                });
            }
        }
        Ok(())
    }

    /// Rounds a matrix to 8 bits and keeps it for the next start, or beside the exact one for
    /// comparison.
    fn rounded(&mut self, name: &str, shape: [usize; 2], builder: Int8Builder) -> Matrix {
        if let Some(errors) = &self.errors {
            let exact = builder.rows().to_vec();
            return Matrix::Compared(Compared {
                exact,
                rounded: self.pool.install(|| builder.finish()),
                recorder: errors.recorder(name.trim_end_matches(".weight")),
            });
        }
        let matrix = self.pool.install(|| builder.finish());
        if let Some(cache) = &mut self.cache
            && let Err(reason) = cache.put(name, shape, &matrix)
        {
            self.not_cached = Some(reason);
        }
        Matrix::Int8(matrix)
    }

    /// That a tensor is there in this shape, packed or not. Memory is taken only for what the file
    /// has: its length is known, and the numbers of the configuration are anybody's.
    fn expect(&self, name: &str, shape: &[usize]) -> Result<(), Error> {
        match self.packed(name, shape) {
            Some(matrix) => matrix.expect(&self.reader),
            None => self.reader.expect(name, shape),
        }
    }

    /// The matrix `name` of this shape, if it is packed.
    fn packed<'n>(&self, name: &'n str, shape: &[usize]) -> Option<PackedMatrix<'n>> {
        PackedMatrix::find(self.packing?, &self.reader, name, shape)
    }

    /// A matrix `[out, in]` in pieces of whole rows, as f32, whichever way the file keeps it.
    fn weights(
        &mut self,
        name: &str,
        shape: &[usize],
        take: &mut dyn FnMut(&[f32]),
    ) -> Result<(), Error> {
        match self.packed(name, shape) {
            Some(matrix) => matrix.rows(&mut self.reader, take),
            None => self.reader.rows(name, shape, take),
        }
    }

    /// The rows of some tensors one after the other, in f32.
    fn floats(&mut self, parts: &[(String, Vec<usize>)]) -> Result<Vec<f32>, Error> {
        for (name, shape) in parts {
            self.expect(name, shape)?;
        }
        let len = parts
            .iter()
            .map(|(_, shape)| shape.iter().product::<usize>());
        let mut matrix = Vec::with_capacity(len.sum());
        for (name, shape) in parts {
            let mut take = |piece: &[f32]| matrix.extend_from_slice(piece);
            self.weights(name, shape, &mut take)?;
        }
        Ok(matrix)
    }
}

/// A matrix that is being read.
enum Growing {
    F32(Vec<f32>),
    Bf16(Filling<bf16>),
    Int8(Int8Builder),
}

impl Growing {
    /// Adds some rows.
    fn push(&mut self, rows: &[f32]) {
        match self {
            Growing::F32(matrix) => matrix.extend_from_slice(rows),
            Growing::Bf16(matrix) => matrix.extend(rows.iter().map(|&w| bf16::from_f32(w))),
            Growing::Int8(builder) => builder.push(rows),
        }
    }
}
