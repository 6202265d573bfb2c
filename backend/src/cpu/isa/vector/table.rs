// SPDX-License-Identifier: MPL-2.0

//! The kernels compiled for an instruction set, as functions and as tables.

/// Compiles what is the same for all tables of an instruction set: its registers, their features, how
/// tiles of f32 are multiplied, `[R, V, R2, V2]` at a time, and the plain loops that it takes.
macro_rules! kernels {
    ($registers:ty, $features:literal, $floats:ty, [$r:literal, $v:literal, $r2:literal, $v2:literal], $plain:path) => {
        #[target_feature(enable = $features)]
        fn floats(a: &[Words], b: &[Line<u32>], out: Out<'_>) {
            // SAFETY: the features are those of the registers.
            unsafe { tiles::floats_tile::<$registers, $floats, $r, $v, $r2, $v2>(a, b, out) }
        }

        #[target_feature(enable = $features)]
        fn hide(scores: &mut [Line<f32>], limits: &[Line<i32>], first: usize) {
            softmax::hide(scores, limits, first);
        }

        #[target_feature(enable = $features)]
        fn weigh(
            scores: &[Line<f32>],
            width: usize,
            running: &mut Running,
            to: Weights<'_>,
            sums: &mut [Line<f32>],
        ) {
            // SAFETY: the features are those of the registers.
            unsafe { softmax::weigh::<$registers>(scores, width, running, to, sums) }
        }

        fn few_bf16(x: &[f32], w: Bf16Matrix<'_>, y: &mut [f32]) {
            let k = w.k;
            let rows = x.len() / k;
            for first in (0..rows).step_by(GROUP_ROWS) {
                let n = (rows - first).min(GROUP_ROWS);
                let x = &x[first * k..][..n * k];
                // SAFETY: the table is handed out where the features were found.
                unsafe {
                    match n {
                        4 => bf16_rows::<4>(x, w, first, rows, y),
                        3 => bf16_rows::<3>(x, w, first, rows, y),
                        2 => bf16_rows::<2>(x, w, first, rows, y),
                        _ => bf16_rows::<1>(x, w, first, rows, y),
                    }
                }
            }
        }

        #[target_feature(enable = $features)]
        fn bf16_rows<const R: usize>(
            x: &[f32],
            w: Bf16Matrix<'_>,
            first: usize,
            rows: usize,
            y: &mut [f32],
        ) {
            // SAFETY: the features are those of the registers.
            unsafe { few::bf16_rows::<$registers, R>(x, w, first, rows, y) }
        }

        #[target_feature(enable = $features)]
        fn scores(q: &[f32], k: &[bf16], dim: usize, to: &mut [f32]) {
            // SAFETY: the features are those of the registers.
            unsafe { attend::scores::<$registers>(q, k, dim, to) }
        }

        fn weighted(p: &[f32], v: &[bf16], width: usize, y: &mut [f32]) {
            let n = v.len() / width;
            let p = p.chunks(GROUP_ROWS * n);
            for (p, y) in p.zip(y.chunks_mut(GROUP_ROWS * width)) {
                // SAFETY: the table is handed out where the features were found.
                unsafe {
                    match y.len() / width {
                        4 => weighted_rows::<4>(p, v, width, y),
                        3 => weighted_rows::<3>(p, v, width, y),
                        2 => weighted_rows::<2>(p, v, width, y),
                        _ => weighted_rows::<1>(p, v, width, y),
                    }
                }
            }
        }

        #[target_feature(enable = $features)]
        fn weighted_rows<const R: usize>(p: &[f32], v: &[bf16], width: usize, y: &mut [f32]) {
            // SAFETY: the features are those of the registers.
            unsafe { attend::weighted::<$registers, R>(p, v, width, y) }
        }

        #[target_feature(enable = $features)]
        fn gelu_tanh(x: &mut [f32]) {
            // SAFETY: the features are those of the registers.
            unsafe { softmax::gelu_tanh::<$registers>(x) }
        }

        #[target_feature(enable = $features)]
        fn swiglu(gate: &[f32], up: &[f32], y: &mut [f32]) {
            // SAFETY: the features are those of the registers.
            unsafe { softmax::swiglu::<$registers>(gate, up, y) }
        }

        /// Attention to keys and values in bf16; products are f32's.
        pub(super) static BF16: Bf16Kernels = Bf16Kernels {
            pairs: None,
            // SAFETY: the table is handed out where the features were found.
            scores: |q, k, dim, to| unsafe { scores(q, k, dim, to) },
            weighted,
        };

        /// The plain loops, and what is better by hand.
        pub(super) static LOOPS: Loops = Loops {
            // SAFETY: the table is handed out where the features were found.
            gelu_tanh: |x| unsafe { gelu_tanh(x) },
            // SAFETY: as above.
            swiglu: |gate, up, y| unsafe { swiglu(gate, up, y) },
            ..$plain
        };
    };
}

