# SPDX-License-Identifier: MPL-2.0
"""Writes small AWQ checkpoints with random weights, as their vendors publish them.

    awq.py OUT [--seed N] [--only NAME,...] [--autoawq DIR]

The decoder's matrices are rounded to 4 bits with a zero point and a scale for each group of inputs
and packed as `WQLinear_GEMM` of AutoAWQ keeps them; the rest is f16. Beside each, in the folder
`transformers`, lies what the packed numbers stand for, in f32 and in the layout of transformers:
`logits.py` runs that. With a checkout of casper-hansen/AutoAWQ, its own `dequantize_gemm` says
that both are the same numbers.

Needs: torch, transformers 5.
"""

import argparse
import importlib.util
import json
import pathlib
import re
import shutil

import torch
from checkpoints import fill, internvl_as_opengvlab, qwen25_as_published, shape
from families import FAMILIES
from safetensors.torch import load_file, save_file

MATRIX = re.compile(r"layers\.\d+\.(self_attn|mlp)\.\w+_proj\.weight$")
"""The end of the names of what is packed; the towers' names differ."""

MATRIX_OR_HEAD = re.compile(MATRIX.pattern + r"|lm_head\.weight$")
"""The same where the head is packed too: AutoAWQ leaves it, other writers of its format do not."""

NIBBLES = [0, 2, 4, 6, 1, 3, 5, 7]
"""Which of eight neighbouring outputs each nibble of a word holds, the lowest first."""

TEXT = dict(hidden_size=128, intermediate_size=256, num_hidden_layers=2, num_attention_heads=2,
            num_key_value_heads=1)

# name -> numbers, group size, what is packed. Heads of 64; the down projections of
# two of them have two groups.
SHAPES = {
    "awq-qwen25-published": (shape(
        TEXT | dict(mrope_section=[8, 12, 12]),
        dict(depth=2, hidden_size=16, intermediate_size=30, num_heads=2, patch_size=4,
             window_size=16, fullatt_block_indexes=[1]),
        tied=True, family="qwen2_5_vl", published=qwen25_as_published), 128, MATRIX),
    "awq-internvl-opengvlab": (shape(
        TEXT | dict(intermediate_size=128),
        dict(num_hidden_layers=2, hidden_size=16, intermediate_size=30, num_attention_heads=2,
             patch_size=4, image_size=32, attention_bias=True),
        tied=False, family="internvl", published=internvl_as_opengvlab), 128, MATRIX),
    "awq-qwen3-head": (shape(
        TEXT | dict(head_dim=64, intermediate_size=128, mrope_section=[12, 10, 10]),
        dict(depth=2, hidden_size=16, intermediate_size=32, num_heads=2, patch_size=4,
             num_position_embeddings=16, deepstack_visual_indexes=[0]),
        tied=False), 64, MATRIX_OR_HEAD),
}


def quantized(weight, group):
    """4-bit numbers `[in, out]`, zero points and f16 scales `[groups, out]` of `[out, in]`."""
    parts = weight.T.reshape(-1, group, weight.shape[0])
    low, high = parts.amin(1).clamp(max=0), parts.amax(1).clamp(min=0)
    scale = ((high - low) / 15).clamp(min=1e-5).half()
    zero = (-low / scale.float()).round().clamp(0, 15)
    q = (parts / scale.float()[:, None]).round() + zero[:, None]
    return q.clamp(0, 15).reshape(-1, weight.shape[0]).int(), zero.int(), scale


def packed(numbers):
    """`[rows, out]` of 4 bits to `[rows, out / 8]`."""
    columns = numbers.long().reshape(len(numbers), -1, 8)
    words = sum(columns[:, :, column] << 4 * nibble for nibble, column in enumerate(NIBBLES))
    # Above 2^31 the word is a negative number.
    return (words - (words >> 31 << 32)).int().contiguous()


def name_in_both(name):
    """A matrix's name in the layout of transformers and in the vendors'."""
    return MATRIX_OR_HEAD.search(name).group()


def make(folder, numbers, group, packs, generator, theirs):
    family = FAMILIES[numbers["family"]]
    model = family.model(family.config(numbers)).float()
    fill(model, generator)
    matrices = {}
    for name, weight in model.named_parameters():
        if not packs.search(name):
            # An f16 checkpoint cannot hold more.
            weight.data = weight.data.half().float()
            continue
        q, zero, scale = quantized(weight.data, group)
        spread = (part.repeat_interleave(group, 0) for part in (zero, scale))
        zeros, scales = (part.float() for part in spread)
        weight.data = ((q.float() - zeros) * scales).T.contiguous()
        prefix = name_in_both(name).removesuffix("weight")
        tensors = {"qweight": packed(q), "qzeros": packed(zero), "scales": scale}
        if theirs:
            said = theirs(tensors["qweight"], tensors["qzeros"], scale.float(), 4, group)
            assert torch.equal(said.T, weight.data), name
        matrices |= {prefix + part: tensor for part, tensor in tensors.items()}

    shutil.rmtree(folder, ignore_errors=True)
    model.save_pretrained(folder, max_shard_size="50GB")
    (folder / "generation_config.json").unlink(missing_ok=True)
    own = folder / "transformers"
    if numbers["published"] is not internvl_as_opengvlab:
        shutil.copytree(folder, own)
    if numbers["published"]:
        numbers["published"](folder)
    tensors = {}
    for name, tensor in load_file(folder / "model.safetensors").items():
        if not packs.search(name):
            tensors[name] = tensor.half()
            continue
        prefix = name_in_both(name).removesuffix("weight")
        start = name.removesuffix("weight")
        for part in ("qweight", "qzeros", "scales"):
            tensors[start + part] = matrices[prefix + part]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((folder / "config.json").read_text())
    config["quantization_config"] = {
        "bits": 4, "group_size": group, "modules_to_not_convert": ["visual"], "quant_method": "awq",
        "version": "gemm", "zero_point": True}
    config["torch_dtype"] = "float16"
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    size = sum(f.stat().st_size for f in folder.glob("*.safetensors"))
    print(f"{folder}: {size} bytes of weights, {len(matrices) // 3} packed matrices")


def dequantize_gemm(place):
    """AutoAWQ's own."""
    source = place / "awq" / "utils" / "packing_utils.py"
    spec = importlib.util.spec_from_file_location("packing_utils", source)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.dequantize_gemm


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", help="names of checkpoints, with commas")
    parser.add_argument("--autoawq", type=pathlib.Path, help="checkout of casper-hansen/AutoAWQ")
    args = parser.parse_args()
    theirs = dequantize_gemm(args.autoawq) if args.autoawq else None
    for number, (name, (numbers, group, packs)) in enumerate(SHAPES.items()):
        if args.only and name not in args.only.split(","):
            continue
        generator = torch.Generator().manual_seed(args.seed * 1000 + 500 + number)
        make(args.out / name, numbers, group, packs, generator, theirs)


if __name__ == "__main__":
    main()
