# SPDX-License-Identifier: MPL-2.0
"""Writes a checkpoint with the shapes of a published Qwen3-VL and random bf16 weights.

    big_shapes.py OUT [--model 2b|4b|8b] [--layers N] [--shard-gb 2]

For measuring time and memory where no published weights are at hand: what it says is noise. The
element loads it as it loads a published one: template and byte-level vocabulary are the demo
model's, filled up with made-up words to the published number of ids. `--layers` cuts the decoder
short, where the vision tower alone is measured; one more than there are deepstack levels.

Needs: torch, safetensors.
"""

import argparse
import json
import pathlib

import torch
from safetensors.torch import save_file

TEXT = dict(vocab_size=151936, head_dim=128, num_key_value_heads=8, rms_norm_eps=1e-6,
            max_position_embeddings=262144, attention_bias=False, hidden_act="silu",
            rope_parameters=dict(rope_type="default", rope_theta=5_000_000, mrope_interleaved=True,
                                 mrope_section=[24, 20, 20]))
VISION = dict(in_channels=3, patch_size=16, temporal_patch_size=2, spatial_merge_size=2,
              num_position_embeddings=2304, num_heads=16, hidden_act="gelu_pytorch_tanh")
MODELS = {
    "2b": (dict(hidden_size=2048, intermediate_size=6144, num_hidden_layers=28,
                num_attention_heads=16, tie_word_embeddings=True),
           dict(depth=24, hidden_size=1024, intermediate_size=4096,
                deepstack_visual_indexes=[5, 11, 17])),
    "4b": (dict(hidden_size=2560, intermediate_size=9728, num_hidden_layers=36,
                num_attention_heads=32, tie_word_embeddings=True),
           dict(depth=24, hidden_size=1024, intermediate_size=4096,
                deepstack_visual_indexes=[5, 11, 17])),
    "8b": (dict(hidden_size=4096, intermediate_size=12288, num_hidden_layers=36,
                num_attention_heads=32, tie_word_embeddings=False),
           dict(depth=27, hidden_size=1152, intermediate_size=4304,
                deepstack_visual_indexes=[8, 16, 24])),
}


def tensors(text, vision):
    """Names and shapes, in the order of the model."""
    d, inner = vision["hidden_size"], vision["intermediate_size"]
    joined = d * vision["spatial_merge_size"] ** 2
    patch = vision["patch_size"]
    v = "model.visual."
    yield from ((f"{v}patch_embed.proj.weight",
                 (d, 3, vision["temporal_patch_size"], patch, patch)),
                (f"{v}patch_embed.proj.bias", (d,)),
                (f"{v}pos_embed.weight", (vision["num_position_embeddings"], d)))
    for i in range(vision["depth"]):
        b = f"{v}blocks.{i}."
        for norm in ("norm1", "norm2"):
            yield from ((f"{b}{norm}.weight", (d,)), (f"{b}{norm}.bias", (d,)))
        for name, out, width in (("attn.qkv", 3 * d, d), ("attn.proj", d, d),
                                 ("mlp.linear_fc1", inner, d), ("mlp.linear_fc2", d, inner)):
            yield from ((f"{b}{name}.weight", (out, width)), (f"{b}{name}.bias", (out,)))
    mergers = [("merger", d)]
    mergers += [(f"deepstack_merger_list.{i}", joined)
                for i in range(len(vision["deepstack_visual_indexes"]))]
    for name, norm in mergers:
        m = f"{v}{name}."
        yield from ((f"{m}norm.weight", (norm,)), (f"{m}norm.bias", (norm,)))
        for fc, out in (("linear_fc1", joined), ("linear_fc2", text["hidden_size"])):
            yield from ((f"{m}{fc}.weight", (out, joined)), (f"{m}{fc}.bias", (out,)))
    h, inner, dim = text["hidden_size"], text["intermediate_size"], text["head_dim"]
    queries, keys = text["num_attention_heads"] * dim, text["num_key_value_heads"] * dim
    t = "model.language_model."
    yield f"{t}embed_tokens.weight", (text["vocab_size"], h)
    for i in range(text["num_hidden_layers"]):
        layer = f"{t}layers.{i}."
        yield from ((f"{layer}input_layernorm.weight", (h,)),
                    (f"{layer}post_attention_layernorm.weight", (h,)),
                    (f"{layer}self_attn.q_norm.weight", (dim,)),
                    (f"{layer}self_attn.k_norm.weight", (dim,)),
                    (f"{layer}self_attn.q_proj.weight", (queries, h)),
                    (f"{layer}self_attn.k_proj.weight", (keys, h)),
                    (f"{layer}self_attn.v_proj.weight", (keys, h)),
                    (f"{layer}self_attn.o_proj.weight", (h, queries)),
                    (f"{layer}mlp.gate_proj.weight", (inner, h)),
                    (f"{layer}mlp.up_proj.weight", (inner, h)),
                    (f"{layer}mlp.down_proj.weight", (h, inner)))
    yield f"{t}norm.weight", (h,)
    if not text["tie_word_embeddings"]:
        yield "lm_head.weight", (text["vocab_size"], h)


