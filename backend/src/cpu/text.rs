// SPDX-License-Identifier: MPL-2.0

//! The decoders of all families and their heads: `Qwen3VLTextModel`, `Qwen2_5_VLTextModel`,
//! `Qwen2Model`.

use rayon::prelude::*;

use super::activation::add_assign;
use super::attention;
use super::epilogue::Then;
use super::gemm::Gemm;
use super::kv::{self, Kv, KvType};
use super::linear::{Linear, Table};
use super::loader::{Bias, Loader, Purpose};
use super::norm::RmsNorm;
use super::pieces;
use super::rope::Rotation;
use crate::spec::{Head, TextSpec};
use crate::{Cancel, Error, Position, Segment};

/// Rows that pass the layers together; longer prompts go in several passes, so that the memory
/// for activations does not grow with them.
const PASS_ROWS: usize = 1024;

/// `Qwen3VLTextDecoderLayer`, `Qwen2_5_VLDecoderLayer`, `Qwen2DecoderLayer`.
struct Layer {
    input_norm: RmsNorm,
    /// Query, key and value projections in one matrix.
    qkv: Linear,
    /// Norms of queries and keys.
    qk_norm: Option<[RmsNorm; 2]>,
    o_proj: Linear,
    post_norm: RmsNorm,
    /// Gate and up projections in one matrix.
    gate_up: Linear,
    down: Linear,
}

/// The decoder with its embedding table and head.
pub(super) struct Text {
    spec: TextSpec,
    embed: Table,
    layers: Vec<Layer>,
    norm: RmsNorm,
    /// `None` if the embedding table is the head.
    head: Option<Table>,
}

impl Text {
    /// Reads the decoder's weights.
    pub(super) fn load(spec: &TextSpec, loader: &mut Loader<'_>) -> Result<Self, Error> {
        let (hidden, inner, eps) = (spec.hidden_size, spec.intermediate_size, spec.rms_norm_eps);
        let queries = spec.num_attention_heads * spec.head_dim;
        let keys = spec.num_key_value_heads * spec.head_dim;
        let qkv_bias = if spec.qkv_bias {
            Bias::With
        } else {
            Bias::Without
        };
        let table_shape = [spec.vocab_size, hidden];
        let head_name = format!("{}.weight", loader.layout().head);
        let has_own = match spec.head {
            Head::Own => true,
            Head::AsFound => loader.has_matrix(loader.layout().head),
        };
        let purpose = if has_own {
            Purpose::LookUp
        } else {
            Purpose::Head
        };
        let name = loader.text("embed_tokens.weight");
        let embed = loader.table(&name, table_shape, purpose)?;
        let mut layers = Vec::new();
        for i in 0..spec.num_hidden_layers {
            let layer = loader.text(&format!("layers.{i}"));
            let name = |part: &str| format!("{layer}.{part}");
            let qkv = [
                (name("self_attn.q_proj"), queries),
                (name("self_attn.k_proj"), keys),
                (name("self_attn.v_proj"), keys),
            ];
            let gate_up = [(name("mlp.gate_proj"), inner), (name("mlp.up_proj"), inner)];
            let (o_proj, down) = (name("self_attn.o_proj"), name("mlp.down_proj"));
            layers.push(loader.block(i, |loader| {
                let mut qk_norm = None;
                if spec.qk_norm {
                    let [q, k] = [name("self_attn.q_norm"), name("self_attn.k_norm")];
                    qk_norm = Some([
                        loader.rms_norm(&q, spec.head_dim, eps)?,
                        loader.rms_norm(&k, spec.head_dim, eps)?,
                    ]);
                }
                Ok(Layer {
                    input_norm: loader.rms_norm(&name("input_layernorm"), hidden, eps)?,
                    qkv: loader.joined(&qkv, hidden, qkv_bias)?,
                    qk_norm,
                    o_proj: loader.joined(&[(o_proj, hidden)], queries, Bias::Without)?,
                    post_norm: loader.rms_norm(&name("post_attention_layernorm"), hidden, eps)?,
                    gate_up: loader.joined(&gate_up, hidden, Bias::Without)?,
                    down: loader.joined(&[(down, hidden)], inner, Bias::Without)?,
                })
            })?);
        }
        let name = loader.text("norm");
        let norm = loader.rms_norm(&name, hidden, eps)?;
        let head = if has_own {
            Some(loader.table(&head_name, table_shape, Purpose::Head)?)
        } else {
            None
        };
        Ok(Self {
            spec: spec.clone(),
            embed,
            layers,
            norm,
            head,
        })
    }

