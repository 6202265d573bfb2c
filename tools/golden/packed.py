# SPDX-License-Identifier: MPL-2.0
"""Writes small packed checkpoints with random weights, as their vendors publish them.

    packed.py OUT [--seed N] [--only NAME,...] [--autoawq DIR] [--gptqmodel DIR]

The decoder's matrices are rounded and packed; the rest is f16. Beside each checkpoint, in the folder
`transformers`, lies what the packed numbers stand for, in f32 and in the layout of transformers:
`logits.py` runs that. That both are the same numbers is said by others: of FP8 by transformers, which
reads the packed checkpoint, of compressed-tensors by its library, which also packs; of AWQ by
`dequantize_gemm` in a checkout of casper-hansen/AutoAWQ, of GPTQ by `dequantize_weight` in one of
ModelCloud/GPTQModel, if they are given.

Needs: torch, transformers 5, compressed-tensors.
"""

import argparse
import ast
import importlib.util
import json
import pathlib
import re
import shutil
import types

import torch
from checkpoints import fill, internvl_as_opengvlab, qwen25_as_published, shape
from compressed_tensors.compressors.base import BaseCompressor
from compressed_tensors.quantization import QuantizationArgs, QuantizationScheme
from families import FAMILIES
from safetensors.torch import load_file, save_file

MATRIX = re.compile(r"layers\.\d+\.(self_attn|mlp)\.\w+_proj\.weight$")
"""The end of the names of what is packed; the towers' names differ."""

MATRIX_OR_HEAD = re.compile(MATRIX.pattern + r"|lm_head\.weight$")
"""The same where the head is packed too: AutoAWQ leaves it, other writers of its format do not."""

NIBBLES = [0, 2, 4, 6, 1, 3, 5, 7]
"""Which of eight neighbouring outputs each nibble of a word of AWQ holds, the lowest first."""


def signed(words):
    """Words as the signed numbers of a file: above 2^31 they are negative."""
    return (words - (words >> 31 << 32)).int().contiguous()


def rounded(weight, group, bits, order=None):
    """Whole numbers `[in, out]`, zero points and f16 scales `[groups, out]` of `[out, in]`, and the
    group of each input; `order` says which inputs come first."""
    top = 2**bits - 1
    order = torch.arange(weight.shape[1]) if order is None else order
    groups = torch.empty_like(order)
    groups[order] = torch.arange(len(order)) // group
    parts = weight.T[order].reshape(-1, group, weight.shape[0])
    low, high = parts.amin(1).clamp(max=0), parts.amax(1).clamp(min=0)
    scale = ((high - low) / top).clamp(min=1e-5).half()
    zero = (-low / scale.float()).round().clamp(0, top)
    q = (weight.T / scale.float()[groups]).round() + zero[groups]
    return q.clamp(0, top).int(), zero.int(), scale, groups.int()


def restored(q, zero, scale, groups):
    """What they stand for, `[out, in]`."""
    return ((q - zero[groups]).float() * scale.float()[groups]).T.contiguous()


class Awq:
    """`WQLinear_GEMM` of AutoAWQ, with inputs in groups of `group`."""

    def __init__(self, group):
        self.group = group
        self.config = {
            "bits": 4, "group_size": group, "modules_to_not_convert": ["visual"],
            "quant_method": "awq", "version": "gemm", "zero_point": True}

    @staticmethod
    def packed(numbers):
        """`[rows, out]` of 4 bits to `[rows, out / 8]`."""
        columns = numbers.long().reshape(len(numbers), -1, 8)
        return signed(sum(columns[:, :, column] << 4 * n for n, column in enumerate(NIBBLES)))

    def pack(self, weight, generator, theirs):
        q, zero, scale, groups = rounded(weight, self.group, 4)
        weight = restored(q, zero, scale, groups)
        tensors = {"qweight": self.packed(q), "qzeros": self.packed(zero), "scales": scale}
        if theirs.awq:
            said = theirs.awq(tensors["qweight"], tensors["qzeros"], scale.float(), 4, self.group)
            assert torch.equal(said.T, weight)
        return tensors, weight


