// SPDX-License-Identifier: MPL-2.0

//! Attention: every patch to every patch of its span, and causal with shared key-value heads.
//!
//! Scores are held for a block of queries at a time, so memory grows with the number of keys and
//! not with its square.

use half::bf16;
use rayon::prelude::*;

use super::activation::softmax_unscaled;
use super::blocked::{Kernels, Keys};
use super::epilogue::Epilogue;
use super::gemm::Gemm;
use super::gemv;
use super::isa::Bf16Kernels;
use super::kv::{Head, Rows};
use super::pieces;
use super::rope::Rotation;
use crate::spec::TextSpec;
use crate::{Cancel, Error};

/// Queries whose scores are held at a time.
const BLOCK: usize = 128;

/// Keys of a block of a few queries: 64 KB of keys and as much of values, some ten microseconds.
const FEW_KEYS: usize = 256;

/// Which rows of a vision tower attend to each other, and how they are turned.
#[derive(Clone, Copy)]
pub(super) struct Spans<'a> {
    pub(super) n_heads: usize,
    /// `None` where positions are in the rows.
    pub(super) rotation: Option<&'a Rotation>,
    /// First row of each span, and the number of rows (`cu_seqlens`): a row sees the rows of its
    /// span.
    pub(super) bounds: &'a [usize],
}

/// Attention within spans of rows: `Qwen3VLVisionAttention` and its like without the projections.
///
/// `qkv` is `[rows, 3, heads, head_dim]`, `out` `[rows, heads, head_dim]`.
pub(super) fn in_spans(
    gemm: &Gemm,
    qkv: &[f32],
    spans: Spans<'_>,
    cancel: &Cancel,
    out: &mut [f32],
) -> Result<(), Error> {
    let rows = spans.bounds.last().copied().unwrap_or(0);
    let width = out.len() / rows.max(1);
    let head_dim = width / spans.n_heads;
    let mut by_head = vec![0.0; rows * width];
    by_head
        .par_chunks_mut(rows * head_dim)
        .enumerate()
        .with_max_len(1)
        .try_for_each(|(head, out)| {
            let head = VisionHead::new(gemm, qkv, spans, head, head_dim);
            match gemm.blocked() {
                Some(kernels) => head.attend_blocked(kernels, spans.bounds, cancel, out),
                None => head.attend(gemm, spans.bounds, cancel, out),
            }
        })?;
    pieces::join_heads(&by_head, spans.n_heads, rows, out);
    Ok(())
}

/// One head of a vision tower: queries, keys and values `[rows, head_dim]`, turned, and the queries
/// scaled.
struct VisionHead {
    head_dim: usize,
    q: Vec<f32>,
    k: Vec<f32>,
    v: Vec<f32>,
}

impl VisionHead {
    /// Takes head number `head` out of `qkv`.
    fn new(gemm: &Gemm, qkv: &[f32], spans: Spans<'_>, head: usize, head_dim: usize) -> Self {
        /// Each row is some pages after that before it, which no processor foresees.
        const AHEAD: usize = 8;
        let width = spans.n_heads * head_dim;
        let n_numbers = qkv.len() / (3 * spans.n_heads);
        let scale = (head_dim as f32).powf(-0.5);
        let mut q = vec![0.0; n_numbers];
        let mut k = vec![0.0; n_numbers];
        let mut v = vec![0.0; n_numbers];
        let parts = |row: usize| {
            let of_row = &qkv[row * 3 * width..][..3 * width];
            [0, 1, 2].map(|i| &of_row[i * width + head * head_dim..][..head_dim])
        };
        let rows = n_numbers / head_dim;
        for row in 0..rows {
            if let Some(tiles) = gemm.isa.tiles
                && row + AHEAD < rows
            {
                for part in parts(row + AHEAD) {
                    (tiles.prefetch)(part.as_ptr().cast(), size_of_val(part));
                }
            }
            let part = parts(row);
            let here = row * head_dim..(row + 1) * head_dim;
            let (q, k) = (&mut q[here.clone()], &mut k[here.clone()]);
            match spans.rotation {
                Some(rotation) => {
                    rotation.apply(row, part[0], scale, q);
                    rotation.apply(row, part[1], 1.0, k);
                }
                None => {
                    q.iter_mut().zip(part[0]).for_each(|(q, x)| *q = x * scale);
                    k.copy_from_slice(part[1]);
                }
            }
            v[here].copy_from_slice(part[2]);
        }
        Self { head_dim, q, k, v }
    }

