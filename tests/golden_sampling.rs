// SPDX-License-Identifier: MPL-2.0

//! Sampling held against the processors and warpers that `generate` of transformers makes.
//!
//! `tests/data/processor/sampling.json` is made by `tools/golden/sampling.py`. The same tokens are
//! left, and their probabilities differ by less than 1e-6. A folder in `VLMCAPTION_GOLDEN` with such
//! a file is tried in addition.

use std::path::{Path, PathBuf};

use gstvlmcaption::vlm::sampling::{Sampler, Sampling};
use serde::Deserialize;

#[derive(Deserialize)]
struct Vectors {
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    logits: Vec<f32>,
    seen: Vec<u32>,
    repetition_penalty: f32,
    temperature: f32,
    top_k: usize,
    top_p: f32,
    min_p: f32,
    greedy: u32,
    /// Ids in their order, with probabilities.
    kept: Vec<(u32, f64)>,
}

/// The committed cases, and fresh ones where the environment names them.
fn cases() -> Vec<Case> {
    let committed = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/processor");
    let fresh = std::env::var_os("VLMCAPTION_GOLDEN")
        .map(PathBuf::from)
        .filter(|folder| folder.join("sampling.json").exists());
    let folders = [Some(committed), fresh].into_iter().flatten();
    let read = |folder: PathBuf| {
        let text = std::fs::read_to_string(folder.join("sampling.json")).expect("vectors");
        let vectors: Vectors = serde_json::from_str(&text).expect("vectors of this version");
        vectors.cases
    };
    folders.flat_map(read).collect()
}

impl Case {
    fn sampling(&self) -> Sampling {
        Sampling {
            temperature: self.temperature,
            top_p: self.top_p,
            top_k: self.top_k,
            min_p: self.min_p,
            repetition_penalty: self.repetition_penalty,
            seed: 0,
        }
    }

    fn about(&self, got: &[(u32, f32)]) -> String {
        format!(
            "{:?} of {:?}\nleft {got:?}\nwant {:?}",
            self.sampling(),
            self.logits,
            self.kept
        )
    }
}

#[test]
fn the_distribution_is_the_one_that_transformers_leaves() {
    let cases = cases();
    assert!(cases.len() >= 70);
    for case in cases {
        let mut sampler = Sampler::new(&case.sampling());
        sampler.observe(&case.seen);
        let candidates = sampler.candidates(&case.logits).expect("finite logits");
        let mut got: Vec<(u32, f32)> = candidates.iter().map(|c| (c.id, c.probability)).collect();
        got.sort_by_key(|&(id, _)| id);
        assert_eq!(got.len(), case.kept.len(), "{}", case.about(&got));
        for (&(id, p), &(want_id, want)) in got.iter().zip(&case.kept) {
            assert_eq!(id, want_id, "{}", case.about(&got));
            assert!((f64::from(p) - want).abs() < 1e-6, "{}", case.about(&got));
        }
    }
}

#[test]
fn the_greedy_choice_is_that_of_transformers() {
    for case in cases() {
        let mut greedy = Sampler::new(&Sampling {
            temperature: 0.0,
            ..case.sampling()
        });
        greedy.observe(&case.seen);
        assert_eq!(
            greedy.choose(&case.logits).expect("finite logits"),
            case.greedy
        );
    }
}

#[test]
fn every_draw_is_of_the_tokens_that_are_left() {
    for case in cases() {
        let mut sampler = Sampler::new(&case.sampling());
        sampler.observe(&case.seen);
        let drawn = sampler.choose(&case.logits).expect("finite logits");
        assert!(case.kept.iter().any(|&(id, _)| id == drawn), "{drawn}");
    }
}
