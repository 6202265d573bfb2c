// SPDX-License-Identifier: MPL-2.0

//! Products of a matrix with 1 to 4 rows, which are bound by reading the matrix.

use std::marker::PhantomData;
use std::ops::Range;

use super::{Dot, Registers};
use crate::cpu::isa::operands::{Bf16Matrix, ByteForm, ByteMatrix, FewWords, Halves, STEP};
use crate::cpu::slices::Slices;

/// How many bytes ahead of where a matrix is read it is asked for, at least, where it is: the products of a line
/// with several rows take longer than the processor looks ahead. With one row they do not, and asking costs some
/// processors speed ([`asks_near`](Registers::asks_near)).
const AHEAD: usize = 8192;

/// How a matrix is asked for before it is read.
#[derive(Clone, Copy)]
pub(in crate::cpu::isa) struct Ahead {
    /// Into the first cache.
    near: bool,
    /// How far ahead; 0 if nothing is asked for.
    bytes: usize,
}

impl Ahead {
    /// Nothing is asked for.
    const NOTHING: Self = Self {
        near: false,
        bytes: 0,
    };

    /// For so many rows of activations, and where the rows of the matrix after the next are.
    #[inline(always)]
    fn of<S: Registers>(rows: usize, next: usize) -> Self {
        let near = S::asks_near();
        let bytes = match rows {
            1 if near => AHEAD,
            1 => 0,
            _ => next.max(AHEAD),
        };
        Self { near, bytes }
    }

    /// So far, if that is into the first cache.
    #[inline(always)]
    pub(super) fn if_near<S: Registers>(bytes: usize) -> Self {
        let near = S::asks_near();
        let bytes = if near { bytes } else { 0 };
        Self { near, bytes }
    }

    /// Asks for the cache line that far after `at`.
    ///
    /// # Safety
    ///
    /// The processor must have the set of `S`.
    #[inline(always)]
    pub(super) unsafe fn ask<S: Registers, T>(self, at: &T) {
        let at = std::ptr::from_ref(at).cast();
        // SAFETY: the caller's: the processor has the set of `S`.
        unsafe {
            if self.bytes == 0 {
            } else if self.near {
                S::prefetch_near(at, self.bytes);
            } else {
                S::prefetch_far(at, self.bytes);
            }
        }
    }
}

/// Columns of a matrix that are multiplied with several rows of activations before the next ones are:
/// 16 KB of four rows of them stay in the first cache.
const PIECE_COLUMNS: usize = 2048;

/// Up to 4 rows of 16-bit activations, in the form that an instruction set multiplies.
pub(in crate::cpu::isa) trait Group<S: Registers> {
    /// What the activations' zero point adds to each lane's sum, of weights with this sum.
    fn offset(&self, sum: i32) -> i32;

    /// `[R, slices]`
    fn scales(&self) -> &[f32];

    /// Activation `column` of row `row`, without the zero point taken away.
    fn number(&self, row: usize, column: usize) -> i32;

    /// Sums of the products of `R` rows with the columns from `first` on of `W` matrix rows, of which
    /// whole lines are given; those `ahead` of them are asked for.
    ///
    /// # Safety
    ///
    /// The processor must have the set of `S`.
    unsafe fn sums<const R: usize, const W: usize>(
        &self,
        first: usize,
        w: [&[[i8; STEP]]; W],
        ahead: Ahead,
    ) -> [[S::Ints; R]; W];
}

/// Activations as they are, `[R, in_features]`: words of two.
pub(in crate::cpu::isa) struct Pairs<'a, D> {
    x: &'a [i16],
    in_features: usize,
    /// `[R, slices]`
    scales: &'a [f32],
    dot: PhantomData<D>,
}

/// Activations as two bytes each: words of four, and each word of weights is multiplied twice.
pub(in crate::cpu::isa) struct Quads<'a, D> {
    form: ByteForm,
    /// `[lines][rows]`, the last line of a row filled up with zeros.
    lines: &'a [Halves],
    rows: usize,
    /// `[R, slices]`
    scales: &'a [f32],
    dot: PhantomData<D>,
}

#[cfg_attr(
    not(target_arch = "x86_64"),
    expect(dead_code, reason = "other processors have no such table")
)]
impl<'a, D> Pairs<'a, D> {
    /// Whether activations are taken as two bytes each.
    pub(in crate::cpu::isa) const HALVES: bool = false;

