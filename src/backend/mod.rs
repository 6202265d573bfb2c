// SPDX-License-Identifier: MPL-2.0

//! What runs a model: the interface of a *device program*, and its implementations.
//!
//! A backend does not know model families. It offers a [`Program`]: encode one temporal patch of
//! pixels, extend a sequence by rows at given positions, say what follows, forget rows. Everything
//! else (sizes, prompts, positions, sampling) belongs to [`crate::vlm`].

pub mod axera;
pub mod cpu;
mod embedding;
mod finite;
pub(crate) mod json;
mod kept;
pub mod mock;
mod rows;
pub mod sophgo;
pub mod spec;
mod vit;

use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

pub use embedding::TableError;

/// Height and width of a vision input in patches, and its number of temporal patches.
///
/// The name and the order follow `grid_thw` of the Qwen processors: counted *before* the spatial
/// merge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct GridThw {
    /// Temporal patches; each holds `temporal_patch_size` frames.
    pub t: usize,
    /// Rows of patches.
    pub h: usize,
    /// Columns of patches.
    pub w: usize,
}

impl GridThw {
    /// Patches in all: the rows of the vision net's input.
    pub fn n_patches(&self) -> usize {
        self.t * self.h * self.w
    }

    /// Visual tokens after an `merge_size` x `merge_size` merge.
    pub fn n_tokens(&self, merge_size: usize) -> usize {
        self.n_patches() / (merge_size * merge_size)
    }
}

/// The pixels of one temporal patch, cut into the rows that the vision net reads.
///
/// `pixels` is `[grid.n_patches(), channels * temporal_patch_size * patch_size * patch_size]`, raw
/// 0..=255, rows in merge-block order, each row `[channel, frame, y, x]`. `mean` and `std` are in
/// units of 0..=1 as in `preprocessor_config.json`; the backend applies
/// `(pixel / 255 - mean) / std` where its net does not do so itself.
///
/// InternVL's tiles come in the same form: `temporal_patch_size` 1, a square grid of the tile's
/// size (32 x 32 patches of 14 pixels, merge 2), so that the rows of a merge block are what pixel
/// shuffle joins. For a net that reads a tile as `[3, height, width]`, `planes` in the backend's
/// `vit` module puts the rows back into planes.
#[derive(Debug, Clone, PartialEq)]
pub struct Patches {
    /// Size of the input in patches. `t` is 1, or the number of tiles of an image (InternVL), whose
    /// rows and visual tokens follow each other tile by tile and which do not see each other.
    pub grid: GridThw,
    /// The rows.
    pub pixels: Vec<u8>,
    /// Mean of each channel (R, G, B).
    pub mean: [f32; 3],
    /// Standard deviation of each channel (R, G, B).
    pub std: [f32; 3],
}

/// What the vision net made of one temporal patch.
#[derive(Debug, Clone)]
pub struct VisualTokens {
    /// Size of the input in patches.
    pub grid: GridThw,
    /// Rows of the features: visual tokens after the merge.
    pub n_tokens: usize,
    /// The rows.
    pub features: Features,
}

/// Rows of visual tokens, where the program that made them keeps them.
#[derive(Debug, Clone)]
pub enum Features {
    /// In the host's memory.
    Host {
        /// Which run of a vision net made them; no two of a process are the same. See
        /// [`next_launch`].
        launch: u64,
        /// `[n_tokens, hidden_size]`, row-major: replaces the embeddings of the placeholders.
        embeds: Vec<f32>,
        /// One `[n_tokens, hidden_size]` per deepstack level, added to the hidden states after
        /// decoder layer 0, 1, ... (Qwen3-VL); empty for families without deepstack.
        deepstack: Vec<Vec<f32>>,
    },
    /// In a device's memory: only the program that made them can read them. The last drop gives
    /// the memory back, on any thread.
    Device(Arc<dyn Any + Send + Sync>),
}

/// A number for a run of a vision net that no other run has.
pub fn next_launch() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

impl Features {
    /// `embeds` and `deepstack` of host memory.
    ///
    /// # Errors
    /// [`Error::Shape`] for features of another backend.
    pub fn host(&self) -> Result<(&[f32], &[Vec<f32>]), Error> {
        match self {
            Features::Host {
                embeds, deepstack, ..
            } => Ok((embeds, deepstack)),
            Features::Device(_) => Err(Error::Shape {
                what: "visual tokens",
                want: "in host memory".to_owned(),
                got: "another device's".to_owned(),
            }),
        }
    }
}

/// One run of consecutive rows of a sequence.
#[derive(Debug, Clone, Copy)]
pub enum Segment<'a> {
    /// Text tokens by id.
    Tokens(&'a [u32]),
    /// Visual tokens, in place of as many placeholders.
    Visual(&'a VisualTokens),
}

impl Segment<'_> {
    /// Rows of the sequence that this run takes.
    pub fn n_rows(&self) -> usize {
        match self {
            Segment::Tokens(ids) => ids.len(),
            Segment::Visual(tokens) => tokens.n_tokens,
        }
    }
}

