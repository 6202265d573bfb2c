# SPDX-License-Identifier: MPL-2.0
"""Writes small checkpoints of all families with random weights, as they are published.

    checkpoints.py OUT [--seed N] [--wide] [--only NAME,...]

Weights are drawn so that hidden states keep their size from layer to layer and the logits neither
vanish nor point at one token: with the default initialisation (0.02) every mistake in the graph
would stay below the tolerance of a test. They are rounded to bf16, the type they are saved in.

Needs: torch, transformers 5.
"""

import argparse
import json
import pathlib

import torch
from families import FAMILIES
from safetensors.torch import load_file, save_file


def shape(text, vision, tied, shard=None, family="qwen3_vl", published=None):
    """A checkpoint's numbers; `shard` is the largest size of a file, `published` rewrites what
    transformers saved as the family's own checkpoints are."""
    return {"text": text, "vision": vision, "tied": tied, "shard": shard, "family": family,
            "published": published}


def rewrite(folder, config, rename):
    """Gives a saved checkpoint other names and another configuration."""
    for path in sorted(folder.glob("*.safetensors")):
        tensors = {rename(name): tensor for name, tensor in load_file(path).items()}
        save_file(tensors, path, metadata={"format": "pt"})
    path = folder / "model.safetensors.index.json"
    if path.exists():
        index = json.loads(path.read_text())
        index["weight_map"] = {rename(k): v for k, v in index["weight_map"].items()}
        path.write_text(json.dumps(index, indent=2, sort_keys=True) + "\n")
    path = folder / "config.json"
    path.write_text(json.dumps(config(json.loads(path.read_text())), indent=2) + "\n")


def qwen25_as_published(folder):
    """Qwen's own checkpoints: the decoder's keys at the top of the configuration, mrope as a type,
    the tower outside of the model."""

    def config(saved):
        text = saved.pop("text_config")
        rope = text.pop("rope_parameters")
        vision = saved["vision_config"]
        vision["in_chans"] = vision.pop("in_channels")
        flat = {k: v for k, v in text.items() if k != "model_type"} | saved
        flat["rope_theta"] = rope["rope_theta"]
        flat["rope_scaling"] = {"type": "mrope", "mrope_section": rope["mrope_section"]}
        return flat

    def rename(name):
        return name.replace("model.visual.", "visual.").replace("model.language_model.", "model.")

    rewrite(folder, config, rename)


# name -> numbers. Between them: tied and untied heads, 1 to 4 query heads per key-value head,
# 1 to 3 deepstack levels, heads of 32, 64 and 128, widths that fill no vector register, position
# tables of even and odd sides, one file and several.
SHAPES = {
    "tied-group2-levels3-head32": shape(
        dict(hidden_size=48, intermediate_size=80, num_hidden_layers=4, num_attention_heads=4,
             num_key_value_heads=2, head_dim=32, mrope_section=[6, 5, 5]),
        dict(depth=4, hidden_size=24, intermediate_size=40, num_heads=2, patch_size=4,
             num_position_embeddings=16, deepstack_visual_indexes=[0, 1, 3]),
        tied=True),
    "untied-group4-levels1-head64": shape(
        dict(hidden_size=72, intermediate_size=100, num_hidden_layers=2, num_attention_heads=4,
             num_key_value_heads=1, head_dim=64, mrope_section=[12, 10, 10]),
        dict(depth=3, hidden_size=16, intermediate_size=36, num_heads=1, patch_size=6,
             num_position_embeddings=36, deepstack_visual_indexes=[1]),
        tied=False),
    "untied-group1-levels2-head128-sharded": shape(
        dict(hidden_size=40, intermediate_size=68, num_hidden_layers=2, num_attention_heads=2,
             num_key_value_heads=2, head_dim=128, mrope_section=[24, 20, 20]),
        dict(depth=3, hidden_size=16, intermediate_size=32, num_heads=2, patch_size=4,
             num_position_embeddings=25, deepstack_visual_indexes=[0, 2]),
        tied=False, shard="100KB"),
    # Windows of 4 and of 2 blocks, full attention in some blocks and in all but the last.
    "qwen25-tied-group2-window4-head12": shape(
        dict(hidden_size=48, intermediate_size=68, num_hidden_layers=3, num_attention_heads=4,
             num_key_value_heads=2, mrope_section=[2, 2, 2]),
        dict(depth=4, hidden_size=24, intermediate_size=36, num_heads=2, patch_size=4,
             window_size=32, fullatt_block_indexes=[1, 3]),
        tied=True, family="qwen2_5_vl"),
    "qwen25-untied-group3-window2-head16": shape(
        dict(hidden_size=48, intermediate_size=76, num_hidden_layers=2, num_attention_heads=3,
             num_key_value_heads=1, mrope_section=[2, 3, 3]),
        dict(depth=3, hidden_size=16, intermediate_size=30, num_heads=1, patch_size=6,
             window_size=28, fullatt_block_indexes=[0, 1]),
        tied=False, family="qwen2_5_vl"),
    "qwen25-published-sharded": shape(
        dict(hidden_size=48, intermediate_size=70, num_hidden_layers=2, num_attention_heads=2,
             num_key_value_heads=2, mrope_section=[4, 4, 4]),
        dict(depth=2, hidden_size=16, intermediate_size=30, num_heads=2, patch_size=4,
             window_size=16, fullatt_block_indexes=[1]),
        tied=False, shard="60KB", family="qwen2_5_vl", published=qwen25_as_published),
}

