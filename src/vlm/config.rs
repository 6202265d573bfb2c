// SPDX-License-Identifier: MPL-2.0

//! `config.json` and `generation_config.json`, checked; keys keep their published names.
//!
//! Reads what transformers 4.57 and 5.x write. Whatever the arithmetic relies on is checked here,
//! so nothing downstream checks again.

use super::Error;
use super::files::ModelFiles;
use super::generate::GenerationDefaults;
use super::json::{Document, Section};
use crate::backend::cpu::{Spec, TextSpec, VisionSpec};

/// `config.json` of a Qwen3-VL, checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Qwen3VlConfig {
    /// Sizes of tower and decoder.
    pub spec: Spec,
    /// Placeholder of an image's visual tokens.
    pub image_token_id: u32,
    /// Placeholder of a video's visual tokens.
    pub video_token_id: u32,
    /// Stands before each image or temporal patch.
    pub vision_start_token_id: u32,
    /// Stands after each image or temporal patch.
    pub vision_end_token_id: u32,
    /// `eos_token_id`, for checkpoints without `generation_config.json`.
    pub eos: Vec<u32>,
}

/// The family that `config.json` names.
pub(crate) fn model_type(config: &Document) -> Result<&str, Error> {
    let root = config.root();
    root.text("model_type")?.ok_or_else(|| {
        root.complain(
            "model_type",
            "is missing; is this the config.json of a vision-language model?",
        )
    })
}

impl Qwen3VlConfig {
    /// Checks a `config.json` whose `model_type` is `qwen3_vl`.
    ///
    /// # Errors
    /// [`Error::Config`] with file, key and what would be right.
    pub(crate) fn read(config: &Document) -> Result<Self, Error> {
        let root = config.root();
        if let Some(quantization) = root.section("quantization_config")? {
            let method = quantization.text("quant_method")?.unwrap_or("unknown");
            return Err(root.complain(
                "quantization_config",
                format!(
                    "says {method}: quantised checkpoints are not read; take the bf16 one, which \
                     is quantised while it loads"
                ),
            ));
        }
        let text_config = root.require_section("text_config")?;
        let vision_config = root.require_section("vision_config")?;
        let text = text_spec(&root, &text_config)?;
        let vision = vision_spec(&vision_config, &text)?;
        let token = |key| {
            let id = root.token(key)?;
            check_token(&root, key, id, text.vocab_size)
        };
        let mut eos = text_config.tokens("eos_token_id")?;
        if eos.is_empty() {
            eos = root.tokens("eos_token_id")?;
        }
        let config = Self {
            image_token_id: token("image_token_id")?,
            video_token_id: token("video_token_id")?,
            vision_start_token_id: token("vision_start_token_id")?,
            vision_end_token_id: token("vision_end_token_id")?,
            eos,
            spec: Spec { vision, text },
        };
        if config.image_token_id == config.video_token_id {
            return Err(root.complain(
                "video_token_id",
                "is also image_token_id; placeholders must differ",
            ));
        }
        Ok(config)
    }
}

fn check_token(section: &Section<'_>, key: &str, id: u32, vocab_size: usize) -> Result<u32, Error> {
    if (id as usize) < vocab_size {
        Ok(id)
    } else {
        Err(section.complain(
            key,
            format!("has {id}, but text_config.vocab_size is {vocab_size}"),
        ))
    }
}

fn text_spec(root: &Section<'_>, text: &Section<'_>) -> Result<TextSpec, Error> {
    text.expect_text("hidden_act", "silu")?;
    if text.flag_or("attention_bias", false)? {
        return Err(text.complain("attention_bias", "is true; only false is implemented"));
    }
    let num_attention_heads = text.size("num_attention_heads")?;
    let num_key_value_heads = text.size_or("num_key_value_heads", num_attention_heads)?;
    if !num_attention_heads.is_multiple_of(num_key_value_heads) {
        return Err(text.complain(
            "num_key_value_heads",
            format!(
                "is {num_key_value_heads}; want a divisor of num_attention_heads, \
                 {num_attention_heads}"
            ),
        ));
    }
    let head_dim = text.size_or("head_dim", 128)?;
    if !head_dim.is_multiple_of(2) {
        return Err(text.complain("head_dim", format!("is {head_dim}; want an even number")));
    }
    let (rope_theta, mrope_section) = rope(text, head_dim)?;
    let tied = if root.value("tie_word_embeddings").is_some() {
        root
    } else {
        text
    };
    Ok(TextSpec {
        num_hidden_layers: text.size("num_hidden_layers")?,
        hidden_size: text.size("hidden_size")?,
        intermediate_size: text.size("intermediate_size")?,
        num_attention_heads,
        num_key_value_heads,
        head_dim,
        vocab_size: text.size("vocab_size")?,
        rms_norm_eps: text.positive_or("rms_norm_eps", 1e-6)? as f32,
        rope_theta,
        mrope_section,
        tie_word_embeddings: tied.flag_or("tie_word_embeddings", false)?,
        max_position_embeddings: text.size("max_position_embeddings")?,
    })
}

