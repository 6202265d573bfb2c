// SPDX-License-Identifier: MPL-2.0

//! What the tensors of a checkpoint are called, by the class that saved it.

use crate::spec::Tower;

/// What the names of the parts of a model begin with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Layout {
    /// The vision tower.
    pub(super) visual: &'static str,
    /// The decoder without its head.
    pub(super) text: &'static str,
    /// The head.
    pub(super) head: &'static str,
    /// What leads from the tower to the decoder, if that is a part of its own (InternVL).
    pub(super) projector: &'static str,
    /// What the parts of the tower and of the projector are called.
    pub(super) names: Names,
    /// A tensor of the tower that every checkpoint of this layout has.
    probe: &'static str,
}

/// Whose names a checkpoint has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Names {
    /// The class of transformers.
    Transformers,
    /// OpenGVLab's own code (`internvl_chat`).
    OpenGvLab,
}

const QWEN: [Layout; 3] = [
    // Qwen3VLForConditionalGeneration, and Qwen2.5-VL since transformers 5
    Layout {
        visual: "model.visual.",
        text: "model.language_model.",
        head: "lm_head",
        projector: "",
        names: Names::Transformers,
        probe: "patch_embed.proj.weight",
    },
    // Qwen2.5-VL as published
    Layout {
        visual: "visual.",
        text: "model.",
        head: "lm_head",
        projector: "",
        names: Names::Transformers,
        probe: "patch_embed.proj.weight",
    },
    // the models without their heads
    Layout {
        visual: "visual.",
        text: "language_model.",
        head: "lm_head",
        projector: "",
        names: Names::Transformers,
        probe: "patch_embed.proj.weight",
    },
];

const INTERN: [Layout; 3] = [
    // InternVLForConditionalGeneration since transformers 5
    Layout {
        visual: "model.vision_tower.",
        text: "model.language_model.",
        head: "lm_head",
        projector: "model.multi_modal_projector.",
        names: Names::Transformers,
        probe: "embeddings.cls_token",
    },
    // the same as published
    Layout {
        visual: "vision_tower.",
        text: "language_model.model.",
        head: "language_model.lm_head",
        projector: "multi_modal_projector.",
        names: Names::Transformers,
        probe: "embeddings.cls_token",
    },
    // InternVLChatModel
    Layout {
        visual: "vision_model.",
        text: "language_model.model.",
        head: "language_model.lm_head",
        projector: "mlp1.",
        names: Names::OpenGvLab,
        probe: "embeddings.class_embedding",
    },
];

impl Layout {
    /// The layout in which `has` finds tower and decoder; the newest if none fits, so that messages
    /// name what would be right.
    pub(super) fn find(tower: &Tower, has: impl Fn(&str) -> bool) -> Self {
        let layouts = match tower {
            Tower::Qwen3Vl { .. } | Tower::Qwen25Vl { .. } => &QWEN[..],
            Tower::InternVl { .. } => &INTERN[..],
        };
        let fits = |layout: &&Layout| {
            has(&format!("{}embed_tokens.weight", layout.text))
                && has(&format!("{}{}", layout.visual, layout.probe))
        };
        *layouts.iter().find(fits).unwrap_or(&layouts[0])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn towers() -> [(Tower, &'static [Layout]); 2] {
        let qwen = Tower::Qwen25Vl {
            window: 4,
            fullatt_block_indexes: Vec::new(),
        };
        let intern = Tower::InternVl {
            side: 32,
            qkv_bias: true,
            layer_norm_eps: 1e-6,
        };
        [(qwen, &QWEN), (intern, &INTERN)]
    }

    #[test]
    fn a_layout_is_found_by_its_tensors() {
        for (tower, layouts) in towers() {
            for layout in layouts {
                let names = [
                    format!("{}embed_tokens.weight", layout.text),
                    format!("{}{}", layout.visual, layout.probe),
                ];
                let found = Layout::find(&tower, |name| names.iter().any(|n| n == name));
                assert_eq!(found, *layout);
            }
        }
    }

    #[test]
    fn an_unknown_layout_is_taken_for_the_newest() {
        for (tower, layouts) in towers() {
            assert_eq!(Layout::find(&tower, |_| false), layouts[0]);
        }
    }
}
