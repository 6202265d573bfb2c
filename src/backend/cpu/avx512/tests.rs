// SPDX-License-Identifier: MPL-2.0

use super::*;

fn wave(n: usize, step: f32) -> Vec<f32> {
    (0..n).map(|i| (i as f32 * step).sin()).collect()
}

#[test]
fn lines_become_columns() {
    let Some(isa) = Avx512::detect() else { return };
    let mut lines = [Line([0; LANES]); LANES];
    for (i, line) in lines.iter_mut().enumerate() {
        for (j, number) in line.0.iter_mut().enumerate() {
            *number = (100 * i + j) as u32;
        }
    }
    isa.transpose(&mut lines);
    for (j, line) in lines.iter().enumerate() {
        let want: Vec<u32> = (0..LANES).map(|i| (100 * i + j) as u32).collect();
        assert_eq!(line.0[..], want);
    }
}

#[test]
fn activations_agree_with_the_plain_formulas() {
    let Some(isa) = Avx512::detect() else { return };
    let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
    for n in [1, 16, 45] {
        let x: Vec<f32> = wave(n, 0.7).iter().map(|x| x * 12.0).collect();
        let (mut gelu, mut swiglu) = (x.clone(), vec![0.0; n]);
        isa.gelu_tanh(&mut gelu);
        isa.swiglu(&x, &wave(n, 0.3), &mut swiglu);
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
    isa.gelu_tanh(&mut far);
    assert_eq!(far[2..], [-0.0, 200.0, 1e10]);
    assert!(far[..2].iter().all(|x| x.abs() < 1e-6), "{far:?}");
}

#[test]
fn what_a_row_comes_to_does_not_depend_on_the_others() {
    let Some(isa) = Avx512::detect() else { return };
    for (n, k) in [(5, 64), (6, 1100), (3, 70)] {
        let slices = Slices::new(k);
        let q: Vec<i8> = (0..n * k).map(|i| (i * 37 % 255) as u8 as i8).collect();
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
        let x = wave(7 * k, 0.11);
        let words: Vec<i16> = x.iter().map(|x| (x * 32767.0) as i16).collect();
        let x_scales = wave(7 * slices.count(), 0.5);
        let (mut all, mut narrow) = (vec![0.0; 7 * n], vec![0.0; 7 * n]);
        isa.few_words(&FewWords::new(&words, k, &x_scales), matrix, &mut all);
        isa.few_bf16(&x, &w, k, &mut narrow);
        for r in 0..7 {
            let (mut one, mut one_narrow) = (vec![0.0; n], vec![0.0; n]);
            let x_scales = &x_scales[r * slices.count()..][..slices.count()];
            let row = FewWords::new(&words[r * k..][..k], k, x_scales);
            isa.few_words(&row, matrix, &mut one);
            isa.few_bf16(&x[r * k..][..k], &w, k, &mut one_narrow);
            for i in 0..n {
                assert_eq!(all[i * 7 + r], one[i]);
                assert_eq!(narrow[i * 7 + r], one_narrow[i]);
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
}