    /// Takes the rows of a group.
    pub(in crate::cpu::isa) fn new(x: &'a FewWords<'_>, rows: Range<usize>, by: Slices) -> Self {
        let in_features = by.in_features();
        Self {
            x: &x.x[rows.start * in_features..rows.end * in_features],
            in_features,
            scales: &x.scales[rows.start * by.count()..rows.end * by.count()],
            dot: PhantomData,
        }
    }
}

impl<'a, D> Quads<'a, D> {
    /// Whether activations are taken as two bytes each.
    pub(in crate::cpu::isa) const HALVES: bool = true;

    /// Takes the rows of a group.
    pub(in crate::cpu::isa) fn new(x: &'a FewWords<'_>, rows: Range<usize>, by: Slices) -> Self {
        let n_lines = by.in_features().div_ceil(STEP);
        Self {
            form: x.form,
            lines: &x.lines[rows.start * n_lines..rows.end * n_lines],
            rows: rows.len(),
            scales: &x.scales[rows.start * by.count()..rows.end * by.count()],
            dot: PhantomData,
        }
    }
}

impl<S: Registers, D: Dot<S, Sum = S::Ints>> Group<S> for Pairs<'_, D> {
    fn offset(&self, _: i32) -> i32 {
        0
    }

    fn scales(&self) -> &[f32] {
        self.scales
    }

    fn number(&self, row: usize, column: usize) -> i32 {
        i32::from(self.x[row * self.in_features + column])
    }

    #[inline(always)]
    unsafe fn sums<const R: usize, const W: usize>(
        &self,
        first: usize,
        w: [&[[i8; STEP]]; W],
        ahead: Ahead,
    ) -> [[S::Ints; R]; W] {
        let n = w[0].len();
        let mut x: [&[[i16; STEP]]; R] = [&[]; R];
        for r in 0..R {
            x[r] = &self.x[r * self.in_features + first..].as_chunks().0[..n];
        }
        // SAFETY: the caller's; 64 columns are read of each line, `2 N` at a time.
        unsafe {
            let mut sums = [[D::zero(); R]; W];
            for at in 0..n {
                for column in (0..STEP).step_by(2 * S::N) {
                    let mut words = [D::zero(); W];
                    for j in 0..W {
                        if column == 0 {
                            ahead.ask::<S, _>(&w[j][at]);
                        }
                        words[j] = S::load_bytes_wide(w[j][at].as_ptr().add(column));
                    }
                    for r in 0..R {
                        let x = S::load_ints(x[r][at].as_ptr().add(column).cast());
                        for j in 0..W {
                            sums[j][r] = D::dot(sums[j][r], x, words[j]);
                        }
                    }
                }
            }
            sums
        }
    }
}

impl<S: Registers, D: Dot<S, Sum = S::Ints>> Group<S> for Quads<'_, D> {
    fn offset(&self, sum: i32) -> i32 {
        // So many times the sum, a part of it in each lane. A slice's sum is below 2^16.
        let all = match self.form {
            ByteForm::SignedQuads => -(sum << 7),
            ByteForm::Quads => sum << 15,
        };
        all / S::N as i32
    }

    fn scales(&self) -> &[f32] {
        self.scales
    }

    fn number(&self, row: usize, column: usize) -> i32 {
        let Halves { high, low } = &self.lines[column / STEP * self.rows + row];
        let (high, low) = (high.0[column % STEP], low.0[column % STEP]);
        match self.form {
            ByteForm::SignedQuads => {
                i32::from(i16::from_be_bytes([high, 0])) + i32::from(low as i8)
            }
            ByteForm::Quads => i32::from(u16::from_be_bytes([high, low])),
        }
    }

    #[inline(always)]
    unsafe fn sums<const R: usize, const W: usize>(
        &self,
        first: usize,
        w: [&[[i8; STEP]]; W],
        ahead: Ahead,
    ) -> [[S::Ints; R]; W] {
        // Slices begin at multiples of 64.
        let lines = &self.lines.as_chunks::<R>().0[first / STEP..][..w[0].len()];
        // SAFETY: the caller's.
        unsafe {
            // Two sums for each, where few would wait for each other.
            let mut sums = [[[D::zero(); R]; W]; 2];
            pass::<S, D, R, W, true>(lines, w, ahead, &mut sums);
            // At most 128 products below 2^23 to a lane stay below 2^31.
            for sums in &mut sums {
                for j in 0..W {
                    for r in 0..R {
                        sums[j][r] = S::times_256(sums[j][r]);
                    }
                }
            }
            pass::<S, D, R, W, false>(lines, w, Ahead::NOTHING, &mut sums);
            let [mut all, more] = sums;
            for j in 0..W {
                for r in 0..R {
                    all[j][r] = S::add_ints(all[j][r], more[j][r]);
                }
            }
            all
        }
    }
}