    /// Attention in blocks of keys.
    fn attend_blocked(
        &self,
        kernels: Kernels,
        bounds: &[usize],
        cancel: &Cancel,
        out: &mut [f32],
    ) -> Result<(), Error> {
        let Self { head_dim, q, k, v } = self;
        for bound in bounds.windows(2) {
            let span = bound[0] * head_dim..bound[1] * head_dim;
            let keys = Keys::new(kernels, &k[span.clone()], &v[span.clone()], *head_dim);
            let seen = |_| bound[1] - bound[0];
            keys.attend(&q[span.clone()], seen, cancel, &mut out[span])?;
        }
        Ok(())
    }

    /// Attention by whole rows of scores.
    fn attend(
        &self,
        gemm: &Gemm,
        bounds: &[usize],
        cancel: &Cancel,
        out: &mut [f32],
    ) -> Result<(), Error> {
        let (head_dim, step) = (self.head_dim, BLOCK * self.head_dim);
        let longest = bounds.windows(2).map(|b| b[1] - b[0]).max().unwrap_or(0);
        let mut scores = vec![0.0; BLOCK.min(longest) * longest];
        for bound in bounds.windows(2) {
            let n_keys = bound[1] - bound[0];
            let span = bound[0] * head_dim..bound[1] * head_dim;
            let (k, v) = (&self.k[span.clone()], &self.v[span.clone()]);
            let blocks = self.q[span.clone()].chunks(step);
            for (q, out) in blocks.zip(out[span].chunks_mut(step)) {
                cancel.check()?;
                let scores = &mut scores[..q.len() / head_dim * n_keys];
                gemm.times_transposed(q, k, head_dim, Epilogue::default(), scores);
                let rows = scores.chunks_exact_mut(n_keys);
                let scales: Vec<f32> = rows.map(softmax_unscaled).collect();
                gemm.times(scores, v, head_dim, out);
                scale_rows(out, &scales);
            }
        }
        Ok(())
    }
}

/// Rows whose attention is computed query by query, each as if it were alone.
pub(super) fn few_rows(spec: &TextSpec) -> usize {
    let group = spec.num_attention_heads / spec.num_key_value_heads;
    (gemv::MAX_ROWS / group).max(1)
}

/// Causal attention of `rows` new rows to themselves and all before.
///
/// `q` is `[key-value heads, rows, group, head_dim]`, rotated and scaled; `out` likewise. `heads`
/// hold the keys and values of all rows, the new ones last.
pub(super) fn causal(
    gemm: &Gemm,
    q: &[f32],
    rows: usize,
    heads: &[Head],
    head_dim: usize,
    cancel: &Cancel,
    out: &mut [f32],
) -> Result<(), Error> {
    let per_head = q.len() / heads.len();
    let group = per_head / (rows * head_dim);
    out.par_chunks_mut(per_head)
        .zip(q.par_chunks(per_head))
        .zip(heads)
        .with_max_len(1)
        .try_for_each(|((out, q), head)| {
            let queries = Queries {
                q,
                rows,
                group,
                past: head.n_numbers() / head_dim - rows,
                head_dim,
            };
            let seen = |i| queries.seen(i);
            if rows * group > gemv::MAX_ROWS
                && let Some(kernels) = gemm.blocked()
            {
                let keys = match head {
                    Head::F32(Rows { k, v }) => Keys::new(kernels, k, v, head_dim),
                    Head::Bf16(_, Rows { k, v }) => Keys::new(kernels, k, v, head_dim),
                };
                return keys.attend(q, seen, cancel, out);
            }
            match head {
                Head::F32(keys) => queries.attend(gemm, keys, cancel, out),
                Head::Bf16(kernels, Rows { k, v }) => {
                    cancel.check()?;
                    attend_few(kernels, q, k, v, head_dim, seen, out);
                    Ok(())
                }
            }
        })
}

/// Queries of consecutive rows to one key-value head.
#[derive(Clone, Copy)]
struct Queries<'a> {
    /// `[rows, group, head_dim]`
    q: &'a [f32],
    rows: usize,
    group: usize,
    /// Rows before them.
    past: usize,
    head_dim: usize,
}

