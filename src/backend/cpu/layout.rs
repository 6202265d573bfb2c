// SPDX-License-Identifier: MPL-2.0

//! What the tensors of a checkpoint are called, by the class that saved it.

use super::spec::Tower;

/// What the names of the parts of a model begin with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Layout {
    /// The vision tower.
    pub(super) visual: &'static str,
    /// The decoder without its head.
    pub(super) text: &'static str,
    /// The head.
    pub(super) head: &'static str,
    /// A tensor of the tower that every checkpoint of this layout has.
    probe: &'static str,
}

const QWEN: [Layout; 3] = [
    // Qwen3VLForConditionalGeneration, and Qwen2.5-VL since transformers 5
    Layout {
        visual: "model.visual.",
        text: "model.language_model.",
        head: "lm_head",
        probe: "patch_embed.proj.weight",
    },
    // Qwen2.5-VL as published
    Layout {
        visual: "visual.",
        text: "model.",
        head: "lm_head",
        probe: "patch_embed.proj.weight",
    },
    // the models without their heads
    Layout {
        visual: "visual.",
        text: "language_model.",
        head: "lm_head",
        probe: "patch_embed.proj.weight",
    },
];

impl Layout {
    /// The layout in which `has` finds tower and decoder; the newest if none fits, so that messages
    /// name what would be right.
    pub(super) fn find(tower: &Tower, has: impl Fn(&str) -> bool) -> Self {
        let layouts = match tower {
            Tower::Qwen3Vl { .. } | Tower::Qwen25Vl { .. } => &QWEN[..],
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

    const TOWER: Tower = Tower::Qwen25Vl {
        window: 4,
        fullatt_block_indexes: Vec::new(),
    };

    #[test]
    fn a_layout_is_found_by_its_tensors() {
        for layout in QWEN {
            let names = [
                format!("{}embed_tokens.weight", layout.text),
                format!("{}patch_embed.proj.weight", layout.visual),
            ];
            let found = Layout::find(&TOWER, |name| names.iter().any(|n| n == name));
            assert_eq!(found, layout);
        }
    }

    #[test]
    fn an_unknown_layout_is_taken_for_the_newest() {
        assert_eq!(Layout::find(&TOWER, |_| false), QWEN[0]);
    }
}
