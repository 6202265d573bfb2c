// SPDX-License-Identifier: MPL-2.0

//! The embedded engine against `transformers`: same logits, same greedy answers.
//!
//! `tests/data/logits` holds small random checkpoints and what the reference said to some prompts
//! (`tools/golden/checkpoints.py`, `tools/golden/logits.py`); the demo model's are there too. A
//! folder of the same form in `VLMCAPTION_GOLDEN` is tried in addition.

use std::path::{Path, PathBuf};

use gstvlmcaption::backend::cpu::{self, Options, Precision, Spec, Weights};
use gstvlmcaption::backend::{
    Cancel, Error, GridThw, Next, Patches, Position, Program, Segment, SequenceId, VisualTokens,
};
use gstvlmcaption::vlm::config;
use safetensors::SafeTensors;
use serde_json::Value;

/// Largest difference of two logit rows, as a part of the reference row's root mean square.
const TOLERANCE: f32 = 1e-4;

/// One prompt and the reference's answer.
struct Case {
    name: String,
    runs: Vec<Run>,
    positions: Vec<Position>,
    greedy: Vec<u32>,
    /// Steps of the answer whose logits were kept, and the logits.
    kept: Vec<(usize, Vec<f32>)>,
}

enum Run {
    Tokens(Vec<u32>),
    Visual(Patches),
}

#[test]
fn random_checkpoints_answer_as_the_reference_in_f32() {
    let mut seen = 0;
    for folder in golden_folders(&data().join("logits")) {
        let cases = cases(&data().join("logits"), &folder);
        compare_f32(&folder, &cases);
        seen += cases.len();
    }
    assert!(seen >= 72, "only {seen} cases found");
}

#[test]
fn demo_model_answers_as_the_reference_in_f32() {
    let cases = cases(&data().join("logits"), &demo());
    compare_f32(&demo(), &cases);
}

#[test]
fn fresh_checkpoints_answer_as_the_reference_in_f32() {
    let Some(place) = std::env::var_os("VLMCAPTION_GOLDEN").map(PathBuf::from) else {
        return;
    };
    for folder in golden_folders(&place) {
        let cases = cases(&place, &folder);
        compare_f32(&folder, &cases);
        let [kl, agreement] = compare_int8(&folder, &cases);
        assert!(kl < 0.2, "{}: mean KL divergence {kl}", folder.display());
        assert!(
            agreement > 0.7,
            "{}: agreement {agreement}",
            folder.display()
        );
    }
}

#[test]
fn demo_model_in_int8_stays_close_to_itself_in_f32() {
    let [kl, agreement] = compare_int8(&demo(), &cases(&data().join("logits"), &demo()));
    assert!(kl < 0.02, "mean KL divergence {kl}");
    assert!(
        agreement > 0.95,
        "the same first choice in {agreement} of the steps"
    );
}

#[test]
fn random_checkpoints_in_int8_stay_close_to_themselves_in_f32() {
    for folder in golden_folders(&data().join("logits")) {
        let cases = cases(&data().join("logits"), &folder);
        let [kl, agreement] = compare_int8(&folder, &cases);
        // Random weights have no margin between tokens, so this is a bound against nonsense only.
        assert!(kl < 0.2, "{}: mean KL divergence {kl}", folder.display());
        assert!(
            agreement > 0.7,
            "{}: agreement {agreement}",
            folder.display()
        );
    }
}

#[test]
fn rows_given_in_pieces_say_the_same_as_rows_given_at_once() {
    let folder = demo();
    let mut program = load(&folder, Precision::F32);
    for case in cases(&data().join("logits"), &folder) {
        let visuals = encode(&mut *program, &case);
        let sequence = program.open().expect("a sequence");
        let mut first = 0;
        let mut logits = Vec::new();
        for segment in segments(&case, &visuals) {
            let rows = first..first + segment.n_rows();
            logits = extend(
                &mut *program,
                sequence,
                &[segment],
                &case.positions[rows.clone()],
            );
            first = rows.end;
        }
        assert_close(&case, 0, &logits, &case.kept[0].1);
        program.close(sequence);
    }
}

