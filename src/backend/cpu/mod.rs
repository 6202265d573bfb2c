// SPDX-License-Identifier: MPL-2.0

//! The embedded engine: transformer graphs on the host's cores.
//!
//! Everything runs in one thread pool of the engine's own. Large products of many rows go to
//! `rten-gemm`; the rest are plain loops that are compiled once per instruction set and picked at
//! run time, so one build fits every processor.

mod activation;
mod attention;
mod awq;
#[cfg_attr(not(target_arch = "x86_64"), path = "avx512_absent.rs")]
mod avx512;
mod blocked;
mod gemv;
mod int8;
mod kv;
mod lanes;
mod layout;
mod linear;
mod loader;
mod norm;
mod product;
mod quantize;
mod rope;
mod spec;
mod text;
mod tiled;
mod vision;
mod weights;

use std::collections::HashMap;
use std::path::PathBuf;

use rayon::ThreadPool;

use kv::Kv;
use linear::{Gemm, Isa};
use loader::Loader;
pub use spec::{Awq, Head, Rope, Spec, TextSpec, Tower, VisionSpec};
use text::Text;
use vision::Vision;
use weights::Reader;

use super::{
    Cancel, Error, Limits, Next, Patches, Position, Program, Segment, SequenceId, Step,
    VisualTokens,
};

/// Rows that a sequence may have at most, whatever the checkpoint allows.
const MAX_CONTEXT: usize = 8192;

/// Weights of fewer bytes are a small model's.
const SMALL_BYTES: u64 = 64 << 20;

/// Sequences that are extended together: the matrices are read once for all, and at more rows
/// multiplying takes longer than reading.
const BATCH: usize = 4;

/// Weight files in the order of the index.
#[derive(Debug, Clone)]
pub enum Weights {
    /// Safetensors files on disk; one, or the shards of `model.safetensors.index.json`.
    Files(Vec<PathBuf>),
    /// One safetensors file in memory.
    Bytes(&'static [u8]),
}

/// Number type that the large matrices are multiplied in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Precision {
    /// f32 below 100 M parameters, int8 above.
    #[default]
    Auto,
    /// The reference.
    F32,
    /// Weights, and where the processor multiplies it the activations, in bf16.
    Bf16,
    /// W8A8: a scale per weight column and per activation row and K-slice.
    Int8,
}

/// What a user may choose.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Options {
    /// Number type of the large matrices.
    pub precision: Precision,
    /// Threads of the engine; `None` takes all cores but one.
    pub threads: Option<usize>,
}

/// Reads the weights and readies the engine.
///
/// `progress` hears 0.0..=1.0, by bytes read. Each tensor is read in pieces and kept in one form
/// only, so the peak of memory is about the size of the weights in the chosen precision.
///
/// # Errors
/// [`Error::Io`] and [`Error::Damaged`] for a file that cannot be read, [`Error::MissingWeight`],
/// [`Error::WeightShape`] and [`Error::WeightType`] for a checkpoint that does not fit `spec`,
/// [`Error::Cancelled`].
pub fn load(
    spec: &Spec,
    weights: &Weights,
    options: &Options,
    progress: &mut dyn FnMut(f32),
    cancel: &Cancel,
) -> Result<Box<dyn Program>, Error> {
    let pool = thread_pool(options.threads)?;
    let reader = Reader::open(weights, progress, cancel)?;
    let mut loader = Loader::new(reader, spec, options.precision);
    let vision = Vision::load(&spec.vision, &mut loader)?;
    let text = Text::load(&spec.text, &mut loader)?;
    let context = spec.text.max_position_embeddings.min(MAX_CONTEXT);
    let limits = Limits {
        context,
        prompt: context,
        vocab_size: spec.text.vocab_size,
        weight_bytes: (vision.size_bytes() + text.size_bytes()) as u64,
    };
    let isa = if loader.is_exact() {
        Isa::exact()
    } else {
        Isa::detect()
    };
    drop(loader);
    progress(1.0);
    Ok(Box::new(Engine {
        pool,
        isa,
        logits: vec![0.0; limits.vocab_size],
        limits,
        vision,
        text,
        sequences: HashMap::new(),
        next_id: 0,
    }))
}

/// The engine's threads; all work happens in them.
fn thread_pool(threads: Option<usize>) -> Result<ThreadPool, Error> {
    let threads = threads.unwrap_or_else(|| {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        cores - 1
    });
    rayon::ThreadPoolBuilder::new()
        .num_threads(threads.max(1))
        .thread_name(|i| format!("vlm-cpu-{i}"))
        .build()
        .map_err(|e| Error::Io {
            file: "thread pool".to_owned(),
            source: std::io::Error::other(e),
        })
}

