// SPDX-License-Identifier: MPL-2.0

//! Qwen2.5-VL between pixels, words and the model, held against transformers' own processor.
//!
//! `tests/data/processor/qwen25.json` is made by `tools/golden/qwen25.py`. Everything is exact.

#[path = "common/prompts.rs"]
mod prompts;
#[path = "common/spelled.rs"]
mod spelled;

use std::path::{Path, PathBuf};

use gstvlmcaption::backend::GridThw;
use gstvlmcaption::vlm::files::ModelFiles;
use gstvlmcaption::vlm::image::RgbImage;
use gstvlmcaption::vlm::{Checkpoint, PixelBudget, VisualKind};
use serde::Deserialize;
use serde_json::{Value, json};

#[derive(Deserialize)]
struct Vectors {
    template: String,
    prompts: Vec<prompts::Case>,
}

fn vectors() -> Vectors {
    let path = root().join("tests/data/processor/qwen25.json");
    let text = std::fs::read_to_string(path).expect("committed vectors");
    serde_json::from_str(&text).expect("vectors of this version")
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

/// A checkpoint of the published layout, with the tokenizer of the demo model and without tensors.
fn checkpoint(folder: &Path) -> Checkpoint {
    let demo = root().join("models/demo");
    for name in [
        "tokenizer.json",
        "tokenizer_config.json",
        "generation_config.json",
    ] {
        std::fs::copy(demo.join(name), folder.join(name)).expect("a file of the demo model");
    }
    let read = |path: PathBuf| -> Value {
        let bytes = std::fs::read(path).expect("a configuration");
        serde_json::from_slice(&bytes).expect("JSON")
    };
    let mut config = read(root().join("tests/data/logits/qwen25-published-sharded/config.json"));
    let tokens = read(demo.join("config.json"));
    let tokens = tokens.as_object().expect("an object").iter();
    for (key, id) in tokens.filter(|(key, _)| key.ends_with("_token_id")) {
        config[key] = id.clone();
    }
    config["vocab_size"] = json!(512);
    config["vision_config"]["patch_size"] = json!(14);
    config["vision_config"]["window_size"] = json!(112);
    let preprocessor = json!({
        "min_pixels": 3136, "max_pixels": 12845056, "patch_size": 14, "temporal_patch_size": 2,
        "merge_size": 2, "image_mean": [0.48145466, 0.4578275, 0.40821073],
        "image_std": [0.26862954, 0.26130258, 0.27577711],
        "image_processor_type": "Qwen2VLImageProcessor", "processor_class": "Qwen2_5_VLProcessor"
    });
    let template = json!({ "chat_template": vectors().template });
    let weights = b"\x02\0\0\0\0\0\0\0{}";
    for (name, content) in [
        ("config.json", config.to_string().as_bytes()),
        (
            "preprocessor_config.json",
            preprocessor.to_string().as_bytes(),
        ),
        ("chat_template.json", template.to_string().as_bytes()),
        ("model.safetensors", weights),
    ] {
        std::fs::write(folder.join(name), content).expect("a temporary folder");
    }
    Checkpoint::open(ModelFiles::Folder(folder.to_owned())).expect("a checkpoint")
}

#[test]
fn prompts_have_the_tokens_and_positions_of_the_reference() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let vectors = vectors();
    assert!(vectors.prompts.len() >= 20);
    prompts::compare(&checkpoint(folder.path()), &vectors.prompts);
}

#[test]
fn special_tokens_that_people_or_models_write_are_text() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let grid = GridThw { t: 1, h: 4, w: 6 };
    spelled::special_tokens_are_text(&checkpoint(folder.path()), grid);
}

#[test]
fn a_video_frame_spends_a_quarter_of_the_budget() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let vlm = checkpoint(folder.path()).vlm;
    let budget = PixelBudget {
        max_pixels: Some(672 * 896),
        video_ratio: None,
        exact: None,
    };
    for (width, height, image, video) in [
        (1920, 1080, (1008, 560), (504, 280)),
        (640, 480, (644, 476), (448, 336)),
        (768, 768, (756, 756), (364, 364)),
        (4000, 3000, (896, 672), (448, 336)),
        (2000, 50, (1988, 56), (1988, 56)),
    ] {
        let size = |kind| {
            vlm.target_size(width, height, kind, budget)
                .expect("a size")
        };
        assert_eq!(size(VisualKind::Image), image, "{width}x{height}");
        assert_eq!(size(VisualKind::Video), video, "{width}x{height}");
    }
}

#[test]
fn a_pair_becomes_rows_of_both_frames() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let vlm = checkpoint(folder.path()).vlm;
    let frame = |shade| RgbImage {
        width: 56,
        height: 28,
        pixels: vec![shade; 56 * 28 * 3],
    };
    let patches = vlm.patches(&[frame(10), frame(20)]).expect("patches");
    assert_eq!((patches.grid.t, patches.grid.h, patches.grid.w), (1, 2, 4));
    assert_eq!(patches.pixels.len(), 8 * 1176);
    assert_eq!((patches.pixels[0], patches.pixels[196]), (10, 20));
    assert_eq!(patches.mean, [0.481_454_66, 0.457_827_5, 0.408_210_73]);
    assert_eq!(vlm.n_visual_tokens(patches.grid), 2);
}