impl Queries<'_> {
    /// How many keys query `i` sees: its own row's and all before.
    fn seen(&self, i: usize) -> usize {
        self.past + i / self.group + 1
    }

    /// Causal attention by whole rows of scores.
    fn attend(
        self,
        gemm: &Gemm,
        keys: &Rows<f32>,
        cancel: &Cancel,
        out: &mut [f32],
    ) -> Result<(), Error> {
        let block_rows = (BLOCK / self.group).max(1);
        let step = block_rows * self.group * self.head_dim;
        let n_scores = block_rows.min(self.rows) * self.group * (self.past + self.rows);
        let mut scores = vec![0.0; n_scores];
        let blocks = self.q.chunks(step).zip(out.chunks_mut(step));
        for (i, (q, out)) in blocks.enumerate() {
            cancel.check()?;
            let block = Self {
                q,
                rows: q.len() / (self.group * self.head_dim),
                past: self.past + i * block_rows,
                ..self
            };
            block.attend_block(gemm, keys, &mut scores, out);
        }
        Ok(())
    }

    /// Attention of all these queries at once; `scores` has room for theirs.
    #[inline]
    fn attend_block(self, gemm: &Gemm, keys: &Rows<f32>, scores: &mut [f32], out: &mut [f32]) {
        let (q, head_dim) = (self.q, self.head_dim);
        let n_queries = q.len() / head_dim;
        let n_keys = self.past + self.rows;
        let (k, v) = (&keys.k[..n_keys * head_dim], &keys.v[..n_keys * head_dim]);
        let scores = &mut scores[..n_queries * n_keys];
        let few = n_queries <= gemv::MAX_ROWS;
        if few {
            for (q, scores) in q.chunks(head_dim).zip(scores.chunks_mut(n_keys)) {
                gemv::f32_rows(q, k, head_dim, scores);
            }
        } else {
            gemm.times_transposed(q, k, head_dim, Epilogue::default(), scores);
        }
        let mut scales = Vec::with_capacity(n_queries);
        for (i, scores) in scores.chunks_exact_mut(n_keys).enumerate() {
            let (seen, hidden) = scores.split_at_mut(self.seen(i));
            scales.push(softmax_unscaled(seen));
            hidden.fill(0.0);
        }
        if few {
            out.fill(0.0);
            for (scores, out) in scores.chunks(n_keys).zip(out.chunks_mut(head_dim)) {
                gemv::add_weighted(scores, v, out);
            }
        } else {
            gemm.times(scores, v, head_dim, out);
        }
        scale_rows(out, &scales);
    }
}

/// Attention of a few queries to keys and values in bf16 `[keys, head_dim]`, query `i` to the first
/// `seen(i)`. Scores, weights and sums are f32.
///
/// The threads share the keys in blocks, each with a softmax of its own, whose sums are brought to the
/// largest score of all (Flash-Decoding): a model may have two key-value heads.
fn attend_few(
    kernels: &Bf16Kernels,
    q: &[f32],
    k: &[bf16],
    v: &[bf16],
    head_dim: usize,
    seen: impl Fn(usize) -> usize + Sync,
    out: &mut [f32],
) {
    let step = FEW_KEYS * head_dim;
    let parts: Vec<Part> = k
        .par_chunks(step)
        .zip(v.par_chunks(step))
        .enumerate()
        .map(|(i, (k, v))| {
            let seen = |query| seen(query).saturating_sub(i * FEW_KEYS);
            Part::of(kernels, q, k, v, head_dim, seen)
        })
        .collect();
    for (i, out) in out.chunks_exact_mut(head_dim).enumerate() {
        let max = parts
            .iter()
            .fold(f32::NEG_INFINITY, |max, part| max.max(part.softmax[i].max));
        out.fill(0.0);
        let mut total = 0.0;
        for part in &parts {
            let scale = (part.softmax[i].max - max).exp();
            // A block that the query does not see adds nothing, whoever asks with it.
            if scale == 0.0 {
                continue;
            }
            total += scale * part.softmax[i].sum;
            let values = &part.values[i * head_dim..][..head_dim];
            for (out, x) in out.iter_mut().zip(values) {
                *out += scale * x;
            }
        }
        let scale = total.recip();
        out.iter_mut().for_each(|x| *x *= scale);
    }
}

/// What a few queries found in a block of keys.
struct Part {
    softmax: Vec<Softmax>,
    /// `[queries, head_dim]`, weighted by `exp(score - max)`.
    values: Vec<f32>,
}

