// SPDX-License-Identifier: MPL-2.0

//! The embedded engine: transformer graphs on the host's cores.
//!
//! Everything runs in one thread pool of the engine's own. Kernels are tables by instruction set that are
//! picked at run time ([`isa`]), so one build fits every processor; where a set has none for products
//! of many rows, `rten-gemm` multiplies.

mod activation;
mod attention;
mod blocked;
mod byte_tiles;
mod cache;
mod checksum;
mod engine;
mod epilogue;
mod evict;
mod fits;
mod gemm;
mod gemv;
mod int8;
mod isa;
mod kv;
mod layout;
mod linear;
mod loader;
mod norm;
mod options;
mod outliers;
mod packed;
mod pages;
mod panel;
mod pieces;
mod product;
mod quantize;
mod rope;
mod rounding;
mod sequences;
mod slices;
mod text;
mod tiled;
mod vision;
mod weights;

use std::path::PathBuf;

use rayon::ThreadPool;

use super::spec::Spec;
use super::{Cancel, Error, Program};
use engine::{Engine, Parts};
use isa::Isa;
use loader::{Loader, Reuse};
pub use options::{Options, Precision, Weights};
pub use rounding::{LayerError, RoundingErrors};
use text::Text;
use vision::Vision;
use weights::Reader;

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
/// have done to each layer's results is in the [`RoundingErrors`].
///
/// # Errors
/// As [`load`].
pub fn load_compared(
    spec: &Spec,
    weights: &Weights,
    threads: Option<usize>,
    progress: &mut dyn FnMut(f32),
    cancel: &Cancel,
) -> Result<(Box<dyn Program>, RoundingErrors), Error> {
    let pool = thread_pool(threads)?;
    isa::chosen().map_err(Error::Isa)?;
    let reader = Reader::open(weights, progress, cancel)?;
    let mut loader = Loader::new(reader, &pool, spec, Precision::F32);
    let errors = RoundingErrors::default();
    loader.compare(errors.clone());
    let parts = Parts::read(spec, loader)?;
    Ok((Box::new(Engine::new(pool, spec, parts)), errors))
}

impl Parts {
    fn read(spec: &Spec, mut loader: Loader<'_>) -> Result<Self, Error> {
        fits::check(spec, &loader)?;
        let isa = match loader.is_exact() {
            true => Isa::host().exact(),
            false => Isa::host(),
        };
        Ok(Self {
            precision: loader.precision(),
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

/// Our folder in the user's cache, `XDG_CACHE_HOME` or `~/.cache`. `None` for a user without a home.
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