    /// Bytes of the weights.
    pub(super) fn size_bytes(&self) -> usize {
        self.embed.size_bytes()
            + self.layers.iter().map(Layer::size_bytes).sum::<usize>()
            + self.norm.size_bytes()
            + self.head.as_ref().map_or(0, Table::size_bytes)
    }

    /// An empty sequence.
    pub(super) fn open(&self, kv_type: KvType) -> Kv {
        let spec = &self.spec;
        Kv::new(
            kv_type,
            spec.num_hidden_layers,
            spec.num_key_value_heads,
            spec.head_dim,
        )
    }

    /// Appends rows to `kv` and writes what follows the last one to `logits` `[vocab_size]`.
    ///
    /// After an error `kv` holds some of the new rows; the caller forgets them.
    pub(super) fn extend(
        &self,
        gemm: &Gemm,
        kv: &mut Kv,
        rows: NewRows<'_>,
        logits: Option<&mut [f32]>,
        cancel: &Cancel,
    ) -> Result<(), Error> {
        let NewRows {
            segments,
            positions,
            skip,
        } = rows;
        let runs = self.runs(segments, positions)?;
        let hidden = self.spec.hidden_size;
        let mut last = vec![0.0; hidden];
        for first in (skip..positions.len()).step_by(PASS_ROWS) {
            let pass = first..(first + PASS_ROWS).min(positions.len());
            let mut x = vec![0.0; pass.len() * hidden];
            self.embed(&runs, pass.start, &mut x);
            let shared = Pass {
                gemm,
                spec: &self.spec,
                rotation: Rotation::text(&positions[pass.clone()], &self.spec),
                attended: pass.len(),
                cancel,
            };
            let mut scratch = Scratch::new(pass.len(), &self.spec);
            // The last layer's keys and values are needed of all rows, what follows of that whose logits are.
            let asked = usize::from(logits.is_some() && pass.end == positions.len());
            for (i, layer) in self.layers.iter().enumerate() {
                cancel.check()?;
                let heads = &mut [kv.layer_mut(i, pass.len())];
                let is_last = i + 1 == self.layers.len();
                let n_kept = if is_last { asked } else { pass.len() };
                layer.forward(&shared, heads, &mut x, n_kept, &mut scratch)?;
                add_deepstack(&runs, i, pass.start, hidden, &mut x);
                pieces::check_finite(&x, || format!("decoder layer {i}"))?;
            }
            kv.commit(pass.len());
            last.copy_from_slice(&x[x.len() - hidden..]);
        }
        let Some(logits) = logits else {
            return Ok(());
        };
        cancel.check()?;
        self.norm.row(&mut last);
        self.head
            .as_ref()
            .unwrap_or(&self.embed)
            .head(gemm, &last, logits);
        Ok(())
    }

    /// Appends tokens to sequences, to each as many, and writes what follows each token to `logits`
    /// `[tokens, vocab_size]`. The matrices are read once for all of them, and each row is computed as if
    /// it were alone.
    ///
    /// After an error each of `kvs` may hold some of its new rows; the caller forgets them.
    pub(super) fn step(
        &self,
        gemm: &Gemm,
        kvs: &mut [&mut Kv],
        tokens: &[u32],
        positions: &[Position],
        logits: &mut [f32],
        cancel: &Cancel,
    ) -> Result<(), Error> {
        self.runs(&[Segment::Tokens(tokens)], positions)?;
        let hidden = self.spec.hidden_size;
        let mut x = vec![0.0; tokens.len() * hidden];
        for (x, &token) in x.chunks_exact_mut(hidden).zip(tokens) {
            self.embed.look_up(token as usize, x);
        }
        let each = tokens.len() / kvs.len();
        let pass = Pass {
            gemm,
            spec: &self.spec,
            rotation: Rotation::text(positions, &self.spec),
            attended: each.min(attention::few_rows(&self.spec)),
            cancel,
        };
        let mut scratch = Scratch::new(tokens.len(), &self.spec);
        for (i, layer) in self.layers.iter().enumerate() {
            cancel.check()?;
            let mut heads: Vec<_> = kvs.iter_mut().map(|kv| kv.layer_mut(i, each)).collect();
            layer.forward(&pass, &mut heads, &mut x, tokens.len(), &mut scratch)?;
        }
        for kv in kvs {
            kv.commit(each);
        }
        cancel.check()?;
        for row in x.chunks_exact_mut(hidden) {
            self.norm.row(row);
        }
        self.head
            .as_ref()
            .unwrap_or(&self.embed)
            .head(gemm, &x, logits);
        Ok(())
    }

