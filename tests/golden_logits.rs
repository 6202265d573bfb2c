// SPDX-License-Identifier: MPL-2.0

//! The embedded engine against `transformers`: same logits, same greedy answers.
//!
//! `tests/data/logits` holds small random checkpoints and what the reference said to some prompts
//! (`tools/golden/checkpoints.py`, `tools/golden/logits.py`); the demo model's are there too. A
//! folder of the same form in `VLMCAPTION_GOLDEN` is tried in addition.

#[path = "common/golden.rs"]
mod golden;

use std::path::{Path, PathBuf};

use golden::{
    Case, Run, argmax, begin, cases, data, demo, encode, extend, golden_folders, int8_bound,
    segments, spec, weight_files,
};
use gstvlmcaption::backend::cpu::{self, Options, Precision, Weights};
use gstvlmcaption::backend::spec::Spec;
use gstvlmcaption::backend::{
    Cancel, Error, GridThw, Next, Patches, Position, Program, Segment, SequenceId, Step,
    VisualTokens,
};
use gstvlmcaption::vlm::config;

/// Largest difference of two logit rows, as a part of the reference row's root mean square.
const TOLERANCE: f32 = 1e-4;

#[test]
fn random_checkpoints_answer_as_the_reference_in_f32() {
    let mut seen = 0;
    for folder in golden_folders(&data().join("logits")) {
        let cases = cases(&data().join("logits"), &folder);
        compare_f32(&folder, &cases);
        seen += cases.len();
    }
    assert!(seen >= 124, "only {seen} cases found");
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
        let [kl, agreement] = compare(Precision::Int8, &folder, &cases);
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
    let [kl, agreement] = compare(
        Precision::Int8,
        &demo(),
        &cases(&data().join("logits"), &demo()),
    );
    assert!(kl < 0.01, "mean KL divergence {kl}");
    assert!(
        agreement > 0.95,
        "the same first choice in {agreement} of the steps"
    );
}

#[test]
fn demo_model_in_bf16_stays_close_to_itself_in_f32() {
    bf16_stays_close(&demo());
}

#[test]
fn random_checkpoints_in_bf16_stay_close_to_themselves_in_f32() {
    for folder in golden_folders(&data().join("logits")) {
        bf16_stays_close(&folder);
    }
}

fn bf16_stays_close(folder: &Path) {
    let cases = cases(&data().join("logits"), folder);
    let [kl, agreement] = compare(Precision::Bf16, folder, &cases);
    assert!(kl < 0.01, "{}: mean KL divergence {kl}", folder.display());
    assert!(
        agreement > 0.9,
        "{}: agreement {agreement}",
        folder.display()
    );
}

