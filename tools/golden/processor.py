# SPDX-License-Identifier: MPL-2.0
"""Reference vectors for everything between pixels, words and a Qwen3-VL: made by transformers.

    python tools/golden/processor.py --out tests/data/processor
    python tools/golden/processor.py --out /tmp/fresh --seed 7
    VLMCAPTION_GOLDEN=/tmp/fresh cargo test --test golden_processor

Nothing here computes an expected value itself: sizes, patch rows, token ids, positions, rendered
templates and whole answers all come from the stock classes. Pictures are not
stored; a formula over integers makes them (`picture`), here and in the test.

Writes `processor.json` and `processor.safetensors` (patch rows, u8). Another seed gives other
pictures, texts, times and logits.
"""

from __future__ import annotations

import argparse
import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.numpy import save_file
from transformers import (
    AutoConfig,
    AutoProcessor,
    AutoTokenizer,
    Qwen3VLForConditionalGeneration,
)
from transformers.models.qwen2_vl.image_processing_qwen2_vl import (
    Qwen2VLImageProcessor,
    smart_resize,
)
from transformers.models.qwen3_vl.modeling_qwen3_vl import Qwen3VLModel
from transformers.models.qwen3_vl.video_processing_qwen3_vl import Qwen3VLVideoProcessor
from transformers.utils.chat_template_utils import render_jinja_template
from transformers.video_utils import VideoMetadata

DEMO = Path(__file__).parents[2] / "models" / "demo"

WORDS = (
    "a red circle moves left Who is there? 3.5 seconds 12:30 don't <b> {x} [y] \\n ünïcödé naïve"
    " 猫が走る 视频 🙂 👩‍👩‍👧 🇩🇪 e\u0301 \u00a0 ½ Ωmega Привет  \t end. \n\n new"
).split(" ")
"""What texts are made of: several scripts, characters of many bytes, marks to be composed."""