/// Adds the products of one half of the activations.
#[inline(always)]
unsafe fn pass<S, D, const R: usize, const W: usize, const HIGH: bool>(
    lines: &[[Halves; R]],
    w: [&[[i8; STEP]]; W],
    ahead: Ahead,
    sums: &mut [[[S::Ints; R]; W]; 2],
) where
    S: Registers,
    D: Dot<S, Sum = S::Ints>,
{
    for (at, line) in lines.iter().enumerate() {
        for (i, column) in (0..STEP).step_by(4 * S::N).enumerate() {
            let sums = &mut sums[if R * W < 6 { i % 2 } else { 0 }];
            // SAFETY: the caller's; 64 columns are read of each line, `4 N` at a time.
            unsafe {
                let mut words = [D::zero(); W];
                for j in 0..W {
                    if column == 0 {
                        ahead.ask::<S, _>(&w[j][at]);
                    }
                    words[j] = S::load_ints(w[j][at].as_ptr().add(column).cast());
                }
                for r in 0..R {
                    let half = if HIGH { &line[r].high } else { &line[r].low };
                    let x = S::load_ints(half.0.as_ptr().add(column).cast());
                    for j in 0..W {
                        sums[j][r] = D::dot(sums[j][r], x, words[j]);
                    }
                }
            }
        }
    }
}

/// The slices of the matrix, a piece of [`PIECE_COLUMNS`] at a time.
fn pieces(slices: Slices) -> impl Iterator<Item = Range<usize>> {
    let n = slices.count();
    let each = (PIECE_COLUMNS / slices.range(0).len().max(1)).max(1);
    (0..n)
        .step_by(each)
        .map(move |first| first..n.min(first + each))
}

/// `y[i, first..first + R]` for a group of `R` rows of activations; `W` matrix rows are multiplied at a
/// time.
///
/// # Safety
///
/// The processor must have the set of `S`.
#[inline(always)]
pub(in crate::cpu::isa) unsafe fn words_rows<S, G, const R: usize, const W: usize>(
    x: &G,
    matrix: ByteMatrix<'_>,
    first: usize,
    y: &mut [f32],
) where
    S: Registers,
    G: Group<S>,
{
    let n = matrix.q.len() / matrix.slices.in_features();
    let rows = y.len() / n;
    for y in y.chunks_exact_mut(rows) {
        y[first..first + R].fill(0.0);
    }
    if R == 1 {
        // The matrix is one stream of bytes.
        for i in 0..n {
            for piece in pieces(matrix.slices) {
                // SAFETY: the caller's.
                let [[sum]] = unsafe { block::<S, G, 1, 1>(x, matrix, i, piece) };
                y[i * rows + first] += sum;
            }
        }
        return;
    }
    for piece in pieces(matrix.slices) {
        // Several matrix rows at a time: the activations are read less often, and more sums are on
        // their way.
        let whole = n / W * W;
        for i in (0..whole).step_by(W) {
            // SAFETY: the caller's.
            let sums = unsafe { block::<S, G, R, W>(x, matrix, i, piece.clone()) };
            for (j, sums) in sums.iter().enumerate() {
                add(sums, &mut y[(i + j) * rows + first..]);
            }
        }
        for i in whole..n {
            // SAFETY: the caller's.
            let [sums] = unsafe { block::<S, G, R, 1>(x, matrix, i, piece.clone()) };
            add(&sums, &mut y[i * rows + first..]);
        }
    }
}

fn add(sums: &[f32], y: &mut [f32]) {
    for (y, sum) in y.iter_mut().zip(sums) {
        *y += sum;
    }
}

