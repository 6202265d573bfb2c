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
import re

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


def internvl_as_opengvlab(folder):
    """OpenGVLab's own checkpoints (`internvl_chat`). What transformers saved, which it cannot read
    in that layout, goes to the folder `transformers` below."""
    own = folder / "transformers"
    own.mkdir(exist_ok=True)
    for path in list(folder.glob("*.*")):
        path.rename(own / path.name)
    saved = json.loads((own / "config.json").read_text())
    text, vision = saved["text_config"], saved["vision_config"]
    rope = text.pop("rope_parameters")
    keys = ("hidden_act hidden_size intermediate_size layer_norm_eps norm_type num_attention_heads "
            "num_channels num_hidden_layers").split()
    config = {
        "architectures": ["InternVLChatModel"], "model_type": "internvl_chat",
        "downsample_ratio": saved["downsample_ratio"], "dynamic_image_size": True,
        "force_image_size": vision["image_size"][0], "max_dynamic_patch": 12,
        "min_dynamic_patch": 1, "ps_version": "v2", "select_layer": -1, "template": "internvl2_5",
        "use_thumbnail": True,
        "llm_config": text | {
            "rope_theta": rope["rope_theta"],
            "rope_scaling": {"factor": 2.0, "rope_type": "dynamic", "type": "dynamic"}},
        "vision_config": {key: vision[key] for key in keys} | {
            "image_size": vision["image_size"][0], "patch_size": vision["patch_size"][0],
            "qkv_bias": vision["attention_bias"], "qk_normalization": vision["use_qk_norm"],
            "model_type": "intern_vit_6b"},
    }
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    renames = [
        (r"^(model\.)?vision_tower\.", "vision_model."),
        (r"^(model\.)?multi_modal_projector\.layer_norm", "mlp1.0"),
        (r"^(model\.)?multi_modal_projector\.linear_1", "mlp1.1"),
        (r"^(model\.)?multi_modal_projector\.linear_2", "mlp1.3"),
        (r"^model\.language_model\.", "language_model.model."),
        (r"^lm_head", "language_model.lm_head"),
        (r"embeddings\.cls_token", "embeddings.class_embedding"),
        (r"embeddings\.position_embeddings", "embeddings.position_embedding"),
        (r"embeddings\.patch_embeddings\.projection", "embeddings.patch_embedding"),
        (r"encoder\.layer\.", "encoder.layers."),
        (r"attention\.projection_layer", "attn.proj"),
        (r"layernorm_before", "norm1"), (r"layernorm_after", "norm2"),
        (r"lambda_1", "ls1"), (r"lambda_2", "ls2"),
    ]
    tensors = {}
    for path in sorted(own.glob("*.safetensors")):
        tensors |= load_file(path)
    for name in [name for name in tensors if ".attention.q_proj." in name]:
        joined = [tensors.pop(name.replace("q_proj", part)) for part in ("q_proj", "k_proj", "v_proj")]
        tensors[name.replace("attention.q_proj", "attn.qkv")] = torch.cat(joined)
    for pattern, new in renames:
        tensors = {re.sub(pattern, new, name): tensor for name, tensor in tensors.items()}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


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
    "internvl-tied-group2-36-patches": shape(
        dict(hidden_size=48, intermediate_size=68, num_hidden_layers=3, num_attention_heads=4,
             num_key_value_heads=2),
        dict(num_hidden_layers=3, hidden_size=24, intermediate_size=40, num_attention_heads=2,
             patch_size=4, image_size=24, attention_bias=True),
        tied=True, family="internvl"),
    "internvl-untied-group1-16-patches": shape(
        dict(hidden_size=40, intermediate_size=60, num_hidden_layers=2, num_attention_heads=2,
             num_key_value_heads=2),
        dict(num_hidden_layers=2, hidden_size=16, intermediate_size=36, num_attention_heads=1,
             patch_size=6, image_size=24, attention_bias=False),
        tied=False, shard="60KB", family="internvl"),
    "internvl-opengvlab-group3-64-patches": shape(
        dict(hidden_size=48, intermediate_size=70, num_hidden_layers=2, num_attention_heads=3,
             num_key_value_heads=1),
        dict(num_hidden_layers=2, hidden_size=16, intermediate_size=30, num_attention_heads=2,
             patch_size=4, image_size=32, attention_bias=True),
        tied=False, family="internvl", published=internvl_as_opengvlab),
    # InternVL3.5: heads wider than their share of a row, and norms of queries and keys.
    "internvl35-tied-group2-36-patches": shape(
        dict(model_type="qwen3", hidden_size=40, intermediate_size=68, num_hidden_layers=3,
             num_attention_heads=4, num_key_value_heads=2, head_dim=32),
        dict(num_hidden_layers=2, hidden_size=16, intermediate_size=30, num_attention_heads=2,
             patch_size=4, image_size=24, attention_bias=True),
        tied=True, family="internvl"),
    "internvl35-opengvlab-group3-16-patches": shape(
        dict(model_type="qwen3", hidden_size=48, intermediate_size=70, num_hidden_layers=2,
             num_attention_heads=3, num_key_value_heads=1, head_dim=24),
        dict(num_hidden_layers=2, hidden_size=16, intermediate_size=30, num_attention_heads=2,
             patch_size=4, image_size=16, attention_bias=True),
        tied=False, family="internvl", published=internvl_as_opengvlab),
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
        if name.endswith("bias"):
            value = 0.2 * noise
        elif any(part in name for part in ("norm.weight", "layernorm", "layer_norm", ".norm1.w",
                                           ".norm2.w", "ln_q", "lambda_")):
            value = 1.0 + 0.2 * noise
        elif "embed_tokens" in name or "lm_head" in name:
            value = 0.5 * noise
        elif "pos_embed" in name or "position_embeddings" in name or "cls_token" in name:
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