/// Products of bytes for processors with these features, of words that stand side by side, `[R, V, R2, V2]` at a time.
macro_rules! gathered {
    ($registers:ty, $features:literal, $tile:ty, [$r:literal, $v:literal, $r2:literal, $v2:literal]) => {
        ByteProduct::Gathered {
            multiply: |a, b, scaling, out| {
                #[target_feature(enable = $features)]
                fn bytes(a: &[Words], b: &[Line<u32>], scaling: &Scaling<'_>, out: Out<'_>) {
                    // SAFETY: the features are those of the registers and of the product.
                    unsafe {
                        tiles::scaled_tile::<$registers, $tile, $r, $v, $r2, $v2>(
                            a, b, scaling, out,
                        );
                    }
                }
                // SAFETY: the table is handed out where the features were found.
                unsafe { bytes(a, b, scaling, out) }
            },
            gather: memory::BYTE_WORDS,
        }
    };
}

/// A table for processors with these features: the form of bytes; how tiles of them are multiplied, of so many lines at
/// least; how few rows are, with so many matrix rows at a time if there are 2, 3 or 4.
macro_rules! table {
    ($(#[$doc:meta])* $table:ident, $registers:ty, $features:literal, $form:ident,
        $bytes:expr, $least:literal,
        $group:ident<$few:ty>, [$two:literal, $three:literal, $four:literal]) => {
        $(#[$doc])*
        pub(super) static $table: TileKernels = TileKernels {
            form: ByteForm::$form,
            bytes: $bytes,
            least_lines: $least,
            // SAFETY: the table is handed out where the features were found; so with all below.
            floats: |a, b, out| unsafe { floats(a, b, out) },
            // SAFETY: as above.
            transpose: |lines| unsafe { memory::transpose(lines) },
            prefetch: memory::prefetch,
            // SAFETY: as above.
            hide: |scores, limits, first| unsafe { hide(scores, limits, first) },
            // SAFETY: as above.
            weigh: |scores, width, running, to, sums| unsafe {
                weigh(scores, width, running, to, sums);
            },
            few_halves: few::$group::<$few>::HALVES,
            few_words: |x, w, y| {
                #[target_feature(enable = $features)]
                fn rows<const R: usize, const W: usize>(
                    x: &FewWords<'_>,
                    w: ByteMatrix<'_>,
                    first: usize,
                    y: &mut [f32],
                ) {
                    let x = few::$group::<$few>::new(x, first..first + R, w.slices);
                    // SAFETY: the features are those of the registers and of the product.
                    unsafe { few::words_rows::<$registers, _, R, W>(&x, w, first, y) }
                }
                let n = x.x.len() / w.slices.in_features();
                for first in (0..n).step_by(GROUP_ROWS) {
                    // SAFETY: as above.
                    unsafe {
                        match n - first {
                            1 => rows::<1, 1>(x, w, first, y),
                            2 => rows::<2, $two>(x, w, first, y),
                            3 => rows::<3, $three>(x, w, first, y),
                            _ => rows::<4, $four>(x, w, first, y),
                        }
                    }
                }
            },
            few_bf16,
        };
    };
}

pub(in crate::cpu::isa) use {gathered, kernels, table};
