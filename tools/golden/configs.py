# SPDX-License-Identifier: MPL-2.0
"""Writes `config.json` of known sizes as one release of transformers saves it.

    python tools/golden/configs.py [--out tests/data/config]

Needs transformers alone, no torch; run it with each release that is to be compared. The committed
files are those of 4.49.0, 4.51.3, 4.57.1 and 5.0.0. What a release leaves out because it is the
default of its class is the point of these files; `full` has every key that the plugin reads. The sizes
are those of published models: the 7B and the 72B of Qwen2.5-VL, the 8B of Qwen3-VL, the 8B of
InternVL3 and of InternVL3.5 as converted.
"""

import argparse
import json
import logging
from pathlib import Path

import transformers

QWEN25_TEXT = {
    "hidden_act": "silu", "max_position_embeddings": 128000, "rms_norm_eps": 1e-6,
    "rope_theta": 1000000.0, "tie_word_embeddings": False, "use_sliding_window": False,
    "vocab_size": 152064, "rope_scaling": {"type": "mrope", "mrope_section": [16, 24, 24]},
    "eos_token_id": 151645, "bos_token_id": 151643,
}
QWEN25_VISION = {
    "depth": 32, "hidden_act": "silu", "hidden_size": 1280, "num_heads": 16, "in_channels": 3,
    "patch_size": 14, "spatial_merge_size": 2, "window_size": 112,
    "fullatt_block_indexes": [7, 15, 23, 31], "tokens_per_second": 2, "temporal_patch_size": 2,
}
QWEN_TOKENS = {
    "vision_start_token_id": 151652, "vision_end_token_id": 151653, "image_token_id": 151655,
    "video_token_id": 151656,
}
MODELS = {
    "qwen25-7b": {
        "model_type": "qwen2_5_vl", **QWEN_TOKENS, **QWEN25_TEXT,
        "hidden_size": 3584, "intermediate_size": 18944, "num_attention_heads": 28,
        "num_hidden_layers": 28, "num_key_value_heads": 4,
        "vision_config": {**QWEN25_VISION, "intermediate_size": 3420, "out_hidden_size": 3584},
    },
    # Its decoder is the class's default but for one number.
    "qwen25-72b": {
        "model_type": "qwen2_5_vl", **QWEN_TOKENS, **QWEN25_TEXT,
        "hidden_size": 8192, "intermediate_size": 29568, "num_attention_heads": 64,
        "num_hidden_layers": 80, "num_key_value_heads": 8,
        "vision_config": {**QWEN25_VISION, "intermediate_size": 3456, "out_hidden_size": 8192},
    },
    # An epsilon that is the class's default, which is not that of the published models.
    "qwen25-default-eps": {
        "model_type": "qwen2_5_vl", **QWEN_TOKENS, **{**QWEN25_TEXT, "rms_norm_eps": 1e-5},
        "hidden_size": 3584, "intermediate_size": 18944, "num_attention_heads": 28,
        "num_hidden_layers": 28, "num_key_value_heads": 4,
        "vision_config": {
            **QWEN25_VISION, "intermediate_size": 3420, "out_hidden_size": 3584,
            "tokens_per_second": 4, "hidden_size": 3584,
        },
    },
    "qwen3-8b": {
        "model_type": "qwen3_vl", **QWEN_TOKENS, "tie_word_embeddings": False,
        "text_config": {
            "attention_bias": False, "bos_token_id": 151643, "eos_token_id": 151645,
            "head_dim": 128, "hidden_act": "silu", "hidden_size": 4096,
            "intermediate_size": 12288, "max_position_embeddings": 262144,
            "num_attention_heads": 32, "num_hidden_layers": 36, "num_key_value_heads": 8,
            "rms_norm_eps": 1e-6, "rope_theta": 5000000, "vocab_size": 151936,
            "rope_scaling": {
                "mrope_interleaved": True, "mrope_section": [24, 20, 20], "rope_type": "default",
            },
        },
        "vision_config": {
            "deepstack_visual_indexes": [8, 16, 24], "depth": 27,
            "hidden_act": "gelu_pytorch_tanh", "hidden_size": 1152, "in_channels": 3,
            "intermediate_size": 4304, "num_heads": 16, "num_position_embeddings": 2304,
            "out_hidden_size": 4096, "patch_size": 16, "spatial_merge_size": 2,
            "temporal_patch_size": 2,
        },
    },
    "internvl3-8b": {
        "model_type": "internvl", "downsample_ratio": 0.5, "image_token_id": 151667,
        "projector_hidden_act": "gelu", "vision_feature_layer": -1,
        "vision_feature_select_strategy": "default",
        "text_config": {
            "model_type": "qwen2", "bos_token_id": 151643, "eos_token_id": 151645,
            "hidden_act": "silu", "hidden_size": 3584, "intermediate_size": 18944,
            "max_position_embeddings": 32768, "num_attention_heads": 28,
            "num_hidden_layers": 28, "num_key_value_heads": 4, "rms_norm_eps": 1e-6,
            "rope_theta": 1000000.0, "vocab_size": 151674, "use_sliding_window": False,
            "rope_scaling": {"factor": 2.0, "rope_type": "dynamic", "type": "dynamic"},
        },
        "vision_config": {
            "model_type": "internvl_vision", "attention_bias": True, "hidden_act": "gelu",
            "hidden_size": 1024, "image_size": [448, 448], "intermediate_size": 4096,
            "layer_norm_eps": 1e-6, "norm_type": "layer_norm", "num_attention_heads": 16,
            "num_channels": 3, "num_hidden_layers": 24, "patch_size": [14, 14],
            "use_qk_norm": False, "use_absolute_position_embeddings": True,
            "use_mean_pooling": True,
        },
    },
    "internvl35-8b": {
        "model_type": "internvl", "downsample_ratio": 0.5, "image_token_id": 151671,
        "projector_hidden_act": "gelu", "vision_feature_layer": -1,
        "vision_feature_select_strategy": "default",
        "text_config": {
            "model_type": "qwen3", "attention_bias": False, "bos_token_id": 151643,
            "eos_token_id": 151645, "head_dim": 128, "hidden_act": "silu", "hidden_size": 4096,
            "intermediate_size": 12288, "max_position_embeddings": 40960,
            "num_attention_heads": 32, "num_hidden_layers": 36, "num_key_value_heads": 8,
            "rms_norm_eps": 1e-6, "rope_theta": 1000000.0, "vocab_size": 151936,
            "use_sliding_window": False,
        },
        "vision_config": {
            "model_type": "internvl_vision", "attention_bias": True, "hidden_act": "gelu",
            "hidden_size": 1024, "image_size": [448, 448], "intermediate_size": 4096,
            "layer_norm_eps": 1e-6, "norm_type": "layer_norm", "num_attention_heads": 16,
            "num_channels": 3, "num_hidden_layers": 24, "patch_size": [14, 14],
            "use_qk_norm": False, "use_absolute_position_embeddings": True,
            "use_mean_pooling": True,
        },
    },
}
CLASSES = {
    "qwen2_5_vl": "Qwen2_5_VLConfig", "qwen3_vl": "Qwen3VLConfig", "internvl": "InternVLConfig",
}


def write(path, config):
    path.write_text(json.dumps(config, indent=1, sort_keys=True) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("tests/data/config"))
    args = parser.parse_args()
    logging.disable(logging.WARNING)
    args.out.mkdir(parents=True, exist_ok=True)
    version = transformers.__version__
    for name, values in MODELS.items():
        write(args.out / f"{name}-full.json", values)
        cls = getattr(transformers, CLASSES[values["model_type"]], None)
        if cls is None:
            print(f"transformers {version} has no {name}")
            continue
        config = cls(**json.loads(json.dumps(values)))
        write(args.out / f"{name}-{version}.json", json.loads(config.to_json_string(use_diff=True)))
        print(args.out / f"{name}-{version}.json")


if __name__ == "__main__":
    main()
