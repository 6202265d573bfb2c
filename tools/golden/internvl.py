# SPDX-License-Identifier: MPL-2.0
"""Reference vectors for prompts and tiles of InternVL3: made by transformers 5 and OpenGVLab's code.

    git clone https://github.com/OpenGVLab/InternVL /tmp/InternVL
    python tools/golden/internvl.py --out tests/data/processor --opengvlab /tmp/InternVL

Writes `internvl.json` and `internvl.safetensors` (tiles, u8). Tokens are those of `models/demo` and
the four that the family adds; nothing here computes an expected value itself.
"""

import argparse
import importlib.util
import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.numpy import save_file
from transformers import PreTrainedTokenizerFast
from transformers.models.got_ocr2.image_processing_got_ocr2 import (
    GotOcr2ImageProcessor,
    get_optimal_tiled_canvas,
)
from transformers.models.internvl.processing_internvl import InternVLProcessor
from transformers.models.internvl.video_processing_internvl import InternVLVideoProcessor

DEMO = Path(__file__).parents[2] / "models" / "demo"
SPECIAL = {
    "start_image_token": "<img>",
    "end_image_token": "</img>",
    "context_image_token": "<IMG_CONTEXT>",
    "video_token": "<video>",
}
TEMPLATE = """{% for message in messages %}<|im_start|>{{ message.role }}
{% if message.content is string %}{{ message.content }}{% else -%}
{% for part in message.content -%}
{% if part.type == "image" %}{{ "<IMG_CONTEXT>\\n" }}
{%- elif part.type == "video" %}{{ "<video>\\n" }}
{%- else %}{{ part.text }}{% endif %}{% endfor %}{% endif %}<|im_end|>
{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""
"""Says what the template of the converted checkpoints says."""

WORDS = "a red circle moves left Who is there? 3.5 seconds 12:30 猫が走る 视频 🙂 \n\n new".split(" ")
SIDE = 16
"""Of a tile of the vectors, pixels."""


def sentence(rng: random.Random) -> str:
    return " ".join(rng.choice(WORDS) for _ in range(rng.randint(1, 8)))


def noise(seed: int, width: int, height: int) -> np.ndarray:
    """An RGB picture `[height, width, 3]` by a formula that the test repeats."""
    y, x, c = np.indices((height, width, 3), dtype=np.uint64)
    n = (y * width + x) * 3 + c + seed * 7919
    return (((n * 2654435761 % 2**32) >> 13) % 256).astype(np.uint8)


def tokenizer_json() -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The demo's tokenizer with the family's tokens, and the tokens."""
    content = json.loads((DEMO / "tokenizer.json").read_text(encoding="utf-8"))
    first = max(token["id"] for token in content["added_tokens"]) + 1
    added = [
        {**content["added_tokens"][0], "id": first + i, "content": token}
        for i, token in enumerate(SPECIAL.values())
    ]
    content["added_tokens"] += added
    return content, added


def grids(rng: random.Random) -> list[list[int]]:
    """Rows of width, height, side, fewest and most tiles, columns and rows."""
    sizes = [(1920, 1080), (640, 480), (768, 768), (600, 600), (600, 400), (1, 1), (10, 4000)]
    sizes += [(448, 896), (896, 448), (1344, 896), (500, 1000), (3000, 1000)]
    sizes += [(rng.randint(1, 3000), rng.randint(1, 3000)) for _ in range(80)]
    rows = []
    for width, height in sizes:
        side, low, high = 448, rng.choice([1, 1, 1, 2, 4]), rng.choice([4, 6, 12, 12, 24])
        columns, lines = get_optimal_tiled_canvas((height, width), (side, side), low, high)
        rows.append([width, height, side, low, high, columns, lines])
    return rows


def tiles() -> tuple[list[dict[str, Any]], dict[str, np.ndarray]]:
    """Tiles of pictures, and single tiles of video frames; values undone from mean 0.5, std 0.5."""
    size = {"height": SIDE, "width": SIDE}
    half = {"size": size, "image_mean": [0.5] * 3, "image_std": [0.5] * 3, "do_convert_rgb": False}
    images = GotOcr2ImageProcessor(crop_to_patches=True, min_patches=1, max_patches=12, **half)
    videos = InternVLVideoProcessor(**half)
    cases, tensors = [], {}
    for number, (kind, width, height) in enumerate(
        [("image", 40, 20), ("image", 30, 90), ("image", 21, 19), ("image", 130, 97),
         ("video", 64, 36), ("video", 9, 16)]
    ):
        picture = torch.from_numpy(noise(number, width, height)).permute(2, 0, 1)
        if kind == "image":
            out = images(images=[picture], return_tensors="pt")["pixel_values"]
        else:
            out = videos(videos=[picture[None]], return_tensors="pt")["pixel_values_videos"][0]
        raw = (out.double() * 0.5 + 0.5) * 255
        assert (raw - raw.round()).abs().max() < 1e-3
        tensors[f"tiles.{number}"] = raw.round().to(torch.uint8).numpy()
        cases.append({"kind": kind, "width": width, "height": height, "seed": number})
    return cases, tensors


