// SPDX-License-Identifier: MPL-2.0

//! Everything between pixels, words and the model, held against transformers' own processors.
//!
//! `tests/data/processor` is made by `tools/golden/processor.py`; `VLMCAPTION_GOLDEN` may name a
//! folder with a `processor.json` of another seed, which is compared too. Of resized pixels one in
//! a hundred may differ by 1 of 255 (rounding may depend on the processor; on x86-64 none differs),
//! probabilities by 1e-5; everything else is exact.

#[path = "common/prompts.rs"]
mod prompts;
#[path = "common/spelled.rs"]
mod spelled;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use gstvlmcaption::backend::{Cancel, cpu};
use gstvlmcaption::vlm::chat::{ChatTemplate, Message, Part};
use gstvlmcaption::vlm::files::ModelFiles;
use gstvlmcaption::vlm::generate::{GenerateOptions, StopReason, generate};
use gstvlmcaption::vlm::grid::Geometry;
use gstvlmcaption::vlm::image::{RgbImage, patch_rows, smart_resize};
use gstvlmcaption::vlm::sampling::Sampling;
use gstvlmcaption::vlm::{Checkpoint, PixelBudget, PromptRequest, VisualInput, VisualKind};
use safetensors::SafeTensors;
use serde::Deserialize;

#[derive(Deserialize)]
struct Vectors {
    sizes: Vec<[Option<usize>; 7]>,
    pixels: Vec<Pixels>,
    prompts: Vec<prompts::Case>,
    tokens: Tokens,
    templates: Vec<Template>,
    answers: Vec<Answer>,
}

#[derive(Deserialize)]
struct Pixels {
    kind: String,
    /// Patch, frames, merge.
    geometry: [usize; 3],
    budget: [usize; 2],
    width: usize,
    height: usize,
    frames: Vec<Frame>,
    grid: [usize; 3],
    rows: String,
}

#[derive(Deserialize)]
struct Frame {
    pattern: String,
    seed: u64,
}

#[derive(Deserialize)]
struct Tokens {
    encoded: Vec<(String, Vec<u32>)>,
    decoded: Vec<(Vec<u32>, String)>,
}

#[derive(Deserialize)]
struct Template {
    template: String,
    messages: Vec<(String, Vec<Vec<String>>)>,
    rendered: Option<String>,
}

#[derive(Deserialize)]
struct Answer {
    kind: String,
    width: usize,
    height: usize,
    frames: Vec<Frame>,
    question: String,
    repetition_penalty: f32,
    n_tokens: usize,
    text: String,
}

/// The committed vectors, and fresh ones where the environment names them.
fn each_set(mut check: impl FnMut(&Path, &Vectors)) {
    let committed = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/processor");
    // The same folder may hold vectors for other tests only.
    let fresh = std::env::var_os("VLMCAPTION_GOLDEN")
        .map(PathBuf::from)
        .filter(|folder| folder.join("processor.json").exists());
    for folder in [Some(committed), fresh].into_iter().flatten() {
        let text = std::fs::read_to_string(folder.join("processor.json")).unwrap();
        check(&folder, &serde_json::from_str(&text).unwrap());
    }
}

fn demo() -> Checkpoint {
    Checkpoint::open(ModelFiles::demo()).unwrap()
}

/// The picture that `picture` of the script makes.
fn picture(frame: &Frame, width: usize, height: usize) -> RgbImage {
    let seed = frame.seed;
    let (left, top) = (
        width as u64 / 4 + seed * 37 % (width as u64 / 2).max(1),
        height as u64 / 4 + seed * 23 % (height as u64 / 2).max(1),
    );
    let radius = height as u64 / 6;
    let mut pixels = Vec::with_capacity(width * height * 3);
    for y in 0..height as u64 {
        for x in 0..width as u64 {
            for c in 0..3 {
                let n = (y * width as u64 + x) * 3 + c + seed * 7919;
                let inside = x.abs_diff(left).pow(2) + y.abs_diff(top).pow(2) <= radius.pow(2);
                let value = match frame.pattern.as_str() {
                    "disc" => u64::from(inside) * (((seed / 100) >> c) & 1) * 255,
                    "ramp" => x * 5 + y * 3 + c * 40 + seed,
                    "blocks" => ((x / 7 + y / 5 + c + seed) % 2) * 255,
                    _ => (n * 2_654_435_761 % (1 << 32)) >> 13,
                };
                pixels.push((value % 256) as u8);
            }
        }
    }
    RgbImage {
        width,
        height,
        pixels,
    }
}

