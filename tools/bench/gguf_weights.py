# SPDX-License-Identifier: MPL-2.0
"""Writes a Qwen3-VL checkpoint as llama.cpp reads it: the same weights, decoder and vision net apart.

    gguf_weights.py CHECKPOINT OUT [--llm q8_0|q4_k|bf16]

Makes `OUT/llm-<type>.gguf` and `OUT/mmproj-bf16.gguf`, unless they are there. Names and keys are
those of llama.cpp's own converter (`convert_hf_to_gguf.py`, Qwen3VLTextModel, Qwen3VLVisionModel);
the tokenizer is made up, for the checkpoints here are noise. So are the blocks of `q4_k`, which its
library does not round to: the embedding in Q6_K and the rest in Q4_K, as in llama.cpp's Q4_K_S.

Needs: gguf, numpy, safetensors, torch.
"""

import argparse
import json
import pathlib

import gguf
import numpy
import torch
from gguf import GGMLQuantizationType as Type
from safetensors import safe_open

SPECIAL = {151643: "<|endoftext|>", 151644: "<|im_start|>", 151645: "<|im_end|>",
           151652: "<|vision_start|>", 151653: "<|vision_end|>", 151654: "<|vision_pad|>",
           151655: "<|image_pad|>", 151656: "<|video_pad|>"}


class Checkpoint:
    """The tensors of a folder of safetensors files."""

    def __init__(self, folder):
        self.config = json.loads((folder / "config.json").read_text())
        self.files = {}
        for path in sorted(folder.glob("*.safetensors")):
            file = safe_open(path, "pt")
            self.files |= dict.fromkeys(file.keys(), file)

    def get(self, name):
        return self.files[name].get_tensor(name).to(torch.float32).numpy()


# Blocks of 256 values, as in ggml-common.h, and by how much their scales make numbers of bytes larger.
BLOCKS = {
    Type.Q4_K: ([("d", "<f2"), ("dmin", "<f2"), ("scales", "u1", 12), ("qs", "u1", 128)], 256),
    Type.Q6_K: ([("ql", "u1", 128), ("qh", "u1", 64), ("scales", "i1", 16), ("d", "<f2")], 1370),
}