#[test]
fn random_checkpoints_in_int8_stay_close_to_themselves_in_f32() {
    for folder in golden_folders(&data().join("logits")) {
        let cases = cases(&data().join("logits"), &folder);
        let [kl, agreement] = compare(Precision::Int8, &folder, &cases);
        assert!(
            kl < int8_bound(),
            "{}: mean KL divergence {kl}",
            folder.display()
        );
        // Random weights have hardly a margin between tokens.
        assert!(
            agreement > 0.9,
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
fn sequences_extended_together_say_the_same_as_alone() {
    let folder = demo();
    let cases = &cases(&data().join("logits"), &folder)[..3];
    for precision in [Precision::F32, Precision::Bf16, Precision::Int8] {
        let mut program = load(&folder, precision);
        let pairs: Vec<[SequenceId; 2]> = cases
            .iter()
            .map(|case| [(); 2].map(|()| begin(&mut *program, case).0))
            .collect();
        for step in 0..6 {
            // One fewer each time: a batch may be of any size.
            let n = 3 - step / 2;
            let steps: Vec<Step> = cases[..n]
                .iter()
                .zip(&pairs)
                .map(|(case, &[sequence, _])| Step {
                    sequence,
                    token: case.greedy[step],
                    position: [case.next_position() + step as u32; 3],
                })
                .collect();
            let mut together = vec![Vec::new(); n];
            let mut take = |i: usize, next: Next<'_>| match next {
                Next::Logits(logits) => together[i] = logits.to_vec(),
                Next::Token(_) => panic!("logits expected"),
            };
            let cancel = Cancel::default();
            program
                .extend_each(&steps, &cancel, &mut take)
                .expect("logits of each");
            for ((step, &[_, alone]), together) in steps.iter().zip(&pairs).zip(&together) {
                let token = [Segment::Tokens(&[step.token])];
                assert_eq!(
                    extend(&mut *program, alone, &token, &[step.position]),
                    *together
                );
            }
        }
        let twice = [Step {
            sequence: pairs[0][0],
            token: 1,
            position: [90; 3],
        }; 2];
        let refused = program.extend_each(&twice, &Cancel::default(), &mut |_, _| ());
        assert!(matches!(
            refused,
            Err(Error::Shape { what, .. }) if what == "sequence"
        ));
    }
}

#[test]
fn prompts_prepared_patch_by_patch_answer_as_the_reference() {
    let places = golden_folders(&data().join("logits"));
    for folder in places.into_iter().chain([demo()]) {
        let mut program = load(&folder, Precision::F32);
        for case in cases(&data().join("logits"), &folder) {
            let visuals = encode(&mut *program, &case);
            let segments = segments(&case, &visuals);
            let mut rows = 0;
            for (n, segment) in segments.iter().enumerate() {
                rows += segment.n_rows();
                if let Segment::Visual(_) = segment {
                    let begun = (&segments[..=n], &case.positions[..rows]);
                    let prepared = program.prepare(begun.0, begun.1, &Cancel::default());
                    prepared.expect("rows that fit");
                    let kept = program.shared(&segments, &case.positions);
                    assert_eq!(kept, rows, "{}", case.name);
                }
            }
            let answered = answer_with(&mut *program, &case, &visuals);
            for (step, logits) in answered.into_iter().enumerate() {
                assert_eq!(argmax(&logits), case.greedy[step], "{}", case.name);
                if let Some((_, want)) = case.kept.iter().find(|(kept, _)| *kept == step) {
                    assert_close(&case, step, &logits, want);
                }
            }
        }
    }
}

#[test]
fn other_pixels_and_a_cancelled_prompt_leave_nothing_to_the_next() {
    let folder = demo();
    let cases = cases(&data().join("logits"), &folder);
    let case = cases.iter().find(|case| case.name.contains("3-pairs"));
    let case = case.expect("a video of three pairs");
    let mut program = load(&folder, Precision::F32);
    let visuals = encode(&mut *program, case);
    // The same words at the same places with other pixels: only the words before them are shared.
    let mut others = visuals.clone();
    let swapped = encode(&mut *program, case);
    others[0] = swapped[1].clone();
    let first = segments(case, &others);
    let sequence = program.open().expect("a sequence");
    extend(&mut *program, sequence, &first, &case.positions);
    program.close(sequence);
    let Run::Tokens(head) = &case.runs[0] else {
        panic!("a prompt that begins with text");
    };
    let own = segments(case, &visuals);
    assert_eq!(program.shared(&own, &case.positions), head.len());
    // Cancelled in the middle of it.
    let sequence = program.open().expect("a sequence");
    let cancel = Cancel::default();
    let watch = cancel.clone();
    let watcher = std::thread::spawn(move || {
        while watch.checks() < 4 {
            std::thread::yield_now();
        }
        watch.cancel();
    });
    let ids = vec![1; 3000];
    let positions: Vec<Position> = (0..3000).map(|i| [i; 3]).collect();
    let cancelled = program.extend(sequence, &[Segment::Tokens(&ids)], &positions, &cancel);
    assert!(matches!(cancelled, Err(Error::Cancelled)));
    watcher.join().expect("a watcher");
    program.close(sequence);
    for (step, logits) in answer_with(&mut *program, case, &visuals)
        .iter()
        .enumerate()
    {
        assert_eq!(argmax(logits), case.greedy[step], "step {step}");
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
        pixels: vec![0; 12 * 1536].into(),
        mean: [0.5; 3],
        std: [0.5; 3],
    };
    let error = program.encode(&patches, &Cancel::default());
    assert!(matches!(error, Err(Error::Shape { .. })));
}

#[test]
fn a_head_in_the_file_is_used_whatever_the_configuration_says() {
    let mut seen = 0;
    for folder in golden_folders(&data().join("logits")) {
        let text = std::fs::read_to_string(folder.join("config.json")).expect("a configuration");
        let tied = text.replace(
            r#""tie_word_embeddings": false"#,
            r#""tie_word_embeddings": true"#,
        );
        if tied == text {
            continue;
        }
        let spec = config::spec("config.json".to_owned(), tied.as_bytes()).expect("a spec");
        let mut program = load_as(&spec, &folder, Precision::F32);
        for case in cases(&data().join("logits"), &folder) {
            let (_, logits) = begin(&mut *program, &case);
            assert_close(&case, 0, &logits, &case.kept[0].1);
        }
        seen += 1;
    }
    assert!(seen >= 7, "only {seen} checkpoints with a head found");
}

#[test]
fn a_head_that_must_be_there_and_is_not_is_missed() {
    let folder = data().join("logits/tied-group2-levels3-head32");
    let text = std::fs::read_to_string(folder.join("config.json")).expect("a configuration");
    let text = text.replace(
        r#""tie_word_embeddings": true"#,
        r#""tie_word_embeddings": false"#,
    );
    let spec = config::spec("config.json".to_owned(), text.as_bytes()).expect("a spec");
    let (options, weights) = (Options::default(), Weights::Files(weight_files(&folder)));
    let error = cpu::load(&spec, &weights, &options, &mut |_| (), &Cancel::default()).err();
    assert!(
        matches!(&error, Some(Error::MissingWeight { name, .. }) if name == "lm_head.weight"),
        "{error:?}"
    );
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

/// Mean KL divergence of a precision from f32 in nats, and the part of the steps with the same first
/// choice, over the reference's answers.
fn compare(precision: Precision, folder: &Path, cases: &[Case]) -> [f64; 2] {
    let mut f32 = load(folder, Precision::F32);
    let mut other = load(folder, precision);
    let (mut divergence, mut same, mut steps) = (0.0, 0, 0);
    for case in cases {
        let (want, got) = (answer(&mut *f32, case), answer(&mut *other, case));
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
        "{}: {precision:?} KL {kl:.5}, agreement {agreement:.4}",
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
    answer_with(program, case, &visuals)
}

/// The same about these pixels.
fn answer_with(program: &mut dyn Program, case: &Case, visuals: &[VisualTokens]) -> Vec<Vec<f32>> {
    let sequence = program.open().expect("a sequence");
    let segments = segments(case, visuals);
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

fn load(folder: &Path, precision: Precision) -> Box<dyn Program> {
    load_as(&spec(folder), folder, precision)
}

/// Loads weights as what `spec` says they are.
fn load_as(spec: &Spec, folder: &Path, precision: Precision) -> Box<dyn Program> {
    let options = Options {
        precision,
        threads: Some(2),
        ..Options::default()
    };
    let weights = Weights::Files(weight_files(folder));
    cpu::load(spec, &weights, &options, &mut |_| (), &Cancel::default())
        .expect("a loadable checkpoint")
}