/// Base and sections of the rotary positions: `rope_parameters` since transformers 5,
/// `rope_scaling` beside `rope_theta` before.
fn rope(text: &Section<'_>, head_dim: usize) -> Result<(f64, [usize; 3]), Error> {
    let (rope, theta) = match text.section("rope_parameters")? {
        Some(rope) if rope.value("rope_theta").is_some() => {
            let theta = rope.positive("rope_theta")?;
            (rope, theta)
        }
        Some(rope) => (rope, text.positive("rope_theta")?),
        None => {
            let rope = text.require_section("rope_scaling")?;
            (rope, text.positive("rope_theta")?)
        }
    };
    rope.expect_text("rope_type", "default")?;
    // An older name of the same key; 4.57 wrote `mrope` there for `default`.
    if !matches!(rope.text("type")?, None | Some("default" | "mrope")) {
        rope.expect_text("type", "default")?;
    }
    if !rope.flag_or("mrope_interleaved", true)? {
        return Err(rope.complain(
            "mrope_interleaved",
            "is false; Qwen3-VL's sections are interleaved",
        ));
    }
    let sections = rope.indexes("mrope_section")?;
    let n_pairs = head_dim / 2;
    let fits = |section: [usize; 3]| {
        section.iter().sum::<usize>() == n_pairs
            // Height takes every third pair from 1, width from 2; the last must be in the head.
            && (section[1] == 0 || 3 * (section[1] - 1) + 1 < n_pairs)
            && (section[2] == 0 || 3 * (section[2] - 1) + 2 < n_pairs)
    };
    match <[usize; 3]>::try_from(sections.as_slice()) {
        Ok(section) if fits(section) => Ok((theta, section)),
        _ => Err(rope.complain(
            "mrope_section",
            format!(
                "is {sections:?}; want three numbers that sum to head_dim / 2 = {n_pairs}, height \
                 and width at most a third of it"
            ),
        )),
    }
}

fn vision_spec(vision: &Section<'_>, text: &TextSpec) -> Result<VisionSpec, Error> {
    vision.expect_text("hidden_act", "gelu_pytorch_tanh")?;
    let hidden_size = vision.size("hidden_size")?;
    let num_heads = vision.size("num_heads")?;
    if !hidden_size.is_multiple_of(4 * num_heads) {
        return Err(vision.complain(
            "num_heads",
            format!(
                "is {num_heads}; want a divisor of hidden_size, {hidden_size}, that leaves a \
                 multiple of 4 a head"
            ),
        ));
    }
    let out_hidden_size = vision.size("out_hidden_size")?;
    if out_hidden_size != text.hidden_size {
        return Err(vision.complain(
            "out_hidden_size",
            format!(
                "is {out_hidden_size}, but text_config.hidden_size is {}",
                text.hidden_size
            ),
        ));
    }
    let in_channels = vision.size_or("in_channels", 3)?;
    if in_channels != 3 {
        return Err(vision.complain("in_channels", format!("is {in_channels}; want 3 (RGB)")));
    }
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
    Ok(VisionSpec {
        depth,
        hidden_size,
        intermediate_size: vision.size("intermediate_size")?,
        num_heads,
        in_channels,
        patch_size: vision.size("patch_size")?,
        temporal_patch_size: vision.size_or("temporal_patch_size", 2)?,
        spatial_merge_size: vision.size_or("spatial_merge_size", 2)?,
        out_hidden_size,
        num_position_embeddings,
        deepstack_visual_indexes: indexes,
    })
}