def picture(pattern: str, seed: int, width: int, height: int) -> np.ndarray:
    """An RGB picture `[height, width, 3]` by a formula that the test repeats."""
    y, x, c = np.indices((height, width, 3), dtype=np.uint64)
    n = (y * width + x) * 3 + c + seed * 7919
    if pattern == "disc":
        # A coloured disc on black: something that the demo model knows.
        left, top = width // 4 + seed * 37 % (width // 2), height // 4 + seed * 23 % (height // 2)
        inside = (x.astype(int) - left) ** 2 + (y.astype(int) - top) ** 2 <= (height // 6) ** 2
        value = inside * ((seed // 100 >> c) & 1) * 255
    elif pattern == "ramp":
        value = x * 5 + y * 3 + c * 40 + seed
    elif pattern == "blocks":
        value = ((x // 7 + y // 5 + c + seed) % 2) * 255
    else:
        value = (n * 2654435761 % 2**32) >> 13
    return (value % 256).astype(np.uint8)


def sizes(rng: random.Random) -> list[list[int | None]]:
    """Rows of width, height, factor, least and largest area, target width and height."""
    cases = [
        (1920, 1080, 32, 16384, 147456),
        (1280, 720, 32, 16384, 147456),
        (640, 480, 32, 16384, 147456),
        (1080, 1920, 32, 65536, 589824),
        (1, 1, 32, 65536, 589824),
        (16, 48, 32, 16384, 147456),  # both sides end in half a factor
        (2000, 10, 32, 65536, 589824),
        (2001, 10, 32, 65536, 589824),
        (200, 40001, 28, 3136, 1003520),
    ]
    for _ in range(150):
        factor = rng.choice([32, 28, 16])
        least = rng.choice([4, 16, 64]) * factor**2
        largest = least * rng.choice([1, 3, 9, 50])
        top = rng.choice([40, 400, 4000])
        cases.append((rng.randint(1, top), rng.randint(1, top), factor, least, largest))
    rows: list[list[int | None]] = []
    for width, height, factor, least, largest in cases:
        try:
            to_height, to_width = smart_resize(height, width, factor, least, largest)
        except ValueError:
            to_height, to_width = None, None
        rows.append([width, height, factor, least, largest, to_width, to_height])
    return rows


def rows_as_bytes(rows: torch.Tensor) -> np.ndarray:
    """Undoes the normalisation (mean and std 0.5), which must give whole numbers."""
    raw = (rows.double() * 0.5 + 0.5) * 255
    assert (raw - raw.round()).abs().max() < 1e-3
    return raw.round().to(torch.uint8).numpy()


def pixels(rng: random.Random) -> tuple[list[dict[str, Any]], dict[str, np.ndarray]]:
    """Patch rows of images and of pairs of frames, resized up, down and not at all."""
    shapes = [
        # kind, patch, frames, merge, least and largest area, width, height, number of frames
        ("image", 16, 2, 2, 1024, 4096, 64, 32, 1),  # as it is
        ("image", 16, 2, 2, 1024, 4096, 213, 120, 1),
        ("image", 16, 2, 2, 1024, 4096, 120, 213, 1),
        ("image", 16, 2, 2, 3072, 4096, 20, 15, 1),  # up
        ("image", 16, 2, 2, 1024, 16384, 900, 700, 1),
        ("image", 16, 2, 2, 1024, 4096, 1, 1, 1),
        ("image", 14, 2, 2, 784, 3136, 123, 77, 1),
        ("image", 4, 2, 3, 144, 2304, 50, 61, 1),
        ("video", 16, 2, 2, 1024, 4096, 64, 64, 2),
        ("video", 16, 2, 2, 1024, 4096, 320, 240, 2),
        ("video", 16, 2, 2, 1024, 4096, 64, 32, 1),  # an odd tail
        ("video", 8, 3, 1, 64, 1024, 50, 33, 3),
    ]
    cases, tensors = [], {}
    for kind, patch, temporal, merge, least, largest, width, height, n_frames in shapes:
        frames = [
            {"pattern": rng.choice(["noise", "ramp", "blocks"]), "seed": rng.randint(0, 999)}
            for _ in range(n_frames)
        ]
        data = [picture(f["pattern"], f["seed"], width, height) for f in frames]
        common = {
            "patch_size": patch,
            "temporal_patch_size": temporal,
            "merge_size": merge,
            "image_mean": [0.5] * 3,
            "image_std": [0.5] * 3,
        }
        if kind == "image":
            size = {"shortest_edge": least, "longest_edge": largest}
            processor = Qwen2VLImageProcessor(size=size, **common)
            out = processor(images=data[0], input_data_format="channels_last", return_tensors="pt")
            rows, grid = out["pixel_values"], out["image_grid_thw"][0]
        else:
            # The stock budget is for all frames of a clip, ours for one frame.
            size = {"shortest_edge": least * temporal, "longest_edge": largest * temporal}
            processor = Qwen3VLVideoProcessor(size=size, **common)
            clip = torch.from_numpy(np.stack(data)).permute(0, 3, 1, 2)
            out = processor(videos=[clip], do_sample_frames=False, return_tensors="pt")
            rows, grid = out["pixel_values_videos"], out["video_grid_thw"][0]
        raw = rows_as_bytes(rows)
        if kind == "image":
            # Every frame of an image's patch is the same: one is stored.
            by_frame = raw.reshape(len(raw), 3, temporal, -1)
            assert (by_frame == by_frame[:, :, :1]).all()
            raw = np.ascontiguousarray(by_frame[:, :, 0].reshape(len(raw), -1))
        name = f"rows.{len(cases)}"
        tensors[name] = raw
        cases.append(
            {
                "kind": kind,
                "geometry": [patch, temporal, merge],
                "budget": [least, largest],
                "width": width,
                "height": height,
                "frames": frames,
                "grid": grid.tolist(),
                "rows": name,
            }
        )
    return cases, tensors


def sentence(rng: random.Random) -> str:
    return " ".join(rng.choice(WORDS) for _ in range(rng.randint(1, 8)))


def prompts(rng: random.Random) -> list[dict[str, Any]]:
    """Token ids and positions of whole prompts, by the processor and the model's own method."""
    processor = AutoProcessor.from_pretrained(DEMO)
    with torch.device("meta"):
        model = Qwen3VLModel(AutoConfig.from_pretrained(DEMO))
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
        ("video", 120, (1, 1)),  # many times
    ]
    cases = []
    for number, (kind, n_frames, (columns, rows)) in enumerate(plans * 2):
        system = sentence(rng) if number % 3 == 1 else None
        history = [[sentence(rng), sentence(rng)] for _ in range(number % 4 // 2)]
        text = sentence(rng) if number >= len(plans) else "Describe the video."
        fps = (rng.choice([1, 2, 4, 8, 25, 30, 30000]), rng.choice([1, 1, 3, 7, 1001]))
        first = rng.choice([0, 0, rng.randint(1, 500)])
        step = rng.randint(1, 3)
        indices = [first + step * i for i in range(n_frames)]

        def message(role: str, *content: dict[str, str]) -> dict[str, Any]:
            return {"role": role, "content": list(content)}

        def words(text: str) -> dict[str, str]:
            return {"type": "text", "text": text}

        messages = [message("system", words(system))] if system is not None else []
        for user, assistant in history:
            messages += [message("user", words(user)), message("assistant", words(assistant))]
        pixels = [] if kind == "text" else [{"type": kind}]
        messages.append(message("user", *pixels, words(text)))
        written = processor.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=True
        )
        inputs: dict[str, Any] = {"text": [written], "do_resize": False}
        if kind == "image":
            inputs["images"] = [np.zeros((32 * rows, 32 * columns, 3), np.uint8)]
        elif kind == "video":
            inputs["videos"] = [torch.zeros(n_frames, 3, 32 * rows, 32 * columns, dtype=torch.uint8)]
            inputs["video_metadata"] = [
                VideoMetadata(
                    total_num_frames=n_frames,
                    fps=fps[0] / fps[1],
                    frames_indices=list(indices),
                )
            ]
            inputs["do_sample_frames"] = False
        out = processor(**inputs, return_mm_token_type_ids=True, return_tensors="pt")
        ids = out["input_ids"]
        positions, delta = model.get_rope_index(
            ids,
            out["mm_token_type_ids"],
            image_grid_thw=out.get("image_grid_thw"),
            video_grid_thw=out.get("video_grid_thw"),
        )
        cases.append(
            {
                "kind": kind,
                "system": system,
                "history": history,
                "text": text,
                "cells": [columns, rows],
                "fps": fps,
                "indices": indices,
                "ids": ids[0].tolist(),
                "positions": positions[:, 0].tolist(),
                "next_position": int(delta) + ids.shape[1],
            }
        )
    return cases


def tokens(rng: random.Random) -> dict[str, Any]:
    """Texts with their ids, and ids (unfinished characters, special tokens) with their text."""
    tokenizer = AutoTokenizer.from_pretrained(DEMO)
    texts = [sentence(rng) for _ in range(20)] + ["", " ", "<|im_end|>a<|vision_start|>"]
    encoded = [[text, tokenizer(text)["input_ids"]] for text in texts]
    series = [rng.choices(range(len(tokenizer)), k=rng.randint(1, 30)) for _ in range(20)]
    # Bytes of characters, cut anywhere.
    for _ in range(10):
        ids = tokenizer("🙂猫👩‍👩‍👧é" + sentence(rng))["input_ids"]
        start = rng.randint(0, 6)
        series.append(ids[start : rng.randint(start + 1, len(ids))])
    decoded = [[ids, tokenizer.decode(ids, skip_special_tokens=True)] for ids in series]
    return {"encoded": encoded, "decoded": decoded}


TEMPLATES = {
    "blocks": """{%- set counts = namespace(image=0, video=0) %}
{% if not messages %}
    {{- raise_exception("no messages") }}
{% endif %}
{% for message in messages %}
    {% if loop.first and message.role != "system" %}
        {{- "<|im_start|>system\\nYou help.<|im_end|>\\n" }}
    {% endif %}
<|im_start|>{{ message.role | upper }}
    {%- if message["content"] is string %}
{{ message.content.strip() }}
    {%- else %}
        {%- for part in message.content %}
            {%- if part.type == "image" or "image" in part %}
                {%- set counts.image = counts.image + 1 %}
                {%- if add_vision_id %}Picture {{ counts.image }}: {% endif -%}
<|vision_start|><|image_pad|><|vision_end|>
            {%- elif part.type == "video" or "video" in part %}
                {%- set counts.video = counts.video + 1 %}
<|vision_start|><|video_pad|><|vision_end|>
            {%- elif "text" in part %}
                {{- part.text }}
            {%- endif %}
        {%- endfor %}
    {%- endif %}
<|im_end|>
{% endfor %}
{% if add_generation_prompt %}
<|im_start|>assistant
{% endif %}
{%- if tools %}{{ tools | length }}{% endif -%}
""",
    "python": """{% for m in messages[::-1] %}
{% if m.role.startswith("sys") %}{% continue %}{% endif %}
{{ loop.index0 }} {{ m.get("name", "none") }} {{ m.items() | list | length }}
{%- if m.content is string %} {{ m.content.split("\\n")[0] | tojson }}{% endif %}
{%- if m.tool_calls %}called{% endif %}
{%- if loop.index > 2 %}{% break %}{% endif %}

{% endfor %}
{{ eos_token }}{{ bos_token | default("no bos", true) }}{{ messages | length ~ "!" }}""",
    "values": """{% set x = namespace(a=1) %}{% for m in messages %}{% set x.a = x.a + loop.index0 %}
{%- endfor %}{{ x.a }}{{ messages[0]["content"] is mapping }}{{ "a" not in ("high", "low") }}
{{ messages[0].content is iterable and messages[0].content is not mapping }}
{{ messages | selectattr("role", "equalto", "user") | list | length }}{{ "%s-%d" | format("a", 3) }}
{{ "abc"[1:] }}{{ "a\\nb".splitlines() }}{{ ["x", 1, true, none] }}{{ {"k": "v"} }}{{ 1.0 }}
{{ "<think>x</think>y".split("</think>")[-1].lstrip("\\n") }}{{ messages[0].content | string }}""",
    "raises": "{{ raise_exception('roles must alternate') }}",
    "json": "{{ messages | tojson }}|{{ {'a': [1, 2.5, none, true], 'b': '<&>'} | tojson(indent=2) }}",
    "macro": """{% macro turn(m) -%}
[{{ m.role }}]{{ caller() if caller else "" }}
{%- endmacro %}
{%- for m in messages if m.role != "assistant" %}{{ turn(m) }}{% else %}nobody{% endfor %}
{{- "a  b" | trim }}{{ messages | map(attribute="role") | join(",") }}{{ 7 // 2 }}{{ 2 ** 3 }}
{{- messages[-1].role in ["user", "tool"] }}{{ none }}{{ undefined_name }}""",
}
"""Templates that use what checkpoints' templates use."""


def templates(rng: random.Random) -> list[dict[str, Any]]:
    """Templates rendered by transformers: a text, or null where it raises."""
    conversations = [
        [("user", [["video"], ["text", sentence(rng)]])],
        [
            ("system", [["text", "  Be brief.\n"]]),
            ("user", [["text", sentence(rng) + " <&'\"\\u003c>"]]),
            ("assistant", [["text", "Yes."]]),
            ("user", [["image"], ["text", sentence(rng)]]),
        ],
    ]
    cases = []
    for source in TEMPLATES.values():
        for conversation in conversations:
            messages = []
            for role, parts in conversation:
                content: Any = [dict(zip(("type", "text"), part)) for part in parts]
                if [part["type"] for part in content] == ["text"]:
                    content = content[0]["text"]
                messages.append({"role": role, "content": content})
            try:
                (rendered,), _ = render_jinja_template(
                    [messages],
                    chat_template=source,
                    add_generation_prompt=True,
                    eos_token="<|im_end|>",
                )
            except Exception:  # noqa: BLE001 - jinja2 raises several kinds
                rendered = None
            cases.append({"template": source, "messages": conversation, "rendered": rendered})
    return cases


def answers(rng: random.Random) -> list[dict[str, Any]]:
    """What the demo model says, from the camera's pixels to the text: stock `generate`, greedy.

    Cases in which a token is nearly a tie are drawn again: there, another order of the same sums
    may rightly say something else.
    """
    processor = AutoProcessor.from_pretrained(DEMO)
    model = Qwen3VLForConditionalGeneration.from_pretrained(DEMO, dtype=torch.float32).eval()
    budget = processor.image_processor.size
    cases: list[dict[str, Any]] = []
    while len(cases) < 8:
        width, height = rng.choice([(320, 240), (240, 320), (640, 360), (128, 96)])
        kind, n_frames = [("image", 1), ("video", 2), ("video", 3), ("video", 4)][len(cases) % 4]
        # The hundreds say which colour, the rest where.
        color = rng.randint(1, 7) * 100
        seeds = [color + rng.randint(0, 99) for _ in range(n_frames)]
        data = [picture("disc", seed, width, height) for seed in seeds]
        text = f"Describe the {kind}."
        penalty = rng.choice([1.0, 1.0, 1.25])
        messages = [{"role": "user", "content": [{"type": kind}, {"type": "text", "text": text}]}]
        inputs: dict[str, Any] = {
            "text": [
                processor.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
            ]
        }
        if kind == "image":
            inputs["images"] = [data[0]]
        else:
            even = n_frames + n_frames % 2
            clip = np.stack(data + data[-1:] * (even - n_frames))
            inputs["videos"] = [torch.from_numpy(clip).permute(0, 3, 1, 2)]
            indices = list(range(n_frames)) + [n_frames - 1] * (even - n_frames)
            metadata = VideoMetadata(total_num_frames=even, fps=1.0, frames_indices=indices)
            # The stock budget is for all frames of a clip, ours for one frame.
            size = {
                "shortest_edge": budget["shortest_edge"] * even,
                "longest_edge": budget["longest_edge"] * even,
            }
            inputs["videos_kwargs"] = {
                "size": size,
                "do_sample_frames": False,
                "video_metadata": [metadata],
            }
        batch = processor(**inputs, return_tensors="pt")
        with torch.no_grad():
            out = model.generate(
                **batch,
                do_sample=False,
                max_new_tokens=48,
                repetition_penalty=penalty,
                return_dict_in_generate=True,
                output_scores=True,
            )
        best = torch.stack([scores[0].topk(2).values for scores in out.scores])
        if (best[:, 0] - best[:, 1]).min() < 0.05:
            continue
        ids = out.sequences[0, batch["input_ids"].shape[1] :]
        cases.append(
            {
                "kind": kind,
                "width": width,
                "height": height,
                "frames": [{"pattern": "disc", "seed": seed} for seed in seeds],
                "question": text,
                "repetition_penalty": penalty,
                "n_tokens": len(ids),
                "text": processor.decode(ids, skip_special_tokens=True),
            }
        )
    return cases


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder for the two files")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    rng = random.Random(arguments.seed)
    torch.manual_seed(arguments.seed)

    pixel_cases, tensors = pixels(rng)
    vectors = {
        "seed": arguments.seed,
        "sizes": sizes(rng),
        "pixels": pixel_cases,
        "prompts": prompts(rng),
        "tokens": tokens(rng),
        "templates": templates(rng),
        "answers": answers(rng),
    }
    arguments.out.mkdir(parents=True, exist_ok=True)
    text = json.dumps(vectors, ensure_ascii=False, separators=(",", ":"))
    (arguments.out / "processor.json").write_text(text + "\n", encoding="utf-8")
    save_file(tensors, arguments.out / "processor.safetensors")


if __name__ == "__main__":
    main()
