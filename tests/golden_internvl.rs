// SPDX-License-Identifier: MPL-2.0

//! InternVL3 between pixels, words and the model, held against transformers' processor and
//! OpenGVLab's conversation.
//!
//! `tests/data/processor/internvl.*` are made by `tools/golden/internvl.py`. Of resized pixels one
//! in a hundred may differ by 1 of 255, everything else is exact.

#[path = "common/spelled.rs"]
mod spelled;

use std::path::{Path, PathBuf};

use gstvlmcaption::backend::GridThw;
use gstvlmcaption::vlm::files::ModelFiles;
use gstvlmcaption::vlm::image::RgbImage;
use gstvlmcaption::vlm::tiles::Tiling;
use gstvlmcaption::vlm::{
    Checkpoint, PixelBudget, PromptRequest, PromptRun, Turn, VisualInput, VisualKind,
};
use safetensors::SafeTensors;
use serde::Deserialize;
use serde_json::{Value, json};

#[derive(Deserialize)]
struct Vectors {
    side: usize,
    template: String,
    added_tokens: Vec<Value>,
    /// Width, height, side, fewest and most tiles, columns and rows.
    grids: Vec<[usize; 7]>,
    tiles: Vec<Tiles>,
    prompts: Vec<PromptCase>,
}

#[derive(Deserialize)]
struct Tiles {
    kind: String,
    width: usize,
    height: usize,
    seed: usize,
}

