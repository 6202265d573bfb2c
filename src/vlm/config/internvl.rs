// SPDX-License-Identifier: MPL-2.0

//! `config.json` of an InternVL3 or InternVL3.5: OpenGVLab's own (`internvl_chat`) and that of
//! transformers (`internvl`).

use super::checks::{channels, check_heads, check_token, eos, model_type};
use super::decoder::{Decoder, text_spec};
use super::defaults::{INTERNVL_VISION, QWEN2, QWEN3};
use crate::backend::spec::{Spec, TextSpec, Tower, VisionSpec};
use crate::vlm::error::Error;
use crate::vlm::json::{Document, Section};
use crate::vlm::tiles::Tiling;

/// `config.json`, checked.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Config {
    /// Sizes of tower and decoder.
    pub spec: Spec,
    /// What only one of the layouts has.
    pub layout: Layout,
    /// Side of a tile, pixels.
    pub tile: usize,
    /// `eos_token_id`, for checkpoints without `generation_config.json`.
    pub eos: Vec<u32>,
}

/// Who wrote the checkpoint.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Layout {
    /// OpenGVLab: conversation and tiling are code beside the configuration.
    OpenGvLab {
        /// The system prompt of the conversation.
        system_message: String,
        /// Tiles of an image.
        tiling: Tiling,
    },
    /// transformers: template and tiling are in the processor's files.
    Transformers {
        /// Placeholder of visual tokens.
        image_token_id: u32,
    },
}

/// The system prompt of the conversation `internvl2_5` in OpenGVLab's code, with which the model was
/// trained. The chat template in their `tokenizer_config.json` has that of Qwen instead, and answers
/// get worse by it.
const INTERNVL2_5: &str = "你是书生·万象，英文名是InternVL，是由上海人工智能实验室、清华大学及多家合作单位联合开发的\
                           多模态大语言模型。";

/// Checks a `config.json` whose `model_type` is `internvl_chat` or `internvl`.
///
/// # Errors
/// [`Error::Config`] with file, key and what would be right.
pub(crate) fn read(config: &Document) -> Result<Config, Error> {
    let root = config.root();
    let vision_config = root.require_section("vision_config")?;
    if model_type(config)? == "internvl_chat" {
        let (text_config, text) = decoder(&root, "llm_config")?;
        // Their classes' defaults are those of an older model.
        require(&root, &["ps_version"])?;
        require(
            &vision_config,
            &["norm_type", "qk_normalization", "qkv_bias"],
        )?;
        root.expect_text("ps_version", "v2")?;
        check_layer(&root, "select_layer")?;
        let (vision, tile) = vision_spec(&root, &vision_config, &text, OPENGVLAB)?;
        if root.size_or("force_image_size", tile)? != tile {
            return Err(root.complain(
                "force_image_size",
                format!("is not vision_config.image_size, {tile}; only that is implemented"),
            ));
        }
        return Ok(Config {
            layout: Layout::OpenGvLab {
                system_message: system_message(&root)?,
                tiling: own_tiling(&root, tile)?,
            },
            tile,
            eos: eos(&root, &text_config)?,
            spec: Spec { vision, text },
        });
    }
    let (text_config, text) = decoder(&root, "text_config")?;
    let vision_config = vision_config.with_defaults(&INTERNVL_VISION);
    check_layer(&root, "vision_feature_layer")?;
    root.expect_text("vision_feature_select_strategy", "default")?;
    root.expect_text("projector_hidden_act", "gelu")?;
    let (vision, tile) = vision_spec(&root, &vision_config, &text, TRANSFORMERS)?;
    let image_token_id = root.token("image_token_id")?;
    check_token(&root, "image_token_id", image_token_id, text.vocab_size)?;
    Ok(Config {
        layout: Layout::Transformers { image_token_id },
        tile,
        eos: eos(&root, &text_config)?,
        spec: Spec { vision, text },
    })
}

