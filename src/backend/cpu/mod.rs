// SPDX-License-Identifier: MPL-2.0

//! The embedded engine: transformer graphs on the host's cores.
//!
//! Everything runs in one thread pool of the engine's own. Large products of many rows go to
//! `rten-gemm`; the rest are plain loops that are compiled once per instruction set and picked at
//! run time, so one build fits every processor.

mod activation;
mod attention;
mod awq;
mod blocked;
mod cache;
mod fits;
mod gemv;
mod int8;
mod isa;
mod kv;
mod layout;
mod ledger;
mod linear;
mod loader;
mod norm;
mod outliers;
mod pages;
mod panel;
mod product;
mod quantize;
mod rope;
mod sequences;
mod slices;
mod text;
mod tidy;
mod tiled;
mod vision;
mod weights;

use std::path::PathBuf;

use rayon::ThreadPool;

use cache::{Cached, Outcome};
use isa::Isa;
use kv::KvType;
pub use ledger::{LayerError, Ledger};
use linear::Gemm;
use loader::{Loader, Reuse};
use sequences::Sequences;
use text::Text;
use vision::Vision;
use weights::Reader;

use super::rows::host_rows;
use super::spec::Spec;
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
    /// W8A8: a scale per weight column and per activation row and K-slice; the first block of the
    /// tower and the first layer of the decoder, where errors weigh most, in bf16.
    Int8,
}

/// What a user may choose.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Options {
    /// Number type of the large matrices.
    pub precision: Precision,
    /// Threads of the engine; `None` takes all cores but one.
    pub threads: Option<usize>,
    /// Folder in which int8 matrices are kept for the next start; `None` keeps none. What cannot be
    /// kept is no error.
    pub cache: Option<PathBuf>,
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
    let mut reuse = Reuse::IfGood;
    let parts = loop {
        match assemble(&pool, spec, weights, options, reuse, progress, cancel) {
            Err(Error::Cache) if reuse == Reuse::IfGood => reuse = Reuse::Never,
            assembled => break assembled?,
        }
    };
    progress(1.0);
    Ok(Box::new(Engine::new(pool, spec, parts)))
}

/// Reads the weights in f32 and, beside them, in int8: answers are those of f32, and what int8 would
/// have done to each layer's results is in the ledger.
///
/// # Errors
/// As [`load`].
pub fn load_compared(
    spec: &Spec,
    weights: &Weights,
    threads: Option<usize>,
    progress: &mut dyn FnMut(f32),
    cancel: &Cancel,
) -> Result<(Box<dyn Program>, Ledger), Error> {
    let pool = thread_pool(threads)?;
    isa::chosen().map_err(Error::Isa)?;
    let reader = Reader::open(weights, progress, cancel)?;
    let mut loader = Loader::new(reader, &pool, spec, Precision::F32);
    let ledger = Ledger::default();
    loader.compare(ledger.clone());
    let parts = Parts::read(spec, loader)?;
    Ok((Box::new(Engine::new(pool, spec, parts)), ledger))
}

impl Engine {
    fn new(pool: ThreadPool, spec: &Spec, parts: Parts) -> Self {
        let Parts {
            vision,
            text,
            cached,
            isa,
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
            logits: vec![0.0; limits.vocab_size],
            limits,
            vision,
            text,
            sequences: Sequences::default(),
            cached,
        }
    }
}

/// What was loaded.
struct Parts {
    vision: Vision,
    text: Text,
    /// What became of the cache.
    cached: Cached,
    /// The kernels that may be used.
    isa: Isa,
}

impl Parts {
    fn read(spec: &Spec, mut loader: Loader<'_>) -> Result<Self, Error> {
        fits::check(spec, &loader)?;
        let isa = match loader.is_exact() {
            true => Isa::host().exact(),
            false => Isa::host(),
        };
        Ok(Self {
            vision: Vision::load(&spec.vision, &mut loader)?,
            text: Text::load(&spec.text, &mut loader)?,
            cached: loader.finish(),
            isa,
        })
    }
}

/// Reads tower and decoder.
fn assemble(
    pool: &ThreadPool,
    spec: &Spec,
    weights: &Weights,
    options: &Options,
    reuse: Reuse,
    progress: &mut dyn FnMut(f32),
    cancel: &Cancel,
) -> Result<Parts, Error> {
    isa::chosen().map_err(Error::Isa)?;
    let reader = Reader::open(weights, progress, cancel)?;
    let mut loader = Loader::new(reader, pool, spec, options.precision);
    if let (Some(folder), Weights::Files(files)) = (&options.cache, weights)
        && let Some(place) = files.first().and_then(|file| file.parent())
    {
        let place = place.canonicalize().unwrap_or_else(|_| place.to_owned());
        loader.use_cache(folder, &place, reuse);
    }
    Parts::read(spec, loader)
}

/// Where the system wants what is kept between starts and may be thrown away: `XDG_CACHE_HOME`, or
/// the folder that stands for it, with a folder of ours in it. `None` for a user without a home.
pub fn cache_folder() -> Option<PathBuf> {
    let absolute = |name: &str| {
        let path = std::env::var_os(name).map(PathBuf::from);
        path.filter(|path| path.is_absolute())
    };
    let place = absolute("XDG_CACHE_HOME").or_else(|| Some(absolute("HOME")?.join(".cache")));
    place.map(|place| place.join("vlmcaption"))
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
    sequences: Sequences,
    logits: Vec<f32>,
    cached: Cached,
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
            let (kv, skip) = (&mut *batch.kv, batch.n_shared);
            let gemm = Gemm::new(isa, cancel);
            text.extend(&gemm, kv, segments, positions, skip, Some(logits), cancel)
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
                let (kv, skip) = (&mut *batch.kv, batch.n_shared);
                let gemm = Gemm::new(isa, cancel);
                self.text
                    .extend(&gemm, kv, segments, positions, skip, None, cancel)
            })
        });
        self.sequences.end(id, computed.is_ok());
        self.close(id);
        computed
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
        let each = logits.chunks_exact(self.limits.vocab_size);
        for (i, logits) in each.enumerate() {
            take(i, Next::Logits(logits));
        }
        Ok(())
    }

    fn truncate(&mut self, sequence: SequenceId, n_rows: usize) {
        self.sequences.truncate(sequence, n_rows);
    }

    fn close(&mut self, sequence: SequenceId) {
        self.sequences.close(sequence);
    }
}
