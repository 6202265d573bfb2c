// SPDX-License-Identifier: MPL-2.0

use half::bf16;

use super::operands::{Bf16Matrix, ByteMatrix, LANES, Line, TILE_ROWS};
use super::*;
use crate::cpu::slices::Slices;

fn wave(n: usize, step: f32) -> Vec<f32> {
    (0..n).map(|i| (i as f32 * step).sin()).collect()
}

#[test]
fn lines_become_columns() {
    for tiles in Isa::available().iter().filter_map(|isa| isa.tiles) {
        let mut lines = [Line([0; LANES]); LANES];
        for (i, line) in lines.iter_mut().enumerate() {
            for (j, number) in line.0.iter_mut().enumerate() {
                *number = (100 * i + j) as u32;
            }
        }
        (tiles.transpose)(&mut lines);
        for (j, line) in lines.iter().enumerate() {
            let want: Vec<u32> = (0..LANES).map(|i| (100 * i + j) as u32).collect();
            assert_eq!(line.0[..], want);
        }
    }
}

#[test]
fn words_of_bytes_stand_side_by_side() {
    for tiles in Isa::available().iter().filter_map(|isa| isa.tiles) {
        let ByteProduct::Gathered {
            gather: Some(gather),
            ..
        } = tiles.bytes
        else {
            continue;
        };
        for len in [0, 7, 16, 31, 32, 96, 250] {
            let rows: Vec<Vec<i8>> = (0..TILE_ROWS)
                .map(|row| (0..len).map(|i| (37 * i + 11 * row) as u8 as i8).collect())
                .collect();
            let rows: [&[i8]; TILE_ROWS] = std::array::from_fn(|row| &rows[row][..]);
            let word = |row: usize, at: usize| {
                u32::from_le_bytes(std::array::from_fn(|i| {
                    rows[row][4 * at + i].cast_unsigned()
                }))
            };
            let there = len / 4;
            for asked in [0, 5, 8, 29, 128] {
                let mut words = vec![[u32::MAX; TILE_ROWS]; asked];
                let whole = gather(rows, &mut words);
                assert_eq!(
                    whole,
                    there.min(asked) / 4 * 4,
                    "{len} bytes, {asked} asked for"
                );
                for (at, words) in words.iter().enumerate() {
                    let mut want = [u32::MAX; TILE_ROWS];
                    if at < whole {
                        want = std::array::from_fn(|row| word(row, at));
                    }
                    assert_eq!(*words, want, "{len} bytes, word {at} of {asked}");
                }
            }
        }
    }
}

#[test]
fn words_are_multiplied_together_where_their_sums_fit() {
    for tiles in Isa::available().iter().filter_map(|isa| isa.tiles) {
        let ByteProduct::Sorted { sort, .. } = tiles.bytes else {
            continue;
        };
        let mut sorted = SortedWords::default();
        let mut sort = |row: &[i8]| {
            sort(row, &mut sorted);
            let lists = [sorted.twos(), sorted.flipped(), sorted.ones()];
            (lists.map(<[u8]>::to_vec), sorted.n_words())
        };
        let firsts: Vec<u8> = (0..128).step_by(2).collect();
        let all: Vec<u8> = (0..128).collect();
        // Lanes of four weights that come to 128, flipped to 120 of each sign, and of more whatever is flipped.
        assert_eq!(sort(&[32; 512]), ([firsts.clone(), vec![], vec![]], 128));
        assert_eq!(
            sort(&[33, 32, 1, 1, 32, 32, 1, 1]),
            ([vec![], vec![0], vec![]], 2)
        );
        assert_eq!(sort(&[60; 512]), ([vec![], firsts, vec![]], 128));
        assert_eq!(sort(&[-127; 512]), ([vec![], vec![], all], 128));
        // A pair of words, one without a neighbour, and a weight.
        let row = [[1; 8], [60; 8]].concat();
        assert_eq!(sort(&row[..15]), ([vec![0], vec![2], vec![]], 4));
        assert_eq!(sort(&row[..9]), ([vec![0], vec![], vec![2]], 3));
        assert_eq!(sort(&[]), ([vec![], vec![], vec![]], 0));
    }
}