#[derive(Deserialize)]
struct PromptCase {
    kind: String,
    /// Tiles of each image or frame.
    tiles: Vec<usize>,
    system: Option<String>,
    history: Vec<(String, String)>,
    text: String,
    transformers: Vec<u32>,
    opengvlab: Vec<u32>,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

fn vectors() -> Vectors {
    let path = root().join("tests/data/processor/internvl.json");
    let text = std::fs::read_to_string(path).expect("committed vectors");
    serde_json::from_str(&text).expect("vectors of this version")
}

fn read(path: PathBuf) -> Value {
    let bytes = std::fs::read(path).expect("a file");
    serde_json::from_slice(&bytes).expect("JSON")
}

/// The files of a checkpoint with tiles of 16 pixels and 4 tokens, without tensors.
fn unpack(folder: &Path, model: &str, vectors: &Vectors) {
    let demo = root().join("models/demo");
    let mut tokenizer = read(demo.join("tokenizer.json"));
    let added = tokenizer["added_tokens"].as_array_mut().expect("a list");
    added.extend(vectors.added_tokens.iter().cloned());
    let context = &vectors.added_tokens[2];
    assert_eq!(context["content"], "<IMG_CONTEXT>");

    let mut config = read(root().join(format!("tests/data/logits/{model}/config.json")));
    let side = vectors.side;
    let own = config["model_type"] == "internvl_chat";
    let (decoder, sides) = match own {
        true => ("llm_config", json!(side)),
        false => ("text_config", json!([side, side])),
    };
    config[decoder]["vocab_size"] = json!(516);
    config[decoder]["eos_token_id"] = json!(504);
    config["vision_config"]["image_size"] = sides;
    config["vision_config"]["patch_size"] = match own {
        true => json!(4),
        false => json!([4, 4]),
    };
    if own {
        config["force_image_size"] = json!(side);
    } else {
        config["image_token_id"] = context["id"].clone();
        let template = json!({ "chat_template": vectors.template });
        std::fs::write(folder.join("chat_template.json"), template.to_string()).expect("a folder");
    }
    let preprocessor = json!({
        "size": {"height": side, "width": side}, "crop_to_patches": false, "max_patches": 12,
        "min_patches": 1, "image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]
    });
    for (name, content) in [
        ("config.json", config.to_string().as_bytes()),
        ("tokenizer.json", tokenizer.to_string().as_bytes()),
        (
            "preprocessor_config.json",
            preprocessor.to_string().as_bytes(),
        ),
        ("model.safetensors", b"\x02\0\0\0\0\0\0\0{}"),
    ] {
        std::fs::write(folder.join(name), content).expect("a folder");
    }
}

const TRANSFORMERS: &str = "internvl-tied-group2-36-patches";
const OPENGVLAB: &str = "internvl-opengvlab-group3-64-patches";

fn open(folder: &Path) -> Checkpoint {
    Checkpoint::open(ModelFiles::Folder(folder.to_owned())).expect("a checkpoint")
}

fn checkpoint(model: &str) -> Checkpoint {
    let folder = tempfile::tempdir().expect("a temporary folder");
    unpack(folder.path(), model, &vectors());
    open(folder.path())
}

fn kind(name: &str) -> VisualKind {
    match name {
        "image" => VisualKind::Image,
        _ => VisualKind::Video,
    }
}

/// The ids of a prompt, each visual token by its placeholder.
fn ids(checkpoint: &Checkpoint, case: &PromptCase) -> Vec<u32> {
    let visuals: Vec<VisualInput> = case
        .tiles
        .iter()
        .map(|&t| VisualInput {
            grid: GridThw { t, h: 4, w: 4 },
            seconds: vec![0.0],
        })
        .collect();
    let turn = |(user, assistant): &(String, String)| Turn {
        user: user.clone(),
        assistant: assistant.clone(),
    };
    let history: Vec<Turn> = case.history.iter().map(turn).collect();
    let prompt = checkpoint
        .vlm
        .prompt(&PromptRequest {
            system: case.system.as_deref(),
            history: &history,
            text: &case.text,
            kind: kind(&case.kind),
            visuals: &visuals,
        })
        .expect("a prompt");
    let mut ids = Vec::new();
    for run in &prompt.runs {
        match run {
            PromptRun::Tokens(tokens) => ids.extend(tokens),
            PromptRun::Visual(index) => {
                let n = checkpoint.vlm.n_visual_tokens(visuals[*index].grid);
                ids.extend(std::iter::repeat_n(prompt.placeholder.expect("one"), n));
            }
        }
    }
    let counted: Vec<[u32; 3]> = (0..ids.len() as u32).map(|n| [n; 3]).collect();
    assert_eq!(prompt.positions, counted);
    assert_eq!(prompt.next_position as usize, ids.len());
    ids
}

#[test]
fn prompts_have_the_tokens_of_the_processor() {
    let checkpoint = checkpoint(TRANSFORMERS);
    for case in vectors().prompts {
        assert_eq!(
            ids(&checkpoint, &case),
            case.transformers,
            "{:?}",
            case.text
        );
    }
}

#[test]
fn prompts_have_the_tokens_of_opengvlab_s_conversation() {
    // Without a template, and with that of the text model, which has another system prompt.
    let folder = tempfile::tempdir().expect("a temporary folder");
    unpack(folder.path(), OPENGVLAB, &vectors());
    let without = open(folder.path());
    let template = "{% if messages[0].role != 'system' %}<|im_start|>system\nYou are \
                    Qwen.<|im_end|>\n{% endif %}{% for m in messages %}<|im_start|>{{ m.role }}\n\
                    {{ m.content }}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}\
                    <|im_start|>assistant\n{% endif %}";
    let config = json!({ "chat_template": template });
    let path = folder.path().join("tokenizer_config.json");
    std::fs::write(path, config.to_string()).expect("a folder");
    let with = open(folder.path());
    for case in vectors().prompts {
        assert_eq!(ids(&without, &case), case.opengvlab, "{:?}", case.text);
        assert_eq!(ids(&with, &case), case.opengvlab, "{:?}", case.text);
    }
    // Their configuration names another token, and their code ends with this one.
    assert_eq!(without.defaults.eos, [504, 506]);
}

#[test]
fn grids_are_those_of_the_processor() {
    let grids = vectors().grids;
    assert!(grids.len() > 80);
    for [width, height, side, min, max, columns, rows] in grids {
        let tiling = Tiling {
            side,
            min,
            max,
            thumbnail: true,
        };
        let got = tiling.grid(width, height);
        assert_eq!(
            got,
            (columns, rows),
            "{width}x{height}, {min} to {max} tiles"
        );
    }
}

/// The picture that `noise` of the script makes.
fn noise(seed: usize, width: usize, height: usize) -> RgbImage {
    let value = |i: usize| (((i + seed * 7919) as u64 * 2_654_435_761 % (1 << 32)) >> 13) as u8;
    RgbImage {
        width,
        height,
        pixels: (0..width * height * 3).map(value).collect(),
    }
}

#[test]
fn tiles_are_those_of_the_processors() {
    let vectors = vectors();
    let vlm = checkpoint(TRANSFORMERS).vlm;
    let path = root().join("tests/data/processor/internvl.safetensors");
    let bytes = std::fs::read(path).expect("committed vectors");
    let tensors = SafeTensors::deserialize(&bytes).expect("a safetensors file");
    for (number, case) in vectors.tiles.iter().enumerate() {
        let want = tensors.tensor(&format!("tiles.{number}")).expect("a case");
        let image = noise(case.seed, case.width, case.height);
        let (kind, budget) = (kind(&case.kind), PixelBudget::default());
        let fitted = vlm.fit(&image, kind, budget).expect("tiles");
        let size = vlm.target_size(case.width, case.height, kind, budget);
        assert_eq!(size.expect("a size"), (fitted.width, fitted.height));
        let patches = vlm.patches(&[fitted]).expect("patches");
        let GridThw { t, h, w } = patches.grid;
        assert_eq!(want.shape(), [t, 3, 16, 16], "case {number}");
        assert_eq!((h, w), (4, 4));
        assert_eq!(patches.mean, [0.485, 0.456, 0.406]);

        let mut n_differ = 0;
        for (i, &want) in want.data().iter().enumerate() {
            let (tile, channel) = (i / (3 * 256), i / 256 % 3);
            let (y, x) = (i % 256 / 16, i % 16);
            // Merge-block order: the 2 x 2 patches of a token stand together.
            let (row, column) = (y / 4, x / 4);
            let patch = (row / 2 * 2 + column / 2) * 4 + row % 2 * 2 + column % 2;
            let at = ((tile * 16 + patch) * 3 + channel) * 16 + y % 4 * 4 + x % 4;
            let got = patches.pixels[at];
            assert!(got.abs_diff(want) <= 1, "case {number}, {i}: {got} {want}");
            n_differ += usize::from(got != want);
        }
        assert!(n_differ * 100 <= want.data().len(), "{n_differ} differ");
    }
}

#[test]
fn a_budget_bounds_the_tiles_of_an_image_and_a_frame_has_one() {
    let vlm = checkpoint(OPENGVLAB).vlm;
    let size = |kind, max_pixels| {
        let budget = PixelBudget {
            max_pixels,
            video_ratio: None,
            exact: None,
        };
        vlm.target_size(64, 48, kind, budget).expect("a size")
    };
    assert_eq!(size(VisualKind::Image, None), (16, 13 * 16));
    assert_eq!(size(VisualKind::Image, Some(4 * 256)), (16, 5 * 16));
    assert_eq!(size(VisualKind::Image, Some(256)), (16, 16));
    assert_eq!(size(VisualKind::Image, Some(1)), (16, 16));
    assert_eq!(size(VisualKind::Video, None), (16, 16));
    assert_eq!(vlm.temporal_patch_size(), 1);
}

#[test]
fn special_tokens_that_people_or_models_write_are_text() {
    let grid = GridThw { t: 1, h: 4, w: 4 };
    for model in [OPENGVLAB, TRANSFORMERS] {
        spelled::special_tokens_are_text(&checkpoint(model), grid);
    }
}

#[test]
fn grids_that_do_not_fit_are_refused() {
    let vlm = checkpoint(OPENGVLAB).vlm;
    let visual = |t| VisualInput {
        grid: GridThw { t, h: 4, w: 4 },
        seconds: vec![0.0],
    };
    let ask = |text, kind, visuals: &[VisualInput]| {
        let request = PromptRequest {
            system: None,
            history: &[],
            text,
            kind,
            visuals,
        };
        vlm.prompt(&request).err().map(|error| error.to_string())
    };
    let got = ask("?", VisualKind::Video, &[visual(2)]);
    assert!(got.expect("an error").contains("a video frame has one"));
    let got = ask("?", VisualKind::Image, &[visual(1), visual(1)]);
    assert!(got.expect("an error").contains("takes one image, got 2"));
    assert_eq!(ask("?", VisualKind::Image, &[visual(5)]), None);
}
