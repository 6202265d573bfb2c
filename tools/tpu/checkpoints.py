# SPDX-License-Identifier: MPL-2.0
"""Writes a small checkpoint with random weights for each family that runs on a Sophgo TPU.

    checkpoints.py OUT [--seed N] [--only qwen3vl,qwen25vl,internvl3]

Layout, names of tensors and keys of `config.json` are those of the published checkpoints, so that
old and new converters take them for one. There is no tokenizer: token ids are made up.

Weights are drawn so that hidden states keep their size from layer to layer, and input and output
embeddings are not tied: otherwise a random model only repeats its last token, and no comparison of
greedy answers means anything. They are rounded to bf16, the type they are saved in.

The converters of TPU-MLIR know the published sizes in places. Qwen2.5-VL: a vision head of 80, a
text head of 128 (mrope sections 16, 24, 24). InternVL3: tiles of 448 x 448, a vision width of 1024
and 4096 inside. Qwen3-VL: mrope sections whose interleaving is that of 24, 20, 20 cut to the head.

Needs: torch, transformers 5, safetensors.
"""

import argparse
import json
import pathlib

import torch
from safetensors.torch import save_file
from transformers.utils import logging

VOCAB = 2048
SPECIAL = {"image_token_id": 2040, "video_token_id": 2041, "vision_start_token_id": 2042,
           "vision_end_token_id": 2043}
EOS = 2047
CONTEXT = 2048
HALF = [0.5, 0.5, 0.5]

GENERATION = {"do_sample": True, "eos_token_id": [EOS], "repetition_penalty": 1.05,
              "temperature": 0.7, "top_k": 20, "top_p": 0.8}


def qwen3vl():
    """Three layers with deepstack after two of them; 60 patches make 15 visual tokens."""
    from transformers import Qwen3VLConfig, Qwen3VLForConditionalGeneration
    config = {
        "architectures": ["Qwen3VLForConditionalGeneration"], "model_type": "qwen3_vl",
        "tie_word_embeddings": False, "torch_dtype": "bfloat16", **SPECIAL,
        "text_config": {
            "model_type": "qwen3_vl_text", "vocab_size": VOCAB,
            "hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 3,
            "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 32,
            "hidden_act": "silu", "attention_bias": False, "attention_dropout": 0.0,
            "max_position_embeddings": CONTEXT, "rms_norm_eps": 1e-6, "rope_theta": 10000.0,
            "rope_scaling": {"mrope_interleaved": True, "mrope_section": [6, 5, 5],
                             "rope_type": "default"},
            "eos_token_id": EOS, "bos_token_id": 0, "tie_word_embeddings": False,
            "use_cache": True},
        "vision_config": {
            "model_type": "qwen3_vl", "depth": 3, "hidden_size": 64, "intermediate_size": 128,
            "num_heads": 2, "in_channels": 3, "patch_size": 16, "spatial_merge_size": 2,
            "temporal_patch_size": 2, "out_hidden_size": 128, "num_position_embeddings": 2304,
            "deepstack_visual_indexes": [0, 1], "hidden_act": "gelu_pytorch_tanh"},
    }
    model = Qwen3VLForConditionalGeneration(Qwen3VLConfig.from_dict(config))
    return model, config, preprocessor("Qwen3VLProcessor", 16, HALF, HALF)


