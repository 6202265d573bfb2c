# SPDX-License-Identifier: MPL-2.0
"""The demo model's tokenizer: byte-level BPE with 512 entries, trained on its own sentences.

The layout is that of the Qwen2 tokenizer (NFC, its splitting rule, digits one by one), with the
special tokens at the end. Run as a script it trains one:

    python tokenizer.py tokenizer.json
"""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

import world
from patterns import PATTERN_LOOKS

VOCABULARY = 512
SPECIAL = [
    "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>",
    "<|vision_pad|>", "<|image_pad|>", "<|video_pad|>",
]  # fmt: skip
SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
"""How Qwen2 cuts text into words before merging."""


def sentences(count: int = 6000) -> Iterator[str]:
    """What the model reads and writes, in the frequencies it will meet."""
    rng = random.Random(0)
    looks = sorted({*PATTERN_LOOKS.values(), *world.SOLID_LOOKS.values(), world.BLINK_LOOK})
    for i in range(count):
        video = rng.random() >= 0.15
        pairs = rng.choice([1, 1, 2, 3, 4]) if video else 1
        scene = world.Scene((4, 4), pairs, look=rng.choice(looks))
        if rng.random() < 0.8:
            scene = world.object_scene(rng, (4, 4), pairs, still=not video)
        yield "user\n"
        yield "\n"
        yield "assistant\n"
        yield "system\nYou are a helpful assistant." if i % 50 == 0 else "user\n"
        yield f"<{rng.uniform(0, 300):.1f} seconds>"
        yield "<0.5 seconds>"
        yield rng.choice(world.VIDEO_PROMPTS + world.IMAGE_PROMPTS)
        yield world.caption(scene, video)
        for asked, answer in world.questions(rng, scene, 2, video):
            yield asked
            yield answer


def train() -> Tokenizer:
    """Trains the vocabulary and adds the special tokens behind it."""
    tokenizer = Tokenizer(models.BPE(byte_fallback=False))
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(SPLIT), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY - len(SPECIAL),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(sentences(), trainer)
    tokenizer.add_special_tokens(SPECIAL)
    if tokenizer.get_vocab_size() != VOCABULARY:
        raise RuntimeError(f"{tokenizer.get_vocab_size()} entries, not {VOCABULARY}")
    return tokenizer


class Codec:
    """A trained tokenizer with the ids that the sequence layout needs."""

    def __init__(self, file: Path):
        self.tokenizer = Tokenizer.from_file(str(file))
        self.pad = self._id("<|endoftext|>")
        self.end = self._id("<|im_end|>")
        self.vision_start = self._id("<|vision_start|>")
        self.vision_end = self._id("<|vision_end|>")
        self.image_pad = self._id("<|image_pad|>")
        self.video_pad = self._id("<|video_pad|>")
        self.encode = cache(self._encode)

    def _id(self, token: str) -> int:
        found = self.tokenizer.token_to_id(token)
        if found is None:
            raise ValueError(f"the tokenizer has no {token}")
        return found

    def _encode(self, text: str) -> list[int]:
        return self.tokenizer.encode(text, add_special_tokens=False).ids


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("output", type=Path)
    output = parser.parse_args().output
    output.parent.mkdir(parents=True, exist_ok=True)
    train().save(str(output))
    return 0


if __name__ == "__main__":
    sys.exit(main())