#[test]
fn target_sizes_are_those_of_smart_resize() {
    each_set(|_, vectors| {
        assert!(vectors.sizes.len() > 100);
        for case in &vectors.sizes {
            let given: Vec<usize> = case[..5].iter().map(|n| n.unwrap()).collect();
            let want = case[5].zip(case[6]);
            let got = smart_resize(given[0], given[1], given[2], given[3], given[4]).ok();
            assert_eq!(got, want, "{given:?}");
        }
    });
}

#[test]
fn patch_rows_are_those_of_the_processors() {
    each_set(|folder, vectors| {
        let bytes = std::fs::read(folder.join("processor.safetensors")).unwrap();
        let tensors = SafeTensors::deserialize(&bytes).unwrap();
        for case in &vectors.pixels {
            let [patch_size, temporal_patch_size, merge_size] = case.geometry;
            let geometry = Geometry {
                patch_size,
                temporal_patch_size,
                merge_size,
            };
            let [min, max] = case.budget;
            let (width, height) =
                smart_resize(case.width, case.height, geometry.factor(), min, max).unwrap();
            let frames: Vec<RgbImage> = case
                .frames
                .iter()
                .map(|frame| picture(frame, case.width, case.height))
                .map(|image| image.resize(width, height).unwrap())
                .collect();
            let (grid, rows) = patch_rows(&frames, geometry).unwrap();
            let name = format!("{} {}x{}", case.rows, case.width, case.height);
            assert_eq!([grid.t, grid.h, grid.w], case.grid, "{name}");

            // An image fills all frames of its patch: one of them is stored.
            let n_stored = match case.kind.as_str() {
                "image" => 1,
                _ => temporal_patch_size,
            };
            let want = tensors.tensor(&case.rows).unwrap();
            let area = patch_size * patch_size;
            assert_eq!(want.shape(), [grid.n_patches(), 3 * n_stored * area]);
            let resized = (width, height) != (case.width, case.height);
            let tolerance = u8::from(resized);
            let mut n_differ = 0;
            for (index, &got) in rows.iter().enumerate() {
                let (row, inside) = (index / geometry.row_len(), index % geometry.row_len());
                let (channel, t) = (
                    inside / (temporal_patch_size * area),
                    inside / area % temporal_patch_size,
                );
                let column = (channel * n_stored + t.min(n_stored - 1)) * area + inside % area;
                let want = want.data()[row * 3 * n_stored * area + column];
                assert!(
                    got.abs_diff(want) <= tolerance,
                    "{name}: row {row}, entry {inside}: got {got}, want {want}"
                );
                n_differ += usize::from(got != want);
            }
            assert!(
                n_differ * 100 <= rows.len(),
                "{name}: {n_differ} values differ by 1"
            );
        }
    });
}

#[test]
fn prompts_have_the_tokens_and_positions_of_the_reference() {
    let checkpoint = demo();
    each_set(|_, vectors| prompts::compare(&checkpoint, &vectors.prompts));
}

#[test]
fn special_tokens_that_people_or_models_write_are_text() {
    let grid = gstvlmcaption::backend::GridThw { t: 1, h: 6, w: 8 };
    spelled::special_tokens_are_text(&demo(), grid);
}

#[test]
fn texts_become_the_tokens_of_the_reference() {
    let tokenizer = demo().tokenizer;
    each_set(|_, vectors| {
        for (text, ids) in &vectors.tokens.encoded {
            assert_eq!(tokenizer.encode(text).unwrap(), *ids, "{text:?}");
        }
    });
}