def qwen25vl():
    """Three layers, four vision blocks of which two see everything and two see windows."""
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration
    config = {
        "architectures": ["Qwen2_5_VLForConditionalGeneration"], "model_type": "qwen2_5_vl",
        "torch_dtype": "bfloat16", "vocab_size": VOCAB, "hidden_size": 256,
        "intermediate_size": 256, "num_hidden_layers": 3, "num_attention_heads": 2,
        "num_key_value_heads": 1, "hidden_act": "silu", "attention_dropout": 0.0,
        "max_position_embeddings": CONTEXT, "max_window_layers": 3, "sliding_window": CONTEXT,
        "use_sliding_window": False, "rms_norm_eps": 1e-6, "rope_theta": 10000.0,
        "rope_scaling": {"type": "mrope", "mrope_section": [16, 24, 24]},
        "tie_word_embeddings": False, "bos_token_id": 0, "eos_token_id": EOS, "use_cache": True,
        **SPECIAL,
        "vision_config": {
            "model_type": "qwen2_5_vl", "depth": 4, "hidden_size": 160, "intermediate_size": 128,
            "num_heads": 2, "in_chans": 3, "in_channels": 3, "patch_size": 14,
            "spatial_patch_size": 14, "spatial_merge_size": 2, "temporal_patch_size": 2,
            "out_hidden_size": 256, "window_size": 56, "fullatt_block_indexes": [1, 3],
            "tokens_per_second": 2, "hidden_act": "silu"},
    }
    mean = [0.48145466, 0.4578275, 0.40821073]
    std = [0.26862954, 0.26130258, 0.27577711]
    model = Qwen2_5_VLForConditionalGeneration(Qwen2_5_VLConfig.from_dict(config))
    return model, config, preprocessor("Qwen2_5_VLProcessor", 14, mean, std)


def preprocessor(name, patch, mean, std):
    """`preprocessor_config.json` of the Qwen families."""
    return {"processor_class": name, "image_processor_type": "Qwen2VLImageProcessorFast",
            "patch_size": patch, "temporal_patch_size": 2, "merge_size": 2, "image_mean": mean,
            "image_std": std, "do_convert_rgb": True, "do_normalize": True, "do_rescale": True,
            "do_resize": True, "rescale_factor": 1 / 255,
            "size": {"shortest_edge": 16 * patch**2, "longest_edge": 64 * patch**2}}