#[test]
fn an_unknown_name_is_refused_with_those_there_are() {
    let reason = named("sse9").expect_err("there is none");
    let best = Isa::best().name;
    assert!(reason.contains("sse9") && reason.contains(best) && reason.contains("portable"));
    assert_eq!(named("portable").map(|isa| isa.name), Ok("portable"));
    assert_eq!(named(best).map(|isa| isa.name), Ok(best));
}

#[test]
fn activations_agree_with_the_plain_formulas() {
    let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
    for isa in Isa::available() {
        for n in [1, 16, 45] {
            let x: Vec<f32> = wave(n, 0.7).iter().map(|x| x * 12.0).collect();
            let (mut gelu, mut swiglu) = (x.clone(), vec![0.0; n]);
            (isa.loops.gelu_tanh)(&mut gelu);
            (isa.loops.swiglu)(&x, &wave(n, 0.3), &mut swiglu);
            for (i, &x) in x.iter().enumerate() {
                let x = f64::from(x);
                let u = 0.797_884_560_802_865_4 * (x + 0.044715 * x * x * x);
                let want = x * sigmoid(2.0 * u);
                assert!((f64::from(gelu[i]) - want).abs() < 2e-6, "gelu({x})");
                let want = x * sigmoid(x) * f64::from(wave(n, 0.3)[i]);
                assert!((f64::from(swiglu[i]) - want).abs() < 4e-6, "silu({x})");
            }
        }
        let mut far = [-1e30, -200.0, -0.0, 200.0, 1e10];
        (isa.loops.gelu_tanh)(&mut far);
        assert_eq!(far[2..], [-0.0, 200.0, 1e10], "{}", isa.name);
        assert!(far[..2].iter().all(|x| x.abs() < 1e-6), "{far:?}");
    }
}

#[test]
fn what_a_row_comes_to_does_not_depend_on_the_others() {
    for tiles in Isa::available().iter().filter_map(|isa| isa.tiles) {
        for (n, k) in [(5, 64), (6, 1100), (3, 70), (13, 2600)] {
            (1..=8).for_each(|rows| few_rows_agree(tiles, rows, n, k));
        }
    }
}

fn few_rows_agree(tiles: &TileKernels, rows: usize, n: usize, k: usize) {
    let slices = Slices::new(k);
    let q: Vec<i8> = (0..n * k)
        .map(|i| ((i * 37 % 255) as i32 - 127) as i8)
        .collect();
    let w: Vec<bf16> = wave(n * k, 0.3).into_iter().map(bf16::from_f32).collect();
    let scales = wave(n * slices.count(), 0.9);
    let mut sums = vec![0; n * slices.count()];
    for i in 0..n {
        for s in 0..slices.count() {
            let slice = &q[i * k..][slices.range(s)];
            sums[s * n + i] = slice.iter().map(|&w| i32::from(w)).sum();
        }
    }
    let matrix = ByteMatrix {
        q: &q,
        scales: &scales,
        sums: &sums,
        out_features: n,
        slices,
    };
    let x = wave(rows * k, 0.11);
    let words: Vec<i16> = x.iter().map(|x| (x * 32767.0) as i16).collect();
    let x_scales = wave(rows * slices.count(), 0.5);
    let (mut all, mut narrow) = (vec![0.0; rows * n], vec![0.0; rows * n]);
    let few = tiles.words(&words, k, &x_scales);
    (tiles.few_words)(&few, matrix, &mut all);
    let bf16 = Bf16Matrix { rows: &w, k };
    (tiles.few_bf16)(&x, bf16, &mut narrow);
    for r in 0..rows {
        let (mut one, mut one_narrow) = (vec![0.0; n], vec![0.0; n]);
        let x_scales = &x_scales[r * slices.count()..][..slices.count()];
        let row = tiles.words(&words[r * k..][..k], k, x_scales);
        (tiles.few_words)(&row, matrix, &mut one);
        (tiles.few_bf16)(&x[r * k..][..k], bf16, &mut one_narrow);
        for i in 0..n {
            assert_eq!(all[i * rows + r], one[i]);
            assert_eq!(narrow[i * rows + r], one_narrow[i]);
            let exact = |s: usize| -> f64 {
                let range = slices.range(s);
                let x = &words[r * k..][range.clone()];
                let w = &q[i * k..][range];
                let sum: i64 = x
                    .iter()
                    .zip(w)
                    .map(|(&x, &w)| i64::from(x) * i64::from(w))
                    .sum();
                sum as f64 * f64::from(scales[s * n + i]) * f64::from(x_scales[s])
            };
            let want: f64 = (0..slices.count()).map(exact).sum();
            let size: f64 = (0..slices.count()).map(|s| exact(s).abs()).sum();
            assert!(
                (f64::from(one[i]) - want).abs() < 1e-4 * size + 100.0,
                "{n}x{k}"
            );
            let terms = x[r * k..][..k].iter().zip(&w[i * k..]);
            let want: f64 = terms
                .map(|(&x, w)| f64::from(x) * f64::from(w.to_f32()))
                .sum();
            assert!((f64::from(one_narrow[i]) - want).abs() < 1e-4);
        }
    }
}

