// SPDX-License-Identifier: MPL-2.0

//! `config.json` of a Qwen3-VL.

use super::checks::{channels, check_heads, check_out};
use super::decoder::{Decoder, text_spec};
use super::defaults::{QWEN3_VL_TEXT, QWEN3_VL_VISION};
use super::qwen::QwenConfig;
use crate::backend::spec::{Spec, TextSpec, Tower, VisionSpec};
use crate::vlm::error::Error;
use crate::vlm::json::{Document, Section};

/// Checks a `config.json` whose `model_type` is `qwen3_vl`.
///
/// # Errors
/// [`Error::Config`] with file, key and what would be right.
pub(crate) fn read(config: &Document) -> Result<QwenConfig, Error> {
    let root = config.root();
    let text_config = root.require_section("text_config")?;
    let text_config = text_config.with_defaults(&QWEN3_VL_TEXT);
    let vision_config = root.require_section("vision_config")?;
    let vision_config = vision_config.with_defaults(&QWEN3_VL_VISION);
    let text = text_spec(&root, &text_config, Decoder::Qwen3Vl)?;
    let vision = vision_spec(&vision_config, &text)?;
    QwenConfig::read(&root, &text_config, Spec { vision, text })
}

fn vision_spec(vision: &Section<'_>, text: &TextSpec) -> Result<VisionSpec, Error> {
    vision.expect_text("hidden_act", "gelu_pytorch_tanh")?;
    let hidden_size = vision.size("hidden_size")?;
    let num_heads = vision.size("num_heads")?;
    check_heads(vision, "num_heads", num_heads, hidden_size)?;
    let num_position_embeddings = vision.size("num_position_embeddings")?;
    if num_position_embeddings.isqrt().pow(2) != num_position_embeddings {
        return Err(vision.complain(
            "num_position_embeddings",
            format!("is {num_position_embeddings}; want a square number"),
        ));
    }
    let depth = vision.size("depth")?;
    let indexes = vision.indexes("deepstack_visual_indexes")?;
    if !indexes.is_sorted_by(|a, b| a < b) || indexes.last().is_some_and(|&last| last >= depth) {
        return Err(vision.complain(
            "deepstack_visual_indexes",
            format!("is {indexes:?}; want growing numbers below depth, {depth}"),
        ));
    }
    if indexes.len() > text.num_hidden_layers {
        return Err(vision.complain(
            "deepstack_visual_indexes",
            format!(
                "has {} entries, but text_config.num_hidden_layers is {}",
                indexes.len(),
                text.num_hidden_layers
            ),
        ));
    }
    let tower = VisionSpec {
        depth,
        hidden_size,
        intermediate_size: vision.size("intermediate_size")?,
        num_heads,
        in_channels: channels(vision, "in_channels")?,
        patch_size: vision.size("patch_size")?,
        temporal_patch_size: vision.size_or("temporal_patch_size", 2)?,
        spatial_merge_size: vision.size_or("spatial_merge_size", 2)?,
        out_hidden_size: vision.size("out_hidden_size")?,
        tower: Tower::Qwen3Vl {
            num_position_embeddings,
            deepstack_visual_indexes: indexes,
        },
    };
    check_out(vision, &tower, text.hidden_size)?;
    Ok(tower)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::backend::spec::{Head, Rope};
    use crate::vlm::files::ModelFiles;

    fn demo() -> Value {
        let files = ModelFiles::demo();
        serde_json::from_slice(&files.require("config.json").unwrap()).unwrap()
    }

    fn parse(config: &Value) -> Result<QwenConfig, Error> {
        let bytes = config.to_string();
        read(&Document::parse(
            "config.json".to_owned(),
            bytes.as_bytes(),
        )?)
    }

    /// The complaint about the demo's configuration with one value changed; null removes it.
    fn complaint(pointer: &str, value: Value) -> String {
        let mut config = demo();
        let (parent, key) = pointer.rsplit_once('/').unwrap();
        config.pointer_mut(parent).unwrap()[key] = value;
        parse(&config).unwrap_err().to_string()
    }

    #[test]
    fn the_demo_is_read() {
        let config = parse(&demo()).unwrap();
        assert_eq!(config.spec.text.rope, Rope::Interleaved([6, 5, 5]));
        assert_eq!(config.spec.text.rope_theta, 10_000.0);
        assert_eq!(config.spec.text.head, Head::AsFound);
        let Tower::Qwen3Vl {
            deepstack_visual_indexes,
            ..
        } = &config.spec.vision.tower
        else {
            panic!("a tower of Qwen3-VL");
        };
        assert_eq!(deepstack_visual_indexes, &[1, 2]);
        assert_eq!(config.video_token_id, 511);
        assert_eq!(config.eos, [506]);
    }

    #[test]
    fn both_layouts_of_transformers_say_the_same() {
        let new = demo();
        let mut old = new.clone();
        let text = old["text_config"].as_object_mut().unwrap();
        let mut rope = text.remove("rope_parameters").unwrap();
        let theta = rope.as_object_mut().unwrap().remove("rope_theta").unwrap();
        text.insert("rope_scaling".to_owned(), rope);
        text.insert("rope_theta".to_owned(), theta);
        text.insert("torch_dtype".to_owned(), json!("bfloat16"));
        // 4.57 wrote the key in either place.
        let tied = old["tie_word_embeddings"].take();
        old["text_config"]["tie_word_embeddings"] = tied;
        assert_eq!(parse(&old).unwrap(), parse(&new).unwrap());
    }

    #[test]
    fn a_published_size_is_read() {
        // The 8B: a vision head of 72, untied head, mrope 24 + 20 + 20.
        let config = json!({
            "model_type": "qwen3_vl",
            "image_token_id": 151655, "video_token_id": 151656,
            "vision_start_token_id": 151652, "vision_end_token_id": 151653,
            "tie_word_embeddings": false,
            "text_config": {
                "attention_bias": false, "bos_token_id": 151643, "eos_token_id": 151645,
                "head_dim": 128, "hidden_act": "silu", "hidden_size": 4096,
                "intermediate_size": 12288, "max_position_embeddings": 262144,
                "num_attention_heads": 32, "num_hidden_layers": 36, "num_key_value_heads": 8,
                "rms_norm_eps": 1e-6, "rope_theta": 5000000, "vocab_size": 151936,
                "rope_scaling": {
                    "mrope_interleaved": true, "mrope_section": [24, 20, 20],
                    "rope_type": "default"
                }
            },
            "vision_config": {
                "deepstack_visual_indexes": [8, 16, 24], "depth": 27,
                "hidden_act": "gelu_pytorch_tanh", "hidden_size": 1152, "in_channels": 3,
                "intermediate_size": 4304, "num_heads": 16, "num_position_embeddings": 2304,
                "out_hidden_size": 4096, "patch_size": 16, "spatial_merge_size": 2,
                "temporal_patch_size": 2
            }
        });
        let spec = parse(&config).unwrap().spec;
        assert_eq!(spec.text.head, Head::Own);
        assert_eq!(spec.text.rope_theta, 5_000_000.0);
        assert_eq!(spec.vision.depth, 27);
    }

    /// Values in the demo's configuration, and what is said of each.
    fn all_are_told<const N: usize>(values: [(&str, Value, &str); N]) {
        for (pointer, value, want) in values {
            let got = complaint(pointer, value);
            assert!(
                got.starts_with("config.json: ") && got.contains(want),
                "{got}"
            );
        }
    }

    #[test]
    fn values_of_the_decoder_that_do_not_fit_are_told_with_key_and_remedy() {
        all_are_told([
            ("/text_config", json!(3), "text_config must be an object"),
            (
                "/text_config/hidden_size",
                json!("192"),
                "text_config.hidden_size is \"192\"; want",
            ),
            (
                "/text_config/num_key_value_heads",
                json!(3),
                "want a divisor of num_attention_heads, 4",
            ),
            (
                "/text_config/head_dim",
                json!(33),
                "text_config.head_dim is 33; want an even number",
            ),
            (
                "/text_config/hidden_act",
                json!("gelu"),
                "computes \"silu\" only",
            ),
            (
                "/text_config/attention_bias",
                json!(true),
                "text_config.attention_bias is true",
            ),
            (
                "/text_config/rms_norm_eps",
                json!(0),
                "text_config.rms_norm_eps is 0; want",
            ),
            (
                "/text_config/rope_parameters",
                json!(null),
                "text_config.rope_scaling is missing",
            ),
            (
                "/text_config/rope_parameters/rope_type",
                json!("yarn"),
                "rope_type is \"yarn\"",
            ),
            (
                "/text_config/rope_parameters/rope_theta",
                json!(-1),
                "rope_theta is -1; want",
            ),
            (
                "/text_config/rope_parameters/mrope_interleaved",
                json!(false),
                "are interleaved",
            ),
            (
                "/text_config/rope_parameters/mrope_section",
                json!([6, 5]),
                "sum to head_dim / 2 = 16",
            ),
            (
                "/text_config/rope_parameters/mrope_section",
                json!([6, 6, 5]),
                "is [6, 6, 5]; want",
            ),
            (
                "/text_config/rope_parameters/mrope_section",
                json!([2, 7, 7]),
                "at most a third",
            ),
        ]);
    }

    #[test]
    fn values_of_the_tower_and_tokens_that_do_not_fit_are_told_with_key_and_remedy() {
        all_are_told([
            ("/vision_config", json!(null), "vision_config is missing"),
            (
                "/vision_config/hidden_act",
                json!("gelu"),
                "computes \"gelu_pytorch_tanh\" only",
            ),
            (
                "/vision_config/num_heads",
                json!(3),
                "want a divisor of hidden_size, 128",
            ),
            (
                "/vision_config/out_hidden_size",
                json!(64),
                "text_config.hidden_size is 192",
            ),
            (
                "/vision_config/in_channels",
                json!(1),
                "vision_config.in_channels is 1; want 3",
            ),
            (
                "/vision_config/num_position_embeddings",
                json!(63),
                "is 63; want a square number",
            ),
            (
                "/vision_config/deepstack_visual_indexes",
                json!([1, 4]),
                "below depth, 4",
            ),
            (
                "/vision_config/deepstack_visual_indexes",
                json!([2, 1]),
                "want growing numbers",
            ),
            (
                "/vision_config/patch_size",
                json!([16, 16]),
                "vision_config.patch_size is [16,16]; want",
            ),
            (
                "/image_token_id",
                json!(512),
                "image_token_id has 512, but text_config.vocab_size is 512",
            ),
            ("/video_token_id", json!(null), "video_token_id is missing"),
            ("/video_token_id", json!(510), "is also image_token_id"),
            (
                "/quantization_config",
                json!({"quant_method": "bitsandbytes"}),
                "says bitsandbytes; take the checkpoint that is not quantised",
            ),
        ]);
    }

    #[test]
    fn more_deepstack_levels_than_layers_are_refused() {
        let mut config = demo();
        config["text_config"]["num_hidden_layers"] = json!(1);
        let got = parse(&config).unwrap_err().to_string();
        assert!(got.contains("num_hidden_layers is 1"), "{got}");
    }
}
