// SPDX-License-Identifier: MPL-2.0

use super::*;
use crate::cpu::isa::Isa;

fn noise(n: usize, seed: u32) -> Vec<f32> {
    let mut state = seed;
    let mut next = move || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / 8_388_608.0 - 1.0
    };
    (0..n).map(|_| next() + next() + next()).collect()
}

fn matrix_of(w: &[f32], out_features: usize) -> Int8Matrix {
    let mut builder = Int8Builder::new(out_features, w.len() / out_features);
    for row in w.chunks(w.len() / out_features) {
        builder.push(row);
    }
    builder.finish()
}

/// Error of a product of `x` and `w` as a part of the exact product's size.
fn error(
    [rows, k, n]: [usize; 3],
    x: &[f32],
    w: &[f32],
    product: impl Fn(&Int8Matrix, &[f32], &mut [f32]),
) -> f64 {
    let mut y = vec![f32::NAN; rows * n];
    product(&matrix_of(w, n), x, &mut y);
    let (mut off, mut size) = (0.0, 0.0);
    for r in 0..rows {
        for o in 0..n {
            let terms = x[r * k..][..k].iter().zip(&w[o * k..][..k]);
            let want: f64 = terms.map(|(&x, &w)| f64::from(x) * f64::from(w)).sum();
            off += (f64::from(y[r * n + o]) - want).powi(2);
            size += want * want;
        }
    }
    (off / size).sqrt()
}

/// With the kernels of each instruction set that this processor has.
fn kernels() -> Vec<Gemm> {
    let all = Isa::available().into_iter();
    all.map(|isa| Gemm::new(isa, &Cancel::default())).collect()
}

/// How exact a product of many rows is: to 8 bits, and to 7 where `rten-gemm` multiplies on a processor whose
/// product of bytes saturates.
fn many_rows_bound(gemm: &Gemm) -> f64 {
    match gemm.isa.tiles.is_none() && gemm.int8.may_saturate() {
        true => 0.02,
        false => 0.012,
    }
}

#[test]
fn many_rows_are_exact_to_eight_bits() {
    // The last three: words that are not whole, one line of rows, tiles of two.
    let sizes = [[25, 64, 5], [40, 1100, 300], [33, 520, 128]];
    for [rows, k, n] in sizes
        .into_iter()
        .chain([[9, 515, 9], [17, 1027, 13], [60, 1101, 11]])
    {
        let (x, w) = (noise(rows * k, 1), noise(n * k, 2));
        for gemm in kernels() {
            let forward = |matrix: &Int8Matrix, x: &[f32], y: &mut [f32]| {
                matrix.forward(&gemm, x, Epilogue::default(), y);
            };
            let error = error([rows, k, n], &x, &w, forward);
            let name = gemm.isa.name;
            assert!(
                error < many_rows_bound(&gemm),
                "{name}, {rows}x{k}x{n}: {error}"
            );
        }
    }
}

#[test]
fn many_rows_are_exact_to_seven_bits_where_sums_may_saturate() {
    let [rows, k, n] = [40, 520, 130];
    let (x, w) = (noise(rows * k, 7), noise(n * k, 8));
    let error = error([rows, k, n], &x, &w, |matrix, x, y| {
        matrix.forward_many(&Gemm::default(), 64, x, y);
    });
    assert!(error < 0.02, "{error}");
}

#[test]
fn few_rows_round_the_weights_only() {
    for [rows, k, n] in [[1, 64, 5], [1, 1100, 700], [8, 520, 33]] {
        let (x, w) = (noise(rows * k, 3), noise(n * k, 4));
        for gemm in kernels() {
            let forward = |matrix: &Int8Matrix, x: &[f32], y: &mut [f32]| {
                matrix.forward(&gemm, x, Epilogue::default(), y);
            };
            let error = error([rows, k, n], &x, &w, forward);
            assert!(error < 0.008, "{rows}x{k}x{n}: {error}");
        }
    }
}

