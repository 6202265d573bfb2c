// SPDX-License-Identifier: MPL-2.0

//! Attention in blocks of keys with a running softmax, after `FlashAttention` (arXiv 2205.14135), on
//! the tile products ([`TileKernels`]): the lanes are queries, so a query's largest score
//! and its sum are numbers in a lane, and no row of scores is ever whole.

use std::ops::Range;

use rayon::prelude::*;

use super::isa::operands::{LANES, Line, Out, Running, TILE_LINES, TILE_ROWS, Weights, Words};
use super::isa::{PairProduct, TileKernels};
use super::panel::panel;
use super::product::scatter;
use super::tiled::{Number, pack_pairs, pair};
use crate::{Cancel, Error};

/// Keys whose scores are held at a time.
const BLOCK: usize = 128;

/// Queries of a tile.
const TILE: usize = TILE_LINES * LANES;

/// What the products are made of: pairs of bf16 where they are allowed, else f32.
#[derive(Debug, Clone, Copy)]
pub(super) struct Kernels {
    pub(super) tiles: &'static TileKernels,
    pub(super) pairs: Option<PairProduct>,
}

impl Kernels {
    fn multiply(self, a: &[Words], b: &[Line<u32>], out: Out<'_>) {
        match self.pairs {
            Some(pairs) => pairs(a, b, out),
            None => (self.tiles.floats)(a, b, out),
        }
    }

    /// Numbers in a word.
    fn per_word(self) -> usize {
        if self.pairs.is_some() { 2 } else { 1 }
    }

    /// Numbers as words.
    fn encode<T: Number>(self, x: &[T], words: &mut [u32]) {
        if self.pairs.is_some() {
            pack_pairs(x, words);
        } else {
            for (word, x) in words.iter_mut().zip(x) {
                *word = x.wide().to_bits();
            }
        }
    }
}

/// Keys and values of a head, as the tile products read them.
pub(super) struct Keys {
    kernels: Kernels,
    n_keys: usize,
    head_dim: usize,
    /// `[keys / 8][words of a key]`
    k: Vec<Words>,
    /// `[head_dim / 8][words of the keys]`
    v: Vec<Words>,
}

impl Keys {
    /// Takes keys and values `[keys, head_dim]`.
    pub(super) fn new<T: Number>(kernels: Kernels, k: &[T], v: &[T], head_dim: usize) -> Self {
        let n_keys = k.len() / head_dim;
        let per_word = kernels.per_word();
        let words = head_dim.div_ceil(per_word);
        let mut keys = Self {
            kernels,
            n_keys,
            head_dim,
            k: vec![[0; TILE_ROWS]; n_keys.div_ceil(TILE_ROWS) * words],
            v: vec![[0; TILE_ROWS]; head_dim.div_ceil(TILE_ROWS) * n_keys.div_ceil(per_word)],
        };
        let mut encoded = vec![0; words];
        for (i, key) in k.chunks_exact(head_dim).enumerate() {
            kernels.encode(key, &mut encoded);
            let block = &mut keys.k[i / TILE_ROWS * words..][..words];
            for (to, word) in block.iter_mut().zip(&encoded) {
                to[i % TILE_ROWS] = *word;
            }
        }
        let n_words = n_keys.div_ceil(per_word);
        for (i, value) in v.chunks(per_word * head_dim).enumerate() {
            let (first, second) = value.split_at(head_dim);
            for (j, first) in first.chunks(TILE_ROWS).enumerate() {
                let to = &mut keys.v[j * n_words + i];
                match kernels.pairs {
                    None => {
                        for (to, x) in to.iter_mut().zip(first) {
                            *to = x.wide().to_bits();
                        }
                    }
                    Some(_) => {
                        let second = second.get(j * TILE_ROWS..).unwrap_or_default();
                        for (i, (to, a)) in to.iter_mut().zip(first).enumerate() {
                            let second = second.get(i).map_or(0, |b| b.narrow());
                            *to = pair(a.narrow(), second);
                        }
                    }
                }
            }
        }
        keys
    }

    /// Attention of queries to the first keys: query `i` to the first `seen(i)`, at least one, never
    /// fewer than the query before. The threads share the queries: a model may have two key-value heads.
    ///
    /// `q` is `[queries, head_dim]`, scaled; `out` likewise.
    pub(super) fn attend(
        &self,
        q: &[f32],
        seen: impl Fn(usize) -> usize + Sync,
        cancel: &Cancel,
        out: &mut [f32],
    ) -> Result<(), Error> {
        let dim = self.head_dim;
        let tiles = q.par_chunks(TILE * dim).zip(out.par_chunks_mut(TILE * dim));
        let scratch = || Scratch::new(self);
        tiles
            .enumerate()
            .try_for_each_init(scratch, |scratch, (tile, (q, out))| {
                cancel.check()?;
                let n_queries = q.len() / dim;
                let mut limits = [Line([0i32; LANES]); TILE_LINES];
                for i in 0..n_queries {
                    // Contexts are counted in far less than 31 bits.
                    limits[i / LANES].0[i % LANES] = seen(tile * TILE + i) as i32;
                }
                // Lanes without a query see what the last one sees.
                let last = seen(tile * TILE + n_queries - 1);
                for i in n_queries..TILE {
                    limits[i / LANES].0[i % LANES] = last as i32;
                }
                self.tile(q, &limits, seen(tile * TILE), last, scratch, out);
                Ok(())
            })
    }

