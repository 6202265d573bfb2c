# SPDX-License-Identifier: MPL-2.0
"""Writes a checkpoint as a folder that stock transformers loads.

    python export.py run/polish-5.pt --tokenizer T.json --output ../../models/demo
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import torch
from transformers import GenerationConfig, PreTrainedTokenizerFast

from model import new_model
from tokenizer import SPECIAL, Codec
from world import FRAME_PIXELS

MIN_PIXELS = 6144
"""Smaller pictures are enlarged to this many pixels."""

CHAT_TEMPLATE = (
    "{%- for message in messages %}"
    "{{- '<|im_start|>' + message.role + '\\n' }}"
    "{%- if message.content is string %}{{- message.content }}"
    "{%- else %}{%- for content in message.content %}"
    "{%- if content.type == 'image' or 'image' in content or 'image_url' in content %}"
    "{{- '<|vision_start|><|image_pad|><|vision_end|>' }}"
    "{%- elif content.type == 'video' or 'video' in content %}"
    "{{- '<|vision_start|><|video_pad|><|vision_end|>' }}"
    "{%- elif 'text' in content %}{{- content.text }}{%- endif %}"
    "{%- endfor %}{%- endif %}"
    "{{- '<|im_end|>\\n' }}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}"
)
"""Qwen3-VL's layout without a system prompt or tools."""


def write_json(file: Path, value: object, indent: int | None = 1) -> None:
    """UTF-8 with a newline at the end."""
    file.write_text(json.dumps(value, indent=indent, ensure_ascii=False) + "\n", encoding="utf-8")


def export_weights(checkpoint: Path, codec: Codec, output: Path) -> None:
    """`config.json`, `generation_config.json` and `model.safetensors` in bf16."""
    model = new_model(codec)
    model.load_state_dict(torch.load(checkpoint, map_location="cpu")["model"])
    model = model.to(torch.bfloat16)
    model.generation_config = GenerationConfig(
        eos_token_id=codec.end, pad_token_id=codec.pad, do_sample=False, max_new_tokens=64
    )
    model.save_pretrained(output)


def export_tokenizer(tokenizer: Path, output: Path) -> None:
    """The tokenizer under the class name that stock Qwen3-VL checkpoints carry."""
    fast = PreTrainedTokenizerFast(
        tokenizer_file=str(tokenizer),
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        additional_special_tokens=[t for t in SPECIAL if t != "<|endoftext|>"],
        model_max_length=4096,
        clean_up_tokenization_spaces=False,
    )
    fast.chat_template = CHAT_TEMPLATE
    fast.save_pretrained(output)
    settings = json.loads((output / "tokenizer_config.json").read_text())
    settings.update(tokenizer_class="Qwen2Tokenizer", add_prefix_space=False)
    write_json(output / "tokenizer_config.json", settings)
    (output / "chat_template.jinja").write_text(CHAT_TEMPLATE)
    write_json(output / "chat_template.json", {"chat_template": CHAT_TEMPLATE}, None)
    trained = json.loads((output / "tokenizer.json").read_text())["model"]
    write_json(output / "vocab.json", trained["vocab"], None)
    merges = [m if isinstance(m, str) else " ".join(m) for m in trained["merges"]]
    (output / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges) + "\n")


def export_processors(output: Path) -> None:
    """Image and video preprocessing.

    `video_ratio` is our element's key: the share of the image budget that a video frame may
    spend. Stock transformers budgets a whole clip and ignores it; the video budget here is that
    of one pair.
    """
    common = {
        "patch_size": 16, "temporal_patch_size": 2, "merge_size": 2,
        "image_mean": [0.5] * 3, "image_std": [0.5] * 3,
    }  # fmt: skip
    image = common | {
        "size": {"longest_edge": FRAME_PIXELS, "shortest_edge": MIN_PIXELS},
        "video_ratio": 1.0,
        "processor_class": "Qwen3VLProcessor",
        "image_processor_type": "Qwen2VLImageProcessorFast",
    }
    video = common | {
        "size": {"longest_edge": 2 * FRAME_PIXELS, "shortest_edge": MIN_PIXELS},
        "fps": 1, "min_frames": 2, "max_frames": 8,
        "processor_class": "Qwen3VLProcessor",
        "video_processor_type": "Qwen3VLVideoProcessor",
    }  # fmt: skip
    write_json(output / "preprocessor_config.json", image)
    write_json(output / "video_preprocessor_config.json", video)


def export(checkpoint: Path, tokenizer: Path, output: Path) -> None:
    """Everything that `from_pretrained` looks for."""
    output.mkdir(parents=True, exist_ok=True)
    export_weights(checkpoint, Codec(tokenizer), output)
    export_tokenizer(tokenizer, output)
    export_processors(output)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--tokenizer", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    a = parser.parse_args()
    export(a.checkpoint, a.tokenizer, a.output)
    return 0


if __name__ == "__main__":
    sys.exit(main())
