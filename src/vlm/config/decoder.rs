// SPDX-License-Identifier: MPL-2.0

//! The decoder's part of `config.json`.

use super::quantization::quantization;
use crate::backend::spec::{Head, Rope, TextSpec};
use crate::vlm::error::Error;
use crate::vlm::json::Section;

/// Which decoder it is, as far as its configuration does not say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Decoder {
    /// `Qwen3VLTextModel`: norms of queries and keys, interleaved mrope.
    Qwen3Vl,
    /// `Qwen2_5_VLTextModel`: biases of queries, keys and values, contiguous mrope.
    Qwen25Vl,
    /// `Qwen2Model`: the same biases, positions on one axis.
    Qwen2,
    /// `Qwen3Model`: norms of queries and keys, positions on one axis.
    Qwen3,
}

impl Decoder {
    /// Whether queries and keys have norms, and no biases.
    fn has_qk_norm(self) -> bool {
        match self {
            Decoder::Qwen3Vl | Decoder::Qwen3 => true,
            Decoder::Qwen25Vl | Decoder::Qwen2 => false,
        }
    }
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
    let heads = heads(text, decoder, hidden_size)?;
    let (rope_theta, rope) = match decoder {
        Decoder::Qwen2 | Decoder::Qwen3 => (plain_rope(text)?, Rope::Plain),
        Decoder::Qwen3Vl => mrope(text, heads.dim, Sections::Interleaved)?,
        Decoder::Qwen25Vl => mrope(text, heads.dim, Sections::Contiguous)?,
    };
    Ok(TextSpec {
        num_hidden_layers: text.size("num_hidden_layers")?,
        hidden_size,
        intermediate_size: text.size("intermediate_size")?,
        num_attention_heads: heads.queries,
        num_key_value_heads: heads.keys,
        head_dim: heads.dim,
        qkv_bias: !decoder.has_qk_norm(),
        qk_norm: decoder.has_qk_norm(),
        vocab_size: text.size("vocab_size")?,
        rms_norm_eps: text.epsilon_or("rms_norm_eps", 1e-6)? as f32,
        rope_theta,
        rope,
        head: head(root, text, decoder)?,
        max_position_embeddings: text.rows("max_position_embeddings")?,
        packing: quantization(root, text)?,
    })
}

/// How many heads there are, and how wide each is.
struct Heads {
    queries: usize,
    keys: usize,
    dim: usize,
}

fn heads(text: &Section<'_>, decoder: Decoder, hidden_size: usize) -> Result<Heads, Error> {
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
        Decoder::Qwen3Vl | Decoder::Qwen3 => text.size_or("head_dim", 128)?,
        Decoder::Qwen25Vl => hidden_size / num_attention_heads,
        Decoder::Qwen2 => text.size_or("head_dim", hidden_size / num_attention_heads)?,
    };
    if head_dim == 0 {
        return Err(text.complain(
            "num_attention_heads",
            format!("is {num_attention_heads}, more than hidden_size, {hidden_size}"),
        ));
    }
    if !head_dim.is_multiple_of(2) {
        return Err(text.complain("head_dim", format!("is {head_dim}; want an even number")));
    }
    Ok(Heads {
        queries: num_attention_heads,
        keys: num_key_value_heads,
        dim: head_dim,
    })
}

/// Whether the file must have a head of its own.
fn head(root: &Section<'_>, text: &Section<'_>, decoder: Decoder) -> Result<Head, Error> {
    let tied = [
        root.flag("tie_word_embeddings")?,
        text.flag("tie_word_embeddings")?,
    ];
    // InternVL's configurations say `false` of files without a head.
    let is_believed = matches!(decoder, Decoder::Qwen3Vl | Decoder::Qwen25Vl);
    let must_have_own = is_believed && tied.contains(&Some(false)) && !tied.contains(&Some(true));
    Ok(match must_have_own {
        true => Head::Own,
        false => Head::AsFound,
    })
}

/// Where the rotary positions are described, and their base: `rope_parameters` since transformers
/// 5, `rope_scaling` beside `rope_theta` before.
fn rope_section<'a>(text: &Section<'a>) -> Result<(Option<Section<'a>>, Option<f64>), Error> {
    let number = |section: &Section<'_>| match section.value("rope_theta") {
        Some(_) => section.positive("rope_theta").map(Some),
        None => Ok(None),
    };
    let section = text.section("rope_parameters")?;
    if let Some(section) = section {
        let theta = number(&section)?;
        return Ok((
            Some(section),
            theta.map_or_else(|| number(text), |t| Ok(Some(t)))?,
        ));
    }
    Ok((text.section("rope_scaling")?, number(text)?))
}

/// Base of rotary positions on one axis.
fn plain_rope(text: &Section<'_>) -> Result<f64, Error> {
    let (section, theta) = rope_section(text)?;
    if let Some(rope) = section {
        for key in ["rope_type", "type"] {
            // Dynamic frequencies change beyond `max_position_embeddings` only, and no sequence
            // gets there.
            if rope.text(key)? != Some("dynamic") {
                rope.expect_text(key, "default")?;
            }
        }
    }
    Ok(theta.unwrap_or(10_000.0))
}

/// How the three axes share out a head.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sections {
    Interleaved,
    Contiguous,
}

/// Base and shares of rotary positions on three axes.
fn mrope(text: &Section<'_>, head_dim: usize, sections: Sections) -> Result<(f64, Rope), Error> {
    let (section, theta) = rope_section(text)?;
    let Some(rope) = section else {
        return Err(text.complain(
            "rope_scaling",
            "is missing; is the file of another version?",
        ));
    };
    let Some(theta) = theta else {
        return Err(text.complain("rope_theta", "is missing; is the file of another version?"));
    };
    // 4.57 wrote `mrope` for `default`, and `type` is an older name of the key.
    for key in ["rope_type", "type"] {
        if rope.text(key)? != Some("mrope") {
            rope.expect_text(key, "default")?;
        }
    }
    let n_pairs = head_dim / 2;
    let shares = match <[usize; 3]>::try_from(rope.indexes("mrope_section")?) {
        Ok(shares) if shares.iter().sum::<usize>() == n_pairs => shares,
        Ok(shares) => return Err(unfit(&rope, &shares, n_pairs)),
        Err(shares) => return Err(unfit(&rope, &shares, n_pairs)),
    };
    let interleaved = sections == Sections::Interleaved;
    if rope.flag_or("mrope_interleaved", interleaved)? != interleaved {
        let (is, are) = match sections {
            Sections::Interleaved => (false, "interleaved"),
            Sections::Contiguous => (true, "contiguous"),
        };
        return Err(rope.complain(
            "mrope_interleaved",
            format!("is {is}; the sections of this model type are {are}"),
        ));
    }
    match sections {
        Sections::Contiguous => Ok((theta, Rope::Contiguous(shares))),
        Sections::Interleaved => {
            // Height takes every third pair from 1, width from 2; the last must be in the head.
            let reach = |share: usize, first: usize| match share {
                0 => 0,
                share => 3 * (share - 1) + first,
            };
            if reach(shares[1], 1).max(reach(shares[2], 2)) >= n_pairs {
                return Err(unfit(&rope, &shares, n_pairs));
            }
            Ok((theta, Rope::Interleaved(shares)))
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
