// SPDX-License-Identifier: MPL-2.0

//! The loaded model as a device program.

use rayon::ThreadPool;

use super::cache::{Cached, Outcome};
use super::gemm::Gemm;
use super::int8::TILE_FROM;
use super::isa::Isa;
use super::kv::KvType;
use super::sequences::Sequences;
use super::text::{NewRows, Text};
use super::vision::Vision;
use crate::rows::host_rows;
use crate::spec::Spec;
use crate::{
    Arithmetic, Cancel, Error, Launch, Limits, Next, Patches, Position, Program, Segment,
    SequenceId, Step, VisualTokens,
};

/// Rows that a sequence may have at most, whatever the checkpoint allows.
const MAX_CONTEXT: usize = 8192;

/// Weights of fewer bytes are a small model's.
const SMALL_BYTES: u64 = 64 << 20;

/// Sequences that are extended together: the matrices are read once for all, and at more rows
/// multiplying takes longer than reading.
const BATCH: usize = 4;

/// Prompts that stay prepared at a time: one for each of the sequences of a batch.
const PROMPTS: usize = BATCH;

/// Rows by which a draft may be verified: as many as all kernels for few rows take, which give each the
/// numbers that it has alone.
const VERIFIED: [usize; 3] = [2, 4, TILE_FROM];

/// What was loaded.
pub(super) struct Parts {
    pub(super) vision: Vision,
    pub(super) text: Text,
    /// What became of the cache.
    pub(super) cached: Cached,
    /// The kernels that may be used.
    pub(super) isa: Isa,
    /// Name of the number type of the large matrices.
    pub(super) precision: &'static str,
}

/// A loaded model and its sequences.
pub(super) struct Engine {
    pool: ThreadPool,
    isa: Isa,
    precision: &'static str,
    vision: Vision,
    text: Text,
    limits: Limits,
    sequences: Sequences,
    logits: Vec<f32>,
    cached: Cached,
}

impl Engine {
    /// Readies what was loaded.
    pub(super) fn new(pool: ThreadPool, spec: &Spec, parts: Parts) -> Self {
        let Parts {
            vision,
            text,
            cached,
            isa,
            precision,
        } = parts;
        let context = spec.text.max_position_embeddings.min(MAX_CONTEXT);
        let limits = Limits {
            context,
            prompt: context,
            vocab_size: spec.text.vocab_size,
            weight_bytes: (vision.size_bytes() + text.size_bytes()) as u64,
        };
        Self {
            pool,
            isa,
            precision,
            logits: vec![0.0; limits.vocab_size],
            limits,
            vision,
            text,
            sequences: Sequences::default(),
            cached,
        }
    }
}

impl Program for Engine {
    fn limits(&self) -> &Limits {
        &self.limits
    }

    fn encode(&mut self, patches: &Patches, cancel: &Cancel) -> Result<VisualTokens, Error> {
        let (vision, isa) = (&self.vision, self.isa);
        self.pool
            .install(|| vision.encode(&Gemm::new(isa, cancel), patches, cancel))
    }

    fn arithmetic(&self) -> Arithmetic {
        Arithmetic {
            precision: Some(self.precision.to_owned()),
            kernels: Some(self.isa.name.to_owned()),
        }
    }

    fn remark(&self) -> Option<String> {
        match &self.cached.outcome {
            Outcome::Unused => None,
            Outcome::Read(path) => Some(format!("int8 weights read from {}", path.display())),
            Outcome::Written(path) => {
                let path = path.display();
                Some(format!("int8 weights kept in {path} for the next start"))
            }
            Outcome::NotWritten { path, reason } => {
                let path = path.display();
                Some(format!("int8 weights not kept in {path}: {reason}"))
            }
        }
    }

    fn open(&mut self) -> Result<SequenceId, Error> {
        let kv = self.text.open(KvType::of(self.isa));
        Ok(self.sequences.open(kv))
    }

    fn extend(
        &mut self,
        sequence: SequenceId,
        segments: &[Segment<'_>],
        positions: &[Position],
        cancel: &Cancel,
    ) -> Result<Next<'_>, Error> {
        let rows = host_rows(segments, positions)?;
        let context = self.limits.context;
        let batch = self.sequences.begin(sequence, rows, context)?;
        let (text, logits, isa) = (&self.text, &mut self.logits, self.isa);
        let computed = self.pool.install(|| {
            let rows = NewRows {
                segments,
                positions,
                skip: batch.n_shared,
            };
            let gemm = Gemm::new(isa, cancel);
            text.extend(&gemm, batch.kv, rows, Some(logits), cancel)
        });
        self.sequences.end(sequence, computed.is_ok());
        computed.map(|()| Next::Logits(&self.logits))
    }

