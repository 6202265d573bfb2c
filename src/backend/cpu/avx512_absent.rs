// SPDX-License-Identifier: MPL-2.0

//! Stands in for [`avx512`](super::avx512) on other processors: nobody can have its proofs.

use half::bf16;

use super::lanes::{LANES, Line, TILE_LINES};
use super::quantize::Slices;

pub(super) const TILE_ROWS: usize = 8;

pub(super) type Words = [u32; TILE_ROWS];

#[derive(Debug, Clone, Copy)]
pub(super) enum Avx512 {}

#[derive(Debug, Clone, Copy)]
pub(super) enum Avx512Bf16 {}

#[expect(dead_code, reason = "nobody reads what nobody makes")]
pub(super) struct Scaling<'a> {
    pub(super) offsets: [i32; TILE_ROWS],
    pub(super) scales: [f32; TILE_ROWS],
    pub(super) row_scales: &'a [Line<f32>],
}

#[expect(dead_code, reason = "nobody reads what nobody makes")]
pub(super) struct Out<'a> {
    pub(super) lines: &'a mut [Line<f32>],
    pub(super) stride: usize,
    pub(super) add: bool,
}

#[expect(dead_code, reason = "nobody reads what nobody makes")]
pub(super) enum Weights<'a> {
    Floats(&'a mut [Line<u32>]),
    Pairs(&'a mut [Line<u32>]),
}

pub(super) struct Running {
    pub(super) sums: [Line<f32>; TILE_LINES],
}

impl Running {
    pub(super) fn new() -> Self {
        Self {
            sums: [Line([0.0; LANES]); TILE_LINES],
        }
    }
}

#[expect(dead_code, reason = "nobody reads what nobody makes")]
#[derive(Clone, Copy)]
pub(super) struct ByteMatrix<'a> {
    pub(super) q: &'a [i8],
    pub(super) scales: &'a [f32],
    pub(super) sums: &'a [i32],
    pub(super) out_features: usize,
    pub(super) slices: Slices,
}

pub(super) struct FewWords<'a>(std::marker::PhantomData<&'a f32>);

impl<'a> FewWords<'a> {
    pub(super) fn new(_: &[i16], _: usize, _: &'a [f32]) -> Self {
        Self(std::marker::PhantomData)
    }
}

impl Avx512 {
    pub(super) fn detect() -> Option<Self> {
        None
    }

    pub(super) fn bytes(self, _: &[Words], _: &[Line<u32>], _: &Scaling<'_>, _: Out<'_>) {
        match self {}
    }

    pub(super) fn floats(self, _: &[Words], _: &[Line<u32>], _: Out<'_>) {
        match self {}
    }

    pub(super) fn gelu_tanh(self, _: &mut [f32]) {
        match self {}
    }

    pub(super) fn swiglu(self, _: &[f32], _: &[f32], _: &mut [f32]) {
        match self {}
    }

    pub(super) fn prefetch<T>(self, _: &T, _: usize) {
        match self {}
    }

    pub(super) fn transpose(self, _: &mut [Line<u32>; LANES]) {
        match self {}
    }

    pub(super) fn hide(self, _: &mut [Line<f32>], _: &[Line<i32>], _: usize) {
        match self {}
    }

    pub(super) fn weigh(
        self,
        _: &[Line<f32>],
        _: usize,
        _: &mut Running,
        _: Weights<'_>,
        _: &mut [Line<f32>],
    ) {
        match self {}
    }

    pub(super) fn few_words(self, _: &FewWords<'_>, _: ByteMatrix<'_>, _: &mut [f32]) {
        match self {}
    }

    pub(super) fn few_bf16(self, _: &[f32], _: &[bf16], _: usize, _: &mut [f32]) {
        match self {}
    }
}

impl Avx512Bf16 {
    pub(super) fn detect() -> Option<Self> {
        None
    }

    pub(super) fn scores(self, _: &[f32], _: &[bf16], _: usize, _: &mut [f32]) {
        match self {}
    }

    pub(super) fn weighted(self, _: &[f32], _: &[bf16], _: usize, _: &mut [f32]) {
        match self {}
    }

    pub(super) fn pairs(self, _: &[Words], _: &[Line<u32>], _: Out<'_>) {
        match self {}
    }
}