/// The decoder's section, which is under `key`, and what it says: Qwen2 in InternVL3, Qwen3 in
/// InternVL3.5.
fn decoder<'a>(root: &Section<'a>, key: &str) -> Result<(Section<'a>, TextSpec), Error> {
    let section = root.require_section(key)?;
    let (defaults, decoder) = match section.text("model_type")? {
        Some("qwen3") => (&QWEN3, Decoder::Qwen3),
        // What `InternVLConfig` takes for a file that does not say.
        Some("qwen2") | None => (&QWEN2, Decoder::Qwen2),
        Some(other) => {
            let reason = format!("is {other:?}; decoders of InternVL that run are qwen2 and qwen3");
            return Err(section.complain("model_type", reason));
        }
    };
    let section = section.with_defaults(defaults);
    let text = text_spec(root, &section, decoder)?;
    Ok((section, text))
}

/// That some keys are there.
fn require(section: &Section<'_>, keys: &[&str]) -> Result<(), Error> {
    match keys.iter().find(|key| section.value(key).is_none()) {
        None => Ok(()),
        Some(key) => Err(section.complain(key, "is missing; is the file of another version?")),
    }
}

/// That the features are those after the last block.
fn check_layer(root: &Section<'_>, key: &str) -> Result<(), Error> {
    match root.value(key) {
        None => Ok(()),
        Some(layer) if *layer == -1 => Ok(()),
        Some(layer) => Err(root.complain(key, format!("is {layer}; only -1 is implemented"))),
    }
}

/// The system prompt of the conversation that `template` names.
fn system_message(root: &Section<'_>) -> Result<String, Error> {
    if let Some(text) = root.text("system_message")? {
        return Ok(text.to_owned());
    }
    match root.text("template")? {
        Some("internvl2_5") => Ok(INTERNVL2_5.to_owned()),
        Some(other) => Err(root.complain(
            "template",
            format!("is {other:?}; of OpenGVLab's conversations only internvl2_5 is known"),
        )),
        None => Err(root.complain("template", "is missing; want internvl2_5")),
    }
}

/// One tile an image unless `dynamic_image_size` says otherwise.
fn own_tiling(root: &Section<'_>, side: usize) -> Result<Tiling, Error> {
    let thumbnail = root.flag_or("use_thumbnail", false)?;
    let keys = ["min_dynamic_patch", "max_dynamic_patch"];
    let tiling = tiling(root, keys, 6, side, thumbnail)?;
    Ok(match root.flag_or("dynamic_image_size", false)? {
        true => tiling,
        false => Tiling {
            min: 1,
            max: 1,
            ..tiling
        },
    })
}

/// Reads the numbers of tiles under two keys.
///
/// # Errors
/// [`Error::Config`] if the fewest are more than the most.
pub(crate) fn tiling(
    section: &Section<'_>,
    [min_key, max_key]: [&str; 2],
    default_max: usize,
    side: usize,
    thumbnail: bool,
) -> Result<Tiling, Error> {
    let min = section.size_or(min_key, 1)?;
    let max = section.size_or(max_key, default_max)?;
    if min > max {
        let reason = format!("is {min}, but {max_key} is {max}");
        return Err(section.complain(min_key, reason));
    }
    Ok(Tiling {
        side,
        min,
        max,
        thumbnail,
    })
}

/// Names of the same keys in the two layouts.
struct Keys {
    qkv_bias: &'static str,
    qk_norm: &'static str,
}

const OPENGVLAB: Keys = Keys {
    qkv_bias: "qkv_bias",
    qk_norm: "qk_normalization",
};

const TRANSFORMERS: Keys = Keys {
    qkv_bias: "attention_bias",
    qk_norm: "use_qk_norm",
};

/// The most patches along a side that become one visual token.
const MAX_MERGE: usize = 64;