#[test]
fn exp_follows_the_libms() {
    for i in -860..=870 {
        let x = i as f32 / 10.0;
        let want = f64::from(x).exp();
        let error = (f64::from(plain::exp(x)) / want - 1.0).abs();
        assert!(error < 2e-7, "exp({x}): relative error {error}");
    }
}

#[test]
fn exp_of_a_masked_score_is_nothing() {
    assert!(plain::exp(f32::NEG_INFINITY) < 2e-38);
}

#[test]
fn gelu_has_the_values_of_torch() {
    // torch.nn.functional.gelu(x), approximate="none" and "tanh"
    let cases = [
        (-3.0, -0.004_049_694, -0.003_637_392),
        (-1.0, -0.158_655_26, -0.158_808_01),
        (-0.1, -0.046_017_22, -0.046_017_04),
        (0.0, 0.0, 0.0),
        (0.5, 0.345_731_23, 0.345_714),
        (2.0, 1.954_499_7, 1.954_597_7),
    ];
    for (isa, (x, erf, tanh)) in Isa::available()
        .iter()
        .flat_map(|isa| cases.map(|c| (isa, c)))
    {
        let (mut a, mut b) = ([x], [x]);
        (isa.loops.gelu_erf)(&mut a);
        (isa.loops.gelu_tanh)(&mut b);
        assert!((a[0] - erf).abs() < 4e-7, "gelu_erf({x}) = {}", a[0]);
        assert!((b[0] - tanh).abs() < 4e-7, "gelu_tanh({x}) = {}", b[0]);
    }
}

#[test]
fn softmax_sums_to_one_at_any_length() {
    for (isa, n) in Isa::available()
        .iter()
        .flat_map(|isa| [1, 2, 31, 32, 33, 100].map(|n| (isa, n)))
    {
        let mut scores: Vec<f32> = (0..n).map(|i| (i as f32 * 0.7).sin() * 20.0).collect();
        let want: Vec<f64> = scores.iter().map(|&s| f64::from(s).exp()).collect();
        let total: f64 = want.iter().sum();
        let scale = (isa.loops.softmax_unscaled)(&mut scores);
        for (got, want) in scores.iter().zip(&want) {
            assert!((f64::from(got * scale) - want / total).abs() < 1e-6);
        }
    }
}

#[test]
fn weights_come_with_their_sum() {
    for isa in Isa::available() {
        let mut q = [0; 3];
        let (scale, sum) = (isa.loops.weights_to_i8)(&[1.27, -1.0, 0.5], &mut q);
        assert_eq!((q, sum), ([127, -100, 50], 77), "{}", isa.name);
        assert!((scale - 0.01).abs() < 1e-6);
    }
}
