// SPDX-License-Identifier: MPL-2.0

//! Folders of axmodels, and what they say beside the engine on the CPU and transformers.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use gstvlmcaption::backend::axera::{Axera, Described, Options, Pixels};
use gstvlmcaption::backend::cpu::{self, Precision};
use gstvlmcaption::backend::spec::{Spec, Tower};
use gstvlmcaption::backend::{Cancel, GridThw, Program, Segment};

use crate::golden::{self, Case, Run, argmax, begin, extend, weight_files};
use crate::make::{self, Build, Weights};
use crate::name;

/// Largest root mean square of the logits' difference from f32, in parts of theirs: bf16 between
/// the layers, in the cache, of the embeddings and of the logits themselves.
pub const NOISE: f32 = 0.08;

/// A choice counts if its margin is so many times the noise, beside what bf16 logits cannot tell
/// apart.
const SURE: f32 = 6.0;
pub const BF16_STEP: f32 = 1.0 / 128.0;

/// Folders of axmodels of one checkpoint, one a size of images.
pub struct Folders {
    place: tempfile::TempDir,
    checkpoint: PathBuf,
    weights: Weights,
    pub spec: Spec,
    build: Build,
    made: HashMap<GridThw, PathBuf>,
}

impl Folders {
    pub fn new(checkpoint: &Path, build: Build) -> Self {
        let place = tempfile::tempdir().unwrap();
        let weights = Weights::read(checkpoint);
        let spec = golden::spec(checkpoint);
        std::fs::create_dir(place.path().join("decoder")).unwrap();
        make::decoder(&place.path().join("decoder"), &weights, &spec.text, &build);
        Self {
            place,
            checkpoint: checkpoint.to_owned(),
            weights,
            spec,
            build,
            made: HashMap::new(),
        }
    }

    /// The folder for images of this grid.
    pub fn folder(&mut self, grid: GridThw) -> PathBuf {
        let grid = GridThw { t: 1, ..grid };
        let place = self.place.path();
        self.made
            .entry(grid)
            .or_insert_with(|| {
                let folder = place.join(format!("{}x{}", grid.h, grid.w));
                make::link(&place.join("decoder"), &folder);
                make::vision(&folder, &self.weights, &self.spec, grid, &self.build);
                folder
            })
            .clone()
    }

    pub fn options(&self, grid: GridThw) -> Options {
        let vision = &self.spec.vision;
        let patch_size = vision.patch_size;
        let (pixels, n_deepstack) = match &vision.tower {
            Tower::Qwen3Vl {
                deepstack_visual_indexes,
                ..
            } => (Pixels::Rows, deepstack_visual_indexes.len()),
            Tower::Qwen25Vl { .. } => (Pixels::Rows, 0),
            Tower::InternVl { .. } => (Pixels::Tiles { patch_size }, 0),
        };
        Options {
            device: 0,
            vocab_size: self.spec.text.vocab_size,
            n_layers: self.spec.text.num_hidden_layers,
            n_deepstack,
            frame: (grid.w * patch_size, grid.h * patch_size),
            pixels,
        }
    }

    pub fn load(&mut self, grid: GridThw) -> Axera {
        let folder = self.folder(grid);
        let described = Described::open(&folder).unwrap();
        let options = self.options(grid);
        described
            .load(&options, &mut |_| {}, &Cancel::default())
            .unwrap()
    }

    /// The engine on the CPU: equal to transformers by `tests/golden_logits.rs`.
    pub fn cpu(&self) -> Box<dyn Program> {
        let options = cpu::Options {
            precision: Precision::F32,
            threads: Some(2),
            ..cpu::Options::default()
        };
        let weights = cpu::Weights::Files(weight_files(&self.checkpoint));
        cpu::load(
            &self.spec,
            &weights,
            &options,
            &mut |_| (),
            &Cancel::default(),
        )
        .unwrap()
    }
}