/// A loaded model and its sequences.
struct Engine {
    pool: ThreadPool,
    isa: Isa,
    vision: Vision,
    text: Text,
    limits: Limits,
    sequences: HashMap<SequenceId, Kv>,
    next_id: u32,
    logits: Vec<f32>,
}

impl Program for Engine {
    fn limits(&self) -> &Limits {
        &self.limits
    }

    fn encode(&mut self, patches: &Patches, cancel: &Cancel) -> Result<VisualTokens, Error> {
        let (vision, isa) = (&self.vision, self.isa);
        self.pool
            .install(|| vision.encode(&Gemm::new(isa), patches, cancel))
    }

    fn open(&mut self) -> Result<SequenceId, Error> {
        let id = SequenceId(self.next_id);
        self.next_id = self.next_id.wrapping_add(1);
        self.sequences.insert(id, self.text.open());
        Ok(id)
    }

    fn extend(
        &mut self,
        sequence: SequenceId,
        segments: &[Segment<'_>],
        positions: &[Position],
        cancel: &Cancel,
    ) -> Result<Next<'_>, Error> {
        let Some(kv) = self.sequences.get_mut(&sequence) else {
            return Err(Error::Shape {
                what: "sequence",
                want: "one that is open".to_owned(),
                got: format!("{}", sequence.0),
            });
        };
        let needed = kv.n_rows() + positions.len();
        if needed > self.limits.context {
            return Err(Error::Context {
                needed,
                context: self.limits.context,
            });
        }
        let (text, logits, isa) = (&self.text, &mut self.logits, self.isa);
        let n_rows = kv.n_rows();
        let result = self.pool.install(|| {
            let kv = &mut *kv;
            text.extend(&Gemm::new(isa), kv, segments, positions, logits, cancel)
        });
        if let Err(error) = result {
            kv.truncate(n_rows);
            return Err(error);
        }
        Ok(Next::Logits(&self.logits))
    }

    fn batch(&self) -> usize {
        // A small model's matrices stay in the cores' caches, so that reading them again costs nothing.
        if self.limits.weight_bytes < SMALL_BYTES {
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
        let wrong = |got| Error::Shape {
            what: "sequence",
            want: "one that is open, and each once".to_owned(),
            got: format!("{got}"),
        };
        let mut kvs: Vec<(SequenceId, Kv)> = Vec::with_capacity(steps.len());
        let mut result = Ok(());
        for step in steps {
            match self.sequences.remove(&step.sequence) {
                Some(kv) => kvs.push((step.sequence, kv)),
                None => result = Err(wrong(step.sequence.0)),
            }
        }
        let rows = kvs.iter().map(|(_, kv)| kv.n_rows() + 1).max();
        if let Some(needed) = rows.filter(|&rows| rows > self.limits.context) {
            let context = self.limits.context;
            result = result.and(Err(Error::Context { needed, context }));
        }
        if result.is_ok() && !steps.is_empty() {
            let tokens: Vec<u32> = steps.iter().map(|step| step.token).collect();
            let positions: Vec<Position> = steps.iter().map(|step| step.position).collect();
            let mut logits = vec![0.0; steps.len() * self.limits.vocab_size];
            let (text, isa) = (&self.text, self.isa);
            result = self.pool.install(|| {
                let before: Vec<usize> = kvs.iter().map(|(_, kv)| kv.n_rows()).collect();
                let mut rows: Vec<&mut Kv> = kvs.iter_mut().map(|(_, kv)| kv).collect();
                let gemm = Gemm::new(isa);
                let result = text.step(&gemm, &mut rows, &tokens, &positions, &mut logits, cancel);
                if result.is_err() {
                    for (kv, before) in rows.into_iter().zip(before) {
                        kv.truncate(before);
                    }
                }
                result
            });
            if result.is_ok() {
                let each = logits.chunks_exact(self.limits.vocab_size);
                for (i, logits) in each.enumerate() {
                    take(i, Next::Logits(logits));
                }
            }
        }
        self.sequences.extend(kvs);
        result
    }

    fn truncate(&mut self, sequence: SequenceId, n_rows: usize) {
        if let Some(kv) = self.sequences.get_mut(&sequence) {
            kv.truncate(n_rows);
        }
    }

    fn close(&mut self, sequence: SequenceId) {
        self.sequences.remove(&sequence);
    }
}
