// SPDX-License-Identifier: MPL-2.0

//! Sizes of a model, as far as arithmetic needs them. Families fill them from their `config.json`,
//! whatever runs the model.

/// A vision tower with its mergers: what all towers have, and which one it is.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
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
    /// What this tower does differently.
    pub tower: Tower,
}

/// Which vision tower it is.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub enum Tower {
    /// `Qwen3VLVisionModel`: layer norms, a learned position table of any grid, deepstack.
    Qwen3Vl {
        /// Entries of the learned position table, a square number.
        num_position_embeddings: usize,
        /// Blocks whose output also goes to the decoder, in the order of the decoder layers.
        deepstack_visual_indexes: Vec<usize>,
    },
    /// `Qwen2_5_VisionTransformerPretrainedModel`: RMS norms, SwiGLU, attention in windows.
    Qwen25Vl {
        /// Side of a window, merge blocks.
        window: usize,
        /// Blocks that attend to the whole temporal patch.
        fullatt_block_indexes: Vec<usize>,
    },
    /// `InternVLVisionModel`, or `InternVisionModel` of OpenGVLab's own files: square tiles of one
    /// size, a class token, learned positions, scaled residuals, pixel shuffle.
    InternVl {
        /// Patches along a side of a tile.
        side: usize,
        /// Whether the query, key and value projections have a bias.
        qkv_bias: bool,
        /// Epsilon of the blocks' norms.
        layer_norm_eps: f32,
    },
}

/// A decoder.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
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
    /// Whether the query, key and value projections have a bias (Qwen2).
    pub qkv_bias: bool,
    /// Whether queries and keys are normalised (Qwen3).
    pub qk_norm: bool,
    /// Entries of the vocabulary.
    pub vocab_size: usize,
    /// Epsilon of the RMS norms.
    pub rms_norm_eps: f32,
    /// Base of the rotary frequencies.
    pub rope_theta: f64,
    /// Which axis turns which part of a head.
    pub rope: Rope,
    /// Where the head's weights are.
    pub head: Head,
    /// Rows that a sequence may have.
    pub max_position_embeddings: usize,
    /// How the matrices of the checkpoint are packed, if they are.
    pub packing: Option<Packing>,
}

/// Where the weights of a decoder's head are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Head {
    /// Its own if the file has them, else the embedding table. `tie_word_embeddings` is not believed:
    /// many configurations contradict their file.
    AsFound,
    /// Its own, which must be there: the configuration says that the embedding table is not tied.
    Own,
}

/// How the three axes of a position share out the rotary frequencies, `head_dim / 2` of them.
///
/// Sections are the shares of time, height and width and sum to `head_dim / 2`: `mrope_section`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Rope {
    /// All turn with time (Qwen2).
    Plain,
    /// Frequencies 1, 4, 7, ... turn with height, 2, 5, 8, ... with width, as far as the sections
    /// reach; the others with time (Qwen3-VL).
    Interleaved([usize; 3]),
    /// The first section turns with time, the next with height, the last with width (Qwen2.5-VL).
    Contiguous([usize; 3]),
}

/// A model: tower and decoder.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Spec {
    /// The vision tower.
    pub vision: VisionSpec,
    /// The decoder.
    pub text: TextSpec,
}

/// How matrices of a checkpoint are packed: the numbers of its `quantization_config`. Which matrices
/// those are the names of the tensors say.
///
/// `group_size` inputs share a scale and a zero point; `None` is all inputs of an output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Packing {
    /// AutoAWQ (`WQLinear_GEMM`): 4 bits.
    Awq {
        /// See above.
        group_size: Option<usize>,
    },
    /// GPTQ, as AutoGPTQ and GPTQModel keep it.
    Gptq {
        /// Bits of a number, 4 or 8.
        bits: u32,
        /// See above.
        group_size: Option<usize>,
        /// How zero points are kept.
        zeros: GptqZeros,
    },
    /// `pack-quantized` of compressed-tensors.
    PackQuantized {
        /// Bits of a number, 4 or 8.
        bits: u32,
        /// See above.
        group_size: Option<usize>,
    },
    /// A byte a weight (FP8 or int8) and a scale a block of so many outputs and inputs, or of all.
    Bytes {
        /// Outputs and inputs of a block.
        block: [Option<usize>; 2],
    },
}

/// How a GPTQ checkpoint keeps zero points.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum GptqZeros {
    /// Less one, in the format `gptq`.
    LessOne,
    /// As they are, in the format `gptq_v2`.
    AsTheyAre,
}