/// Of a query and a block of keys.
struct Softmax {
    max: f32,
    /// Sum of `exp(score - max)`.
    sum: f32,
}

impl Part {
    /// Of keys and values `[keys, head_dim]`, of which query `i` sees the first `seen(i)`.
    fn of(
        kernels: &Bf16Kernels,
        q: &[f32],
        k: &[bf16],
        v: &[bf16],
        head_dim: usize,
        seen: impl Fn(usize) -> usize,
    ) -> Self {
        let n_keys = k.len() / head_dim;
        let mut weights = vec![0.0; q.len() / head_dim * n_keys];
        (kernels.scores)(q, k, head_dim, &mut weights);
        let rows = weights.chunks_exact_mut(n_keys).enumerate();
        let softmax = rows.map(|(i, weights)| {
            let (seen, hidden) = weights.split_at_mut(seen(i).min(n_keys));
            hidden.fill(0.0);
            if seen.is_empty() {
                let (max, sum) = (f32::NEG_INFINITY, 0.0);
                return Softmax { max, sum };
            }
            let max = seen.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let sum = softmax_unscaled(seen).recip();
            Softmax { max, sum }
        });
        let softmax = softmax.collect();
        let mut values = vec![0.0; q.len()];
        (kernels.weighted)(&weights, v, head_dim, &mut values);
        Self { softmax, values }
    }
}