/// Rotary position of one row on the three axes time, height and width (mrope). Text rows carry
/// the same number three times.
pub type Position = [u32; 3];

/// What follows the last row of a sequence.
#[derive(Debug, Clone, Copy)]
pub enum Next<'a> {
    /// Unnormalised log-probabilities, `[vocab_size]`.
    Logits(&'a [f32]),
    /// The token a net with a built-in greedy head chose.
    Token(u32),
}

/// Names a sequence of a [`Program`]: its rows in the KV cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SequenceId(pub u32);

/// One token that a sequence of several is extended by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// The sequence.
    pub sequence: SequenceId,
    /// The token.
    pub token: u32,
    /// Where it stands.
    pub position: Position,
}

/// What a program has, as far as planning needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Rows that one sequence can hold: prompt and answer together.
    pub context: usize,
    /// Rows that the first [`extend`](Program::extend) of a sequence may have.
    pub prompt: usize,
    /// Entries of [`Next::Logits`].
    pub vocab_size: usize,
    /// Bytes that the weights occupy on the device.
    pub weight_bytes: u64,
}

/// How a device fares, as far as it can tell.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Health {
    /// The chip's name.
    pub chip: Option<String>,
    /// Bytes of device memory in use.
    pub memory_used: Option<u64>,
    /// Bytes of device memory.
    pub memory_total: Option<u64>,
    /// Use of the chip, percent.
    pub utilisation: Option<u32>,
    /// Degrees Celsius.
    pub temperature: Option<u32>,
}

/// A model on a device.
///
/// One thread owns it; none of the calls is ever made from a streaming thread. A long call looks
/// at its [`Cancel`] between layers or launches and returns [`Error::Cancelled`]. Where a layer itself
/// takes long, it says from within that it goes on ([`Cancel::alive`]); a launch of a vendor's
/// library cannot.
pub trait Program: Send {
    /// What planning needs to know.
    fn limits(&self) -> &Limits;

    /// Runs the vision net on one temporal patch.
    fn encode(&mut self, patches: &Patches, cancel: &Cancel) -> Result<VisualTokens, Error>;

    /// Begins an empty sequence.
    fn open(&mut self) -> Result<SequenceId, Error>;

