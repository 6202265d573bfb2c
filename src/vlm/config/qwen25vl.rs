// SPDX-License-Identifier: MPL-2.0

//! `config.json` of a Qwen2.5-VL.

use super::checks::{channels, check_heads, check_out};
use super::decoder::{Decoder, text_spec};
use super::defaults::{QWEN2_5_VL_TEXT, QWEN2_5_VL_VISION};
use super::qwen::QwenConfig;
use crate::backend::spec::{Spec, TextSpec, Tower, VisionSpec};
use crate::vlm::error::Error;
use crate::vlm::json::{Document, Section};

/// Positions on the time axis for a second: beyond any use, and with these a window of a day still
/// has its numbers.
const MAX_TOKENS_PER_SECOND: f64 = 1000.0;

/// `config.json`, checked.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Config {
    /// What all Qwens have.
    pub qwen: QwenConfig,
    /// Positions on the time axis for a second of video.
    pub tokens_per_second: f64,
}

/// Checks a `config.json` whose `model_type` is `qwen2_5_vl`: as published, with the decoder's keys
/// at the top, or with a `text_config`, as transformers has written since 4.52.
///
/// # Errors
/// [`Error::Config`] with file, key and what would be right.
pub(crate) fn read(config: &Document) -> Result<Config, Error> {
    let root = config.root();
    let text_config = match root.section("text_config")? {
        Some(section) => section,
        None => root.clone(),
    };
    let text_config = &text_config.with_defaults(&QWEN2_5_VL_TEXT);
    let vision_config = root.require_section("vision_config")?;
    let vision_config = vision_config.with_defaults(&QWEN2_5_VL_VISION);
    let text = text_spec(&root, text_config, Decoder::Qwen25Vl)?;
    let vision = vision_spec(&vision_config, &text)?;
    Ok(Config {
        qwen: QwenConfig::read(&root, text_config, Spec { vision, text })?,
        tokens_per_second: vision_config.at_most_or(
            "tokens_per_second",
            MAX_TOKENS_PER_SECOND,
            4.0,
        )?,
    })
}

