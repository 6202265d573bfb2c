// SPDX-License-Identifier: MPL-2.0

//! Sizes of a model, as far as arithmetic needs them. Families fill them from their `config.json`.

/// A vision tower with its mergers.
#[derive(Debug, Clone, PartialEq)]
pub struct VisionSpec {
    /// Transformer blocks.
    pub depth: usize,
    /// Width of a patch row inside the tower.
    pub hidden_size: usize,
    /// Width of the MLP.
    pub intermediate_size: usize,
    /// Attention heads.
    pub num_heads: usize,
    /// Channels of a pixel.
    pub in_channels: usize,
    /// Side of a patch, pixels.
    pub patch_size: usize,
    /// Frames of a temporal patch.
    pub temporal_patch_size: usize,
    /// Side of the merge, patches.
    pub spatial_merge_size: usize,
    /// Width of a visual token: the decoder's `hidden_size`.
    pub out_hidden_size: usize,
    /// Entries of the learned position table, a square number.
    pub num_position_embeddings: usize,
    /// Blocks whose output also goes to the decoder, in the order of the decoder layers.
    pub deepstack_visual_indexes: Vec<usize>,
}

/// A decoder.
#[derive(Debug, Clone, PartialEq)]
pub struct TextSpec {
    /// Decoder layers.
    pub num_hidden_layers: usize,
    /// Width of a row.
    pub hidden_size: usize,
    /// Width of the MLP.
    pub intermediate_size: usize,
    /// Query heads.
    pub num_attention_heads: usize,
    /// Key and value heads; a divisor of the query heads.
    pub num_key_value_heads: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// Entries of the vocabulary.
    pub vocab_size: usize,
    /// Epsilon of the RMS norms.
    pub rms_norm_eps: f32,
    /// Base of the rotary frequencies.
    pub rope_theta: f64,
    /// Shares of the head dimension (in pairs) of the time, height and width axes; interleaved.
    pub mrope_section: [usize; 3],
    /// Whether the head is the embedding table.
    pub tie_word_embeddings: bool,
    /// Rows that a sequence may have.
    pub max_position_embeddings: usize,
}

/// A Qwen3-VL model: tower, deepstack mergers, decoder with q/k norm and interleaved mrope.
#[derive(Debug, Clone, PartialEq)]
pub struct Spec {
    /// The vision tower.
    pub vision: VisionSpec,
    /// The decoder.
    pub text: TextSpec,
}