/// Multiplies each row of `x` by its scale.
fn scale_rows(x: &mut [f32], scales: &[f32]) {
    let width = x.len() / scales.len();
    for (row, scale) in x.chunks_exact_mut(width).zip(scales) {
        row.iter_mut().for_each(|x| *x *= scale);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::isa::Isa;
    use crate::cpu::kv::{Kv, KvType};

    fn wave(n: usize, step: f32) -> Vec<f32> {
        (0..n).map(|i| (i as f32 * step).sin()).collect()
    }

    /// Softmax attention of one query, in f64.
    fn plain(q: &[f32], k: &[f32], v: &[f32], n_keys: usize) -> Vec<f64> {
        let dim = q.len();
        let score = |j: usize| -> f64 {
            (0..dim)
                .map(|i| f64::from(q[i]) * f64::from(k[j * dim + i]))
                .sum()
        };
        let p: Vec<f64> = (0..n_keys).map(|j| score(j).exp()).collect();
        let total: f64 = p.iter().sum();
        (0..dim)
            .map(|i| {
                (0..n_keys)
                    .map(|j| p[j] / total * f64::from(v[j * dim + i]))
                    .sum()
            })
            .collect()
    }

    /// All kernels that this processor can run, and how exact they are.
    fn all_kernels() -> Vec<(Gemm, f64)> {
        let error = |isa: &Isa| if isa.bf16.is_some() { 2e-2 } else { 1e-5 };
        let all = Isa::available().into_iter();
        all.map(|isa| (Gemm::new(isa, &Cancel::default()), error(&isa)))
            .collect()
    }

    /// Keys and values `[rows, dim]` as these kernels keep them.
    fn head(gemm: &Gemm, k: &[f32], v: &[f32], dim: usize) -> Head {
        let mut kv = Kv::new(KvType::of(gemm.isa), 1, 1, dim);
        for (k, v) in k.chunks(dim).zip(v.chunks(dim)) {
            kv.layer_mut(0, 1)[0].push(k, v);
        }
        kv.into_heads().remove(0)
    }

    #[test]
    fn causal_rows_see_themselves_and_all_before() {
        for (gemm, bound) in all_kernels() {
            let few = [(1, 0, 2), (1, 70, 4), (5, 3, 2), (1, 700, 4), (3, 510, 2)];
            for case in few.into_iter().chain([(33, 0, 1), (300, 20, 3)]) {
                causal_agrees(&gemm, bound, case);
            }
        }
    }

    fn causal_agrees(gemm: &Gemm, bound: f64, (rows, past, group): (usize, usize, usize)) {
        for dim in [8, 20, 64, 84, 96, 128] {
            let total = past + rows;
            let kept: Vec<[Vec<f32>; 2]> = (0..2)
                .map(|h| [0.31, 0.77].map(|step| wave(total * dim, step + h as f32)))
                .collect();
            let heads: Vec<Head> = kept.iter().map(|[k, v]| head(gemm, k, v, dim)).collect();
            let q = wave(2 * rows * group * dim, 0.53);
            let mut out = vec![f32::NAN; q.len()];
            causal(gemm, &q, rows, &heads, dim, &Cancel::default(), &mut out).expect("no cancel");
            for (i, (q, out)) in q.chunks(dim).zip(out.chunks(dim)).enumerate() {
                let (head, row) = (i / (rows * group), i % (rows * group) / group);
                let [k, v] = &kept[head];
                let want = plain(q, k, v, past + row + 1);
                for (got, want) in out.iter().zip(want) {
                    assert!(
                        (f64::from(*got) - want).abs() < bound,
                        "{rows} rows, query {i}"
                    );
                }
            }
        }
    }

    #[test]
    fn a_row_finds_the_same_alone_and_beside_others_where_a_block_of_keys_begins() {
        let (dim, rows, past) = (64, 5, FEW_KEYS - 3);
        let [k, v] = [0.31, 0.77].map(|step| wave((past + rows) * dim, step));
        let q = wave(rows * 2 * dim, 0.53);
        for (gemm, _) in all_kernels() {
            let find = |q: &[f32], n_keys: usize| {
                let heads = [head(&gemm, &k[..n_keys * dim], &v[..n_keys * dim], dim)];
                let mut out = vec![f32::NAN; q.len()];
                let rows = q.len() / (2 * dim);
                let found = causal(&gemm, q, rows, &heads, dim, &Cancel::default(), &mut out);
                found.expect("no cancel");
                out
            };
            let together = find(&q, past + rows);
            for (i, q) in q.chunks(2 * dim).enumerate() {
                let alone = find(q, past + i + 1);
                assert_eq!(
                    alone,
                    together[i * 2 * dim..][..2 * dim],
                    "{}, row {i}",
                    gemm.isa.name
                );
            }
        }
    }

    #[test]
    fn attention_in_spans_agrees_with_the_plain_sum_over_several_blocks() {
        for (gemm, bound) in all_kernels() {
            spans_agree(&gemm, bound);
        }
    }

    fn spans_agree(gemm: &Gemm, bound: f64) {
        let (rows, heads, dim) = (140, 2, 8);
        let patches: Vec<(usize, usize)> = (0..rows).map(|i| (i / 14, i % 14)).collect();
        let rotation = Rotation::vision(patches.into_iter(), dim);
        let qkv = wave(rows * 3 * heads * dim, 0.41);
        let part = |i: usize, head: usize| -> Vec<f32> {
            let at = |row: usize| &qkv[((row * 3 + i) * heads + head) * dim..][..dim];
            let mut all = vec![0.0; rows * dim];
            for (row, to) in all.chunks_mut(dim).enumerate() {
                match i {
                    2 => to.copy_from_slice(at(row)),
                    0 => rotation.apply(row, at(row), (dim as f32).powf(-0.5), to),
                    _ => rotation.apply(row, at(row), 1.0, to),
                }
            }
            all
        };
        for bounds in [&[0, 140][..], &[0, 64, 68, 140]] {
            let mut out = vec![f32::NAN; rows * heads * dim];
            let cancel = Cancel::default();
            let spans = Spans {
                n_heads: heads,
                rotation: Some(&rotation),
                bounds,
            };
            in_spans(gemm, &qkv, spans, &cancel, &mut out).expect("no cancel");
            for head in 0..heads {
                let (q, k, v) = (part(0, head), part(1, head), part(2, head));
                for row in [0, 1, 63, 64, 67, 68, 127, 128, 139] {
                    let end = *bounds.iter().find(|&&end| row < end).expect("a span");
                    let first = *bounds.iter().rfind(|&&first| first <= row).expect("one");
                    let seen = first * dim..end * dim;
                    let q = &q[row * dim..][..dim];
                    let want = plain(q, &k[seen.clone()], &v[seen], end - first);
                    let got = &out[(row * heads + head) * dim..][..dim];
                    for (got, want) in got.iter().zip(want) {
                        assert!((f64::from(*got) - want).abs() < bound, "row {row}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_cancelled_attention_stops() {
        let cancel = Cancel::default();
        cancel.cancel();
        for (gemm, _) in all_kernels() {
            let heads = [head(&gemm, &[0.0; 8], &[0.0; 8], 8)];
            let mut out = [0.0; 8];
            let result = causal(&gemm, &[0.0; 8], 1, &heads, 8, &cancel, &mut out);
            assert!(matches!(result, Err(Error::Cancelled)));
        }
    }
}