fn vision_spec(vision: &Section<'_>, text: &TextSpec) -> Result<VisionSpec, Error> {
    vision.expect_text("hidden_act", "silu")?;
    let hidden_size = vision.size("hidden_size")?;
    let num_heads = vision.size("num_heads")?;
    check_heads(vision, "num_heads", num_heads, hidden_size)?;
    let depth = vision.size("depth")?;
    let fullatt_block_indexes = vision.indexes("fullatt_block_indexes")?;
    if let Some(index) = fullatt_block_indexes.iter().find(|&&index| index >= depth) {
        return Err(vision.complain(
            "fullatt_block_indexes",
            format!("has {index}; want numbers below depth, {depth}"),
        ));
    }
    let patch_size = vision.size("patch_size")?;
    let spatial_merge_size = vision.size_or("spatial_merge_size", 2)?;
    let window_size = vision.size_or("window_size", 112)?;
    // Rounded down, as `get_window_index` does.
    let window = window_size / spatial_merge_size / patch_size;
    if window == 0 {
        return Err(vision.complain(
            "window_size",
            format!(
                "is {window_size} pixels; want at least one merge block, {}",
                spatial_merge_size * patch_size
            ),
        ));
    }
    // The published files say `in_chans`.
    let channels_key = match vision.value("in_channels") {
        Some(_) => "in_channels",
        None => "in_chans",
    };
    let tower = VisionSpec {
        depth,
        hidden_size,
        intermediate_size: vision.size("intermediate_size")?,
        num_heads,
        in_channels: channels(vision, channels_key)?,
        patch_size,
        temporal_patch_size: vision.size_or("temporal_patch_size", 2)?,
        spatial_merge_size,
        out_hidden_size: vision.size("out_hidden_size")?,
        tower: Tower::Qwen25Vl {
            window,
            fullatt_block_indexes,
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

    /// The 3B as published: the decoder's keys at the top.
    fn published() -> Value {
        json!({
            "model_type": "qwen2_5_vl",
            "attention_dropout": 0.0, "bos_token_id": 151643, "eos_token_id": 151645,
            "vision_start_token_id": 151652, "vision_end_token_id": 151653,
            "vision_token_id": 151654, "image_token_id": 151655, "video_token_id": 151656,
            "hidden_act": "silu", "hidden_size": 2048, "initializer_range": 0.02,
            "intermediate_size": 11008, "max_position_embeddings": 128000,
            "max_window_layers": 70, "num_attention_heads": 16, "num_hidden_layers": 36,
            "num_key_value_heads": 2, "rms_norm_eps": 1e-6, "rope_theta": 1000000.0,
            "sliding_window": 32768, "tie_word_embeddings": true, "use_sliding_window": false,
            "vocab_size": 151936,
            "vision_config": {
                "depth": 32, "hidden_act": "silu", "hidden_size": 1280,
                "intermediate_size": 3420, "num_heads": 16, "in_chans": 3,
                "out_hidden_size": 2048, "patch_size": 14, "spatial_merge_size": 2,
                "spatial_patch_size": 14, "window_size": 112,
                "fullatt_block_indexes": [7, 15, 23, 31], "tokens_per_second": 2,
                "temporal_patch_size": 2
            },
            "rope_scaling": {"type": "mrope", "mrope_section": [16, 24, 24]}
        })
    }

    fn parse(config: &Value) -> Result<Config, Error> {
        let bytes = config.to_string();
        read(&Document::parse(
            "config.json".to_owned(),
            bytes.as_bytes(),
        )?)
    }

    #[test]
    fn a_published_size_is_read() {
        let config = parse(&published()).unwrap();
        let Spec { vision, text } = &config.qwen.spec;
        assert_eq!(config.tokens_per_second, 2.0);
        assert_eq!(config.qwen.eos, [151_645]);
        assert_eq!(text.rope, Rope::Contiguous([16, 24, 24]));
        assert_eq!((text.head_dim, text.rope_theta), (128, 1e6));
        assert!(text.qkv_bias && !text.qk_norm);
        assert_eq!(text.head, Head::AsFound);
        let want = Tower::Qwen25Vl {
            window: 4,
            fullatt_block_indexes: vec![7, 15, 23, 31],
        };
        assert_eq!(vision.tower, want);
    }

    #[test]
    fn a_text_config_says_the_same_as_keys_at_the_top() {
        let flat = published();
        let mut nested = flat.clone();
        let top = nested.as_object_mut().unwrap();
        let mut text = top.clone();
        text.retain(|key, _| !key.ends_with("_token_id") || key == "eos_token_id");
        text.remove("vision_config");
        text.remove("rope_theta");
        text["rope_scaling"] = json!({
            "rope_type": "default", "rope_theta": 1000000.0, "mrope_section": [16, 24, 24]
        });
        let rope = text.remove("rope_scaling").unwrap();
        text.insert("rope_parameters".to_owned(), rope);
        top.retain(|key, _| {
            !text.contains_key(key) && key != "rope_theta" && key != "rope_scaling"
        });
        top.insert("model_type".to_owned(), json!("qwen2_5_vl"));
        top.insert("text_config".to_owned(), Value::Object(text));
        assert_eq!(parse(&nested).unwrap(), parse(&flat).unwrap());
    }

    #[test]
    fn values_that_do_not_fit_are_told_with_key_and_remedy() {
        for (pointer, value, want) in [
            (
                "/vision_config/fullatt_block_indexes",
                json!([7, 32]),
                "fullatt_block_indexes has 32; want numbers below depth, 32",
            ),
            (
                "/vision_config/window_size",
                json!(20),
                "window_size is 20 pixels; want at least one merge block, 28",
            ),
            ("/vision_config/in_chans", json!(1), "in_chans is 1; want 3"),
            (
                "/vision_config/out_hidden_size",
                json!(64),
                "hidden_size is 2048",
            ),
            (
                "/use_sliding_window",
                json!(true),
                "use_sliding_window is true",
            ),
            (
                "/rope_scaling/mrope_section",
                json!([16, 24, 25]),
                "sum to head_dim / 2 = 64",
            ),
            (
                "/rope_scaling/mrope_interleaved",
                json!(true),
                "are contiguous",
            ),
            ("/rope_scaling/type", json!("yarn"), "type is \"yarn\""),
            (
                "/quantization_config",
                json!({"quant_method": "awq", "bits": 3}),
                "quantization_config.bits is 3; take",
            ),
        ] {
            let mut config = published();
            let (parent, key) = pointer.rsplit_once('/').unwrap();
            config.pointer_mut(parent).unwrap()[key] = value;
            let got = parse(&config).unwrap_err().to_string();
            assert!(
                got.starts_with("config.json: ") && got.contains(want),
                "{got}"
            );
        }
    }
}