#[test]
fn tokens_become_the_texts_of_the_reference_at_once_and_one_by_one() {
    let tokenizer = demo().tokenizer;
    each_set(|_, vectors| {
        for (ids, text) in &vectors.tokens.decoded {
            assert_eq!(tokenizer.decode(ids).unwrap(), *text, "{ids:?}");
            let mut stream = tokenizer.stream();
            let mut streamed = String::new();
            for &id in ids {
                streamed.push_str(&stream.push(id).unwrap());
            }
            streamed.push_str(&stream.finish().unwrap());
            assert_eq!(streamed, *text, "{ids:?}");
        }
    });
}

#[test]
fn templates_render_as_by_transformers() {
    each_set(|_, vectors| {
        for case in &vectors.templates {
            let special = BTreeMap::from([("eos_token".to_owned(), "<|im_end|>".to_owned())]);
            let template = ChatTemplate::compile(case.template.clone(), special).unwrap();
            let messages: Vec<Message<'_>> = case
                .messages
                .iter()
                .map(|(role, parts)| Message {
                    role: match role.as_str() {
                        "system" => "system",
                        "assistant" => "assistant",
                        _ => "user",
                    },
                    parts: parts
                        .iter()
                        .map(|part| match part[0].as_str() {
                            "image" => Part::Image,
                            "video" => Part::Video,
                            _ => Part::Text(&part[1]),
                        })
                        .collect(),
                })
                .collect();
            let rendered = template.render(&messages);
            assert_eq!(rendered.ok(), case.rendered, "{}", case.template);
        }
    });
}

#[test]
fn the_demo_answers_as_by_transformers_from_pixels_to_text() {
    let checkpoint = demo();
    let cancel = Cancel::default();
    let options = cpu::Options {
        precision: cpu::Precision::F32,
        ..cpu::Options::default()
    };
    let mut program = checkpoint.load_cpu(&options, &mut |_| {}, &cancel).unwrap();
    each_set(|_, vectors| {
        assert!(!vectors.answers.is_empty());
        for case in &vectors.answers {
            let kind = match case.kind.as_str() {
                "image" => VisualKind::Image,
                _ => VisualKind::Video,
            };
            let vlm = &checkpoint.vlm;
            let (width, height) = vlm
                .target_size(case.width, case.height, kind, PixelBudget::default())
                .unwrap();
            let frames: Vec<RgbImage> = case
                .frames
                .iter()
                .map(|frame| picture(frame, case.width, case.height))
                .map(|image| image.resize(width, height).unwrap())
                .collect();
            let (mut inputs, mut tokens) = (Vec::new(), Vec::new());
            for (index, pair) in frames.chunks(vlm.temporal_patch_size()).enumerate() {
                let patches = vlm.patches(pair).unwrap();
                let first = (2 * index) as f64;
                inputs.push(VisualInput {
                    grid: patches.grid,
                    seconds: vec![first, first + (pair.len() - 1) as f64],
                });
                tokens.push(Arc::new(program.encode(&patches, &cancel).unwrap()));
            }
            let prompt = vlm
                .prompt(&PromptRequest {
                    system: None,
                    history: &[],
                    text: &case.question,
                    kind,
                    visuals: &inputs,
                })
                .unwrap();
            let options = GenerateOptions {
                max_tokens: 48,
                sampling: Sampling {
                    repetition_penalty: case.repetition_penalty,
                    ..Sampling::greedy()
                },
                eos: checkpoint.defaults.eos.clone(),
                stop: vec![],
            };
            let answer = generate(
                program.as_mut(),
                &checkpoint.tokenizer,
                &prompt,
                &tokens,
                &options,
                &cancel,
                &mut |_| {},
            )
            .unwrap();
            assert_eq!(answer.text, case.text);
            assert_eq!(answer.tokens_out, case.n_tokens, "{}", case.text);
            assert_eq!(answer.stop_reason, StopReason::Eos);
        }
    });
}