def conversations(rng: random.Random) -> list[dict[str, Any]]:
    """What is asked, for both layouts."""
    plans = [("image", [1]), ("image", [3]), ("text", []), ("video", [1]), ("video", [1] * 4),
             ("video", [1] * 12), ("image", [13]), ("text", [])]
    return [
        {
            "kind": kind,
            "tiles": tiles,
            "system": sentence(rng) if number % 3 == 1 else None,
            "history": [[sentence(rng), sentence(rng)] for _ in range(number % 4 // 2)],
            "text": sentence(rng),
        }
        for number, (kind, tiles) in enumerate(plans)
    ]


def processed(tokenizer: PreTrainedTokenizerFast, cases: list[dict[str, Any]]) -> list[list[int]]:
    """Ids by transformers' processor."""
    half = {"size": {"height": SIDE, "width": SIDE}, "image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    processor = InternVLProcessor(
        GotOcr2ImageProcessor(**half), tokenizer, InternVLVideoProcessor(**half),
        image_seq_length=4, chat_template=TEMPLATE,
    )
    # Pictures that become so many tiles: of 16 pixels, in a row.
    shapes = {1: (SIDE, SIDE), 3: (SIDE, 2 * SIDE), 13: (3 * SIDE, 4 * SIDE)}
    listed = []
    for case in cases:
        messages = [{"role": "system", "content": case["system"]}] if case["system"] else []
        for user, assistant in case["history"]:
            messages += [{"role": "user", "content": user}, {"role": "assistant", "content": assistant}]
        pixels = [] if case["kind"] == "text" else [{"type": case["kind"]}]
        content: Any = [*pixels, {"type": "text", "text": case["text"]}]
        messages.append({"role": "user", "content": content if pixels else case["text"]})
        written = processor.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        inputs: dict[str, Any] = {"text": [written]}
        if case["kind"] == "image":
            inputs["images"] = [np.zeros((*shapes[case["tiles"][0]], 3), np.uint8)]
        elif case["kind"] == "video":
            inputs["videos"] = [torch.zeros(len(case["tiles"]), 3, SIDE, SIDE, dtype=torch.uint8)]
        out = processor(**inputs, return_tensors="pt")
        assert case["kind"] == "text" or len(out["pixel_values"]) == sum(case["tiles"])
        listed.append(out["input_ids"][0].tolist())
    return listed


def chatted(tokenizer: PreTrainedTokenizerFast, cases: list[dict[str, Any]], place: Path) -> list[list[int]]:
    """Ids by OpenGVLab's conversation, used as `InternVLChatModel.chat` does."""
    source = place / "internvl_chat" / "internvl" / "conversation.py"
    spec = importlib.util.spec_from_file_location("conversation", source)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    listed = []
    for case in cases:
        conversation = module.get_conv_template("internvl2_5")
        if case["system"]:
            conversation.system_message = case["system"]
        for user, assistant in case["history"]:
            conversation.append_message(conversation.roles[0], user)
            conversation.append_message(conversation.roles[1], assistant)
        question = case["text"]
        if case["kind"] == "image":
            question = "<image>\n" + question
        elif case["kind"] == "video":
            frames = range(len(case["tiles"]))
            question = "".join(f"Frame{i + 1}: <image>\n" for i in frames) + question
        conversation.append_message(conversation.roles[0], question)
        conversation.append_message(conversation.roles[1], None)
        query = conversation.get_prompt()
        for n in case["tiles"]:
            query = query.replace("<image>", "<img>" + "<IMG_CONTEXT>" * 4 * n + "</img>", 1)
        listed.append(tokenizer(query)["input_ids"])
    return listed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder for the two files")
    parser.add_argument("--opengvlab", type=Path, required=True, help="checkout of OpenGVLab/InternVL")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    rng = random.Random(arguments.seed)
    content, added = tokenizer_json()
    path = arguments.out / "internvl-tokenizer.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(path), extra_special_tokens=SPECIAL)
    path.unlink()
    cases = conversations(rng)
    tile_cases, tensors = tiles()
    ids = processed(tokenizer, cases), chatted(tokenizer, cases, arguments.opengvlab)
    vectors = {
        "seed": arguments.seed,
        "side": SIDE,
        "template": TEMPLATE,
        "added_tokens": added,
        "grids": grids(rng),
        "tiles": tile_cases,
        "prompts": [
            {**case, "transformers": a, "opengvlab": b} for case, a, b in zip(cases, *ids)
        ],
    }
    text = json.dumps(vectors, ensure_ascii=False, separators=(",", ":"))
    (arguments.out / "internvl.json").write_text(text + "\n", encoding="utf-8")
    save_file(tensors, arguments.out / "internvl.safetensors")


if __name__ == "__main__":
    main()
