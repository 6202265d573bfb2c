// SPDX-License-Identifier: MPL-2.0

//! What the models say.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use gstvlmcaption::backend::axera::{Axera, Described, Options, Pixels};
use gstvlmcaption::backend::cpu::{self, Precision, Spec, Tower};
use gstvlmcaption::backend::{
    Cancel, Error, GridThw, Next, Program, Segment, SequenceId, VisualTokens,
};

use crate::golden::{self, Case, Run, argmax, cases, demo, golden_folders, segments, weight_files};
use crate::make::{self, Build, Weights};
use crate::{both, counted, is_card, name};

/// Largest root mean square of the logits' difference from f32, in parts of theirs: bf16 between
/// the layers, in the cache, of the embeddings and of the logits themselves.
const NOISE: f32 = 0.08;

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

pub fn encode(program: &mut dyn Program, case: &Case) -> Vec<VisualTokens> {
    let patches = case.runs.iter().filter_map(|run| match run {
        Run::Tokens(_) => None,
        Run::Visual(patches) => Some(patches),
    });
    patches
        .map(|patches| program.encode(patches, &Cancel::default()).unwrap())
        .collect()
}

pub fn feed(
    program: &mut dyn Program,
    sequence: SequenceId,
    segments: &[Segment<'_>],
    positions: &[[u32; 3]],
) -> Vec<f32> {
    match program.extend(sequence, segments, positions, &Cancel::default()) {
        Ok(Next::Logits(logits)) => logits.to_vec(),
        other => panic!("logits expected, got {other:?}"),
    }
}

pub fn next_position(case: &Case) -> u32 {
    1 + case.positions.iter().flatten().max().unwrap()
}

/// Logits of each step, with the reference's tokens as the answer; `step` hears the number of each
/// step after it was made.
fn answer(program: &mut dyn Program, case: &Case, step: &mut dyn FnMut(usize)) -> Vec<Vec<f32>> {
    let visuals = encode(program, case);
    let sequence = program.open().unwrap();
    let segments = segments(case, &visuals);
    let mut all = vec![feed(program, sequence, &segments, &case.positions)];
    let next = next_position(case);
    for (i, &token) in case.greedy[..case.greedy.len() - 1].iter().enumerate() {
        let position = [[next + i as u32; 3]];
        all.push(feed(
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
struct Tally {
    steps: usize,
    sure: usize,
    noise: f32,
}

/// Compares logits with those in f32, and choices with transformers': every one that is sure.
fn compare(what: &str, case: &Case, got: &[Vec<f32>], want: &[Vec<f32>]) -> Tally {
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

fn compare_checkpoint(checkpoint: &Path, cases: &[Case], build: Build) -> Tally {
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

#[test]
fn random_checkpoints_of_all_families_choose_as_transformers() {
    both("run::random_checkpoints");
}

#[test]
#[ignore = "called by another"]
fn random_checkpoints() {
    let mut total = Tally::default();
    // The vendor's compiler takes checkpoints that are not quantised.
    let packed = |checkpoint: &PathBuf| golden::spec(checkpoint).text.awq.is_some();
    for checkpoint in golden_folders(&data()) {
        if packed(&checkpoint) {
            continue;
        }
        let tally = compare_checkpoint(&checkpoint, &cases(&data(), &checkpoint), Build::default());
        total.steps += tally.steps;
        total.sure += tally.sure;
    }
    assert!(total.steps > 2000, "{} steps", total.steps);
    // Random weights leave near ties; what is sure must say something all the same.
    assert!(
        10 * total.sure > 6 * total.steps,
        "{} of {}",
        total.sure,
        total.steps
    );
}

#[test]
fn the_demo_model_chooses_as_transformers_at_every_step() {
    both("run::demo_model");
}

#[test]
#[ignore = "called by another"]
fn demo_model() {
    let tally = compare_checkpoint(&demo(), &cases(&data(), &demo()), Build::default());
    assert!(
        tally.sure * 100 > tally.steps * 90,
        "{} of {}",
        tally.sure,
        tally.steps
    );
}

/// Builds that differ in their groups and names: logits must be those of the usual one.
#[test]
fn every_build_of_a_model_says_the_same() {
    both("run::builds");
}

#[test]
#[ignore = "called by another"]
fn builds() {
    let token_by_token = Build {
        chunk: 0,
        ..Build::default()
    };
    let mut builds = vec![
        Build {
            chunk: 64,
            chunks: 1,
            ..Build::default()
        },
        Build {
            contexts: vec![255, 64, 128],
            ..Build::default()
        },
        Build {
            float_logits: true,
            compiler: "Pulsar2 3.4",
            ..Build::default()
        },
    ];
    if !is_card() {
        // A card has one name a tensor for all groups.
        builds.push(Build {
            shuffled: true,
            contexts: vec![128, 255],
            ..Build::default()
        });
    }
    for checkpoint in [
        "qwen25-untied-group3-window2-head16",
        "tied-group2-levels3-head32",
    ] {
        let checkpoint = data().join(checkpoint);
        let mut cases = cases(&data(), &checkpoint);
        cases.retain(|case| ["text", "two-images-4x8", "video-1-pair-6x10"].contains(&&*case.name));
        for build in &builds {
            compare_checkpoint(&checkpoint, &cases, build.clone());
        }
        // Without prefill groups there is one number for the three axes of a picture's rows.
        cases.retain(|case| case.name == "text");
        compare_checkpoint(&checkpoint, &cases, token_by_token.clone());
    }
    let checkpoint = data().join("internvl-untied-group1-16-patches");
    let mut cases = cases(&data(), &checkpoint);
    cases.truncate(3);
    compare_checkpoint(&checkpoint, &cases, token_by_token);
}

#[test]
fn a_picture_that_no_chunk_can_take_is_refused() {
    both("run::no_chunk");
}

#[test]
#[ignore = "called by another"]
fn no_chunk() {
    let checkpoint = data().join("qwen25-untied-group3-window2-head16");
    let case = &cases(&data(), &checkpoint)[1];
    let build = Build {
        chunk: 0,
        ..Build::default()
    };
    let mut folders = Folders::new(&checkpoint, build);
    let mut program = folders.load(grid_of(case, &folders.spec));
    let visuals = encode(&mut program, case);
    let segments = segments(case, &visuals);
    let sequence = program.open().unwrap();
    let refused = program.extend(sequence, &segments, &case.positions, &Cancel::default());
    let text = refused.unwrap_err().to_string();
    crate::says(
        &text,
        &["visual tokens", "prefill groups of a longer history"],
    );
}

/// Prompts whose lengths lie around the ends of chunks.
#[test]
fn prompts_of_any_length_are_cut_into_chunks() {
    both("run::lengths");
}

#[test]
#[ignore = "called by another"]
fn lengths() {
    let build = Build {
        chunk: 16,
        chunks: 4,
        contexts: vec![95],
        ..Build::default()
    };
    let checkpoint = data().join("untied-group4-levels1-head64");
    let mut folders = Folders::new(&checkpoint, build);
    let mut reference = folders.cpu();
    let grid = GridThw { t: 1, h: 4, w: 4 };
    let mut program = folders.load(grid);
    assert_eq!(
        (program.limits().prompt, program.limits().context),
        (64, 95)
    );
    for n in [1usize, 2, 15, 16, 17, 31, 32, 33, 63, 64] {
        let ids: Vec<u32> = (0..n as u32)
            .map(|i| (i * 7 + 3 * n as u32) % 200)
            .collect();
        let positions: Vec<[u32; 3]> = (0..n as u32).map(|i| [i; 3]).collect();
        let mut logits = Vec::new();
        for program in [&mut program as &mut dyn Program, &mut *reference] {
            let sequence = program.open().unwrap();
            logits.push(feed(
                program,
                sequence,
                &[Segment::Tokens(&ids)],
                &positions,
            ));
            program.close(sequence);
        }
        let difference = rms(logits[0].iter().zip(&logits[1]).map(|(a, b)| a - b));
        let size = rms(logits[1].iter().copied());
        assert!(
            difference < NOISE * size,
            "{n} rows: {difference} of {size}"
        );
    }
    let sequence = program.open().unwrap();
    let ids = [5; 65];
    let positions: Vec<[u32; 3]> = (0..65).map(|i| [i; 3]).collect();
    let cancel = Cancel::default();
    let long = program.extend(sequence, &[Segment::Tokens(&ids)], &positions, &cancel);
    let needs = |result: Result<Next<'_>, Error>, n: usize, most: usize| matches!(result, Err(Error::Context { needed, context }) if (needed, context) == (n, most));
    assert!(needs(long, 65, 64));
    feed(
        &mut program,
        sequence,
        &[Segment::Tokens(&ids[..64])],
        &positions[..64],
    );
    for i in 64..95 {
        feed(&mut program, sequence, &[Segment::Tokens(&[9])], &[[i; 3]]);
    }
    let full = program.extend(sequence, &[Segment::Tokens(&[9])], &[[94; 3]], &cancel);
    assert!(needs(full, 96, 95));
    // After an error the rows before it are still there.
    program.truncate(sequence, 90);
    feed(&mut program, sequence, &[Segment::Tokens(&[9])], &[[90; 3]]);
}

/// The vendor's first programs took the rotary position for the place in the cache. Behind a picture
/// the position is smaller: answers were written over the picture's rows, and the quality went.
#[test]
fn answers_are_not_written_over_the_picture() {
    both("run::slots");
}

#[test]
#[ignore = "called by another"]
fn slots() {
    let long = golden::data().join("axera");
    for checkpoint in [data().join("qwen25-published-sharded"), demo()] {
        let mut folders = Folders::new(&checkpoint, Build::default());
        let mut reference = folders.cpu();
        for case in cases(&long, &checkpoint) {
            assert!(case.greedy.len() > 40);
            let n = case.positions.len();
            let next = next_position(&case) as usize;
            assert!(
                next < n,
                "{}: the position must lag behind the row",
                case.name
            );
            let mut program = folders.load(grid_of(&case, &folders.spec));
            let got = answer(&mut program, &case, &mut |i| {
                assert_eq!(counted("slot"), (n + i) as i64, "{} step {i}", case.name);
                assert_eq!(counted("position"), (next + i) as i64);
            });
            let want = answer(&mut *reference, &case, &mut |_| {});
            let tally = compare(&name(&checkpoint), &case, &got, &want);
            assert!(10 * tally.sure > 7 * tally.steps, "{}", case.name);
            println!(
                "  {} {}: {} of {} sure",
                name(&checkpoint),
                case.name,
                tally.sure,
                tally.steps
            );
        }
    }
}

/// What a decode step moves: the rest stays where it is.
#[test]
fn a_token_moves_no_more_than_it_must() {
    both("run::traffic");
}

#[test]
#[ignore = "called by another"]
fn traffic() {
    let checkpoint = data().join("tied-group2-levels3-head32");
    let mut folders = Folders::new(&checkpoint, Build::default());
    let text = folders.spec.text.clone();
    let case = &cases(&data(), &checkpoint)[0];
    let mut program = folders.load(grid_of(case, &folders.spec));
    let what = if is_card() { "sent" } else { "flushed" };
    let (layers, hidden) = (text.num_hidden_layers, 2 * text.hidden_size);
    let kv = 2 * text.num_key_value_heads * text.head_dim;
    let mut before = 0;
    answer(&mut program, case, &mut |i| {
        let now = counted(what);
        // Positions, the mask's new column, the embedding; on a board also the rows of keys and
        // values, and the head's input, which the CPU copies.
        let most = 4
            + 2
            + hidden
            + if is_card() {
                0
            } else {
                2 * layers * kv + hidden
            };
        assert!(
            i == 0 || now - before <= most as i64,
            "{} bytes for {most}",
            now - before
        );
        before = now;
    });
}

/// A window that begins as the one before: its whole chunks are not computed again.
#[test]
fn rows_that_are_there_are_not_computed_again() {
    both("run::reuse");
}

#[test]
#[ignore = "called by another"]
fn reuse() {
    let checkpoint = demo();
    let mut folders = Folders::new(&checkpoint, Build::default());
    let cases = cases(&data(), &checkpoint);
    let case = cases
        .iter()
        .find(|case| case.name.starts_with("video-6"))
        .unwrap();
    let mut program = folders.load(grid_of(case, &folders.spec));
    let visuals = encode(&mut program, case);
    let segments = segments(case, &visuals);
    let mut ask = || {
        let before = counted("runs");
        let sequence = program.open().unwrap();
        let logits = feed(&mut program, sequence, &segments, &case.positions);
        program.close(sequence);
        (logits, counted("runs") - before)
    };
    let layers = folders.spec.text.num_hidden_layers as i64;
    let ((first, all), (again, rest)) = (ask(), ask());
    let chunks = case.positions.len().div_ceil(16) as i64;
    assert_eq!(all, chunks * layers + 1);
    assert_eq!(rest, layers + 1);
    assert_eq!(first, again);
    // Other pictures, the same words: nothing of theirs is taken.
    let mut other = encode(&mut program, case);
    other.rotate_left(1);
    let before = counted("runs");
    let sequence = program.open().unwrap();
    let segments = golden::segments(case, &other);
    feed(&mut program, sequence, &segments, &case.positions);
    assert_eq!(counted("runs") - before, chunks * layers + 1);
}

#[test]
fn a_cancelled_call_ends_between_layers_and_leaves_the_rows() {
    both("run::cancel");
}

#[test]
#[ignore = "called by another"]
fn cancel() {
    let checkpoint = data().join("untied-group4-levels1-head64");
    let mut folders = Folders::new(&checkpoint, Build::default());
    let mut program = folders.load(GridThw { t: 1, h: 4, w: 4 });
    let sequence = program.open().unwrap();
    assert!(program.open().is_err(), "there is one cache");
    let ids = [Segment::Tokens(&[1, 2, 3])];
    let positions = [[0; 3], [1; 3], [2; 3]];
    let want = feed(&mut program, sequence, &ids, &positions);
    program.truncate(sequence, 0);
    let cancel = Cancel::default();
    cancel.cancel();
    let cancelled = program.extend(sequence, &ids, &positions, &cancel);
    assert!(matches!(cancelled, Err(Error::Cancelled)));
    assert_eq!(feed(&mut program, sequence, &ids, &positions), want);
}