/// The tower, and the side of its tiles in pixels.
fn vision_spec(
    root: &Section<'_>,
    vision: &Section<'_>,
    text: &TextSpec,
    keys: Keys,
) -> Result<(VisionSpec, usize), Error> {
    vision.expect_text("hidden_act", "gelu")?;
    vision.expect_text("norm_type", "layer_norm")?;
    for (key, only) in [
        (keys.qk_norm, false),
        ("use_absolute_position_embeddings", true),
        ("use_mean_pooling", true),
    ] {
        if vision.flag_or(key, only)? != only {
            let reason = format!("is {}; only {only} is implemented", !only);
            return Err(vision.complain(key, reason));
        }
    }
    let hidden_size = vision.size("hidden_size")?;
    let num_heads = vision.size("num_attention_heads")?;
    check_heads(vision, "num_attention_heads", num_heads, hidden_size)?;
    let ratio = root.positive_or("downsample_ratio", 0.5)?;
    let spatial_merge_size = (1.0 / ratio).round() as usize;
    if spatial_merge_size > MAX_MERGE || spatial_merge_size as f64 * ratio != 1.0 {
        let reason = format!("is {ratio}; want one over a whole number up to {MAX_MERGE}");
        return Err(root.complain("downsample_ratio", reason));
    }
    let (tile, patch_size) = (square(vision, "image_size")?, square(vision, "patch_size")?);
    let factor = patch_size * spatial_merge_size;
    if !tile.is_multiple_of(factor) {
        let reason = format!("is {tile}; want a multiple of {factor}");
        return Err(vision.complain("image_size", reason));
    }
    let spec = VisionSpec {
        depth: vision.size("num_hidden_layers")?,
        hidden_size,
        intermediate_size: vision.size("intermediate_size")?,
        num_heads,
        in_channels: channels(vision, "num_channels")?,
        patch_size,
        temporal_patch_size: 1,
        spatial_merge_size,
        out_hidden_size: text.hidden_size,
        tower: Tower::InternVl {
            side: tile / patch_size,
            qkv_bias: vision.flag_or(keys.qkv_bias, false)?,
            layer_norm_eps: vision.epsilon_or("layer_norm_eps", 1e-6)? as f32,
        },
    };
    Ok((spec, tile))
}

