// SPDX-License-Identifier: MPL-2.0

//! Kept keys and values of one sequence.

use half::bf16;

use super::isa::{Bf16Kernels, Isa};
use super::tiled;

/// Rows by which the buffers grow: a doubling would hold up to twice the memory.
const GROWTH_ROWS: usize = 256;

/// The number type of kept keys and values.
#[derive(Debug, Clone, Copy)]
pub(super) enum KvType {
    /// As they were computed.
    F32,
    /// Rounded, where the attention of prompts rounds them anyway: half the bytes to keep, and to read
    /// for each token.
    Bf16(&'static Bf16Kernels),
}

impl KvType {
    /// As the attention of prompts takes them.
    pub(super) fn of(isa: Isa) -> Self {
        isa.bf16.map_or(Self::F32, Self::Bf16)
    }
}

/// Keys and values of one key-value head of one layer, each `[rows, head_dim]`.
#[derive(Default)]
pub(super) struct Rows<T> {
    pub(super) k: Vec<T>,
    pub(super) v: Vec<T>,
}

/// [`Rows`] in their number type.
pub(super) enum Head {
    F32(Rows<f32>),
    Bf16(&'static Bf16Kernels, Rows<bf16>),
}

/// The rows of one sequence in every layer; grows as needed.
pub(super) struct Kv {
    kv_type: KvType,
    head_dim: usize,
    /// Rows that every layer holds.
    n_rows: usize,
    /// `[layer][key-value head]`
    layers: Vec<Vec<Head>>,
}

impl<T: Copy> Rows<T> {
    /// Appends the first `n` numbers of each of another's.
    fn extend(&mut self, other: &Self, n: usize) {
        self.k.extend_from_slice(&other.k[..n]);
        self.v.extend_from_slice(&other.v[..n]);
    }

    /// Makes room for `n_new` more numbers each, or at once for `n` in all.
    fn reserve(&mut self, n_new: usize, n: usize) {
        for buffer in [&mut self.k, &mut self.v] {
            if buffer.capacity() < buffer.len() + n_new {
                buffer.reserve_exact(n.saturating_sub(buffer.len()));
            }
        }
    }

    fn truncate(&mut self, n: usize) {
        self.k.truncate(n);
        self.v.truncate(n);
    }
}

impl Head {
    fn new(kv_type: KvType) -> Self {
        match kv_type {
            KvType::F32 => Self::F32(Rows::default()),
            KvType::Bf16(kernels) => Self::Bf16(kernels, Rows::default()),
        }
    }

    /// How many numbers the keys of all rows have, and their values.
    pub(super) fn n_numbers(&self) -> usize {
        match self {
            Self::F32(rows) => rows.k.len(),
            Self::Bf16(_, rows) => rows.k.len(),
        }
    }

    /// Appends the key and the value `[head_dim]` of a row.
    pub(super) fn push(&mut self, k: &[f32], v: &[f32]) {
        match self {
            Self::F32(rows) => {
                rows.k.extend_from_slice(k);
                rows.v.extend_from_slice(v);
            }
            Self::Bf16(_, rows) => {
                let round = |&x| bf16::from_bits(tiled::round(x));
                rows.k.extend(k.iter().map(round));
                rows.v.extend(v.iter().map(round));
            }
        }
    }
}

impl Kv {
    /// An empty sequence.
    pub(super) fn new(kv_type: KvType, n_layers: usize, n_heads: usize, head_dim: usize) -> Self {
        let heads = || (0..n_heads).map(|_| Head::new(kv_type)).collect();
        Self {
            kv_type,
            head_dim,
            n_rows: 0,
            layers: (0..n_layers).map(|_| heads()).collect(),
        }
    }

    /// An empty sequence of the same model.
    pub(super) fn like(&self) -> Self {
        let n_heads = self.layers.first().map_or(0, Vec::len);
        Self::new(self.kv_type, self.layers.len(), n_heads, self.head_dim)
    }

