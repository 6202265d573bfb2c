// SPDX-License-Identifier: MPL-2.0

//! Model directory to checked configuration; keys keep their published names.
//!
//! Reads what transformers 4.57 and 5.x write. Whatever the arithmetic relies on is checked here,
//! so nothing downstream checks again.

use super::Error;
use super::files::ModelFiles;
use super::generate::GenerationDefaults;
use super::grid::Geometry;
use super::json::{Document, Section};
use crate::backend::cpu::{Spec, TextSpec, VisionSpec};

/// Part of the image budget that a video frame gets unless `preprocessor_config.json` has the key
/// `video_ratio`: the vendors' demos spend a quarter.
const DEFAULT_VIDEO_RATIO: f64 = 0.25;

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

/// `preprocessor_config.json`, checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Preprocessor {
    /// Patch, temporal patch, merge.
    pub geometry: Geometry,
    /// Mean of each channel, in units of 0..=1.
    pub image_mean: [f32; 3],
    /// Standard deviation of each channel, in units of 0..=1.
    pub image_std: [f32; 3],
    /// Least area of an image (`size.shortest_edge`, an area for these processors).
    pub min_pixels: usize,
    /// Largest area of an image (`size.longest_edge`).
    pub max_pixels: usize,
    /// Part of the area that a video frame gets.
    pub video_ratio: f64,
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

impl Preprocessor {
    /// Reads the object that transformers 5 nests in `processor_config.json`, else
    /// `preprocessor_config.json`, and holds that of videos against it.
    ///
    /// # Errors
    /// [`Error::MissingFile`], or [`Error::Config`] if a value is wrong or differs from the
    /// tower's (`vision_config` of `config.json`) or between images and videos.
    pub(crate) fn read(files: &ModelFiles, vision: &VisionSpec) -> Result<Self, Error> {
        const IMAGE: &str = "preprocessor_config.json";
        const VIDEO: &str = "video_preprocessor_config.json";
        const BOTH: &str = "processor_config.json";
        let both = Document::read(files, BOTH)?;
        let nested = |key| match &both {
            Some(document) => document.root().section(key),
            None => Ok(None),
        };
        let image = Document::read(files, IMAGE)?;
        let image = match (nested("image_processor")?, &image) {
            (Some(section), _) => section,
            (None, Some(document)) => document.root(),
            (None, None) => {
                return Err(Error::MissingFile {
                    folder: files.place(),
                    file: format!("{IMAGE} (nor an image_processor in {BOTH})"),
                });
            }
        };
        let preprocessor = Self::check(&image, vision)?;
        let video = Document::read(files, VIDEO)?;
        let video = match nested("video_processor")? {
            Some(section) => Some(section),
            None => video.as_ref().map(Document::root),
        };
        if let Some(video) = video {
            check_geometry(&video, vision)?;
            for (key, want) in [
                ("image_mean", preprocessor.image_mean),
                ("image_std", preprocessor.image_std),
            ] {
                if video.value(key).is_some() && video.channels(key)? != want {
                    return Err(video.complain(
                        key,
                        format!("differs from that of images, {want:?}; they must be equal"),
                    ));
                }
            }
        }
        Ok(preprocessor)
    }

    fn check(image: &Section<'_>, vision: &VisionSpec) -> Result<Self, Error> {
        let geometry = check_geometry(image, vision)?;
        let image_std = image.channels("image_std")?;
        if image_std.iter().any(|&std| std <= 0.0) {
            return Err(image.complain("image_std", "must be above 0"));
        }
        for step in ["do_rescale", "do_normalize"] {
            if !image.flag_or(step, true)? {
                return Err(image.complain(step, "is false; only true is implemented"));
            }
        }
        let rescale = image.positive_or("rescale_factor", 1.0 / 255.0)?;
        if (rescale * 255.0 - 1.0).abs() > 1e-4 {
            return Err(image.complain("rescale_factor", format!("is {rescale}; want 1/255")));
        }
        let (min_pixels, max_pixels) = pixel_range(image)?;
        let video_ratio = image.positive_or("video_ratio", DEFAULT_VIDEO_RATIO)?;
        if video_ratio > 1.0 {
            return Err(image.complain("video_ratio", format!("is {video_ratio}; want 0..=1")));
        }
        Ok(Self {
            geometry,
            image_mean: image.channels("image_mean")?,
            image_std,
            min_pixels,
            max_pixels,
            video_ratio,
        })
    }
}

/// Areas between which an image is kept: `min_pixels` and `max_pixels` go before
/// `size.shortest_edge` and `size.longest_edge`, as in the reference class.
fn pixel_range(image: &Section<'_>) -> Result<(usize, usize), Error> {
    let size = image.section("size")?;
    let area = |old: &str, new: &str| match (&size, image.value(old)) {
        (_, Some(_)) => image.size(old),
        (Some(size), None) if size.value(old).is_some() => size.size(old),
        (Some(size), None) => size.size(new),
        (None, None) => Err(image.complain("size", "is missing (and there is no max_pixels)")),
    };
    let min = area("min_pixels", "shortest_edge")?;
    let max = area("max_pixels", "longest_edge")?;
    if min > max {
        return Err(image.complain(
            "size",
            format!("has a least area of {min} pixels above the largest, {max}"),
        ));
    }
    Ok((min, max))
}

fn check_geometry(section: &Section<'_>, vision: &VisionSpec) -> Result<Geometry, Error> {
    let same = |key: &str, tower_key: &str, tower: usize| match section.size(key)? {
        value if value == tower => Ok(value),
        value => Err(section.complain(
            key,
            format!("is {value}, but vision_config.{tower_key} of config.json is {tower}"),
        )),
    };
    Ok(Geometry {
        patch_size: same("patch_size", "patch_size", vision.patch_size)?,
        temporal_patch_size: same(
            "temporal_patch_size",
            "temporal_patch_size",
            vision.temporal_patch_size,
        )?,
        merge_size: same(
            "merge_size",
            "spatial_merge_size",
            vision.spatial_merge_size,
        )?,
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