    /// One tile of queries, the first of which sees `least` keys and the last `most`.
    fn tile(
        &self,
        q: &[f32],
        limits: &[Line<i32>; TILE_LINES],
        least: usize,
        most: usize,
        scratch: &mut Scratch,
        out: &mut [f32],
    ) {
        let (kernels, dim) = (self.kernels, self.head_dim);
        let per_word = kernels.per_word();
        let words = dim.div_ceil(per_word);
        let queries = panel(kernels.tiles, q.len() / dim, words, |i, words| {
            kernels.encode(&q[i * dim..][..dim], words);
        });
        let width = queries.n_lines();
        let Scratch {
            scores,
            weights,
            sums,
        } = scratch;
        let n_sums = dim.next_multiple_of(TILE_ROWS) * width;
        let sums = &mut sums[..n_sums];
        sums.fill(Line([0.0; LANES]));
        let mut running = Running::new();
        let b = queries.tile(0, 0, words);
        for first in (0..most).step_by(BLOCK) {
            let block = first..most.min(first + BLOCK);
            self.score(block.clone(), b, width, scores);
            let scores = &mut scores[..block.len() * width];
            if block.end > least {
                (kernels.tiles.hide)(scores, &limits[..width], first);
            }
            let weights = &mut weights[..block.len().div_ceil(per_word) * width];
            let to = match kernels.pairs {
                Some(_) => Weights::Pairs(weights),
                None => Weights::Floats(weights),
            };
            (kernels.tiles.weigh)(scores, width, &mut running, to, sums);
            self.add_values(first, weights, width, sums);
        }
        for sums in sums.chunks_exact_mut(width) {
            for (sums, total) in sums.iter_mut().zip(&running.sums) {
                for (sum, total) in sums.0.iter_mut().zip(&total.0) {
                    *sum /= total;
                }
            }
        }
        let mut rows: Vec<&mut [f32]> = out.chunks_exact_mut(dim).collect();
        scatter(kernels.tiles, sums, width, &mut rows);
    }

    /// Writes the products of the keys of a block with the queries `b` to `scores`
    /// `[keys of the block][lines]`, filled up to whole tiles.
    #[inline]
    fn score(&self, block: Range<usize>, b: &[Line<u32>], width: usize, scores: &mut [Line<f32>]) {
        let words = self.head_dim.div_ceil(self.kernels.per_word());
        let tiles = self.k.chunks(words).enumerate();
        for (i, a) in tiles.skip(block.start / TILE_ROWS) {
            let at = i * TILE_ROWS - block.start;
            if at >= block.len() {
                break;
            }
            let out = Out {
                lines: &mut scores[at * width..],
                stride: width,
                add: false,
            };
            self.kernels.multiply(a, b, out);
        }
    }

    /// Adds the values of the keys from `first` on, by their weights, to `sums` `[head_dim][lines]`.
    #[inline]
    fn add_values(
        &self,
        first: usize,
        weights: &[Line<u32>],
        width: usize,
        sums: &mut [Line<f32>],
    ) {
        let per_word = self.kernels.per_word();
        let n_words = self.n_keys.div_ceil(per_word);
        for (i, sums) in sums.chunks_mut(TILE_ROWS * width).enumerate() {
            let a = &self.v[i * n_words + first / per_word..][..weights.len() / width];
            let out = Out {
                lines: sums,
                stride: width,
                add: true,
            };
            self.kernels.multiply(a, weights, out);
        }
    }
}

/// Buffers of a tile.
struct Scratch {
    /// `[keys of a block][lines]`
    scores: Vec<Line<f32>>,
    /// `[words of a block][lines]`
    weights: Vec<Line<u32>>,
    /// `[head_dim][lines]`
    sums: Vec<Line<f32>>,
}

impl Scratch {
    fn new(keys: &Keys) -> Self {
        let dim = keys.head_dim.next_multiple_of(TILE_ROWS);
        Self {
            scores: vec![Line([0.0; LANES]); BLOCK * TILE_LINES],
            weights: vec![Line([0; LANES]); BLOCK * TILE_LINES],
            sums: vec![Line([0.0; LANES]); dim * TILE_LINES],
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::sync::{Condvar, Mutex};
    use std::time::Duration;

    use super::*;
    use crate::cpu::isa::Isa;

    #[test]
    fn two_threads_share_the_queries_of_one_head() {
        let Some(tiles) = Isa::best().tiles else {
            return;
        };
        let kernels = Kernels { tiles, pairs: None };
        let (dim, n) = (16, 4 * TILE);
        let x = vec![0.5; n * dim];
        let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build();
        let (at_work, came) = (Mutex::new(HashSet::new()), Condvar::new());
        // Nobody goes on before both are there.
        let seen = |_| {
            let mut at_work = at_work.lock().unwrap();
            if at_work.insert(rayon::current_thread_index()) {
                came.notify_all();
            }
            let wait = came.wait_timeout_while(at_work, Duration::from_secs(20), |at_work| {
                at_work.len() < 2
            });
            assert_eq!(wait.unwrap().0.len(), 2, "threads at work");
            n
        };
        let mut out = vec![f32::NAN; x.len()];
        let attended = pool.expect("two threads").install(|| {
            let keys = Keys::new(kernels, &x, &x, dim);
            keys.attend(&x, seen, &Cancel::default(), &mut out)
        });
        attended.expect("nobody cancels");
        assert!(out.iter().all(|y| (y - 0.5).abs() < 1e-6));
    }
}