/// A side: a number, or a list of two that are equal.
fn square(section: &Section<'_>, key: &str) -> Result<usize, Error> {
    if section.value(key).is_some_and(serde_json::Value::is_array) {
        return match section.indexes(key)?.as_slice() {
            [a, b] if a == b && *a > 0 => Ok(*a),
            sides => Err(section.complain(key, format!("is {sides:?}; want two equal numbers"))),
        };
    }
    section.size(key)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::backend::spec::{Head, Rope};

    /// The 2B as OpenGVLab published it, without the keys that are not read.
    fn published() -> Value {
        json!({
            "architectures": ["InternVLChatModel"], "model_type": "internvl_chat",
            "downsample_ratio": 0.5, "dynamic_image_size": true, "force_image_size": 448,
            "hidden_size": 1536, "max_dynamic_patch": 12, "min_dynamic_patch": 1,
            "pad2square": false, "ps_version": "v2", "select_layer": -1,
            "system_message": null, "template": "internvl2_5", "tie_word_embeddings": false,
            "use_thumbnail": true,
            "llm_config": {
                "architectures": ["Qwen2ForCausalLM"], "bos_token_id": 151643,
                "eos_token_id": 151643, "hidden_act": "silu", "hidden_size": 1536,
                "intermediate_size": 8960, "max_position_embeddings": 32768,
                "max_window_layers": 70, "model_type": "qwen2", "num_attention_heads": 12,
                "num_hidden_layers": 28, "num_key_value_heads": 2, "rms_norm_eps": 1e-6,
                "rope_scaling": {"factor": 2.0, "rope_type": "dynamic", "type": "dynamic"},
                "rope_theta": 1000000.0, "sliding_window": null, "use_sliding_window": false,
                "vocab_size": 151674
            },
            "vision_config": {
                "architectures": ["InternVisionModel"], "drop_path_rate": 0.1,
                "hidden_act": "gelu", "hidden_size": 1024, "image_size": 448,
                "intermediate_size": 4096, "layer_norm_eps": 1e-6,
                "model_type": "intern_vit_6b", "norm_type": "layer_norm",
                "num_attention_heads": 16, "num_channels": 3, "num_hidden_layers": 24,
                "patch_size": 14, "qk_normalization": false, "qkv_bias": true
            }
        })
    }

    /// The same in the layout of transformers.
    fn converted() -> Value {
        let mut config = published();
        let mut vision = config["vision_config"].take();
        let map = vision.as_object_mut().unwrap();
        for (old, new) in [
            ("qkv_bias", "attention_bias"),
            ("qk_normalization", "use_qk_norm"),
        ] {
            let value = map.remove(old).unwrap();
            map.insert(new.to_owned(), value);
        }
        vision["image_size"] = json!([448, 448]);
        vision["patch_size"] = json!([14, 14]);
        vision["use_mean_pooling"] = json!(true);
        json!({
            "architectures": ["InternVLForConditionalGeneration"], "model_type": "internvl",
            "downsample_ratio": 0.5, "image_seq_length": 256, "image_token_id": 151667,
            "projector_hidden_act": "gelu", "vision_feature_layer": -1,
            "vision_feature_select_strategy": "default",
            "text_config": config["llm_config"].take(), "vision_config": vision
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
    fn both_layouts_say_the_same() {
        let (own, hf) = (parse(&published()).unwrap(), parse(&converted()).unwrap());
        assert_eq!(own.spec, hf.spec);
        assert_eq!(own.eos, [151_643]);
        let Spec { vision, text } = own.spec;
        assert_eq!((text.rope, text.rope_theta), (Rope::Plain, 1e6));
        assert_eq!((text.head_dim, text.head), (128, Head::AsFound));
        assert!(text.qkv_bias && !text.qk_norm);
        assert_eq!(
            (vision.spatial_merge_size, vision.temporal_patch_size),
            (2, 1)
        );
        let tower = Tower::InternVl {
            side: 32,
            qkv_bias: true,
            layer_norm_eps: 1e-6,
        };
        assert_eq!(vision.tower, tower);
        let Layout::OpenGvLab {
            system_message,
            tiling,
        } = own.layout
        else {
            panic!("OpenGVLab's layout");
        };
        assert!(system_message.starts_with("你是书生·万象") && system_message.ends_with("模型。"));
        let want = Tiling {
            side: 448,
            min: 1,
            max: 12,
            thumbnail: true,
        };
        assert_eq!(tiling, want);
        let image_token_id = 151_667;
        assert_eq!(hf.layout, Layout::Transformers { image_token_id });
    }

    #[test]
    fn values_that_do_not_fit_are_told_with_key_and_remedy() {
        let cases = [
            (
                "/llm_config/model_type",
                json!("internlm2"),
                "\"internlm2\"; decoders of InternVL that run are qwen2 and qwen3",
            ),
            (
                "/llm_config/model_type",
                json!("qwen3_moe"),
                "\"qwen3_moe\"; decoders of InternVL that run are qwen2 and qwen3",
            ),
            (
                "/llm_config/rope_scaling/rope_type",
                json!("yarn"),
                "rope_type is \"yarn\"",
            ),
            ("/ps_version", json!("v1"), "ps_version is \"v1\""),
            ("/ps_version", json!(null), "ps_version is missing"),
            ("/select_layer", json!(-2), "select_layer is -2; only -1"),
            (
                "/template",
                json!("Hermes-2"),
                "template is \"Hermes-2\"; of OpenGVLab's conversations only internvl2_5",
            ),
            (
                "/force_image_size",
                json!(224),
                "force_image_size is not vision_config.image_size, 448",
            ),
            (
                "/min_dynamic_patch",
                json!(13),
                "min_dynamic_patch is 13, but max_dynamic_patch is 12",
            ),
            (
                "/downsample_ratio",
                json!(0.4),
                "downsample_ratio is 0.4; want one over",
            ),
            (
                "/vision_config/norm_type",
                json!("rms_norm"),
                "norm_type is \"rms_norm\"",
            ),
            (
                "/vision_config/qk_normalization",
                json!(true),
                "qk_normalization is true; only false",
            ),
            (
                "/vision_config/patch_size",
                json!([14, 16]),
                "patch_size is [14, 16]; want two equal numbers",
            ),
        ];
        for (pointer, value, want) in cases {
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