    /// Appends rows to a sequence and says what follows the last one.
    ///
    /// `positions` has one entry per row of `segments`. After an error the sequence has the rows it
    /// had before the call.
    fn extend(
        &mut self,
        sequence: SequenceId,
        segments: &[Segment<'_>],
        positions: &[Position],
        cancel: &Cancel,
    ) -> Result<Next<'_>, Error>;

    /// Sequences that [`extend_each`](Self::extend_each) extends in less time than one after the other; 1 if that
    /// saves nothing.
    fn batch(&self) -> usize {
        1
    }

    /// Appends one token to each of some sequences, no sequence twice, and tells what follows each:
    /// `take(i, next)` for each of `steps`. What follows a sequence is the same as if it were
    /// extended alone.
    ///
    /// After an error of a program whose [`batch`](Self::batch) is above 1 all have the rows they had
    /// before the call; of others, those up to the one that failed have their new row.
    fn extend_each(
        &mut self,
        steps: &[Step],
        cancel: &Cancel,
        take: &mut dyn FnMut(usize, Next<'_>),
    ) -> Result<(), Error> {
        for (i, step) in steps.iter().enumerate() {
            let token = [Segment::Tokens(&[step.token])];
            take(
                i,
                self.extend(step.sequence, &token, &[step.position], cancel)?,
            );
        }
        Ok(())
    }

    /// Of the rows with which a new sequence would begin, how many are here from an earlier one and
    /// are not computed again: equal rows after equal rows have equal keys and values, whoever asked
    /// for them.
    fn shared(&mut self, _segments: &[Segment<'_>], _positions: &[Position]) -> usize {
        0
    }

    /// Computes rows with which a later sequence is expected to begin, so that it finds them
    /// [`shared`](Self::shared). A program that gains nothing by it does nothing.
    ///
    /// # Errors
    /// As [`extend`](Self::extend).
    fn prepare(
        &mut self,
        _segments: &[Segment<'_>],
        _positions: &[Position],
        _cancel: &Cancel,
    ) -> Result<(), Error> {
        Ok(())
    }

    /// Whether a sequence that keeps `n_kept` rows is better extended by `n_more` than begun anew with
    /// all of them. Either is right; this says which is cheaper.
    fn continues(&self, _n_kept: usize, _n_more: usize) -> bool {
        true
    }

    /// Forgets all rows from `n_rows` on.
    fn truncate(&mut self, sequence: SequenceId, n_rows: usize);

    /// Ends a sequence and frees its rows.
    fn close(&mut self, sequence: SequenceId);

    /// What is worth a line in a log of how it was loaded.
    fn remark(&self) -> Option<String> {
        None
    }

    /// How the device fares; asked about once a second, between other calls.
    fn health(&mut self) -> Health {
        Health::default()
    }
}

/// Tells a long call from another thread that its result is no longer wanted.
#[derive(Debug, Clone, Default)]
pub struct Cancel(Arc<Flag>);

#[derive(Debug, Default)]
struct Flag {
    cancelled: AtomicBool,
    checks: AtomicU64,
}

impl Cancel {
    /// Asks for the end; calls that look at it return [`Error::Cancelled`] soon.
    pub fn cancel(&self) {
        self.0.cancelled.store(true, Ordering::Release);
    }

    /// Whether the end was asked for.
    pub fn is_cancelled(&self) -> bool {
        self.0.cancelled.load(Ordering::Acquire)
    }

    /// Signs of life so far: how often [`check`](Self::check) and [`alive`](Self::alive) were called.
    pub fn checks(&self) -> u64 {
        self.0.checks.load(Ordering::Relaxed)
    }

    /// A sign of life from within a step that is not left before its end, such as a large product:
    /// it may take minutes on a small machine, and is not stuck.
    pub fn alive(&self) {
        self.0.checks.fetch_add(1, Ordering::Relaxed);
    }

    /// [`Error::Cancelled`] if the end was asked for. Each call is a sign of life: a program that
    /// does not call this for long counts as stuck.
    pub fn check(&self) -> Result<(), Error> {
        self.alive();
        if self.is_cancelled() {
            Err(Error::Cancelled)
        } else {
            Ok(())
        }
    }
}

/// Why a device program did not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The result was no longer wanted.
    #[error("cancelled")]
    Cancelled,
    /// A sequence would outgrow the KV cache.
    #[error("{needed} rows do not fit the context of {context}")]
    Context {
        /// Rows asked for.
        needed: usize,
        /// Rows there are.
        context: usize,
    },
    /// An input does not have the shape that the net was built for.
    #[error("{what}: expected {want}, got {got}")]
    Shape {
        /// The input.
        what: &'static str,
        /// What the net takes.
        want: String,
        /// What it was given.
        got: String,
    },
    /// A weight that the configuration calls for is not in the file.
    #[error("weight {name} is missing from {file}")]
    MissingWeight {
        /// Name of the tensor.
        name: String,
        /// Where it was looked for.
        file: String,
    },
    /// A number of the configuration is not that of the weights.
    #[error(
        "config.json: {key} is {said}, but {found}; are configuration and weights of one checkpoint?"
    )]
    Size {
        /// The key, with the section that it stands in.
        key: &'static str,
        /// What the configuration says.
        said: usize,
        /// What the weights say.
        found: String,
    },
    /// A weight has another shape than the configuration says.
    #[error("weight {name}: config.json calls for shape {want:?}, the file has {got:?}")]
    WeightShape {
        /// Name of the tensor.
        name: String,
        /// Shape by the configuration.
        want: Vec<usize>,
        /// Shape in the file.
        got: Vec<usize>,
    },
    /// A weight has a number type that is not read.
    #[error("weight {name} has type {dtype}; f32, f16 and bf16 are read")]
    WeightType {
        /// Name of the tensor.
        name: String,
        /// Its type in the file.
        dtype: String,
    },
    /// A weight file is damaged.
    #[error("{file} is not a whole safetensors file ({reason}); fetch it again")]
    Damaged {
        /// The file.
        file: String,
        /// What the reader says.
        reason: String,
    },
    /// A file of quantised matrices is damaged; whoever loads makes it anew.
    #[error("the file of quantised matrices is damaged")]
    Cache,
    /// NaN or infinity where a number should be.
    #[error(
        "the model computed no number (NaN or infinity) in {place}: its files are damaged, or its \
         numbers are too large for the type they are held in; fetch the checkpoint again, or choose \
         another precision"
    )]
    NotANumber {
        /// Where it was found first.
        place: String,
    },
    /// The environment names an instruction set that this processor does not have.
    #[error("{0}")]
    Isa(String),
    /// A script of the mock backend is not one.
    #[error("mock script {file}: {reason}")]
    Script {
        /// The file.
        file: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The mock backend was told to fail.
    #[error("{0}")]
    Scripted(String),
    /// What an Axera device, its libraries or a folder of axmodels said.
    #[error(transparent)]
    Axera(#[from] axera::Error),
    /// What a Sophgo device, its libraries or a bmodel said.
    #[error(transparent)]
    Sophgo(#[from] sophgo::Error),
    /// A file could not be read.
    #[error("{file}: {source}")]
    Io {
        /// The file.
        file: String,
        /// The system's reason.
        source: std::io::Error,
    },
}
