// SPDX-License-Identifier: MPL-2.0

//! What the models say.

use std::path::PathBuf;

use gstvlmcaption::backend::{Cancel, Error, GridThw, Next, Program, Segment};

use crate::compare::{
    Folders, NOISE, Tally, answer, compare, compare_checkpoint, data, grid_of, rms,
};
use crate::golden::{self, cases, demo, encode, extend, golden_folders, segments};
use crate::make::Build;
use crate::{both, counted, is_card, name};

#[test]
fn random_checkpoints_of_all_families_choose_as_transformers() {
    both("run::random_checkpoints");
}

#[test]
#[ignore = "called by another"]
fn random_checkpoints() {
    let mut total = Tally::default();
    // The vendor's compiler takes checkpoints that are not quantised.
    let packed = |checkpoint: &PathBuf| golden::spec(checkpoint).text.packing.is_some();
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
            logits.push(extend(
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
    extend(
        &mut program,
        sequence,
        &[Segment::Tokens(&ids[..64])],
        &positions[..64],
    );
    for i in 64..95 {
        extend(&mut program, sequence, &[Segment::Tokens(&[9])], &[[i; 3]]);
    }
    let full = program.extend(sequence, &[Segment::Tokens(&[9])], &[[94; 3]], &cancel);
    assert!(needs(full, 96, 95));
    // After an error the rows before it are still there.
    program.truncate(sequence, 90);
    extend(&mut program, sequence, &[Segment::Tokens(&[9])], &[[90; 3]]);
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
            let next = case.next_position() as usize;
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
        let logits = extend(&mut program, sequence, &segments, &case.positions);
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
    extend(&mut program, sequence, &segments, &case.positions);
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
    let want = extend(&mut program, sequence, &ids, &positions);
    program.truncate(sequence, 0);
    let cancel = Cancel::default();
    cancel.cancel();
    let cancelled = program.extend(sequence, &ids, &positions, &cancel);
    assert!(matches!(cancelled, Err(Error::Cancelled)));
    assert_eq!(extend(&mut program, sequence, &ids, &positions), want);
}
