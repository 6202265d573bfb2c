// SPDX-License-Identifier: MPL-2.0

//! Kept keys and values of one sequence.

/// Rows by which the buffers grow: a doubling would hold up to twice the memory.
const GROWTH_ROWS: usize = 256;

/// Keys and values of one key-value head of one layer, each `[rows, head_dim]`.
#[derive(Default)]
pub(super) struct Head {
    pub(super) k: Vec<f32>,
    pub(super) v: Vec<f32>,
}

/// The rows of one sequence in every layer; grows as needed.
pub(super) struct Kv {
    head_dim: usize,
    /// Rows that every layer holds.
    n_rows: usize,
    /// `[layer][key-value head]`
    layers: Vec<Vec<Head>>,
}

impl Kv {
    /// An empty sequence.
    pub(super) fn new(n_layers: usize, n_heads: usize, head_dim: usize) -> Self {
        let heads = || (0..n_heads).map(|_| Head::default()).collect();
        Self {
            head_dim,
            n_rows: 0,
            layers: (0..n_layers).map(|_| heads()).collect(),
        }
    }

    /// An empty sequence of the same model.
    pub(super) fn like(&self) -> Self {
        let n_heads = self.layers.first().map_or(0, Vec::len);
        Self::new(self.layers.len(), n_heads, self.head_dim)
    }

    /// The heads of a layer, with room for `n_new` more rows in each.
    pub(super) fn layer_mut(&mut self, layer: usize, n_new: usize) -> &mut [Head] {
        let head_dim = self.head_dim;
        let n_rows = (self.n_rows + n_new).next_multiple_of(GROWTH_ROWS);
        let heads = &mut self.layers[layer];
        for buffer in heads.iter_mut().flat_map(|head| [&mut head.k, &mut head.v]) {
            let missing = (n_rows * head_dim).saturating_sub(buffer.len());
            if buffer.capacity() < buffer.len() + n_new * head_dim {
                buffer.reserve_exact(missing);
            }
        }
        heads
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
            head.k.truncate(len);
            head.v.truncate(len);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_that_were_not_committed_are_forgotten() {
        let mut kv = Kv::new(2, 1, 4);
        for layer in 0..2 {
            kv.layer_mut(layer, 3)[0].k.extend([1.0; 12]);
        }
        kv.commit(3);
        kv.layer_mut(0, 1)[0].k.extend([2.0; 4]);
        kv.truncate(usize::MAX);
        assert_eq!(kv.n_rows, 3);
        assert_eq!(kv.layer_mut(0, 1)[0].k, [1.0; 12]);
    }

    #[test]
    fn buffers_do_not_double() {
        let mut kv = Kv::new(1, 1, 2);
        for _ in 0..1000 {
            kv.layer_mut(0, 1)[0].k.extend([0.0; 2]);
            kv.commit(1);
        }
        assert!(kv.layer_mut(0, 0)[0].k.capacity() <= 2 * 1024);
    }
}
