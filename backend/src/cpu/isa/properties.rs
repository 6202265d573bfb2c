// SPDX-License-Identifier: MPL-2.0

//! Every kernel of every table against sums in f64 and against the plain loops, over odd shapes.

use half::bf16;
use proptest::prelude::*;

use super::operands::{
    ByteForm, LANES, Line, Out, Running, Scaling, TILE_LINES, TILE_ROWS, Weights, Words,
};
use super::*;

/// Numbers between -1 and 1.
fn noise(n: usize, seed: u32) -> Vec<f32> {
    let mut state = seed | 1;
    let mut next = move || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / 8_388_608.0 - 1.0
    };
    (0..n).map(|_| next()).collect()
}

fn close(isa: &Isa, got: f32, want: f64, bound: f64) {
    let error = (f64::from(got) - want).abs();
    assert!(error <= bound, "{}: {got}, not {want}", isa.name);
}

/// Words of 8 matrix rows and of `width` lines of activations, and the number each word stands for.
struct Tile {
    a: Vec<Words>,
    b: Vec<Line<u32>>,
    width: usize,
}

impl Tile {
    fn new(words: usize, width: usize, mut word: impl FnMut(bool) -> u32) -> Self {
        let mut a = vec![[0; TILE_ROWS]; words];
        let mut b = vec![Line([0; LANES]); words * width];
        a.iter_mut().flatten().for_each(|w| *w = word(false));
        b.iter_mut()
            .flat_map(|line| &mut line.0)
            .for_each(|x| *x = word(true));
        Self { a, b, width }
    }

    /// The sum of `dot` over the words of matrix row `row` and lane `lane` of all lines.
    fn sum(&self, row: usize, lane: usize, dot: impl Fn(u32, u32) -> f64) -> f64 {
        let lines = self.b.chunks(self.width);
        let x = lines.map(|lines| lines[lane / LANES].0[lane % LANES]);
        let products = x.zip(&self.a).map(|(x, w)| dot(x, w[row]));
        products.sum()
    }