def internvl3():
    """Three layers behind one vision block, in the layout of OpenGVLab (`internvl_chat`).

    transformers has another layout; `internvl_to_transformers` of `reference.py` renames it.
    """
    from transformers import Qwen2Config, Qwen2ForCausalLM
    hidden, width, inner, patch, side = 128, 1024, 4096, 14, 448
    llm = {"architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "vocab_size": VOCAB,
           "hidden_size": hidden, "intermediate_size": 256, "num_hidden_layers": 3,
           "num_attention_heads": 4, "num_key_value_heads": 2, "hidden_act": "silu",
           "attention_dropout": 0.0, "max_position_embeddings": CONTEXT, "max_window_layers": 3,
           "rms_norm_eps": 1e-6, "rope_theta": 10000.0, "rope_scaling": None,
           "sliding_window": None, "use_sliding_window": False, "tie_word_embeddings": False,
           "torch_dtype": "bfloat16", "bos_token_id": 0, "eos_token_id": EOS}
    vision = {"architectures": ["InternVisionModel"], "model_type": "intern_vit_6b",
              "hidden_size": width, "intermediate_size": inner, "num_hidden_layers": 1,
              "num_attention_heads": 16, "image_size": side, "patch_size": patch,
              "num_channels": 3, "qkv_bias": True, "qk_normalization": False,
              "hidden_act": "gelu", "norm_type": "layer_norm", "layer_norm_eps": 1e-6,
              "attention_dropout": 0.0, "dropout": 0.0, "drop_path_rate": 0.0,
              "initializer_factor": 1.0, "initializer_range": 0.02, "use_flash_attn": False,
              "torch_dtype": "bfloat16"}
    config = {"architectures": ["InternVLChatModel"], "model_type": "internvl_chat",
              "auto_map": {"AutoConfig": "configuration_internvl_chat.InternVLChatConfig"},
              "downsample_ratio": 0.5, "dynamic_image_size": True, "force_image_size": side,
              "hidden_size": hidden, "llm_config": llm, "vision_config": vision,
              "max_dynamic_patch": 12, "min_dynamic_patch": 1, "ps_version": "v2",
              "select_layer": -1, "template": "internvl2_5", "torch_dtype": "bfloat16",
              "use_thumbnail": True, "tie_word_embeddings": False}
    text = Qwen2ForCausalLM(Qwen2Config.from_dict(llm))
    shapes = {f"language_model.{name}": value for name, value in text.state_dict().items()}

    def add(name, *shape):
        shapes[name] = torch.empty(shape)

    stem = "vision_model.embeddings."
    add(stem + "class_embedding", 1, 1, width)
    add(stem + "position_embedding", 1, (side // patch) ** 2 + 1, width)
    add(stem + "patch_embedding.weight", width, 3, patch, patch)
    add(stem + "patch_embedding.bias", width)
    block = "vision_model.encoder.layers.0."
    for name, rows, columns in (("attn.qkv", 3 * width, width), ("attn.proj", width, width),
                                ("mlp.fc1", inner, width), ("mlp.fc2", width, inner)):
        add(f"{block}{name}.weight", rows, columns)
        add(f"{block}{name}.bias", rows)
    for name in ("norm1.weight", "norm1.bias", "norm2.weight", "norm2.bias", "ls1", "ls2"):
        add(block + name, width)
    add("mlp1.0.weight", 4 * width)
    add("mlp1.0.bias", 4 * width)
    add("mlp1.1.weight", hidden, 4 * width)
    add("mlp1.1.bias", hidden)
    add("mlp1.3.weight", hidden, hidden)
    add("mlp1.3.bias", hidden)
    processor = {"image_processor_type": "CLIPFeatureExtractor", "crop_size": side, "size": side,
                 "do_center_crop": True, "do_normalize": True, "do_resize": True, "resample": 3,
                 "image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}
    return shapes, config, processor


INTERNVL_CONFIG = '''\
# SPDX-License-Identifier: MPL-2.0
"""What old transformers need to read this config.json: published checkpoints bring the like."""

from transformers import PretrainedConfig, Qwen2Config


class InternVLChatConfig(PretrainedConfig):
    """A decoder's and a vision tower's configuration."""

    model_type = "internvl_chat"

    def __init__(self, llm_config=None, vision_config=None, **others):
        super().__init__(**others)
        self.llm_config = Qwen2Config(**(llm_config or {}))
        self.vision_config = PretrainedConfig(**(vision_config or {}))
'''

FAMILIES = {"qwen3vl": qwen3vl, "qwen25vl": qwen25vl, "internvl3": internvl3}


def drawn(name, shape, generator):
    """The values of one tensor."""
    noise = torch.randn(shape, generator=generator)
    if name.endswith("bias"):
        return 0.05 * noise
    if len(shape) == 1:  # norms and layer scales
        return 1.0 + 0.1 * noise
    if any(part in name for part in ("embed_tokens", "pos_embed", "position_embedding",
                                     "class_embedding")):
        return noise
    fan_in = noise[0].numel()
    return noise / fan_in**0.5


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", help="names of families, with commas")
    args = parser.parse_args()
    for number, (name, make) in enumerate(FAMILIES.items()):
        if args.only and name not in args.only.split(","):
            continue
        generator = torch.Generator().manual_seed(args.seed * 1000 + number)
        logging.disable_progress_bar()
        model, config, processor = make()
        folder = args.out / name
        folder.mkdir(parents=True, exist_ok=True)
        tensors = model if isinstance(model, dict) else dict(model.named_parameters())
        values = {key: drawn(key, tensor.shape, generator).to(torch.bfloat16)
                  for key, tensor in sorted(tensors.items())}
        if isinstance(model, dict):
            save_file(values, folder / "model.safetensors", metadata={"format": "pt"})
        else:
            with torch.no_grad():
                for key, tensor in model.named_parameters():
                    tensor.copy_(values[key])
            model.to(torch.bfloat16).save_pretrained(folder)
        for file, content in (("config.json", config), ("generation_config.json", GENERATION),
                              ("preprocessor_config.json", processor)):
            (folder / file).write_text(json.dumps(content, indent=1) + "\n")
        if "auto_map" in config:
            (folder / "configuration_internvl_chat.py").write_text(INTERNVL_CONFIG)
        total = sum(value.numel() for value in values.values())
        print(f"{folder}: {total / 1e6:.2f} M weights", flush=True)


if __name__ == "__main__":
    main()