    fn shared(&mut self, segments: &[Segment<'_>], positions: &[Position]) -> usize {
        host_rows(segments, positions).map_or(0, |rows| self.sequences.shared(&rows))
    }

    fn prepare(
        &mut self,
        segments: &[Segment<'_>],
        positions: &[Position],
        cancel: &Cancel,
    ) -> Result<(), Error> {
        let rows = host_rows(segments, positions)?;
        if self.sequences.shared(&rows) + 1 >= rows.len() {
            return Ok(());
        }
        let id = self.open()?;
        let batch = self.sequences.begin(id, rows, self.limits.context);
        let isa = self.isa;
        let computed = batch.and_then(|batch| {
            self.pool.install(|| {
                let rows = NewRows {
                    segments,
                    positions,
                    skip: batch.n_shared,
                };
                let gemm = Gemm::new(isa, cancel);
                self.text.extend(&gemm, batch.kv, rows, None, cancel)
            })
        });
        self.sequences.end(id, computed.is_ok());
        match computed {
            Ok(()) => self.sequences.keep(id, PROMPTS),
            Err(_) => self.sequences.close(id),
        }
        computed
    }

    fn prompts(&self) -> usize {
        PROMPTS
    }

    fn batch(&self) -> usize {
        // A small model's matrices stay in the cores' caches, so that reading them again costs nothing. Plain
        // loops are bound by arithmetic, not by reading.
        if self.limits.weight_bytes < SMALL_BYTES || self.isa.tiles.is_none() {
            1
        } else {
            BATCH
        }
    }

    fn extend_each(
        &mut self,
        steps: &[Step],
        cancel: &Cancel,
        take: &mut dyn FnMut(usize, Next<'_>),
    ) -> Result<(), Error> {
        if steps.is_empty() {
            return Ok(());
        }
        let ids: Vec<SequenceId> = steps.iter().map(|step| step.sequence).collect();
        let tokens: Vec<u32> = steps.iter().map(|step| step.token).collect();
        let positions: Vec<Position> = steps.iter().map(|step| step.position).collect();
        let rows = host_rows(&[Segment::Tokens(&tokens)], &positions)?;
        let mut kvs = self
            .sequences
            .begin_each(&ids, &rows, self.limits.context)?;
        let mut logits = vec![0.0; steps.len() * self.limits.vocab_size];
        let (text, isa) = (&self.text, self.isa);
        let computed = self.pool.install(|| {
            let gemm = Gemm::new(isa, cancel);
            text.step(&gemm, &mut kvs, &tokens, &positions, &mut logits, cancel)
        });
        for id in ids {
            self.sequences.end(id, computed.is_ok());
        }
        computed?;
        tell(&logits, self.limits.vocab_size, take);
        Ok(())
    }

    fn verifies(&self, _n_rows: usize) -> Vec<Launch> {
        VERIFIED.map(Launch::of).to_vec()
    }

    fn verify(
        &mut self,
        sequence: SequenceId,
        tokens: &[u32],
        positions: &[Position],
        cancel: &Cancel,
        take: &mut dyn FnMut(usize, Next<'_>),
    ) -> Result<(), Error> {
        let rows = host_rows(&[Segment::Tokens(tokens)], positions)?;
        let kv = self.sequences.go_on(sequence, rows, self.limits.context)?;
        let mut logits = vec![0.0; tokens.len() * self.limits.vocab_size];
        let (text, isa) = (&self.text, self.isa);
        let computed = self.pool.install(|| {
            let gemm = Gemm::new(isa, cancel);
            text.step(&gemm, &mut [kv], tokens, positions, &mut logits, cancel)
        });
        self.sequences.end(sequence, computed.is_ok());
        computed?;
        tell(&logits, self.limits.vocab_size, take);
        Ok(())
    }

    fn truncate(&mut self, sequence: SequenceId, n_rows: usize) {
        self.sequences.truncate(sequence, n_rows);
    }

    fn close(&mut self, sequence: SequenceId) {
        self.sequences.close(sequence);
    }
}

/// Tells the logits of several rows.
fn tell(logits: &[f32], vocab_size: usize, take: &mut dyn FnMut(usize, Next<'_>)) {
    for (i, logits) in logits.chunks_exact(vocab_size).enumerate() {
        take(i, Next::Logits(logits));
    }
}