#[test]
fn a_truncated_sequence_goes_on_as_if_the_rows_had_never_been() {
    let folder = demo();
    let mut program = load(&folder, Precision::F32);
    let case = &cases(&data().join("logits"), &folder)[0];
    let visuals = encode(&mut *program, case);
    let (one, other) = (program.open(), program.open());
    let (one, other) = (one.expect("a sequence"), other.expect("a sequence"));
    let segments = segments(case, &visuals);
    extend(
        &mut *program,
        other,
        &[Segment::Tokens(&[9, 9])],
        &[[0; 3], [1; 3]],
    );
    extend(&mut *program, one, &segments, &case.positions);
    extend(&mut *program, one, &[Segment::Tokens(&[7])], &[[50; 3]]);
    program.truncate(one, 0);
    program.close(other);
    let logits = extend(&mut *program, one, &segments, &case.positions);
    assert_close(case, 0, &logits, &case.kept[0].1);
}

#[test]
fn an_error_leaves_the_sequence_as_it_was() {
    let folder = demo();
    let mut program = load(&folder, Precision::F32);
    let case = &cases(&data().join("logits"), &folder)[0];
    let sequence = program.open().expect("a sequence");
    let Run::Tokens(ids) = &case.runs[0] else {
        panic!("a prompt that begins with text");
    };
    let (head, tail) = ids.split_at(3);
    let (head_at, tail_at) = case.positions.split_at(3);
    extend(&mut *program, sequence, &[Segment::Tokens(head)], head_at);
    let cancel = Cancel::default();
    cancel.cancel();
    let cancelled = program.extend(sequence, &[Segment::Tokens(tail)], tail_at, &cancel);
    assert!(matches!(cancelled, Err(Error::Cancelled)));
    let wrong = program.extend(
        sequence,
        &[Segment::Tokens(tail)],
        head_at,
        &Cancel::default(),
    );
    assert!(matches!(wrong, Err(Error::Shape { .. })));
    let context = program.limits().context;
    let many = vec![1; context];
    let long = program.extend(
        sequence,
        &[Segment::Tokens(&many)],
        &vec![[0; 3]; context],
        &Cancel::default(),
    );
    assert!(matches!(long, Err(Error::Context { needed, .. }) if needed == context + 3));
    let logits = extend(&mut *program, sequence, &[Segment::Tokens(tail)], tail_at);
    assert_close(case, 0, &logits, &case.kept[0].1);
}

#[test]
fn a_grid_that_cannot_be_merged_is_refused() {
    let mut program = load(&demo(), Precision::F32);
    let patches = Patches {
        grid: GridThw { t: 1, h: 3, w: 4 },
        pixels: vec![0; 12 * 1536],
        mean: [0.5; 3],
        std: [0.5; 3],
    };
    let error = program.encode(&patches, &Cancel::default());
    assert!(matches!(error, Err(Error::Shape { .. })));
}

#[test]
fn a_missing_shard_is_named_by_its_first_tensor() {
    let folder = data().join("logits/untied-group1-levels2-head128-sharded");
    let mut files = weight_files(&folder);
    files.pop();
    let (spec, options) = (spec(&folder), Options::default());
    let weights = Weights::Files(files);
    let error = cpu::load(&spec, &weights, &options, &mut |_| (), &Cancel::default()).err();
    assert!(
        matches!(error, Some(Error::MissingWeight { .. })),
        "{error:?}"
    );
}

/// Compares every case of a checkpoint: kept logits, and all greedy tokens.
fn compare_f32(folder: &Path, cases: &[Case]) {
    let mut program = load(folder, Precision::F32);
    let mut worst: f32 = 0.0;
    for case in cases {
        for (step, logits) in answer(&mut *program, case).into_iter().enumerate() {
            assert_eq!(
                argmax(&logits),
                case.greedy[step],
                "{}, step {step}",
                case.name
            );
            if let Some((_, want)) = case.kept.iter().find(|(kept, _)| *kept == step) {
                worst = worst.max(assert_close(case, step, &logits, want));
            }
        }
    }
    eprintln!("{}: largest difference {worst:.1e}", folder.display());
}

