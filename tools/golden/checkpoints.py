# SPDX-License-Identifier: MPL-2.0
"""Writes small Qwen3-VL checkpoints with random weights, as `transformers` saves them.

    checkpoints.py OUT [--seed N] [--wide]

Weights are drawn so that hidden states keep their size from layer to layer and the logits neither
vanish nor point at one token: with the default initialisation (0.02) every mistake in the graph
would stay below the tolerance of a test. They are rounded to bf16, the type they are saved in.

Needs: torch, transformers 5.
"""

import argparse
import pathlib

import torch
from transformers import Qwen3VLConfig, Qwen3VLForConditionalGeneration

VOCAB = 256
SPECIAL = {"vision_start_token_id": 252, "vision_end_token_id": 253,
           "image_token_id": 254, "video_token_id": 255}


def shape(text, vision, tied, shard=None):
    """A checkpoint's numbers; `shard` is the largest size of a file."""
    return {"text": text, "vision": vision, "tied": tied, "shard": shard}


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
}


def config(numbers):
    """The configuration of a checkpoint."""
    text = dict(numbers["text"])
    section = text.pop("mrope_section")
    text |= dict(vocab_size=VOCAB, max_position_embeddings=4096, rms_norm_eps=1e-6,
                 attention_bias=False, hidden_act="silu", bos_token_id=None, eos_token_id=None,
                 pad_token_id=None, tie_word_embeddings=numbers["tied"],
                 rope_parameters=dict(rope_type="default", rope_theta=5_000_000.0,
                                      mrope_interleaved=True, mrope_section=section))
    vision = dict(numbers["vision"])
    vision |= dict(in_channels=3, temporal_patch_size=2, spatial_merge_size=2,
                   out_hidden_size=text["hidden_size"], hidden_act="gelu_pytorch_tanh")
    return Qwen3VLConfig(text_config=text, vision_config=vision,
                         tie_word_embeddings=numbers["tied"], **SPECIAL)


def fill(model, generator):
    """Draws every weight."""
    for name, weight in model.named_parameters():
        noise = torch.randn(weight.shape, generator=generator)
        if name.endswith("norm.weight") or "layernorm" in name or ".norm1.w" in name or ".norm2.w" in name:
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
    args = parser.parse_args()
    shapes = SHAPES | (WIDE if args.wide else {})
    for number, (name, numbers) in enumerate(shapes.items()):
        generator = torch.Generator().manual_seed(args.seed * 1000 + number)
        model = Qwen3VLForConditionalGeneration(config(numbers)).to(torch.bfloat16)
        fill(model, generator)
        folder = args.out / name
        model.save_pretrained(folder, max_shard_size=numbers["shard"] or "50GB")
        (folder / "generation_config.json").unlink(missing_ok=True)
        size = sum(f.stat().st_size for f in folder.glob("*.safetensors"))
        print(f"{folder}: {size} bytes of weights")


if __name__ == "__main__":
    main()