# Shapes for a machine's own run: larger, so that blocks and slices have tails.
WIDE = {
    "wide-tied-group2": shape(
        dict(hidden_size=320, intermediate_size=1100, num_hidden_layers=5, num_attention_heads=8,
             num_key_value_heads=4, head_dim=64, mrope_section=[12, 10, 10]),
        dict(depth=6, hidden_size=144, intermediate_size=600, num_heads=2, patch_size=16,
             num_position_embeddings=2304, deepstack_visual_indexes=[1, 3, 5]),
        tied=True),
    "wide-untied-group8-sharded": shape(
        dict(hidden_size=256, intermediate_size=768, num_hidden_layers=4, num_attention_heads=8,
             num_key_value_heads=1, head_dim=128, mrope_section=[24, 20, 20]),
        dict(depth=4, hidden_size=128, intermediate_size=512, num_heads=2, patch_size=16,
             num_position_embeddings=2304, deepstack_visual_indexes=[0, 1, 2]),
        tied=False, shard="1MB"),
    "wide-qwen25": shape(
        dict(hidden_size=320, intermediate_size=1100, num_hidden_layers=5, num_attention_heads=5,
             num_key_value_heads=1, mrope_section=[8, 12, 12]),
        dict(depth=6, hidden_size=160, intermediate_size=342, num_heads=2, patch_size=14,
             window_size=112, fullatt_block_indexes=[2, 5]),
        tied=True, family="qwen2_5_vl"),
}


def fill(model, generator):
    """Draws every weight."""
    for name, weight in model.named_parameters():
        noise = torch.randn(weight.shape, generator=generator)
        if any(part in name for part in ("norm.weight", "layernorm", ".norm1.w", ".norm2.w", "ln_q")):
            value = 1.0 + 0.2 * noise
        elif name.endswith("bias"):
            value = 0.2 * noise
        elif "embed_tokens" in name or "lm_head" in name:
            value = 0.5 * noise
        elif "pos_embed" in name:
            value = 0.5 * noise
        else:
            fan_in = weight[0].numel()
            value = 1.4 * noise / fan_in**0.5
        weight.data.copy_(value.to(torch.bfloat16))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--wide", action="store_true", help="also the larger shapes")
    parser.add_argument("--only", help="names of checkpoints, with commas")
    args = parser.parse_args()
    shapes = SHAPES | (WIDE if args.wide else {})
    for number, (name, numbers) in enumerate(shapes.items()):
        if args.only and name not in args.only.split(","):
            continue
        generator = torch.Generator().manual_seed(args.seed * 1000 + number)
        family = FAMILIES[numbers["family"]]
        model = family.model(family.config(numbers)).to(torch.bfloat16)
        fill(model, generator)
        folder = args.out / name
        model.save_pretrained(folder, max_shard_size=numbers["shard"] or "50GB")
        (folder / "generation_config.json").unlink(missing_ok=True)
        if numbers["published"]:
            numbers["published"](folder)
        size = sum(f.stat().st_size for f in folder.glob("*.safetensors"))
        print(f"{folder}: {size} bytes of weights")


if __name__ == "__main__":
    main()