/// Mean KL divergence of int8 from f32 in nats, and the part of the steps with the same first
/// choice, over the reference's answers.
fn compare_int8(folder: &Path, cases: &[Case]) -> [f64; 2] {
    let mut f32 = load(folder, Precision::F32);
    let mut int8 = load(folder, Precision::Int8);
    let (mut divergence, mut same, mut steps) = (0.0, 0, 0);
    for case in cases {
        let (want, got) = (answer(&mut *f32, case), answer(&mut *int8, case));
        for (want, got) in want.iter().zip(&got) {
            let (p, q) = (log_softmax(want), log_softmax(got));
            divergence += p
                .iter()
                .zip(&q)
                .map(|(p, q)| p.exp() * (p - q))
                .sum::<f64>();
            same += usize::from(argmax(want) == argmax(got));
            steps += 1;
        }
    }
    let result = [divergence / steps as f64, same as f64 / steps as f64];
    let [kl, agreement] = result;
    eprintln!(
        "{}: int8 KL {kl:.5}, agreement {agreement:.4}",
        folder.display()
    );
    result
}

fn log_softmax(logits: &[f32]) -> Vec<f64> {
    let max = logits.iter().fold(f32::MIN, |a, &b| a.max(b));
    let sum: f64 = logits.iter().map(|l| f64::from(l - max).exp()).sum();
    logits
        .iter()
        .map(|l| f64::from(l - max) - sum.ln())
        .collect()
}

/// Logits of each step, with the reference's tokens as the answer.
fn answer(program: &mut dyn Program, case: &Case) -> Vec<Vec<f32>> {
    let visuals = encode(program, case);
    let sequence = program.open().expect("a sequence");
    let segments = segments(case, &visuals);
    let mut all = vec![extend(program, sequence, &segments, &case.positions)];
    let next = 1 + case.positions.iter().flatten().max().expect("a position");
    for (step, &token) in case.greedy[..case.greedy.len() - 1].iter().enumerate() {
        let position = [next + step as u32; 3];
        all.push(extend(
            program,
            sequence,
            &[Segment::Tokens(&[token])],
            &[position],
        ));
    }
    program.close(sequence);
    all
}

fn encode(program: &mut dyn Program, case: &Case) -> Vec<VisualTokens> {
    let patches = case.runs.iter().filter_map(|run| match run {
        Run::Tokens(_) => None,
        Run::Visual(patches) => Some(patches),
    });
    patches
        .map(|patches| {
            program
                .encode(patches, &Cancel::default())
                .expect("visual tokens")
        })
        .collect()
}

fn segments<'a>(case: &'a Case, visuals: &'a [VisualTokens]) -> Vec<Segment<'a>> {
    let mut visuals = visuals.iter();
    let segment = |run: &'a Run| match run {
        Run::Tokens(ids) => Segment::Tokens(ids),
        Run::Visual(_) => Segment::Visual(visuals.next().expect("one per visual run")),
    };
    case.runs.iter().map(segment).collect()
}

fn extend(
    program: &mut dyn Program,
    sequence: SequenceId,
    segments: &[Segment<'_>],
    positions: &[Position],
) -> Vec<f32> {
    match program.extend(sequence, segments, positions, &Cancel::default()) {
        Ok(Next::Logits(logits)) => logits.to_vec(),
        other => panic!("logits expected, got {other:?}"),
    }
}

/// The difference as [`TOLERANCE`] counts it.
fn assert_close(case: &Case, step: usize, got: &[f32], want: &[f32]) -> f32 {
    let size = (want.iter().map(|w| w * w).sum::<f32>() / want.len() as f32).sqrt();
    let difference = got
        .iter()
        .zip(want)
        .map(|(g, w)| (g - w).abs())
        .fold(0.0, f32::max)
        / size;
    assert!(
        difference < TOLERANCE,
        "{}, step {step}: logits differ by {difference}",
        case.name
    );
    difference
}

fn argmax(logits: &[f32]) -> u32 {
    let best = logits.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1));
    best.expect("logits").0 as u32
}

fn data() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data")
}

fn demo() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("models/demo")
}

/// Checkpoint folders that lie in `place`.
fn golden_folders(place: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(place).expect("a folder of golden data");
    let mut folders: Vec<_> = entries
        .map(|entry| entry.expect("a folder entry").path())
        .filter(|path| path.join("config.json").exists())
        .collect();
    folders.sort();
    folders
}

