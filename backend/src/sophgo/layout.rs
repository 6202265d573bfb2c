// SPDX-License-Identifier: MPL-2.0

//! Which generation and variant a bmodel is.
//!
//! `llm_convert.py` has given the same net names different signatures over time. A [`Layout`] can
//! only hold a combination that this backend runs; `signatures.rs` makes it ([`Layout::of`]).

use super::half_type::HalfType;

/// A bmodel that can be run, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// Type of hidden states, masks and caches.
    pub half: HalfType,
    /// Width of a row.
    pub hidden_size: usize,
    /// Decoder layers.
    pub n_layers: usize,
    /// Key and value heads.
    pub n_kv_heads: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// Rows of the KV cache; every position is below.
    pub context: usize,
    /// Numbers of a row's position: 3 (mrope) or 1.
    pub position_rows: usize,
    /// How the prompt runs.
    pub prefill: Prefill,
    /// Cache rows that each stage of the decode nets sees, longest first.
    pub decode_stages: Vec<usize>,
    /// Where token embeddings come from.
    pub embedding: Embedding,
    /// What the last net says.
    pub head: Head,
    /// The vision net.
    pub vision: Vision,
    /// Cores that the nets run on.
    pub core_num: u32,
}

/// How the prompt runs through `block_*`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prefill {
    /// Rows of a launch, by stage, longest first.
    pub lengths: Vec<usize>,
    /// Whether launches may be shorter than compiled.
    pub is_dynamic: bool,
    /// Whether the host gives a causal mask; newer dynamic nets have it inside.
    pub has_mask: bool,
    /// How rows that are there already are seen.
    pub history: History,
}

/// How a launch sees rows of the cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum History {
    /// It does not: what comes after the first prefill is fed row by row.
    None,
    /// `block_*` has five inputs, two of them this many cache rows (until mid 2026).
    Inside(usize),
    /// Nets of their own, `block_kv_*`, that take up to this many cache rows (TPU-MLIR 1.30).
    Separate(usize),
}

/// Where token embeddings come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Embedding {
    /// The net `embedding`, ids by stage, longest first; `embedding_cache` for one id.
    Nets(Vec<usize>),
    /// `embedding.bin` beside the bmodel (`--embedding_disk`).
    Disk,
}

/// What `lm_head` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Head {
    /// The likeliest token.
    Greedy,
    /// F32 logits, this many.
    Logits(usize),
}

/// The net `vit`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vision {
    /// Which family's.
    pub family: Family,
    /// Patches of a launch, by stage, longest first (InternVL3: those of a tile).
    pub patches: Vec<usize>,
    /// Numbers in a patch row (InternVL3: in a tile).
    pub row_len: usize,
    /// Whether launches may be smaller than compiled.
    pub is_dynamic: bool,
    /// Whether the host gives attention masks.
    pub has_mask: bool,
    /// Visual tokens of a launch of `patches[0]`.
    pub tokens: usize,
    /// Outputs that go to the first decoder layers.
    pub n_deepstack: usize,
    /// Whether `pos_idx` and `pos_weight` are `[4, patches]` instead of `[patches, 4]` (until
    /// TPU-MLIR 1.24).
    pub points_first: bool,
}

/// A model family, told from the vision net.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// Rows of 1536 numbers, an interpolated position table, deepstack.
    Qwen3Vl,
    /// Rows of 1176 numbers in window order.
    Qwen25Vl,
    /// Tiles of 448 x 448 pixels.
    InternVl3,
}

impl Family {
    /// As `model_type` of a `config.json` names it.
    pub fn model_type(self) -> &'static str {
        match self {
            Self::Qwen3Vl => "qwen3_vl",
            Self::Qwen25Vl => "qwen2_5_vl",
            Self::InternVl3 => "internvl_chat",
        }
    }
}

impl Layout {
    /// Bytes of one row of one layer's K (or V) cache.
    pub fn kv_row_bytes(&self) -> usize {
        self.n_kv_heads * self.head_dim * HalfType::BYTES
    }

    /// Bytes of one row of hidden states.
    pub fn row_bytes(&self) -> usize {
        self.hidden_size * HalfType::BYTES
    }

    /// Rows that the first prefill of a sequence may have.
    pub fn max_prompt(&self) -> usize {
        match self.prefill.history {
            History::None => self.prefill.lengths[0],
            // Chunk after chunk, as long as what is there fits the nets' history.
            History::Inside(rows) => (rows + self.prefill.lengths[0]).min(self.context),
            History::Separate(rows) => (rows + self.prefill.lengths[0]).min(self.context),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::bmodel::tests::parsed;
    use super::*;

    fn of(name: &str) -> Layout {
        Layout::of(&parsed(name), name).unwrap()
    }

    #[test]
    fn a_static_model_is_told_from_its_nets() {
        let layout = of("q3_static");
        assert_eq!(layout.half, HalfType::Bf16);
        assert_eq!((layout.hidden_size, layout.n_layers), (128, 3));
        assert_eq!((layout.n_kv_heads, layout.head_dim), (2, 32));
        assert_eq!((layout.context, layout.position_rows), (256, 3));
        let want = Prefill {
            lengths: vec![192],
            is_dynamic: false,
            has_mask: true,
            history: History::None,
        };
        assert_eq!(layout.prefill, want);
        assert_eq!(layout.max_prompt(), 192);
        assert_eq!(layout.decode_stages, [256]);
        assert_eq!(layout.embedding, Embedding::Nets(vec![192]));
        assert_eq!(layout.head, Head::Greedy);
        assert_eq!(layout.vision.family, Family::Qwen3Vl);
        assert_eq!((layout.vision.tokens, layout.vision.n_deepstack), (16, 2));
        assert!(layout.vision.has_mask && !layout.vision.is_dynamic);
    }

    #[test]
    fn history_nets_and_decode_stages_are_found() {
        let layout = of("q3_kv");
        assert_eq!(layout.prefill.history, History::Separate(256));
        assert!(layout.prefill.is_dynamic && !layout.prefill.has_mask);
        assert_eq!(layout.decode_stages, [256, 128, 64]);
        assert_eq!(layout.max_prompt(), 256);
    }

    #[test]
    fn every_variant_is_what_it_was_compiled_for() {
        assert_eq!(of("q3_sample").head, Head::Logits(2048));
        assert_eq!(of("q3_embdisk").embedding, Embedding::Disk);
        assert_eq!(of("q3_1688").core_num, 2);
        assert_eq!(of("q25_static").vision.family, Family::Qwen25Vl);
        let internvl = of("iv3_static");
        assert_eq!(internvl.vision.family, Family::InternVl3);
        assert_eq!((internvl.position_rows, internvl.vision.tokens), (1, 256));
    }
}