    /// The segments, checked.
    fn runs<'a>(
        &self,
        segments: &'a [Segment<'_>],
        positions: &[Position],
    ) -> Result<Vec<Run<'a>>, Error> {
        let wrong = |what: &'static str, want: String, got: usize| {
            let got = got.to_string();
            Err(Error::Shape {
                what: what.into(),
                want,
                got,
            })
        };
        let rows: usize = segments.iter().map(Segment::n_rows).sum();
        if rows == 0 || rows != positions.len() {
            let want = format!("one for each of {rows} rows, and at least one");
            return wrong("positions", want, positions.len());
        }
        let mut runs = Vec::with_capacity(segments.len());
        for segment in segments {
            runs.push(match segment {
                Segment::Tokens(ids) => {
                    let vocab_size = self.spec.vocab_size;
                    if let Some(&id) = ids.iter().find(|&&id| id as usize >= vocab_size) {
                        return wrong("token id", format!("below {vocab_size}"), id as usize);
                    }
                    Run::Tokens(ids)
                }
                Segment::Visual(tokens) => {
                    let (embeds, deepstack) = tokens.features.host()?;
                    let want = tokens.n_tokens * self.spec.hidden_size;
                    let levels = deepstack.iter().map(Vec::len).chain([embeds.len()]);
                    if let Some(len) = levels.into_iter().find(|&len| len != want) {
                        return wrong("visual tokens", want.to_string(), len);
                    }
                    let n_tokens = tokens.n_tokens;
                    Run::Visual {
                        n_tokens,
                        embeds,
                        deepstack,
                    }
                }
            });
        }
        Ok(runs)
    }

    /// Writes the embeddings of the rows from `first` on to `x`.
    fn embed(&self, runs: &[Run<'_>], first: usize, x: &mut [f32]) {
        let hidden = self.spec.hidden_size;
        for_each_row(runs, first, x, hidden, |run, row, x| match run {
            Run::Tokens(ids) => self.embed.look_up(ids[row] as usize, x),
            Run::Visual { embeds, .. } => x.copy_from_slice(&embeds[row * hidden..][..hidden]),
        });
    }
}

/// The rows that a sequence is extended by.
pub(super) struct NewRows<'a> {
    pub(super) segments: &'a [Segment<'a>],
    /// One for each row.
    pub(super) positions: &'a [Position],
    /// How many of the first rows the sequence holds already.
    pub(super) skip: usize,
}

/// What all layers of a pass are given.
struct Pass<'a> {
    gemm: &'a Gemm,
    spec: &'a TextSpec,
    rotation: Rotation,
    /// Rows of one sequence whose attention is computed together.
    attended: usize,
    cancel: &'a Cancel,
}

/// A [`Segment`] whose contents were checked.
enum Run<'a> {
    Tokens(&'a [u32]),
    Visual {
        n_tokens: usize,
        embeds: &'a [f32],
        deepstack: &'a [Vec<f32>],
    },
}

impl Run<'_> {
    fn n_rows(&self) -> usize {
        match self {
            Run::Tokens(ids) => ids.len(),
            Run::Visual { n_tokens, .. } => *n_tokens,
        }
    }
}