    /// What `multiply` adds to lines of ones, with a stride of one line more than the tile has.
    fn run(&self, add: bool, multiply: impl Fn(&[Words], &[Line<u32>], Out<'_>)) -> Vec<Line<f32>> {
        let stride = self.width + 1;
        let mut lines = vec![Line([1.0; LANES]); TILE_ROWS * stride];
        let out = Out {
            lines: &mut lines,
            stride,
            add,
        };
        multiply(&self.a, &self.b, out);
        for row in lines.chunks(stride) {
            assert_eq!(row[self.width], Line([1.0; LANES]), "beyond the tile");
        }
        lines
    }

    /// Gives a lane for each matrix row the activations that bring its sums as far up as they go, and another as far
    /// down.
    fn meet_weights(&mut self, form: ByteForm) {
        let extreme = |up: bool| if up { u8::MAX } else { 0 } ^ form.flip();
        for (lines, words) in self.b.chunks_mut(self.width).zip(&self.a) {
            for (row, word) in words.iter().enumerate() {
                let weights = word.to_le_bytes().map(u8::cast_signed);
                lines[0].0[row] = u32::from_le_bytes(weights.map(|w| extreme(w > 0)));
                lines[0].0[TILE_ROWS + row] = u32::from_le_bytes(weights.map(|w| extreme(w < 0)));
            }
        }
    }

    /// The same of all ways there are to multiply bytes, of so many columns.
    fn run_bytes(
        &self,
        columns: usize,
        add: bool,
        product: ByteProduct,
        scaling: &Scaling<'_>,
    ) -> Vec<Vec<Line<f32>>> {
        let of_row = |row: usize| {
            self.a
                .iter()
                .flat_map(move |words| words[row].to_le_bytes())
        };
        let rows: [Vec<i8>; TILE_ROWS] = std::array::from_fn(|row| {
            let bytes = of_row(row).take(columns);
            bytes.map(u8::cast_signed).collect()
        });
        let rows = rows.each_ref().map(|row| &row[..]);
        match product {
            ByteProduct::Gathered { multiply, .. } => {
                vec![self.run(add, |a, b, out| multiply(a, b, scaling, out))]
            }
            ByteProduct::InPlace { multiply, gathered } => {
                let mut all = vec![self.run(add, |a, b, out| gathered(a, b, scaling, out))];
                if columns.is_multiple_of(4) {
                    all.push(self.run(add, |_, b, out| multiply(rows, b, scaling, out)));
                }
                all
            }
            ByteProduct::Sorted { sort, multiply } => {
                let mut sorted = vec![SortedWords::default(); TILE_ROWS];
                // What was there before is not seen.
                for row in rows.iter().rev().chain(&rows) {
                    sorted.iter_mut().for_each(|sorted| sort(row, sorted));
                }
                for (row, sorted) in rows.iter().zip(&mut sorted) {
                    sort(row, sorted);
                }
                let rows = std::array::from_fn(|row| &sorted[row]);
                vec![self.run(add, |_, b, out| multiply(rows, b, scaling, out))]
            }
        }
    }

    fn each(&self, lines: &[Line<f32>], check: impl Fn(usize, usize, f32)) {
        for row in 0..TILE_ROWS {
            for lane in 0..self.width * LANES {
                let line = row * (self.width + 1) + lane / LANES;
                check(row, lane, lines[line].0[lane % LANES]);
            }
        }
    }
}

/// Random bits from noise.
fn bits(x: f32) -> u32 {
    (x * 8_388_607.0) as i32 as u32
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn tiles_of_floats_are_sums(words in 1..130usize, width in 1..=TILE_LINES, add: bool, seed: u32) {
        let mut numbers = noise(words * (TILE_ROWS + width * LANES), seed).into_iter();
        let tile = Tile::new(words, width, |_| numbers.next().unwrap().to_bits());
        for isa in Isa::available() {
            let Some(tiles) = isa.tiles else { continue };
            let lines = tile.run(add, tiles.floats);
            tile.each(&lines, |row, lane, got| {
                let dot = |x, w| f64::from(f32::from_bits(x)) * f64::from(f32::from_bits(w));
                let want = tile.sum(row, lane, dot) + f64::from(u8::from(add));
                close(&isa, got, want, 1e-6 * (1.0 + words as f64));
            });
        }
    }

    #[test]
    fn tiles_of_pairs_of_bf16_are_sums(words in 1..130usize, width in 1..=TILE_LINES, add: bool, seed: u32) {
        let n = 2 * words * (TILE_ROWS + width * LANES);
        let mut numbers = noise(n, seed).into_iter().map(|x| u32::from(bf16::from_f32(x).to_bits()));
        let tile = Tile::new(words, width, |_| numbers.next().unwrap() | numbers.next().unwrap() << 16);
        let halves = |word: u32| [word << 16, word & 0xffff_0000].map(|x| f64::from(f32::from_bits(x)));
        for isa in Isa::available() {
            let Some(pairs) = isa.bf16.and_then(|bf16| bf16.pairs) else { continue };
            let lines = tile.run(add, pairs);
            tile.each(&lines, |row, lane, got| {
                let dot = |x, w| {
                    let (x, w) = (halves(x), halves(w));
                    x[0] * w[0] + x[1] * w[1]
                };
                let want = tile.sum(row, lane, dot) + f64::from(u8::from(add));
                close(&isa, got, want, 2e-6 * (1.0 + words as f64));
            });
        }
    }

    #[test]
    fn tiles_of_bytes_are_exact_sums_that_are_scaled(
        columns in 1..=512usize,
        width in 1..=TILE_LINES,
        add: bool,
        largest: bool,
        (low, high) in prop::sample::select(vec![(-127, 127), (-40, 40), (-12, 12), (0, 127), (-127, 0)]),
        ends: bool,
        seed: u32,
    ) {
        // Any weights between two, or these two alone.
        let weight = |x: u8| match ends {
            true => [low, high][usize::from(x % 2)],
            false => low + i32::from(x) * (high - low + 1) / 256,
        };
        for isa in Isa::available() {
            let Some(tiles) = isa.tiles else { continue };
            let words = columns.div_ceil(4);
            let mut numbers = noise(words * (TILE_ROWS + width * LANES), seed).into_iter();
            let mut tile = Tile::new(words, width, |is_x| {
                let bits = bits(numbers.next().unwrap());
                match (tiles.form, is_x) {
                    (ByteForm::Quads, true) if largest => u32::MAX,
                    (ByteForm::SignedQuads, true) if largest => 0x8080_8080,
                    (ByteForm::Quads | ByteForm::SignedQuads, true) => bits,
                    (ByteForm::Quads | ByteForm::SignedQuads, false) => {
                        u32::from_le_bytes(bits.to_le_bytes().map(|x| weight(x) as u8))
                    }
                }
            });
            // What is beyond the last column.
            for word in &mut tile.a[words - 1] {
                *word &= u32::MAX >> (32 * words - 8 * columns);
            }
            if largest {
                tile.meet_weights(tiles.form);
            }
            let row_scales: Vec<Line<f32>> =
                (0..width).map(|i| Line(std::array::from_fn(|j| 1e-3 * (i + j + 1) as f32))).collect();
            let scaling = Scaling {
                offsets: std::array::from_fn(|i| 1000 * i as i32),
                scales: std::array::from_fn(|i| 1e-3 * (i + 1) as f32),
                row_scales: &row_scales,
            };
            for lines in tile.run_bytes(columns, add, tiles.bytes, &scaling) {
                tile.each(&lines, |row, lane, got| {
                    let sum = tile.sum(row, lane, |x, w| dot_bytes(tiles.form, x, w));
                    let scale = f64::from(scaling.scales[row])
                        * f64::from(row_scales[lane / LANES].0[lane % LANES]);
                    let want = (sum - f64::from(scaling.offsets[row])) * scale;
                    close(&isa, got, want + f64::from(u8::from(add)), 1e-6 * (1.0 + want.abs()));
                });
            }
        }
    }

    #[test]
    fn few_queries_meet_kept_keys_and_values(
        few in 1..10usize,
        keys in 1..70usize,
        dim in 1..150usize,
        seed: u32,
    ) {
        let narrow = |x: Vec<f32>| -> Vec<bf16> { x.into_iter().map(bf16::from_f32).collect() };
        let q = noise(few * dim, seed);
        let (k, v) = (narrow(noise(keys * dim, seed ^ 5)), narrow(noise(keys * dim, seed ^ 9)));
        let p = noise(few * keys, seed ^ 17);
        for isa in Isa::available() {
            let Some(bf16) = isa.bf16 else { continue };
            let mut scores = vec![f32::NAN; few * keys];
            (bf16.scores)(&q, &k, dim, &mut scores);
            let mut y = vec![f32::NAN; few * dim];
            (bf16.weighted)(&p, &v, dim, &mut y);
            for r in 0..few {
                for i in 0..keys {
                    let terms = q[r * dim..][..dim].iter().zip(&k[i * dim..]);
                    let want = terms.map(|(&q, k)| f64::from(q) * f64::from(k.to_f32())).sum();
                    close(&isa, scores[r * keys + i], want, 3e-5 * (1.0 + dim as f64).sqrt());
                }
                for column in 0..dim {
                    let terms = p[r * keys..][..keys].iter().zip(v[column..].iter().step_by(dim));
                    let want = terms.map(|(&p, v)| f64::from(p) * f64::from(v.to_f32())).sum();
                    close(&isa, y[r * dim + column], want, 1e-5);
                }
            }
        }
    }

    #[test]
    fn a_block_of_scores_becomes_weights_and_brings_earlier_sums_to_its_maximum(
        keys in 1..40usize,
        width in 1..=TILE_LINES,
        first in 0..20usize,
        seed: u32,
    ) {
        let lines = |n: usize, seed: u32, by: f32| -> Vec<Line<f32>> {
            let numbers = noise(n * LANES, seed);
            numbers.chunks(LANES).map(|x| Line(std::array::from_fn(|i| by * x[i]))).collect()
        };
        let limits: Vec<Line<i32>> =
            (0..width).map(|i| Line(std::array::from_fn(|j| (first + 1 + i + j) as i32))).collect();
        for isa in Isa::available() {
            let Some(tiles) = isa.tiles else { continue };
            let mut scores = lines(keys * width, seed, 30.0);
            let plain = scores.clone();
            (tiles.hide)(&mut scores, &limits, first);
            for pairs in [false, true] {
                let mut running = Running::new();
                let before = lines(width, seed ^ 3, 20.0);
                running.max[..width].copy_from_slice(&before);
                running.sums[..width].fill(Line([2.0; LANES]));
                let mut sums = lines(5 * width, seed ^ 7, 1.0);
                let earlier = sums.clone();
                let n_words = if pairs { keys.div_ceil(2) } else { keys };
                let mut weights = vec![Line([0; LANES]); n_words * width];
                let to = if pairs {
                    Weights::Pairs(&mut weights)
                } else {
                    Weights::Floats(&mut weights)
                };
                (tiles.weigh)(&scores, width, &mut running, to, &mut sums);
                for lane in 0..width * LANES {
                    let at = |lines: &[Line<f32>], i: usize| {
                        f64::from(lines[i * width + lane / LANES].0[lane % LANES])
                    };
                    let limit = limits[lane / LANES].0[lane % LANES] as usize;
                    let score = |i: usize| {
                        let seen = first + i < limit;
                        if seen { at(&plain, i) } else { f64::NEG_INFINITY }
                    };
                    let max = (0..keys).map(score).fold(at(&before, 0), f64::max);
                    close(&isa, running.max[lane / LANES].0[lane % LANES], max, 1e-5);
                    let factor = (at(&before, 0) - max).exp();
                    let mut total = 2.0 * factor;
                    for i in 0..keys {
                        let want = (score(i) - max).exp();
                        total += want;
                        let word = |i: usize| weights[i * width + lane / LANES].0[lane % LANES];
                        let (got, bound) = match (pairs, i % 2) {
                            (false, _) => (word(i), 1e-6),
                            (true, 0) => (word(i / 2) << 16, want / 250.0 + 1e-30),
                            (true, _) => (word(i / 2) & 0xffff_0000, want / 250.0 + 1e-30),
                        };
                        close(&isa, f32::from_bits(got), want, bound);
                    }
                    close(&isa, running.sums[lane / LANES].0[lane % LANES], total, 1e-5 * total);
                    for i in 0..5 {
                        let got = sums[i * width + lane / LANES].0[lane % LANES];
                        close(&isa, got, factor * at(&earlier, i), 1e-6);
                    }
                }
            }
        }
    }

    #[test]
    fn loops_agree_with_the_portable_ones(n in 1..200usize, zero in prop::sample::select(vec![64u8, 128]), seed: u32) {
        let (x, w, b) = (noise(n, seed), noise(n, seed ^ 5), noise(n, seed ^ 9));
        let all = |loops: &Loops| {
            let mut y = vec![vec![0.0; n]; 5];
            (loops.layer_norm)(&x, &w, &b, 1e-6, &mut y[0]);
            (loops.rms_norm)(&x, &w, 1e-6, &mut y[1]);
            y[2].copy_from_slice(&x);
            let scale = (loops.softmax_unscaled)(&mut y[2]);
            (loops.swiglu)(&x, &w, &mut y[3]);
            y[4].copy_from_slice(&x);
            (loops.gelu_tanh)(&mut y[4]);
            y.push(vec![scale]);
            y
        };
        let (mut bytes, mut words) = (vec![0; n], vec![0; n]);
        let scales = [
            (PORTABLE.slice_to_bytes)(&x, zero, &mut bytes),
            (PORTABLE.slice_to_words)(&x, &mut words),
        ];
        for isa in Isa::available() {
            for (got, want) in all(isa.loops).iter().flatten().zip(all(&PORTABLE).iter().flatten()) {
                close(&isa, *got, f64::from(*want), 2e-5 * (1.0 + f64::from(want.abs())));
            }
            let (mut b, mut s) = (vec![0; n], vec![0; n]);
            let got = [
                (isa.loops.slice_to_bytes)(&x, zero, &mut b),
                (isa.loops.slice_to_words)(&x, &mut s),
            ];
            assert_eq!((got, b, s), (scales, bytes.clone(), words.clone()), "{}", isa.name);
        }
    }
}

/// The exact product of two words.
fn dot_bytes(form: ByteForm, x: u32, w: u32) -> f64 {
    let sum: i32 = match form {
        ByteForm::Quads => {
            let pairs = x.to_le_bytes().into_iter().zip(w.to_le_bytes());
            pairs
                .map(|(x, w)| i32::from(x) * i32::from(w.cast_signed()))
                .sum()
        }
        ByteForm::SignedQuads => {
            let pairs = x.to_le_bytes().into_iter().zip(w.to_le_bytes());
            pairs
                .map(|(x, w)| i32::from(x.cast_signed()) * i32::from(w.cast_signed()))
                .sum()
        }
    };
    f64::from(sum)
}