class Gptq:
    """GPTQModel's and AutoGPTQ's, with inputs in groups that do not follow each other (`desc_act`)."""

    def __init__(self, group, bits, checkpoint_format):
        self.group, self.bits = group, bits
        self.minus = {"gptq": 1, "gptq_v2": 0}[checkpoint_format]
        self.config = {
            "bits": bits, "group_size": group, "desc_act": True, "sym": False, "lm_head": False,
            "quant_method": "gptq", "checkpoint_format": checkpoint_format}

    def packed(self, numbers):
        """`[n, columns]` to words of neighbouring rows."""
        rows = numbers.long().reshape(-1, 32 // self.bits, numbers.shape[1])
        return signed(sum(rows[:, n] << self.bits * n for n in range(rows.shape[1])))

    def pack(self, weight, generator, theirs):
        order = torch.randperm(weight.shape[1], generator=generator)
        q, zero, scale, groups = rounded(weight, self.group, self.bits, order)
        weight = restored(q, zero, scale, groups)
        kept = (zero - self.minus) % 2**self.bits
        tensors = {"qweight": self.packed(q), "qzeros": self.packed(kept.T).T.contiguous(),
                   "scales": scale, "g_idx": groups}
        if theirs.gptq:
            zeros = self.packed(zero.T).T.contiguous()
            said = theirs.gptq(self.bits, tensors | {"qzeros": zeros, "scales": scale.float()})
            assert torch.equal(said.T, weight)
        return tensors, weight


class Fp8:
    """FP8 of transformers, in square blocks; what it is said by transformers."""

    def __init__(self, block):
        self.block = block
        self.config = {
            "activation_scheme": "dynamic", "fmt": "e4m3", "quant_method": "fp8",
            "modules_to_not_convert": ["lm_head", "visual"], "weight_block_size": [block, block]}

    def pack(self, weight, generator, theirs):
        n = self.block
        blocks = weight.reshape(weight.shape[0] // n, n, -1, n)
        scale = blocks.abs().amax((1, 3)) / 448
        q = (blocks / scale[:, None, :, None]).to(torch.float8_e4m3fn)
        weight = (q.float() * scale[:, None, :, None]).reshape(weight.shape)
        return {"weight": q.reshape(weight.shape), "weight_scale_inv": scale}, weight


class Compressed:
    """What the library of compressed-tensors makes of these `QuantizationArgs`."""

    def __init__(self, form, **args):
        self.form, self.args = form, QuantizationArgs(**args)
        self.scheme = QuantizationScheme(targets=["Linear"], weights=self.args)
        weights = {key: value for key, value in self.args.model_dump(mode="json").items()
                   if value is not None}
        self.config = {
            "quant_method": "compressed-tensors", "format": form, "quantization_status": "compressed",
            "config_groups": {"group_0": {"targets": ["Linear"], "weights": weights}},
            "ignore": ["lm_head", "re:.*visual.*"], "sparsity_config": {}, "transform_config": {}}

    def pack(self, weight, generator, theirs):
        given = {"weight": weight}
        group = self.args.group_size or weight.shape[1]
        if self.args.type == "float":
            given["weight_scale"] = weight.abs().amax(1, keepdim=True) / 448
            given["weight_scale"] = given["weight_scale"].bfloat16().float()
        else:
            order = torch.randperm(weight.shape[1], generator=generator)
            _, zero, scale, groups = rounded(weight, group, self.args.num_bits, order)
            half = 2**(self.args.num_bits - 1)
            given |= {"weight_scale": scale.bfloat16().float().T.contiguous(),
                      "weight_zero_point": (zero - half).to(torch.int8).T.contiguous(),
                      "weight_g_idx": groups}
        compressor = BaseCompressor.get_value_from_registry(self.form)
        tensors = compressor.compress(given, self.scheme)
        weight = compressor.decompress(dict(tensors), self.scheme)["weight"].float()
        tensors["weight_scale"] = tensors["weight_scale"].bfloat16()
        return {name: tensor.contiguous() for name, tensor in tensors.items()}, weight


TEXT = dict(hidden_size=128, intermediate_size=256, num_hidden_layers=2, num_attention_heads=2,
            num_key_value_heads=1)
QWEN3_VISION = dict(depth=2, hidden_size=16, intermediate_size=32, num_heads=2, patch_size=4,
                    num_position_embeddings=16, deepstack_visual_indexes=[0])
QWEN25_VISION = dict(depth=2, hidden_size=16, intermediate_size=30, num_heads=2, patch_size=4,
                     window_size=16, fullatt_block_indexes=[1])
INTERNVL_VISION = dict(num_hidden_layers=2, hidden_size=16, intermediate_size=30,
                       num_attention_heads=2, patch_size=4, image_size=32, attention_bias=True)
SMALL = TEXT | dict(hidden_size=64, intermediate_size=96)

# name -> numbers, how it is packed, what is packed. Heads of 64; the down projections of
# two of AWQ have two groups.
SHAPES = {
    "awq-qwen25-published": (shape(
        TEXT | dict(mrope_section=[8, 12, 12]), QWEN25_VISION, tied=True, family="qwen2_5_vl",
        published=qwen25_as_published), Awq(128), MATRIX),
    "awq-internvl-opengvlab": (shape(
        TEXT | dict(intermediate_size=128), INTERNVL_VISION, tied=False, family="internvl",
        published=internvl_as_opengvlab), Awq(128), MATRIX),
    "awq-qwen3-head": (shape(
        TEXT | dict(head_dim=64, intermediate_size=128, mrope_section=[12, 10, 10]), QWEN3_VISION,
        tied=False), Awq(64), MATRIX_OR_HEAD),
    "fp8-qwen3": (shape(
        SMALL | dict(head_dim=32, mrope_section=[6, 5, 5]), QWEN3_VISION, tied=True),
        Fp8(32), MATRIX),
    "w4a16-qwen25-published": (shape(
        SMALL | dict(mrope_section=[6, 5, 5]), QWEN25_VISION, tied=True, family="qwen2_5_vl",
        published=qwen25_as_published),
        Compressed("pack-quantized", num_bits=4, type="int", symmetric=False, strategy="group",
                   group_size=32, actorder="group"), MATRIX),
    "fp8-rows-internvl35": (shape(
        SMALL | dict(model_type="qwen3", head_dim=32), INTERNVL_VISION, tied=False,
        family="internvl"),
        Compressed("float-quantized", num_bits=8, type="float", symmetric=True,
                   strategy="channel"), MATRIX),
    "gptq-internvl35-opengvlab": (shape(
        SMALL | dict(model_type="qwen3", head_dim=32), INTERNVL_VISION, tied=False,
        family="internvl", published=internvl_as_opengvlab), Gptq(32, 4, "gptq"), MATRIX),
    "gptq-v2-8-bits-qwen3": (shape(
        SMALL | dict(head_dim=32, mrope_section=[6, 5, 5]), QWEN3_VISION, tied=False),
        Gptq(32, 8, "gptq_v2"), MATRIX),
}


def name_in_both(name):
    """A matrix's name in the layout of transformers and in the vendors'."""
    return MATRIX_OR_HEAD.search(name).group()


def make(folder, numbers, packing, packs, generator, theirs):
    family = FAMILIES[numbers["family"]]
    model = family.model(family.config(numbers)).float()
    fill(model, generator)
    matrices = {}
    for name, weight in model.named_parameters():
        if not packs.search(name):
            # An f16 checkpoint cannot hold more.
            weight.data = weight.data.half().float()
            continue
        tensors, weight.data = packing.pack(weight.data, generator, theirs)
        matrices[name_in_both(name)] = tensors

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
        start = name.removesuffix("weight")
        tensors |= {start + part: tensor for part, tensor in matrices[name_in_both(name)].items()}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((folder / "config.json").read_text())
    config["quantization_config"] = packing.config
    config["torch_dtype"] = "float16"
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    if isinstance(packing, Fp8):
        read_by_transformers(folder, family, model)
    size = sum(f.stat().st_size for f in folder.glob("*.safetensors"))
    print(f"{folder}: {size} bytes of weights, {len(matrices)} packed matrices")


def read_by_transformers(folder, family, model):
    """That transformers reads of the checkpoint what `model` has."""
    from transformers import FineGrainedFP8Config

    read = family.model.from_pretrained(
        folder, dtype=torch.float32,
        quantization_config=FineGrainedFP8Config(dequantize=True, modules_to_not_convert=[]))
    theirs = dict(read.named_parameters())
    for name, weight in model.named_parameters():
        assert torch.allclose(theirs[name].float(), weight, rtol=1e-6, atol=0), name


def dequantize_gemm(place):
    """AutoAWQ's own."""
    source = place / "awq" / "utils" / "packing_utils.py"
    spec = importlib.util.spec_from_file_location("packing_utils", source)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.dequantize_gemm


def dequantize_weight(place):
    """GPTQModel's own, out of its source: the package needs a build of its kernels."""
    source = place / "gptqmodel" / "nn_modules" / "qlinear" / "__init__.py"
    wanted = ("dequantize_weight", "_dequantize_from_codes")
    found = [node for node in ast.walk(ast.parse(source.read_text()))
             if isinstance(node, ast.FunctionDef) and node.name in wanted]
    assert len(found) == len(wanted), "another version of GPTQModel"
    names = {"t": torch, "_torch_right_shift": torch.bitwise_right_shift}
    exec(compile(ast.Module(found, []), str(source), "exec"), names)

    def restore(bits, tensors):
        shifts = torch.arange(0, 32, bits, dtype=torch.int32)
        layer = types.SimpleNamespace(
            planar=False, bits=bits, pack_factor=32 // bits, maxq=2**bits - 1,
            dequant_dtype=torch.int16, in_features=len(tensors["g_idx"]),
            wf_unsqueeze_zero=shifts.reshape(1, 1, -1), wf_unsqueeze_neg_one=shifts.reshape(1, -1, 1),
            _init_wf_unsqueeze_buffers=lambda: None, **tensors)
        layer._dequantize_from_codes = types.MethodType(names["_dequantize_from_codes"], layer)
        return names["dequantize_weight"](layer)

    return restore


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", help="names of checkpoints, with commas")
    parser.add_argument("--autoawq", type=pathlib.Path, help="checkout of casper-hansen/AutoAWQ")
    parser.add_argument("--gptqmodel", type=pathlib.Path, help="checkout of ModelCloud/GPTQModel")
    args = parser.parse_args()
    theirs = types.SimpleNamespace(
        awq=dequantize_gemm(args.autoawq) if args.autoawq else None,
        gptq=dequantize_weight(args.gptqmodel) if args.gptqmodel else None)
    for number, (name, (numbers, packing, packs)) in enumerate(SHAPES.items()):
        if args.only and name not in args.only.split(","):
            continue
        generator = torch.Generator().manual_seed(args.seed * 1000 + 500 + number)
        make(args.out / name, numbers, packing, packs, generator, theirs)


if __name__ == "__main__":
    main()
