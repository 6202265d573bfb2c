// SPDX-License-Identifier: MPL-2.0

//! What a vision net is shown, and what it makes of it.

use std::any::Any;
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::error::Error;

/// Height and width of a vision input in patches, and its number of temporal patches.
///
/// The name and the order follow `grid_thw` of the Qwen processors: counted *before* the spatial
/// merge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
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
    pub pixels: PixelBytes,
    /// Mean of each channel (R, G, B).
    pub mean: [f32; 3],
    /// Standard deviation of each channel (R, G, B).
    pub std: [f32; 3],
}

/// Bytes of pixels: this process's own, or where another process has put them.
#[derive(Clone)]
pub struct PixelBytes(Bytes);

#[derive(Clone)]
enum Bytes {
    Own(Vec<u8>),
    There(Arc<dyn AsRef<[u8]> + Send + Sync>),
}

impl PixelBytes {
    /// Bytes that are read where they are.
    pub fn there(bytes: Arc<dyn AsRef<[u8]> + Send + Sync>) -> Self {
        Self(Bytes::There(bytes))
    }
}

impl From<Vec<u8>> for PixelBytes {
    fn from(bytes: Vec<u8>) -> Self {
        Self(Bytes::Own(bytes))
    }
}

impl FromIterator<u8> for PixelBytes {
    fn from_iter<I: IntoIterator<Item = u8>>(bytes: I) -> Self {
        Vec::from_iter(bytes).into()
    }
}

impl Deref for PixelBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.0 {
            Bytes::Own(bytes) => bytes,
            Bytes::There(bytes) => (**bytes).as_ref(),
        }
    }
}

impl PartialEq for PixelBytes {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl fmt::Debug for PixelBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.deref().fmt(f)
    }
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
                what: "visual tokens".into(),
                want: "in host memory".to_owned(),
                got: "another device's".to_owned(),
            }),
        }
    }
}