/// The size of a case's images; a small one if it has none.
pub fn grid_of(case: &Case, spec: &Spec) -> GridThw {
    let side = match spec.vision.tower {
        Tower::InternVl { side, .. } => side,
        _ => 4,
    };
    let mut grids = case.runs.iter().filter_map(|run| match run {
        Run::Visual(patches) => Some(GridThw {
            t: 1,
            ..patches.grid
        }),
        Run::Tokens(_) => None,
    });
    grids.next().unwrap_or(GridThw {
        t: 1,
        h: side,
        w: side,
    })
}

/// Logits of each step, with the reference's tokens as the answer; `step` hears the number of each
/// step after it was made.
pub fn answer(
    program: &mut dyn Program,
    case: &Case,
    step: &mut dyn FnMut(usize),
) -> Vec<Vec<f32>> {
    let (sequence, logits) = begin(program, case);
    let mut all = vec![logits];
    let next = case.next_position();
    for (i, &token) in case.greedy[..case.greedy.len() - 1].iter().enumerate() {
        let position = [[next + i as u32; 3]];
        all.push(extend(
            program,
            sequence,
            &[Segment::Tokens(&[token])],
            &position,
        ));
        step(i);
    }
    program.close(sequence);
    all
}

pub fn rms(values: impl ExactSizeIterator<Item = f32>) -> f32 {
    let n = values.len() as f32;
    (values.map(|v| v * v).sum::<f32>() / n).sqrt()
}

/// What one case came to.
#[derive(Default, Clone, Copy)]
pub struct Tally {
    pub steps: usize,
    pub sure: usize,
    pub noise: f32,
}

/// Compares logits with those in f32, and choices with transformers': every one that is sure.
pub fn compare(what: &str, case: &Case, got: &[Vec<f32>], want: &[Vec<f32>]) -> Tally {
    let mut tally = Tally::default();
    for (step, (got, want)) in got.iter().zip(want).enumerate() {
        let difference = rms(got.iter().zip(want).map(|(g, w)| g - w));
        let mean = want.iter().sum::<f32>() / want.len() as f32;
        let size = rms(want.iter().map(|w| w - mean));
        let noise = difference / size;
        // What the CPU says is what transformers said.
        if let Some((_, kept)) = case.kept.iter().find(|(kept, _)| *kept == step) {
            let away = rms(kept.iter().zip(want).map(|(k, w)| k - w));
            assert!(away < 1e-3 * size, "{what} {}, step {step}", case.name);
        }
        assert!(
            noise < NOISE,
            "{what} {}, step {step}: noise {noise}",
            case.name
        );
        let best = case.greedy[step] as usize;
        let second = (0..want.len()).filter(|&i| i != best).map(|i| want[i]);
        let margin = want[best] - second.fold(f32::MIN, f32::max);
        let sure = margin > SURE * difference + BF16_STEP * want[best].abs();
        let chosen = argmax(got);
        assert!(
            !sure || chosen == case.greedy[step],
            "{what} {}, step {step}: {chosen} for {best}, margin {margin}, noise {difference}",
            case.name
        );
        tally.steps += 1;
        tally.sure += usize::from(sure);
        tally.noise = tally.noise.max(noise);
    }
    tally
}

pub fn compare_checkpoint(checkpoint: &Path, cases: &[Case], build: Build) -> Tally {
    let mut folders = Folders::new(checkpoint, build);
    let mut reference = folders.cpu();
    let mut total = Tally::default();
    for case in cases {
        let mut program = folders.load(grid_of(case, &folders.spec));
        let got = answer(&mut program, case, &mut |_| {});
        let want = answer(&mut *reference, case, &mut |_| {});
        let tally = compare(&name(checkpoint), case, &got, &want);
        total.steps += tally.steps;
        total.sure += tally.sure;
        total.noise = total.noise.max(tally.noise);
    }
    println!(
        "  {}: {} cases, {} of {} choices sure and all of them the reference's, noise {:.4}",
        name(checkpoint),
        cases.len(),
        total.sure,
        total.steps,
        total.noise
    );
    total
}

pub fn data() -> PathBuf {
    golden::data().join("logits")
}