    /// The heads of a layer, with room for `n_new` more rows in each.
    pub(super) fn layer_mut(&mut self, layer: usize, n_new: usize) -> &mut [Head] {
        let n = (self.n_rows + n_new).next_multiple_of(GROWTH_ROWS) * self.head_dim;
        let n_new = n_new * self.head_dim;
        let heads = &mut self.layers[layer];
        for head in heads.iter_mut() {
            match head {
                Head::F32(rows) => rows.reserve(n_new, n),
                Head::Bf16(_, rows) => rows.reserve(n_new, n),
            }
        }
        heads
    }

    /// Takes the first `n_rows` rows of another sequence of the same model in place of its own.
    pub(super) fn copy(&mut self, other: &Self, n_rows: usize) {
        self.truncate(0);
        for i in 0..self.layers.len() {
            self.layer_mut(i, n_rows);
        }
        let len = n_rows * self.head_dim;
        let heads = self.layers.iter_mut().flatten();
        for (head, other) in heads.zip(other.layers.iter().flatten()) {
            match (head, other) {
                (Head::F32(rows), Head::F32(other)) => rows.extend(other, len),
                (Head::Bf16(_, rows), Head::Bf16(_, other)) => rows.extend(other, len),
                (Head::F32(_), Head::Bf16(..)) | (Head::Bf16(..), Head::F32(_)) => {
                    unreachable!("a model keeps keys and values in one number type")
                }
            }
        }
        self.n_rows = n_rows;
    }

    /// Counts `n_new` rows that were pushed to every layer.
    pub(super) fn commit(&mut self, n_new: usize) {
        self.n_rows += n_new;
    }

    /// Forgets all rows from `n_rows` on, also those that were pushed and not committed.
    pub(super) fn truncate(&mut self, n_rows: usize) {
        self.n_rows = self.n_rows.min(n_rows);
        let len = self.n_rows * self.head_dim;
        for head in self.layers.iter_mut().flatten() {
            match head {
                Head::F32(rows) => rows.truncate(len),
                Head::Bf16(_, rows) => rows.truncate(len),
            }
        }
    }
}

#[cfg(test)]
impl Kv {
    /// The heads of all layers.
    pub(super) fn into_heads(self) -> Vec<Head> {
        self.layers.into_iter().flatten().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An empty sequence in each number type that this processor keeps.
    fn each(n_layers: usize, head_dim: usize) -> Vec<Kv> {
        let mut types = vec![KvType::F32];
        types.extend(Isa::best().bf16.map(KvType::Bf16));
        let kv = |kv_type| Kv::new(kv_type, n_layers, 1, head_dim);
        types.into_iter().map(kv).collect()
    }

    #[test]
    fn rows_that_were_not_committed_are_forgotten() {
        for mut kv in each(2, 4) {
            for layer in 0..2 {
                for _ in 0..3 {
                    kv.layer_mut(layer, 3)[0].push(&[1.0; 4], &[1.5; 4]);
                }
            }
            kv.commit(3);
            kv.layer_mut(0, 1)[0].push(&[2.0; 4], &[2.5; 4]);
            kv.truncate(usize::MAX);
            assert_eq!(kv.n_rows, 3);
            match &kv.layer_mut(0, 1)[0] {
                Head::F32(rows) => {
                    assert_eq!(rows.k, [1.0; 12]);
                    assert_eq!(rows.v, [1.5; 12]);
                }
                Head::Bf16(_, rows) => {
                    assert_eq!(rows.k, [bf16::ONE; 12]);
                    assert_eq!(rows.v, [bf16::from_f32(1.5); 12]);
                }
            }
        }
    }

    #[test]
    fn buffers_do_not_double() {
        for mut kv in each(1, 2) {
            for _ in 0..1000 {
                kv.layer_mut(0, 1)[0].push(&[0.0; 2], &[0.0; 2]);
                kv.commit(1);
            }
            let capacity = match &kv.layer_mut(0, 0)[0] {
                Head::F32(rows) => rows.k.capacity(),
                Head::Bf16(_, rows) => rows.v.capacity(),
            };
            assert!(capacity <= 2 * 1024);
        }
    }
}