/// Reads `generation_config.json`; without one, or without its `eos_token_id`, `fallback` ends
/// answers.
///
/// # Errors
/// [`Error::Config`] if nothing ends an answer, or a value is wrong.
pub(crate) fn generation_defaults(
    files: &ModelFiles,
    fallback: &[u32],
    vocab_size: usize,
) -> Result<GenerationDefaults, Error> {
    const FILE: &str = "generation_config.json";
    let document = Document::read(files, FILE)?;
    let (mut eos, mut repetition_penalty) = (Vec::new(), 1.0);
    if let Some(document) = &document {
        let root = document.root();
        eos = root.tokens("eos_token_id")?;
        for &id in &eos {
            check_token(&root, "eos_token_id", id, vocab_size)?;
        }
        repetition_penalty = root.positive_or("repetition_penalty", 1.0)? as f32;
    }
    if eos.is_empty() {
        eos = fallback.to_vec();
    }
    if eos.is_empty() {
        return Err(Error::Config {
            file: files.label(FILE),
            reason:
                "eos_token_id is missing, and config.json has none: nothing would end an answer"
                    .to_owned(),
        });
    }
    Ok(GenerationDefaults {
        eos,
        repetition_penalty,
    })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use serde_json::{Value, json};

    use super::*;

    fn demo() -> Value {
        let files = ModelFiles::demo();
        serde_json::from_slice(&files.require("config.json").unwrap()).unwrap()
    }

    fn read(config: &Value) -> Result<Qwen3VlConfig, Error> {
        let bytes = config.to_string();
        Qwen3VlConfig::read(&Document::parse(
            "config.json".to_owned(),
            bytes.as_bytes(),
        )?)
    }

    /// The complaint about the demo's configuration with one value changed; null removes it.
    fn complaint(pointer: &str, value: Value) -> String {
        let mut config = demo();
        let (parent, key) = pointer.rsplit_once('/').unwrap();
        config.pointer_mut(parent).unwrap()[key] = value;
        read(&config).unwrap_err().to_string()
    }

    #[test]
    fn the_demo_is_read() {
        let config = read(&demo()).unwrap();
        assert_eq!(config.spec.text.mrope_section, [6, 5, 5]);
        assert_eq!(config.spec.text.rope_theta, 10_000.0);
        assert!(config.spec.text.tie_word_embeddings);
        assert_eq!(config.spec.vision.deepstack_visual_indexes, [1, 2]);
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
        assert_eq!(read(&old).unwrap(), read(&new).unwrap());
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
        let spec = read(&config).unwrap().spec;
        assert!(!spec.text.tie_word_embeddings);
        assert_eq!(spec.text.rope_theta, 5_000_000.0);
        assert_eq!(spec.vision.depth, 27);
    }

    #[test]
    fn values_that_do_not_fit_are_told_with_key_and_remedy() {
        let text = "/text_config";
        let vision = "/vision_config";
        for (pointer, value, want) in [
            (text, json!(3), "text_config must be an object"),
            (vision, json!(null), "vision_config is missing"),
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
                json!({"quant_method": "fp8"}),
                "says fp8: quantised checkpoints",
            ),
        ] {
            let got = complaint(pointer, value);
            assert!(
                got.starts_with("config.json: ") && got.contains(want),
                "{got}"
            );
        }
    }

    #[test]
    fn more_deepstack_levels_than_layers_are_refused() {
        let mut config = demo();
        config["text_config"]["num_hidden_layers"] = json!(1);
        let got = read(&config).unwrap_err().to_string();
        assert!(got.contains("num_hidden_layers is 1"), "{got}");
    }

    #[test]
    fn eos_is_a_number_a_list_or_the_model_s_own() {
        let folder = tempfile::tempdir().unwrap();
        let files = ModelFiles::Folder(folder.path().to_owned());
        let written = |text: &str| {
            fs::write(folder.path().join("generation_config.json"), text).unwrap();
            generation_defaults(&files, &[5], 10)
        };
        let defaults = written(r#"{"eos_token_id": [7, 8], "repetition_penalty": 1.5}"#).unwrap();
        assert_eq!(
            (defaults.eos, defaults.repetition_penalty),
            (vec![7, 8], 1.5)
        );
        let defaults = written(r#"{"eos_token_id": 7}"#).unwrap();
        assert_eq!((defaults.eos, defaults.repetition_penalty), (vec![7], 1.0));
        assert_eq!(written("{}").unwrap().eos, [5]);
        let got = written(r#"{"eos_token_id": 10}"#).unwrap_err().to_string();
        assert!(got.contains("eos_token_id has 10"), "{got}");
        let got = written(r#"{"repetition_penalty": 0}"#)
            .unwrap_err()
            .to_string();
        assert!(got.contains("repetition_penalty is 0; want"), "{got}");

        fs::remove_file(folder.path().join("generation_config.json")).unwrap();
        assert_eq!(generation_defaults(&files, &[5], 10).unwrap().eos, [5]);
        let got = generation_defaults(&files, &[], 10)
            .unwrap_err()
            .to_string();
        assert!(got.contains("nothing would end an answer"), "{got}");
    }
}