/// Products of the slices `piece` of `W` matrix rows from `i` on with `R` rows of activations.
#[inline(always)]
unsafe fn block<S, G, const R: usize, const W: usize>(
    x: &G,
    matrix: ByteMatrix<'_>,
    i: usize,
    piece: Range<usize>,
) -> [[f32; R]; W]
where
    S: Registers,
    G: Group<S>,
{
    let (k, n_slices, scales) = (
        matrix.slices.in_features(),
        matrix.slices.count(),
        x.scales(),
    );
    let ahead = Ahead::of::<S>(R, 2 * W * k);
    // SAFETY: the caller's.
    unsafe {
        let mut totals = [[S::splat(0.0); R]; W];
        let mut rests = [[0.0f32; R]; W];
        for s in piece {
            let range = matrix.slices.range(s);
            let n = range.len() / STEP;
            let mut w: [&[[i8; STEP]]; W] = [&[]; W];
            for j in 0..W {
                w[j] = &matrix.q[(i + j) * k..][range.clone()].as_chunks().0[..n];
            }
            let at = s * matrix.out_features + i;
            if ahead.near {
                // Those of the next rows, which are streams of their own.
                S::prefetch_near(matrix.scales[at..].as_ptr().cast(), 4 * STEP);
                S::prefetch_near(matrix.sums[at..].as_ptr().cast(), 4 * STEP);
            }
            let sums = x.sums::<R, W>(range.start, w, ahead);
            for j in 0..W {
                let at = s * matrix.out_features + i + j;
                let offset = S::splat_int(x.offset(matrix.sums[at]));
                for r in 0..R {
                    let scale = S::splat(matrix.scales[at] * scales[r * n_slices + s]);
                    let sum = S::to_floats(S::sub_ints(sums[j][r], offset));
                    totals[j][r] = S::fma(sum, scale, totals[j][r]);
                }
            }
            for column in range.start + n * STEP..range.end {
                for j in 0..W {
                    let weight = i32::from(matrix.q[(i + j) * k + column]);
                    let scale = matrix.scales[s * matrix.out_features + i + j];
                    for r in 0..R {
                        let product = weight * x.number(r, column);
                        rests[j][r] += product as f32 * scale * scales[r * n_slices + s];
                    }
                }
            }
        }
        for j in 0..W {
            for r in 0..R {
                rests[j][r] += S::sum(totals[j][r]);
            }
        }
        rests
    }
}

/// `y[i, first..first + R]` for a group of `R` of the `rows` rows of activations, `x` `[R, k]`.
///
/// # Safety
///
/// The processor must have the set of `S`.
#[inline(always)]
pub(in crate::cpu::isa) unsafe fn bf16_rows<S: Registers, const R: usize>(
    x: &[f32],
    matrix: Bf16Matrix<'_>,
    first: usize,
    rows: usize,
    y: &mut [f32],
) {
    /// Registers of a row that are multiplied at a time.
    const DEPTH: usize = 4;
    let k = matrix.k;
    let step = DEPTH * S::N;
    let mut rows_of_x: [&[f32]; R] = [&[]; R];
    for r in 0..R {
        rows_of_x[r] = &x[r * k..][..k];
    }
    let n_sums = if S::COUNT < 32 { 2 } else { DEPTH };
    let ahead = Ahead::of::<S>(R, 0);
    for (w, y) in matrix.rows.chunks_exact(k).zip(y.chunks_exact_mut(rows)) {
        let whole = k / step * step;
        // SAFETY: the caller's; up to `whole`, `step` numbers are there of each row.
        unsafe {
            // As many sums however many rows there are: what one comes to does not depend on the others.
            let mut sums = [[S::splat(0.0); DEPTH]; R];
            for at in (0..whole).step_by(step) {
                ahead.ask::<S, _>(&w[at]);
                for d in 0..DEPTH {
                    let wide = S::load_bf16(w.as_ptr().add(at + d * S::N));
                    for r in 0..R {
                        let x = S::load(rows_of_x[r].as_ptr().add(at + d * S::N));
                        sums[r][d % n_sums] = S::fma(wide, x, sums[r][d % n_sums]);
                    }
                }
            }
            for r in 0..R {
                let rest = rows_of_x[r][whole..].iter().zip(&w[whole..]);
                let rest: f32 = rest.map(|(&x, &w)| x * w.to_f32()).sum();
                let mut sum = S::add(sums[r][0], sums[r][1]);
                if n_sums == DEPTH {
                    sum = S::add(sum, S::add(sums[r][2], sums[r][3]));
                }
                y[first + r] = S::sum(sum) + rest;
            }
        }
    }
}
