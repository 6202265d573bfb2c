// SPDX-License-Identifier: MPL-2.0

//! The sizes of a configuration, held against the tensors of the file before memory is taken for
//! anything: what differs is told by its key.

use super::layout::Names;
use super::loader::Loader;
use crate::Error;
use crate::spec::{Spec, TextSpec, Tower, VisionSpec};

/// That the file has the layers and sizes that `spec` says. What is not in the file is left for the
/// loader to miss.
///
/// # Errors
/// [`Error::Size`] with the key.
pub(super) fn check(spec: &Spec, loader: &Loader<'_>) -> Result<(), Error> {
    let held = Held { loader };
    held.text(&spec.text)?;
    held.vision(&spec.vision)
}

struct Held<'a, 'b> {
    loader: &'a Loader<'b>,
}

impl Held<'_, '_> {
    fn text(&self, spec: &TextSpec) -> Result<(), Error> {
        let table = self.loader.text("embed_tokens.weight");
        self.size("vocab_size of the decoder", spec.vocab_size, &table, 0)?;
        self.size("hidden_size of the decoder", spec.hidden_size, &table, 1)?;
        let layers = self.loader.text("layers.");
        let key = "num_hidden_layers of the decoder";
        self.number(key, spec.num_hidden_layers, &layers)?;
        let of_first = |part: &str| format!("{layers}0.{part}.weight");
        let gate = of_first("mlp.gate_proj");
        let key = "intermediate_size of the decoder";
        self.size(key, spec.intermediate_size, &gate, 0)?;
        for (key, part, heads) in [
            (
                "num_attention_heads times head_dim",
                "q_proj",
                spec.num_attention_heads,
            ),
            (
                "num_key_value_heads times head_dim",
                "k_proj",
                spec.num_key_value_heads,
            ),
        ] {
            let name = of_first(&format!("self_attn.{part}"));
            self.size(key, heads * spec.head_dim, &name, 0)?;
        }
        Ok(())
    }

    fn vision(&self, spec: &VisionSpec) -> Result<(), Error> {
        let visual = |name: &str| self.loader.visual(name);
        let (patch, blocks, mlp) = match (&spec.tower, self.loader.layout().names) {
            (Tower::Qwen3Vl { .. }, _) => ("patch_embed.proj", "blocks.", "mlp.linear_fc1"),
            (Tower::Qwen25Vl { .. }, _) => ("patch_embed.proj", "blocks.", "mlp.gate_proj"),
            (Tower::InternVl { .. }, Names::Transformers) => {
                let patch = "embeddings.patch_embeddings.projection";
                (patch, "encoder.layer.", "mlp.fc1")
            }
            (Tower::InternVl { .. }, Names::OpenGvLab) => {
                ("embeddings.patch_embedding", "encoder.layers.", "mlp.fc1")
            }
        };
        let depth = match spec.tower {
            Tower::InternVl { .. } => "vision_config.num_hidden_layers",
            Tower::Qwen3Vl { .. } | Tower::Qwen25Vl { .. } => "vision_config.depth",
        };
        let (patch, blocks) = (visual(&format!("{patch}.weight")), visual(blocks));
        self.size("vision_config.hidden_size", spec.hidden_size, &patch, 0)?;
        let last = self.loader.shape(&patch).map_or(0, |shape| shape.len() - 1);
        self.size("vision_config.patch_size", spec.patch_size, &patch, last)?;
        if last == 4 {
            let key = "vision_config.temporal_patch_size";
            self.size(key, spec.temporal_patch_size, &patch, 2)?;
        }
        self.number(depth, spec.depth, &blocks)?;
        let key = "vision_config.intermediate_size";
        let name = format!("{blocks}0.{mlp}.weight");
        self.size(key, spec.intermediate_size, &name, 0)?;
        match &spec.tower {
            Tower::Qwen25Vl { .. } => Ok(()),
            Tower::Qwen3Vl {
                num_position_embeddings,
                deepstack_visual_indexes,
            } => {
                let key = "vision_config.num_position_embeddings";
                let table = visual("pos_embed.weight");
                self.size(key, *num_position_embeddings, &table, 0)?;
                let key = "number of vision_config.deepstack_visual_indexes";
                let mergers = visual("deepstack_merger_list.");
                self.number(key, deepstack_visual_indexes.len(), &mergers)
            }
            Tower::InternVl { side, .. } => {
                let key = "1 + the patches in vision_config.image_size";
                let rows = 1 + side * side;
                self.size(key, rows, &visual("embeddings.position_embeddings"), 1)?;
                self.size(key, rows, &visual("embeddings.position_embedding"), 1)
            }
        }
    }

    /// That a tensor has `said` entries along an axis.
    fn size(&self, key: &'static str, said: usize, name: &str, axis: usize) -> Result<(), Error> {
        match self.loader.shape(name) {
            Some(shape) if shape.get(axis).is_some_and(|&found| found != said) => {
                let found = format!("weight {name} has shape {shape:?}");
                Err(Error::Size { key, said, found })
            }
            _ => Ok(()),
        }
    }

    /// That there are `said` layers whose tensors begin with `prefix` and a number.
    fn number(&self, key: &'static str, said: usize, prefix: &str) -> Result<(), Error> {
        let numbers = self.loader.names().filter_map(|name| {
            let (number, _) = name.strip_prefix(prefix)?.split_once('.')?;
            number.parse::<usize>().ok()
        });
        match numbers.max() {
            Some(last) if last.saturating_add(1) != said => {
                let found = format!("the last of the weights {prefix}* is {last}");
                Err(Error::Size { key, said, found })
            }
            _ => Ok(()),
        }
    }
}
