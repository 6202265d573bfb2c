# SPDX-License-Identifier: MPL-2.0
"""Reference vectors for prompts, positions and windows of Qwen2.5-VL: made by transformers 4.49.

    pip install "transformers==4.49.0" torch numpy
    python tools/golden/qwen25.py --out tests/data/processor

That release counts positions as the model was trained: times are cut to whole numbers after they
are multiplied by `tokens_per_second`, and text goes on after the largest number of any axis. Later
ones cut the seconds first, and 5.6 lets text go on after height and width alone.

Writes `qwen25.json`. Tokens are those of `models/demo`; nothing here computes an expected value
itself.
"""

import argparse
import json
import random
import types
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import Qwen2TokenizerFast, Qwen2VLImageProcessor
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import (
    Qwen2_5_VisionTransformerPretrainedModel,
    Qwen2_5_VLForConditionalGeneration,
)
from transformers.models.qwen2_5_vl.processing_qwen2_5_vl import Qwen2_5_VLProcessor

DEMO = Path(__file__).parents[2] / "models" / "demo"

TEMPLATE = """{% for message in messages -%}
{% if loop.first and message.role != "system" %}<|im_start|>system
You are a helpful assistant.<|im_end|>
{% endif %}<|im_start|>{{ message.role }}
{% if message.content is string %}{{ message.content }}{% else -%}
{% for part in message.content -%}
{% if part.type == "image" %}<|vision_start|><|image_pad|><|vision_end|>
{%- elif part.type == "video" %}<|vision_start|><|video_pad|><|vision_end|>
{%- else %}{{ part.text }}{% endif %}{% endfor %}{% endif %}<|im_end|>
{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""
"""Says what the published template says, with the default system prompt that it adds."""

WORDS = "a red circle moves left Who is there? 3.5 seconds 12:30 猫が走る 视频 🙂 \n\n new".split(" ")


def sentence(rng: random.Random) -> str:
    return " ".join(rng.choice(WORDS) for _ in range(rng.randint(1, 8)))


def prompts(rng: random.Random, config: types.SimpleNamespace) -> list[dict[str, Any]]:
    """Token ids and positions of whole prompts."""
    tokenizer = Qwen2TokenizerFast(tokenizer_file=str(DEMO / "tokenizer.json"))
    images = Qwen2VLImageProcessor(do_resize=False)
    processor = Qwen2_5_VLProcessor(images, tokenizer, chat_template=TEMPLATE)
    plans = [
        # kind, frames, columns and rows of merged cells
        ("image", 1, (4, 3)),
        ("image", 1, (1, 5)),
        ("text", 0, (0, 0)),
        ("video", 1, (2, 2)),
        ("video", 2, (4, 3)),
        ("video", 3, (2, 3)),
        ("video", 7, (3, 1)),
        ("video", 8, (1, 1)),
        ("video", 12, (9, 2)),
        ("video", 120, (1, 1)),  # many times
    ]
    cases = []
    for number, (kind, n_frames, (columns, rows)) in enumerate(plans * 2):
        system = sentence(rng) if number % 3 == 1 else None
        history = [[sentence(rng), sentence(rng)] for _ in range(number % 4 // 2)]
        text = sentence(rng) if number >= len(plans) else "Describe the video."
        fps = (rng.choice([1, 2, 4, 8, 3, 30]), rng.choice([1, 1, 3, 7]))

        def message(role: str, *content: dict[str, str]) -> dict[str, Any]:
            if [part["type"] for part in content] == ["text"]:
                return {"role": role, "content": content[0]["text"]}
            return {"role": role, "content": list(content)}

        def words(text: str) -> dict[str, str]:
            return {"type": "text", "text": text}

        messages = [message("system", words(system))] if system is not None else []
        for user, assistant in history:
            messages += [message("user", words(user)), message("assistant", words(assistant))]
        pixels = [] if kind == "text" else [{"type": kind}]
        messages.append(message("user", *pixels, words(text)))
        written = processor.apply_chat_template(messages, add_generation_prompt=True)
        inputs: dict[str, Any] = {"text": [written]}
        if kind == "image":
            inputs["images"] = [np.zeros((28 * rows, 28 * columns, 3), np.uint8)]
        elif kind == "video":
            frames = [np.zeros((28 * rows, 28 * columns, 3), np.uint8)] * n_frames
            inputs["videos"] = [frames]
            inputs["fps"] = fps[0] / fps[1]
        out = processor(**inputs, return_tensors="pt")
        ids = out["input_ids"]
        positions, delta = Qwen2_5_VLForConditionalGeneration.get_rope_index(
            types.SimpleNamespace(config=config),
            ids,
            out.get("image_grid_thw"),
            out.get("video_grid_thw"),
            out.get("second_per_grid_ts"),
        )
        cases.append(
            {
                "kind": kind,
                "system": system,
                "history": history,
                "text": text,
                "cells": [columns, rows],
                "fps": fps,
                "indices": list(range(n_frames)),
                "ids": ids[0].tolist(),
                "positions": positions[:, 0].tolist(),
                "next_position": int(delta) + ids.shape[1],
            }
        )
    return cases


def windows(rng: random.Random) -> list[dict[str, Any]]:
    """`get_window_index` of grids of all remainders."""
    cases = []
    for _ in range(24):
        window = rng.choice([1, 2, 3, 4, 4, 4])
        grid = [rng.choice([1, 1, 2, 3]), 2 * rng.randint(1, 9), 2 * rng.randint(1, 9)]
        tower = types.SimpleNamespace(
            window_size=window * 28, spatial_merge_size=2, patch_size=14, spatial_merge_unit=4
        )
        index, bounds = Qwen2_5_VisionTransformerPretrainedModel.get_window_index(
            tower, torch.tensor([grid])
        )
        bounds = torch.unique_consecutive(torch.tensor(bounds))
        cases.append(
            {
                "grid": grid,
                "window": window,
                "index": index.tolist(),
                "bounds": bounds.tolist(),
                "reverse": torch.argsort(index).tolist(),
            }
        )
    return cases


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder for the file")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    rng = random.Random(arguments.seed)
    demo = json.loads((DEMO / "config.json").read_text(encoding="utf-8"))
    special = {key: value for key, value in demo.items() if key.endswith("_token_id")}
    vision = types.SimpleNamespace(spatial_merge_size=2, tokens_per_second=2)
    config = types.SimpleNamespace(vision_config=vision, **special)
    vectors = {
        "seed": arguments.seed,
        "template": TEMPLATE,
        "prompts": prompts(rng, config),
        "windows": windows(rng),
    }
    text = json.dumps(vectors, ensure_ascii=False, separators=(",", ":"))
    (arguments.out / "qwen25.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
