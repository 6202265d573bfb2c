// SPDX-License-Identifier: MPL-2.0

//! What transformers said of the checkpoints in `tests/data/logits` and of the demo model.

use std::path::{Path, PathBuf};

use gstvlmcaption::backend::spec::Spec;
use gstvlmcaption::backend::{
    Cancel, GridThw, Next, Patches, Position, Program, Segment, SequenceId, VisualTokens,
};
use gstvlmcaption::vlm::config;
use safetensors::SafeTensors;
use serde_json::Value;

/// One prompt and the reference's answer.
pub struct Case {
    pub name: String,
    pub runs: Vec<Run>,
    pub positions: Vec<Position>,
    pub greedy: Vec<u32>,
    /// Steps of the answer whose logits were kept, and the logits.
    pub kept: Vec<(usize, Vec<f32>)>,
}

pub enum Run {
    Tokens(Vec<u32>),
    Visual(Patches),
}

pub fn segments<'a>(case: &'a Case, visuals: &'a [VisualTokens]) -> Vec<Segment<'a>> {
    let mut visuals = visuals.iter();
    let segment = |run: &'a Run| match run {
        Run::Tokens(ids) => Segment::Tokens(ids),
        Run::Visual(_) => Segment::Visual(visuals.next().expect("one per visual run")),
    };
    case.runs.iter().map(segment).collect()
}

impl Case {
    /// The position of the answer's first token.
    pub fn next_position(&self) -> u32 {
        1 + self.positions.iter().flatten().max().expect("a position")
    }
}

/// The visual tokens of a prompt, in its order.
pub fn encode(program: &mut dyn Program, case: &Case) -> Vec<VisualTokens> {
    let cancel = Cancel::default();
    let patches = case.runs.iter().filter_map(|run| match run {
        Run::Tokens(_) => None,
        Run::Visual(patches) => Some(patches),
    });
    patches
        .map(|patches| program.encode(patches, &cancel).expect("visual tokens"))
        .collect()
}

/// The logits after some more rows.
pub fn extend(
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

/// The sequence of a prompt, and the logits of what follows it.
pub fn begin(program: &mut dyn Program, case: &Case) -> (SequenceId, Vec<f32>) {
    let visuals = encode(program, case);
    let sequence = program.open().expect("a sequence");
    let segments = segments(case, &visuals);
    let logits = extend(program, sequence, &segments, &case.positions);
    (sequence, logits)
}

pub fn argmax(logits: &[f32]) -> u32 {
    let best = logits.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1));
    best.expect("logits").0 as u32
}

/// How far int8 may be from f32, KL divergence in nats: 0.01, and more with portable loops, which multiply no
/// bytes without overflow on some processors, so that activations have 7 bits.
#[allow(dead_code, reason = "not every test file rounds")]
pub fn int8_bound() -> f64 {
    let is_portable = std::env::var("VLMCAPTION_ISA").is_ok_and(|isa| isa == "portable");
    #[cfg(target_arch = "x86_64")]
    let is_portable = is_portable || !std::is_x86_feature_detected!("avx2");
    if is_portable {
        return 0.04;
    }
    0.01
}

/// The root of the sources, above the package that this file is compiled in.
fn root() -> &'static Path {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut above = package.ancestors();
    let root = above.find(|folder| folder.join("tests/data").is_dir());
    root.expect("a folder with tests/data")
}

pub fn data() -> PathBuf {
    root().join("tests/data")
}

pub fn demo() -> PathBuf {
    root().join("models/demo")
}

/// Checkpoint folders that lie in `place`.
pub fn golden_folders(place: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(place).expect("a folder of golden data");
    let mut folders: Vec<_> = entries
        .map(|entry| entry.expect("a folder entry").path())
        .filter(|path| path.join("config.json").exists())
        .collect();
    folders.sort();
    folders
}

pub fn weight_files(folder: &Path) -> Vec<PathBuf> {
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

pub fn spec(folder: &Path) -> Spec {
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
pub fn cases(place: &Path, folder: &Path) -> Vec<Case> {
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
                pixels: pixels(number(&visual["seed"]), grid.n_patches(), row_len).into(),
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
