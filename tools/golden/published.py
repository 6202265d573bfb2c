# SPDX-License-Identifier: MPL-2.0
"""Holds the prompts of processor.py against the processor that Qwen3-VL was published with, that of
transformers 4.57.

    pip install "transformers==4.57.1" torch torchvision numpy
    python tools/golden/published.py

Later releases render a video differently: from 5.10 on a pair of vision tokens more stands around all of
it. The vectors are made with one that does not; this shows that they are what the checkpoints know.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from transformers import Qwen3VLProcessor
from transformers.video_utils import VideoMetadata

ROOT = Path(__file__).resolve().parents[2]
DEMO = ROOT / "models" / "demo"
VECTORS = ROOT / "tests" / "data" / "processor" / "processor.json"


def processor() -> Any:
    """Of the demo model, whose tokenizer's configuration a later release wrote."""
    with tempfile.TemporaryDirectory() as folder:
        for file in DEMO.glob("*.json"):
            shutil.copy(file, folder)
        for file in DEMO.glob("*.jinja"):
            shutil.copy(file, folder)
        path = Path(folder) / "tokenizer_config.json"
        config = json.loads(path.read_text())
        config.pop("extra_special_tokens", None)
        path.write_text(json.dumps(config))
        return Qwen3VLProcessor.from_pretrained(folder)


def rendered(processor: Any, case: dict[str, Any]) -> list[int]:
    """The ids of a case by this release."""

    def message(role: str, *content: dict[str, str]) -> dict[str, Any]:
        return {"role": role, "content": list(content)}

    def words(text: str) -> dict[str, str]:
        return {"type": "text", "text": text}

    messages = []
    if case["system"] is not None:
        messages.append(message("system", words(case["system"])))
    for user, assistant in case["history"]:
        messages += [message("user", words(user)), message("assistant", words(assistant))]
    pixels = [] if case["kind"] == "text" else [{"type": case["kind"]}]
    messages.append(message("user", *pixels, words(case["text"])))
    written = processor.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    columns, rows = case["cells"]
    n_frames = len(case["indices"])
    inputs: dict[str, Any] = {"text": [written], "do_resize": False}
    if case["kind"] == "image":
        inputs["images"] = [np.zeros((32 * rows, 32 * columns, 3), np.uint8)]
    elif case["kind"] == "video":
        inputs["videos"] = [torch.zeros(n_frames, 3, 32 * rows, 32 * columns, dtype=torch.uint8)]
        inputs["video_metadata"] = [
            VideoMetadata(
                total_num_frames=n_frames,
                fps=case["fps"][0] / case["fps"][1],
                frames_indices=list(case["indices"]),
            )
        ]
        inputs["do_sample_frames"] = False
    return processor(**inputs, return_tensors="pt")["input_ids"][0].tolist()


def main() -> None:
    by = processor()
    cases = json.loads(VECTORS.read_text())["prompts"]
    wrong = [n for n, case in enumerate(cases) if rendered(by, case) != case["ids"]]
    videos = sum(case["kind"] == "video" for case in cases)
    alike = f"{len(cases) - len(wrong)} of {len(cases)} prompts ({videos} of videos)"
    print(f"{alike} are as transformers {transformers.__version__} renders them")
    for n in wrong:
        print(f"prompt {n}:", rendered(by, cases[n]), "and not", cases[n]["ids"], file=sys.stderr)
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