fn load(folder: &Path, precision: Precision) -> Box<dyn Program> {
    let options = Options {
        precision,
        threads: Some(2),
    };
    let weights = Weights::Files(weight_files(folder));
    cpu::load(
        &spec(folder),
        &weights,
        &options,
        &mut |_| (),
        &Cancel::default(),
    )
    .expect("a loadable checkpoint")
}

fn weight_files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).expect("a checkpoint folder");
    let mut files: Vec<_> = entries
        .map(|entry| entry.expect("a folder entry").path())
        .filter(|path| path.extension().is_some_and(|ext| ext == "safetensors"))
        .collect();
    files.sort();
    files
}

fn read_json(path: &Path) -> Value {
    let text = std::fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    serde_json::from_slice(&text).expect("JSON")
}

fn spec(folder: &Path) -> Spec {
    let path = folder.join("config.json");
    let bytes = std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    config::spec(path.display().to_string(), &bytes).expect("a configuration")
}

fn number(value: &Value) -> usize {
    value.as_u64().expect("a number") as usize
}

fn numbers(value: &Value) -> Vec<usize> {
    value
        .as_array()
        .expect("numbers")
        .iter()
        .map(number)
        .collect()
}

/// The cases that `place` keeps for a checkpoint.
fn cases(place: &Path, folder: &Path) -> Vec<Case> {
    let name = folder.file_name().expect("a name").to_string_lossy();
    let vision = spec(folder).vision;
    let row_len = vision.in_channels * vision.temporal_patch_size * vision.patch_size.pow(2);
    let listed = read_json(&place.join(format!("{name}.json")));
    let bytes = std::fs::read(place.join(format!("{name}.safetensors"))).expect("kept logits");
    let vectors = SafeTensors::deserialize(&bytes).expect("a safetensors file");
    let cases = listed["cases"].as_array().expect("cases").iter();
    cases
        .map(|case| parse_case(case, row_len, &vectors))
        .collect()
}

fn parse_case(case: &Value, row_len: usize, vectors: &SafeTensors<'_>) -> Case {
    let name = case["name"].as_str().expect("a name").to_owned();
    let ids = |value: &Value| numbers(value).into_iter().map(|id| id as u32).collect();
    let runs = case["runs"].as_array().expect("runs").iter().map(|run| {
        if let Some(visual) = run.get("visual") {
            let grid = GridThw {
                t: visual.get("t").map_or(1, number),
                h: number(&visual["h"]),
                w: number(&visual["w"]),
            };
            Run::Visual(Patches {
                grid,
                pixels: pixels(number(&visual["seed"]), grid.n_patches(), row_len),
                mean: [0.5; 3],
                std: [0.5; 3],
            })
        } else {
            Run::Tokens(ids(&run["tokens"]))
        }
    });
    let positions = case["positions"].as_array().expect("positions").iter();
    let position = |p: &Value| numbers(p).iter().map(|&p| p as u32).collect::<Vec<_>>();
    let kept = vectors.tensor(&name).expect("kept logits");
    let floats: Vec<f32> = kept
        .data()
        .chunks_exact(4)
        .map(|b| f32::from_le_bytes(b.try_into().expect("four bytes")))
        .collect();
    let rows = floats.chunks_exact(kept.shape()[1]).map(<[f32]>::to_vec);
    Case {
        runs: runs.collect(),
        positions: positions
            .map(|p| position(p).try_into().expect("three axes"))
            .collect(),
        greedy: ids(&case["greedy"]),
        kept: numbers(&case["steps"]).into_iter().zip(rows).collect(),
        name,
    }
}

/// `pixels` of `tools/golden/logits.py`.
fn pixels(seed: usize, rows: usize, row_len: usize) -> Vec<u8> {
    let hash = |number: usize| {
        let mut x = (number as u32)
            .wrapping_mul(2_654_435_761)
            .wrapping_add(12345);
        x ^= x >> 15;
        x = x.wrapping_mul(2_246_822_519);
        (x ^ (x >> 13)) >> 24
    };
    (0..rows * row_len)
        .map(|i| {
            let shade = hash(i / (row_len / 3) + seed * 65537);
            ((shade * 3 + hash(i + seed * 257)) / 4) as u8
        })
        .collect()
}