/// `_deepstack_process`: adds a level's features to the visual rows after decoder layer `layer`.
fn add_deepstack(runs: &[Run<'_>], layer: usize, first: usize, hidden: usize, x: &mut [f32]) {
    let has_level =
        |run: &Run<'_>| matches!(run, Run::Visual { deepstack, .. } if deepstack.len() > layer);
    if !runs.iter().any(has_level) {
        return;
    }
    for_each_row(runs, first, x, hidden, |run, row, x| {
        if let Run::Visual { deepstack, .. } = run
            && let Some(level) = deepstack.get(layer)
        {
            add_assign(x, &level[row * hidden..][..hidden]);
        }
    });
}

/// Calls `f(run, row of the run, row of x)` for the rows `x` `[rows, hidden]`, which are those of
/// all runs from `first` on.
fn for_each_row(
    runs: &[Run<'_>],
    first: usize,
    x: &mut [f32],
    hidden: usize,
    f: impl Fn(&Run<'_>, usize, &mut [f32]) + Sync,
) {
    let rows = runs
        .iter()
        .flat_map(|run| (0..run.n_rows()).map(move |row| (run, row)));
    let rows: Vec<_> = rows.skip(first).take(x.len() / hidden).collect();
    rows.into_par_iter()
        .zip(x.par_chunks_exact_mut(hidden))
        .with_min_len(pieces::rows_at_least(hidden))
        .for_each(|((run, row), x)| f(run, row, x));
}

/// Buffers that the layers of a pass share.
struct Scratch {
    /// `[rows, hidden]`
    normed: Vec<f32>,
    /// `[rows, query, key and value heads, head_dim]`
    qkv: Vec<f32>,
    /// `[key-value heads, rows, group, head_dim]`
    q: Vec<f32>,
    /// Like `q`.
    mixed: Vec<f32>,
    /// `[rows, query heads, head_dim]`
    joined: Vec<f32>,
    /// `[rows, intermediate]`
    inner: Vec<f32>,
}

impl Scratch {
    fn new(rows: usize, spec: &TextSpec) -> Self {
        let queries = rows * spec.num_attention_heads * spec.head_dim;
        let keys = rows * spec.num_key_value_heads * spec.head_dim;
        Self {
            normed: vec![0.0; rows * spec.hidden_size],
            qkv: vec![0.0; queries + 2 * keys],
            q: vec![0.0; queries],
            mixed: vec![0.0; queries],
            joined: vec![0.0; queries],
            inner: vec![0.0; rows * spec.intermediate_size],
        }
    }
}

/// The last `n_kept` of `n` rows of each head, brought to the front.
fn keep_last(x: &mut [f32], n_heads: usize, n: usize, n_kept: usize) -> &mut [f32] {
    if n_kept == n {
        return x;
    }
    let row = x.len() / (n_heads * n);
    for head in 0..n_heads {
        let end = (head + 1) * n * row;
        x.copy_within(end - n_kept * row..end, head * n_kept * row);
    }
    &mut x[..n_heads * n_kept * row]
}

impl Layer {
    fn size_bytes(&self) -> usize {
        let linears = [&self.qkv, &self.o_proj, &self.gate_up, &self.down];
        let norms = [&self.input_norm, &self.post_norm];
        let norms = norms.into_iter().chain(self.qk_norm.iter().flatten());
        linears.map(Linear::size_bytes).iter().sum::<usize>()
            + norms.map(RmsNorm::size_bytes).sum::<usize>()
    }

    /// Passes `x` `[rows, hidden]` through the layer and appends its keys and values to `sequences`:
    /// the heads of one sequence or of several, which share the rows evenly, in their order. Only the last
    /// `n_kept` rows are passed on; fewer than all only of one sequence.
    fn forward(
        &self,
        pass: &Pass<'_>,
        sequences: &mut [&mut [kv::Head]],
        x: &mut [f32],
        n_kept: usize,
        scratch: &mut Scratch,
    ) -> Result<(), Error> {
        let Pass {
            gemm,
            spec,
            rotation,
            attended,
            cancel,
        } = pass;
        let Scratch {
            normed,
            qkv,
            q,
            mixed,
            joined,
            inner,
        } = scratch;
        let rows = x.len() / spec.hidden_size;
        debug_assert!(n_kept == rows || sequences.len() == 1 && *attended >= rows);
        self.input_norm.forward(x, normed);
        self.qkv.forward(gemm, normed, qkv);
        let per_row = [qkv.len(), q.len(), joined.len()].map(|len| len / rows);
        let parts = qkv
            .chunks(attended * per_row[0])
            .zip(q.chunks_mut(attended * per_row[1]))
            .zip(mixed.chunks_mut(attended * per_row[1]))
            .zip(joined.chunks_mut(attended * per_row[2]));
        let each = rows / sequences.len();
        for (i, (((qkv, q), mixed), joined)) in parts.enumerate() {
            let first = i * attended;
            let (heads, n) = (&mut *sequences[first / each], qkv.len() / per_row[0]);
            self.split(spec, qkv, heads, rotation, first, q);
            if n_kept == 0 {
                continue;
            }
            let n_kept = n.min(n_kept);
            let q = keep_last(q, heads.len(), n, n_kept);
            let mixed = &mut mixed[..q.len()];
            attention::causal(gemm, q, n_kept, heads, spec.head_dim, cancel, mixed)?;
            let joined = &mut joined[..n_kept * per_row[2]];
            pieces::join_heads(mixed, heads.len(), n_kept, joined);
        }
        if n_kept == 0 {
            return Ok(());
        }
        let x = &mut x[(rows - n_kept) * spec.hidden_size..];
        let [normed, joined, inner] = [normed, joined, inner].map(|of_rows| {
            let len = of_rows.len() / rows * n_kept;
            &mut of_rows[..len]
        });
        self.o_proj.forward_then(gemm, joined, Then::Add, x);
        self.post_norm.forward(x, normed);
        cancel.check()?;
        self.gate_up.forward_then(gemm, normed, Then::Swiglu, inner);
        cancel.check()?;
        self.down.forward_then(gemm, inner, Then::Add, x);
        Ok(())
    }

    /// Normalises (where the family does) and turns queries and keys, the first row by the angles of row
    /// `first`; queries go to `q`, keys and values to `heads`.
    fn split(
        &self,
        spec: &TextSpec,
        qkv: &[f32],
        heads: &mut [kv::Head],
        rotation: &Rotation,
        first: usize,
        q: &mut [f32],
    ) {
        let dim = spec.head_dim;
        let (n_heads, group) = (heads.len(), spec.num_attention_heads / heads.len());
        let width = (spec.num_attention_heads + 2 * n_heads) * dim;
        let rows = qkv.len() / width;
        let scale = (dim as f32).powf(-0.5);
        let [q_norm, k_norm] = match &self.qk_norm {
            Some([q, k]) => [Some(q), Some(k)],
            None => [None, None],
        };
        let part = |row: usize, head: usize| &qkv[row * width + head * dim..][..dim];
        let turn =
            |norm: Option<&RmsNorm>, row, head, scale, scratch: &mut [f32], to: &mut [f32]| {
                let mut part = part(row, head);
                if let Some(norm) = norm {
                    scratch.copy_from_slice(part);
                    norm.row(scratch);
                    part = scratch;
                }
                rotation.apply(first + row, part, scale, to);
            };
        let block = pieces::rows_at_least(group * dim);
        let queries = |(i, q): (usize, &mut [f32])| {
            q.par_chunks_mut(block * group * dim)
                .enumerate()
                .for_each(|(at, q)| {
                    let mut scratch = vec![0.0; dim];
                    for (j, to) in q.chunks_exact_mut(dim).enumerate() {
                        let (row, head) = (at * block + j / group, i * group + j % group);
                        turn(q_norm, row, head, scale, &mut scratch, to);
                    }
                });
        };
        let keys = |(i, head): (usize, &mut kv::Head)| {
            let (mut scratch, mut key) = (vec![0.0; dim], vec![0.0; dim]);
            for row in 0..rows {
                turn(
                    k_norm,
                    row,
                    n_heads * group + i,
                    1.0,
                    &mut scratch,
                    &mut key,
                );
                head.push(&key, part(row, n_heads * (group + 1) + i));
            }
        };
        let of_head = rows * group * dim;
        if rows < block {
            // Done before another thread has woken up.
            q.chunks_mut(of_head).enumerate().for_each(queries);
            heads.iter_mut().enumerate().for_each(keys);
        } else {
            rayon::join(
                || q.par_chunks_mut(of_head).enumerate().for_each(queries),
                || heads.par_iter_mut().enumerate().for_each(keys),
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_rows_of_each_head_are_kept() {
        // Three heads of four rows of two numbers: 100 head + 10 row + number.
        let number = |i: usize| (100 * (i / 8) + 10 * (i / 2 % 4) + i % 2) as f32;
        let all: Vec<f32> = (0..24).map(number).collect();
        let kept = |n_kept| keep_last(&mut all.clone(), 3, 4, n_kept).to_vec();
        assert_eq!(kept(4), all);
        assert_eq!(kept(1), [30.0, 31.0, 130.0, 131.0, 230.0, 231.0]);
        let two: Vec<f32> = (0..24).filter(|i| i / 2 % 4 >= 2).map(number).collect();
        assert_eq!(kept(2), two);
        assert!(kept(0).is_empty());
    }
}
