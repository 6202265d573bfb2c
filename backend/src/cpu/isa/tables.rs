// SPDX-License-Identifier: MPL-2.0

//! What an instruction set may have beside the plain loops.

use half::bf16;

use super::operands::{
    Bf16Matrix, ByteForm, ByteMatrix, FewWords, LANES, Line, Lines, Out, Running, Scaling,
    TILE_ROWS, Weights, Words,
};
use super::sorted::SortedWords;

/// Products of 8 rows of a matrix with a tile of activations, and of a matrix with very few rows.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TileKernels {
    /// What activations are multiplied as by `bytes`, and by `few_words` if they are halved.
    pub(crate) form: ByteForm,

    /// Lines of activations that a tile should have at least, if there are as many, 1 or 2: one has too few sums on
    /// their way for some processors.
    pub(crate) least_lines: usize,

    /// Products of bytes: words of weights with as many words of activations, 1 to 3 lines each.
    pub(crate) bytes: ByteProduct,

    /// Products of f32: words of a matrix with as many words of activations, 1 to 3 lines each.
    pub(crate) floats: fn(&[Words], &Lines<u32>, Out<'_>),

    /// Lines for columns: number `j` of line `i` becomes number `i` of line `j`.
    pub(crate) transpose: fn(&mut [Line<u32>; LANES]),

    /// Asks for the cache lines of so many bytes from an address on, which are needed soon.
    pub(crate) prefetch: fn(*const u8, usize),

    /// Hides from each lane of scores `[keys][lines]` the keys that are not below its limit; the first
    /// key has the number that is given.
    pub(crate) hide: fn(&mut Lines<f32>, &Lines<i32>, usize),

    /// Turns scores `[keys][lines]`, so many lines wide, into weights, `exp(score - max)`, in words of
    /// one key or of two (bf16); weighted sums `[any][lines]` of earlier keys are brought to the new
    /// maximum.
    pub(crate) weigh: fn(&Lines<f32>, usize, &mut Running, Weights<'_>, &mut Lines<f32>),

    /// Whether `few_words` takes activations as two bytes each, or else as they are.
    pub(crate) few_halves: bool,

    /// `y[i, r] = w[i] . x[r]`; `y` is `[matrix rows, rows]`. What a row comes to does not depend on the
    /// others.
    pub(crate) few_words: fn(&FewWords<'_>, ByteMatrix<'_>, &mut [f32]),

    /// The same for a bf16 matrix and `x` `[rows, k]`.
    pub(crate) few_bf16: fn(&[f32], Bf16Matrix<'_>, &mut [f32]),
}

impl TileKernels {
    /// Few rows of activations `[rows, in_features]` and their scales `[rows, slices]`, as `few_words` takes them.
    pub(crate) fn words<'a>(
        &self,
        x: &'a [i16],
        in_features: usize,
        scales: &'a [f32],
    ) -> FewWords<'a> {
        if self.few_halves {
            FewWords::halved(self.form, x, in_features, scales)
        } else {
            FewWords::new(self.form, x, scales)
        }
    }
}

/// How 8 rows of bytes are multiplied with a tile of activations.
#[derive(Debug, Clone, Copy)]
pub(crate) enum ByteProduct {
    /// Their words side by side.
    #[cfg_attr(
        not(any(target_arch = "x86_64", target_arch = "aarch64")),
        expect(dead_code, reason = "other processors have no such table yet")
    )]
    Gathered {
        multiply: WordsProduct,
        /// Puts the words of 8 rows side by side, as many as are asked for and are there, and says how many those
        /// are: a multiple of 4. The others, or all, are put there by `transpose`.
        gather: Option<ByteWords>,
    },
    /// Where they are in the matrix, four bytes to each word of activations.
    #[cfg_attr(
        not(target_arch = "x86_64"),
        expect(dead_code, reason = "other processors have no such table")
    )]
    InPlace {
        multiply: fn([&[i8]; TILE_ROWS], &Lines<u32>, &Scaling<'_>, Out<'_>),
        /// For rows that do not end with a whole word.
        gathered: WordsProduct,
    },
    /// Each row's sorted by how they are multiplied.
    #[cfg_attr(
        not(target_arch = "x86_64"),
        expect(dead_code, reason = "other processors have no such table")
    )]
    Sorted {
        sort: fn(&[i8], &mut SortedWords),
        multiply: fn([&SortedWords; TILE_ROWS], &Lines<u32>, &Scaling<'_>, Out<'_>),
    },
}

/// Products of words of bytes that stand side by side.
pub(crate) type WordsProduct = fn(&[Words], &Lines<u32>, &Scaling<'_>, Out<'_>);

/// Words of 8 rows of bytes side by side.
pub(crate) type ByteWords = fn([&[i8]; TILE_ROWS], &mut [Words]) -> usize;

/// Products of pairs of bf16.
pub(crate) type PairProduct = fn(&[Words], &Lines<u32>, Out<'_>);

/// Attention to keys and values kept in bf16, and products that round their operands to it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bf16Kernels {
    /// Products of pairs of bf16: words of a matrix with as many words of activations, 1 to 3 lines
    /// each. Where there are none, numbers are widened to f32.
    pub(crate) pairs: Option<PairProduct>,

    /// `scores[r, i] = q[r] . k[i]`: queries `q` `[few, dim]`, keys `k` `[keys, dim]`.
    pub(crate) scores: fn(&[f32], &[bf16], usize, &mut [f32]),

    /// `y[r] = sum_i p[r, i] * v[i]`: weights `p` `[few, keys]`, values `v` `[keys, width]`, `y` `[few,
    /// width]`.
    pub(crate) weighted: fn(&[f32], &[bf16], usize, &mut [f32]),
}