def noise(shape, kind):
    """A matrix of blocks of noise, about as large as the checkpoint's."""
    dtype, spread = BLOCKS[kind]
    rows, columns = shape
    blocks = numpy.frombuffer(numpy.random.default_rng(rows).bytes(
        rows * columns // 256 * numpy.dtype(dtype).itemsize), dtype=dtype).copy()
    blocks["d"] = columns**-0.5 / spread
    if "dmin" in blocks.dtype.names:
        # In the middle between 0 and 15.
        blocks["dmin"] = 7.5 * blocks["d"]
    return blocks.view(numpy.uint8).reshape(rows, -1)


def add(writer, name, values, kind):
    """One tensor in the type `kind`."""
    if kind == Type.F32:
        writer.add_tensor(name, numpy.ascontiguousarray(values, dtype=numpy.float32))
    elif kind in BLOCKS:
        kind = Type.Q6_K if name == "token_embd.weight" else kind
        writer.add_tensor(name, noise(values.shape, kind), raw_dtype=kind)
    else:
        writer.add_tensor(name, gguf.quants.quantize(values, kind), raw_dtype=kind)


def byte_tokens():
    """The letters of byte-level BPE, by byte."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    other = [b for b in range(256) if b not in plain]
    letters = dict(zip(plain + other, plain + [256 + i for i in range(len(other))]))
    return [chr(letters[b]) for b in range(256)]


def write_llm(checkpoint, out, kind):
    text = checkpoint.config["text_config"]
    writer = gguf.GGUFWriter(out, "qwen3vl")
    writer.add_block_count(text["num_hidden_layers"])
    writer.add_context_length(32768)
    writer.add_embedding_length(text["hidden_size"])
    writer.add_feed_forward_length(text["intermediate_size"])
    writer.add_head_count(text["num_attention_heads"])
    writer.add_head_count_kv(text["num_key_value_heads"])
    writer.add_key_length(text["head_dim"])
    writer.add_value_length(text["head_dim"])
    writer.add_rope_freq_base(float(text["rope_parameters"]["rope_theta"]))
    writer.add_layer_norm_rms_eps(text["rms_norm_eps"])
    sections = [*text["rope_parameters"]["mrope_section"], 0]
    writer.add_array("qwen3vl.rope.dimension_sections", sections)
    levels = checkpoint.config["vision_config"]["deepstack_visual_indexes"]
    writer.add_uint32("qwen3vl.n_deepstack_layers", len(levels))
    writer.add_vocab_size(text["vocab_size"])
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    tokens = byte_tokens() + [f"tok{i}" for i in range(256, text["vocab_size"])]
    types = [1] * len(tokens)
    for index, token in SPECIAL.items():
        tokens[index], types[index] = token, 3
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    writer.add_token_merges(["a b"])
    writer.add_eos_token_id(151645)
    writer.add_bos_token_id(151643)
    writer.add_add_bos_token(False)
    prefix = "model.language_model."
    add(writer, "token_embd.weight", checkpoint.get(f"{prefix}embed_tokens.weight"), kind)
    add(writer, "output_norm.weight", checkpoint.get(f"{prefix}norm.weight"), Type.F32)
    if not text["tie_word_embeddings"]:
        add(writer, "output.weight", checkpoint.get("lm_head.weight"), kind)
    names = (("input_layernorm", "attn_norm", Type.F32),
             ("post_attention_layernorm", "ffn_norm", Type.F32),
             ("self_attn.q_norm", "attn_q_norm", Type.F32),
             ("self_attn.k_norm", "attn_k_norm", Type.F32),
             ("self_attn.q_proj", "attn_q", kind), ("self_attn.k_proj", "attn_k", kind),
             ("self_attn.v_proj", "attn_v", kind), ("self_attn.o_proj", "attn_output", kind),
             ("mlp.gate_proj", "ffn_gate", kind), ("mlp.up_proj", "ffn_up", kind),
             ("mlp.down_proj", "ffn_down", kind))
    for i in range(text["num_hidden_layers"]):
        for ours, theirs, stored in names:
            values = checkpoint.get(f"{prefix}layers.{i}.{ours}.weight")
            add(writer, f"blk.{i}.{theirs}.weight", values, stored)
    finish(writer)


def write_mmproj(checkpoint, out):
    vision, kind = checkpoint.config["vision_config"], Type.BF16
    writer = gguf.GGUFWriter(out, "clip")
    writer.add_bool("clip.has_vision_encoder", True)
    writer.add_string("clip.projector_type", "qwen3vl_merger")
    writer.add_bool("clip.use_gelu", True)
    numbers = dict(image_size=768, patch_size=vision["patch_size"],
                   embedding_length=vision["hidden_size"],
                   feed_forward_length=vision["intermediate_size"], block_count=vision["depth"],
                   projection_dim=vision["out_hidden_size"],
                   spatial_merge_size=vision["spatial_merge_size"])
    for key, value in numbers.items():
        writer.add_uint32(f"clip.vision.{key}", value)
    writer.add_uint32("clip.vision.attention.head_count", vision["num_heads"])
    writer.add_float32("clip.vision.attention.layer_norm_epsilon", 1e-6)
    writer.add_array("clip.vision.image_mean", [0.5] * 3)
    writer.add_array("clip.vision.image_std", [0.5] * 3)
    levels = vision["deepstack_visual_indexes"]
    writer.add_array("clip.vision.is_deepstack_layers",
                     [i in levels for i in range(vision["depth"])])
    prefix = "model.visual."
    patches = checkpoint.get(f"{prefix}patch_embed.proj.weight")
    add(writer, "v.patch_embd.weight", patches[:, :, 0], Type.F32)
    add(writer, "v.patch_embd.weight.1", patches[:, :, 1], Type.F32)
    add(writer, "v.patch_embd.bias", checkpoint.get(f"{prefix}patch_embed.proj.bias"), Type.F32)
    add(writer, "v.position_embd.weight", checkpoint.get(f"{prefix}pos_embed.weight"), Type.F32)

    def pair(ours, theirs, stored=kind):
        add(writer, f"{theirs}.weight", checkpoint.get(f"{prefix}{ours}.weight"), stored)
        add(writer, f"{theirs}.bias", checkpoint.get(f"{prefix}{ours}.bias"), Type.F32)

    for i in range(vision["depth"]):
        for ours, theirs in (("attn.qkv", "attn_qkv"), ("attn.proj", "attn_out"),
                             ("mlp.linear_fc1", "ffn_up"), ("mlp.linear_fc2", "ffn_down")):
            pair(f"blocks.{i}.{ours}", f"v.blk.{i}.{theirs}")
        pair(f"blocks.{i}.norm1", f"v.blk.{i}.ln1", Type.F32)
        pair(f"blocks.{i}.norm2", f"v.blk.{i}.ln2", Type.F32)
    pair("merger.norm", "v.post_ln", Type.F32)
    for level, i in enumerate(levels):
        pair(f"deepstack_merger_list.{level}.norm", f"v.deepstack.{i}.norm", Type.F32)
        pair(f"deepstack_merger_list.{level}.linear_fc1", f"v.deepstack.{i}.fc1")
        pair(f"deepstack_merger_list.{level}.linear_fc2", f"v.deepstack.{i}.fc2")
    pair("merger.linear_fc1", "mm.0")
    pair("merger.linear_fc2", "mm.2")
    finish(writer)


def finish(writer):
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoint", type=pathlib.Path)
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--llm", choices=("q8_0", "q4_k", "bf16"), default="q8_0")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    checkpoint = Checkpoint(args.checkpoint)
    kind = {"q8_0": Type.Q8_0, "q4_k": Type.Q4_K, "bf16": Type.BF16}[args.llm]
    llm, mmproj = args.out / f"llm-{args.llm}.gguf", args.out / "mmproj-bf16.gguf"
    for path, write in ((llm, lambda p: write_llm(checkpoint, p, kind)),
                        (mmproj, lambda p: write_mmproj(checkpoint, p))):
        if not path.exists():
            part = path.with_suffix(".part")
            write(part)
            part.rename(path)
            print(path, flush=True)


if __name__ == "__main__":
    main()
