// SPDX-License-Identifier: MPL-2.0

//! The decoder's part of `config.json`.

use super::{Error, Section};
use crate::backend::cpu::{Rope, TextSpec};

/// Which decoder it is, as far as its configuration does not say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Decoder {
    /// `Qwen3VLTextModel`: norms of queries and keys, interleaved mrope.
    Qwen3Vl,
    /// `Qwen2_5_VLTextModel`: biases of queries, keys and values, contiguous mrope.
    Qwen25Vl,
}

/// Reads the section `text` of the decoder; `root` may say whether the head is tied.
pub(super) fn text_spec(
    root: &Section<'_>,
    text: &Section<'_>,
    decoder: Decoder,
) -> Result<TextSpec, Error> {
    text.expect_text("hidden_act", "silu")?;
    // Qwen3's projections have biases only if their configuration says so, Qwen2's always.
    for key in ["attention_bias", "use_sliding_window"] {
        if text.flag_or(key, false)? {
            return Err(text.complain(key, "is true; only false is implemented"));
        }
    }
    let hidden_size = text.size("hidden_size")?;
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
    let head_dim = match decoder {
        Decoder::Qwen3Vl => text.size_or("head_dim", 128)?,
        Decoder::Qwen25Vl => hidden_size / num_attention_heads,
    };
    if !head_dim.is_multiple_of(2) {
        return Err(text.complain("head_dim", format!("is {head_dim}; want an even number")));
    }
    let (rope_theta, rope) = rope(text, head_dim, decoder)?;
    let tied = if root.value("tie_word_embeddings").is_some() {
        root
    } else {
        text
    };
    Ok(TextSpec {
        num_hidden_layers: text.size("num_hidden_layers")?,
        hidden_size,
        intermediate_size: text.size("intermediate_size")?,
        num_attention_heads,
        num_key_value_heads,
        head_dim,
        qkv_bias: decoder == Decoder::Qwen25Vl,
        qk_norm: decoder == Decoder::Qwen3Vl,
        vocab_size: text.size("vocab_size")?,
        rms_norm_eps: text.positive_or("rms_norm_eps", 1e-6)? as f32,
        rope_theta,
        rope,
        tie_word_embeddings: tied.flag_or("tie_word_embeddings", false)?,
        max_position_embeddings: text.size("max_position_embeddings")?,
    })
}

/// Base and shares of the rotary positions: `rope_parameters` since transformers 5,
/// `rope_scaling` beside `rope_theta` before.
fn rope(text: &Section<'_>, head_dim: usize, decoder: Decoder) -> Result<(f64, Rope), Error> {
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
    // 4.57 wrote `mrope` for `default`, and `type` is an older name of the key.
    for key in ["rope_type", "type"] {
        if rope.text(key)? != Some("mrope") {
            rope.expect_text(key, "default")?;
        }
    }
    let sections = match <[usize; 3]>::try_from(rope.indexes("mrope_section")?) {
        Ok(sections) if sections.iter().sum::<usize>() == head_dim / 2 => sections,
        Ok(sections) => return Err(unfit(&rope, &sections, head_dim / 2)),
        Err(sections) => return Err(unfit(&rope, &sections, head_dim / 2)),
    };
    let interleaved = decoder == Decoder::Qwen3Vl;
    if rope.flag_or("mrope_interleaved", interleaved)? != interleaved {
        return Err(rope.complain(
            "mrope_interleaved",
            format!(
                "is {}; the sections of this model type are {}",
                !interleaved,
                if interleaved {
                    "interleaved"
                } else {
                    "contiguous"
                },
            ),
        ));
    }
    match decoder {
        Decoder::Qwen25Vl => Ok((theta, Rope::Contiguous(sections))),
        Decoder::Qwen3Vl => {
            // Height takes every third pair from 1, width from 2; the last must be in the head.
            let reaches = |share: usize, first: usize| match share {
                0 => 0,
                share => 3 * (share - 1) + first,
            };
            if reaches(sections[1], 1).max(reaches(sections[2], 2)) >= head_dim / 2 {
                return Err(unfit(&rope, &sections, head_dim / 2));
            }
            Ok((theta, Rope::Interleaved(sections)))
        }
    }
}

fn unfit(rope: &Section<'_>, sections: &[usize], n_pairs: usize) -> Error {
    rope.complain(
        "mrope_section",
        format!(
            "is {sections:?}; want three numbers that sum to head_dim / 2 = {n_pairs}, and height \
             and width at most a third of it where they are interleaved"
        ),
    )
}
