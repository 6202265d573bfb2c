// SPDX-License-Identifier: MPL-2.0

//! What the kernels of all instruction sets take and give.
//!
//! A *word* is 32 bits of a row: 4 bytes, 2 bf16 or one f32. A *line* holds the same word of 16
//! rows, one in each lane; a *tile* of activations is three lines wide.

use half::bf16;

use crate::cpu::slices::Slices;

/// Lanes of a line.
pub(crate) const LANES: usize = 16;

/// Lines of a whole tile.
pub(crate) const TILE_LINES: usize = 3;

/// Rows of a matrix in a tile product.
pub(crate) const TILE_ROWS: usize = 8;

/// Words of a row that are multiplied with a tile at a time, at most.
pub(crate) const BLOCK_WORDS: usize = 128;

/// Rows of activations that are multiplied with a matrix at a time, if there are few.
pub(crate) const GROUP_ROWS: usize = 4;

/// Bytes of a cache line.
pub(crate) const CACHE_LINE: usize = 64;

/// Bytes of a matrix row that one step of the products with few rows reads.
pub(crate) const STEP: usize = 64;

/// One number of each of 16 rows, in one cache line.
#[derive(Debug, Clone, Copy, PartialEq)]
#[repr(C, align(64))]
pub(crate) struct Line<T>(pub(crate) [T; LANES]);

/// Some lines.
pub(crate) type Lines<T> = [Line<T>];

/// A word of each of [`TILE_ROWS`] rows of a matrix.
pub(crate) type Words = [u32; TILE_ROWS];

/// What turns the sums of bytes of a tile into numbers.
pub(crate) struct Scaling<'a> {
    /// What the activations' zero point adds to the sums of each matrix row.
    pub(crate) offsets: [i32; TILE_ROWS],
    /// Of each matrix row.
    pub(crate) scales: [f32; TILE_ROWS],
    /// Of each row of activations: the lines of the tile.
    pub(crate) row_scales: &'a [Line<f32>],
}

/// Where a tile product goes: row `r` of the matrix to the lines from `r * stride` on.
pub(crate) struct Out<'a> {
    pub(crate) lines: &'a mut [Line<f32>],
    pub(crate) stride: usize,
    /// Whether the product is added to what is there.
    pub(crate) add: bool,
}

/// Where the weights of some keys go, `[words][lines]`.
pub(crate) enum Weights<'a> {
    /// One key to a word.
    Floats(&'a mut [Line<u32>]),
    /// Two keys to a word, in bf16.
    Pairs(&'a mut [Line<u32>]),
}

/// The softmax of a tile of queries, as far as keys were seen: a lane for each query.
pub(crate) struct Running {
    /// Largest score.
    pub(crate) max: [Line<f32>; TILE_LINES],
    /// Sum of `exp(score - max)`.
    pub(crate) sums: [Line<f32>; TILE_LINES],
}

impl Running {
    /// No key was seen.
    pub(crate) fn new() -> Self {
        Self {
            max: [Line([f32::NEG_INFINITY; LANES]); TILE_LINES],
            sums: [Line([0.0; LANES]); TILE_LINES],
        }
    }
}

/// `[out_features, in_features]` in 8 bits, or some of its rows, for products with few rows.
#[derive(Clone, Copy)]
pub(crate) struct ByteMatrix<'a> {
    pub(crate) q: &'a [i8],
    /// Scales of the first slice of these rows, those of the next `out_features` further on.
    pub(crate) scales: &'a [f32],
    /// Sums of the weights of a slice, likewise.
    pub(crate) sums: &'a [i32],
    pub(crate) out_features: usize,
    pub(crate) slices: Slices,
}

/// `[matrix rows, k]` in bf16, or some of its rows, for products with few rows.
#[derive(Clone, Copy)]
pub(crate) struct Bf16Matrix<'a> {
    pub(crate) rows: &'a [bf16],
    pub(crate) k: usize,
}

/// One cache line of bytes.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(crate) struct Bytes(pub(crate) [u8; STEP]);

/// 64 16-bit activations, as two bytes each: unsigned, `x + 32768 = 256 high + low`, or signed,
/// `x - 128 = 256 high + low`.
#[derive(Clone, Copy)]
pub(crate) struct Halves {
    pub(crate) high: Bytes,
    pub(crate) low: Bytes,
}

/// What bytes of activations are, where they are multiplied with weights of 8 bits, four to a word. Many rows are
/// rounded to 8 bits; few have 16, as they are or in two bytes that are multiplied one after the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ByteForm {
    /// Unsigned.
    #[cfg_attr(
        not(target_arch = "x86_64"),
        allow(dead_code, reason = "other processors have no such table, but tests")
    )]
    Quads,
    /// Signed, for instructions that multiply signed with signed. Weights are from -127 on, so that two products
    /// fit into 16 bits.
    #[cfg_attr(
        not(target_arch = "aarch64"),
        expect(dead_code, reason = "other processors have no such table")
    )]
    SignedQuads,
}

impl ByteForm {
    /// What makes an unsigned byte with the zero point 128 one of this form.
    pub(crate) fn flip(self) -> u8 {
        match self {
            Self::SignedQuads => 0x80,
            Self::Quads => 0,
        }
    }
}

/// Some rows of 16-bit activations, as the products of bytes with few rows read them.
pub(crate) struct FewWords<'a> {
    /// `[rows, in_features]`
    pub(crate) x: &'a [i16],
    /// What the halves are.
    pub(crate) form: ByteForm,
    /// The same as bytes: groups of [`GROUP_ROWS`] rows, the last of fewer, each `[lines][rows]`. Empty
    /// where they are multiplied as they are.
    pub(crate) lines: Vec<Halves>,
    pub(crate) scales: &'a [f32],
}

impl<'a> FewWords<'a> {
    /// Takes activations `[rows, in_features]` and their scales `[rows, slices]`, as they are.
    pub(crate) fn new(form: ByteForm, x: &'a [i16], scales: &'a [f32]) -> Self {
        Self {
            x,
            form,
            lines: Vec::new(),
            scales,
        }
    }

    /// Takes them as bytes too.
    pub(crate) fn halved(
        form: ByteForm,
        x: &'a [i16],
        in_features: usize,
        scales: &'a [f32],
    ) -> Self {
        Self {
            lines: Self::halves(form, x, in_features),
            ..Self::new(form, x, scales)
        }
    }

    fn halves(form: ByteForm, x: &[i16], in_features: usize) -> Vec<Halves> {
        let n_lines = in_features.div_ceil(STEP);
        let zeros = Halves {
            high: Bytes([0; STEP]),
            low: Bytes([0; STEP]),
        };
        let mut lines = vec![zeros; x.len() / in_features * n_lines];
        let groups = lines.chunks_mut(GROUP_ROWS * n_lines);
        for (x, group) in x.chunks(GROUP_ROWS * in_features).zip(groups) {
            let rows = x.len() / in_features;
            for (r, x) in x.chunks_exact(in_features).enumerate() {
                let lines = group[r..].iter_mut().step_by(rows);
                for (line, x) in lines.zip(x.chunks(STEP)) {
                    let halves = line.high.0.iter_mut().zip(&mut line.low.0);
                    for ((high, low), x) in halves.zip(x) {
                        let x = x.cast_unsigned() ^ 0x8000;
                        *high = (x >> 8) as u8 ^ form.flip();
                        *low = x as u8 ^ form.flip();
                    }
                }
            }
        }
        lines
    }
}