def values(name, shape, noise):
    """Norms near one, biases and tables small, matrices by their width."""
    n = torch.Size(shape).numel()
    start = hash(name) % (len(noise) // 2)
    block = noise[start:start + min(n, len(noise) // 2)]
    block = block.repeat(-(-n // len(block)))[:n].view(shape)
    if "norm" in name and name.endswith("weight"):
        return (1 + 0.1 * block).to(torch.bfloat16)
    if len(shape) == 1 or "embed" in name and "proj" not in name:
        return (0.05 * block).to(torch.bfloat16)
    return (block / torch.Size(shape[1:]).numel() ** 0.5).to(torch.bfloat16)


SPECIAL = {"<|endoftext|>": 151643, "<|im_start|>": 151644, "<|im_end|>": 151645,
           "<|vision_start|>": 151652, "<|vision_end|>": 151653, "<|vision_pad|>": 151654,
           "<|image_pad|>": 151655, "<|video_pad|>": 151656}
DEMO = pathlib.Path(__file__).resolve().parents[2] / "models" / "demo"


def write_companions(out):
    """Tokenizer, template and processor files, the numbers as published."""
    tokenizer = json.loads((DEMO / "tokenizer.json").read_text())
    for token in tokenizer["added_tokens"]:
        token["id"] = SPECIAL[token["content"]]
    vocab = tokenizer["model"]["vocab"]
    for name in SPECIAL:
        vocab.pop(name, None)
    # Nothing merges into these, so a prompt has none of them; an answer of noise does. The special
    # tokens are in the vocabulary too: the library numbers the others anew.
    special = {index: name for name, index in SPECIAL.items()}
    for index in range(len(vocab), max(special) + 1):
        vocab[special.get(index, f"\u0120w{index}")] = index
    (out / "tokenizer.json").write_text(json.dumps(tokenizer, ensure_ascii=False))
    for name in ("tokenizer_config.json", "chat_template.jinja"):
        (out / name).write_text((DEMO / name).read_text())
    (out / "generation_config.json").write_text(
        json.dumps({"eos_token_id": [SPECIAL["<|im_end|>"], SPECIAL["<|endoftext|>"]]}))
    for name, size in (("preprocessor_config.json", (65_536, 16_777_216)),
                       ("video_preprocessor_config.json", (4_096, 25_165_824))):
        processor = json.loads((DEMO / name).read_text())
        processor.pop("video_ratio", None)
        processor["size"] = {"shortest_edge": size[0], "longest_edge": size[1]}
        (out / name).write_text(json.dumps(processor, indent=1))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--model", choices=MODELS, default="2b")
    parser.add_argument("--layers", type=int)
    parser.add_argument("--shard-gb", type=float, default=2)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    text, vision = (common | own for common, own in zip((TEXT, VISION), MODELS[args.model]))
    vision["out_hidden_size"] = text["hidden_size"]
    text["num_hidden_layers"] = args.layers or text["num_hidden_layers"]
    config = dict(architectures=["Qwen3VLForConditionalGeneration"], model_type="qwen3_vl",
                  text_config=text, vision_config=vision, image_token_id=151655,
                  video_token_id=151656, vision_start_token_id=151652, vision_end_token_id=151653,
                  tie_word_embeddings=text["tie_word_embeddings"])
    (args.out / "config.json").write_text(json.dumps(config, indent=1))
    write_companions(args.out)
    noise = torch.randn(1 << 25, generator=torch.Generator().manual_seed(0))
    shards, shard, size = [], {}, 0
    for name, shape in tensors(text, vision):
        shard[name] = values(name, shape, noise)
        size += 2 * shard[name].numel()
        if size > args.shard_gb * 1e9:
            shards.append(save(args.out, len(shards), shard))
            shard, size = {}, 0
    shards.append(save(args.out, len(shards), shard))
    weight_map = {name: file for file, names in shards for name in names}
    (args.out / "model.safetensors.index.json").write_text(
        json.dumps({"metadata": {}, "weight_map": weight_map}))


def save(out, number, shard):
    """Writes one shard; returns its file name and the names in it."""
    file = f"model-{number + 1:05}.safetensors"
    save_file(shard, out / file)
    print(file, len(shard), "tensors", flush=True)
    return file, list(shard)


if __name__ == "__main__":
    main()