#[test]
fn a_row_that_is_looked_up_is_the_one_that_was_rounded() {
    let (k, n) = (1100, 5);
    let w = noise(n * k, 11);
    let matrix = matrix_of(&w, n);
    for (id, want) in w.chunks(k).enumerate() {
        let mut row = vec![f32::NAN; k];
        matrix.look_up(id, &mut row);
        for (got, want) in row.iter().zip(want) {
            assert!((got - want).abs() < 3.0 / 254.0 + 1e-6);
        }
    }
}

#[test]
fn an_outlier_column_does_not_spoil_the_others() {
    let (rows, k, n) = (40, 256, 64);
    let mut x = noise(rows * k, 5);
    let mut w = noise(n * k, 6);
    for row in x.chunks_mut(k) {
        row[17] *= 300.0;
    }
    // The matrix ignores the column, so what it spoils is all there is to see.
    for row in w.chunks_mut(k) {
        row[17] = 0.0;
    }
    assert_eq!(outlier_columns(&x, k), [17]);
    for gemm in kernels() {
        let forward = |matrix: &Int8Matrix, x: &[f32], y: &mut [f32]| {
            matrix.forward(&gemm, x, Epilogue::default(), y);
        };
        let error = error([rows, k, n], &x, &w, forward);
        assert!(error < many_rows_bound(&gemm), "{}: {error}", gemm.isa.name);
    }
}

#[test]
fn outlier_columns_are_multiplied_in_f32() {
    let (rows, k, n) = (40, 600, 70);
    let (mut x, w) = (noise(rows * k, 9), noise(n * k, 10));
    for row in x.chunks_mut(k) {
        row[3] *= 200.0;
        row[555] *= 300.0;
    }
    for gemm in kernels() {
        let forward = |matrix: &Int8Matrix, x: &[f32], y: &mut [f32]| {
            matrix.forward(&gemm, x, Epilogue::default(), y);
        };
        let error = error([rows, k, n], &x, &w, forward);
        assert!(error < 0.008, "{error}");
    }
}

/// Channels whose activations are large and whose weights are small by as much, as a norm with
/// large weights makes them: what they add to the product is as much as the others'.
#[test]
fn planted_channels_lose_no_more_than_the_others() {
    for (rows, factors) in [
        (40, [1000.0, 300.0, 50.0]),
        (1, [1000.0, 300.0, 50.0]),
        (40, [0.001, 0.01, 0.02]),
    ] {
        let (k, n) = (640, 96);
        let (mut x, mut w) = (noise(rows * k, 13), noise(n * k, 14));
        for (column, factor) in [11, 320, 600].into_iter().zip(factors) {
            x.iter_mut()
                .skip(column)
                .step_by(k)
                .for_each(|x| *x *= factor);
            w.iter_mut()
                .skip(column)
                .step_by(k)
                .for_each(|w| *w /= factor);
        }
        for gemm in kernels() {
            let forward = |matrix: &Int8Matrix, x: &[f32], y: &mut [f32]| {
                matrix.forward(&gemm, x, Epilogue::default(), y);
            };
            let error = error([rows, k, n], &x, &w, forward);
            let name = gemm.isa.name;
            assert!(
                error < many_rows_bound(&gemm),
                "{name}, {rows} rows, {factors:?}: {error}"
            );
        }
    }
}

#[test]
fn a_row_with_what_is_no_number_gives_none_and_the_others_are_not_touched() {
    let (k, n) = (1100, 200);
    let w = noise(n * k, 3);
    for gemm in kernels() {
        for rows in [1, 3, 40] {
            for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
                let mut x = noise(rows * k, 5);
                let row = rows / 2;
                x[row * k + 700] = bad;
                let mut y = vec![0.0; rows * n];
                matrix_of(&w, n).forward(&gemm, &x, Epilogue::default(), &mut y);
                for (i, y) in y.chunks_exact(n).enumerate() {
                    let is_number = |y: &f32| y.is_finite();
                    let all = y.iter().all(is_number);
                    assert_eq!(all, i != row, "{bad} in row {row} of {rows}: row {i}");
                    assert!(all || !y.iter().any(is_number), "part of row {i}");
                }
            }
        }
    }
}
