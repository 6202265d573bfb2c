# SPDX-License-Identifier: MPL-2.0
"""What differs between the model families, for `checkpoints.py` and `logits.py`.

A family is an object with

- `config(numbers)`: the configuration of a random checkpoint,
- `model`: the class that runs it,
- `cases`: the prompts that are tried, name -> (kind, grid in patches, number of visual inputs),
- `draw(config, kind, grid, count, generator)`: a prompt: runs of token ids, and (grid, seed) of
  visual tokens,
- `inputs(config, kind, runs)`: the same as the class takes it,
- `positions(model, given)`: positions `[rows, 3]` as the class counts them,
- `answer(model, given, positions, steps)`: the greedy tokens and their logits `[steps, vocab_size]`.
"""

import numpy as np
import torch
from transformers import (
    InternVLConfig,
    InternVLForConditionalGeneration,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
)

VOCAB = 256
SPECIAL = {"vision_start_token_id": 252, "vision_end_token_id": 253,
           "image_token_id": 254, "video_token_id": 255}
TEXT = dict(vocab_size=VOCAB, max_position_embeddings=4096, rms_norm_eps=1e-6, hidden_act="silu",
            bos_token_id=None, eos_token_id=None, pad_token_id=None)

CASES = {
    "text": ("text", None, 0),
    "image-2x6": ("image", (2, 6), 1),
    "image-6x10": ("image", (6, 10), 1),
    "image-14x4": ("image", (14, 4), 1),
    "two-images-4x8": ("image", (4, 8), 2),
    "video-1-pair-6x10": ("video", (6, 10), 1),
    "video-3-pairs-14x4": ("video", (14, 4), 3),
    "video-6-pairs-4x6": ("video", (4, 6), 6),
}


def hashed(numbers):
    """A number in 0..2**32 for each, without a pattern."""
    x = (numbers.astype(np.uint64) * 2654435761 + 12345) % 2**32
    x ^= x >> 15
    x = x * 2246822519 % 2**32
    return x ^ (x >> 13)


def pixels(seed, rows, row_len):
    """`[rows, row_len]` u8: a shade per patch row and channel, and noise on it.

    With i the index of a byte and c the index of its third of a row (its channel), both over all
    rows: `hash(c + seed * 65537) >> 24` times 3/4 plus `hash(i + seed * 257) >> 24` times 1/4,
    rounded down.
    """
    index = np.arange(rows * row_len)
    shade = hashed(index // (row_len // 3) + seed * 65537) >> 24
    noise = hashed(index + seed * 257) >> 24
    return ((shade * 3 + noise) // 4).astype(np.uint8).reshape(rows, row_len)


def words(n, top, generator):
    """Ordinary tokens."""
    return torch.randint(0, top, (n,), generator=generator).tolist()


def seed(generator):
    """A seed of `pixels`."""
    return int(torch.randint(0, 1000, (1,), generator=generator))


class Qwen3VL:
    """Each temporal patch of a video stands apart, after a text that says when it is."""

    model = Qwen3VLForConditionalGeneration
    cases = CASES
    seconds = None

    @staticmethod
    def config(numbers):
        text = dict(numbers["text"])
        section = text.pop("mrope_section")
        text |= TEXT | dict(attention_bias=False, tie_word_embeddings=numbers["tied"],
                            rope_parameters=dict(rope_type="default", rope_theta=5_000_000.0,
                                                 mrope_interleaved=True, mrope_section=section))
        vision = dict(numbers["vision"])
        vision |= dict(in_channels=3, temporal_patch_size=2, spatial_merge_size=2,
                       out_hidden_size=text["hidden_size"], hidden_act="gelu_pytorch_tanh")
        return Qwen3VLConfig(text_config=text, vision_config=vision,
                             tie_word_embeddings=numbers["tied"], **SPECIAL)

    @staticmethod
    def draw(config, kind, grid, count, generator):
        top = min(config.image_token_id, config.video_token_id, config.vision_start_token_id,
                  config.vision_end_token_id, config.text_config.vocab_size) - 8
        runs = [words(5, top, generator)]
        for _ in range(count):
            if kind == "video":
                runs[-1] += words(3, top, generator)
            runs[-1].append(config.vision_start_token_id)
            runs.append((grid, seed(generator)))
            runs.append([config.vision_end_token_id])
        runs[-1] += words(6, top, generator)
        return runs

    @classmethod
    def inputs(cls, config, kind, runs):
        vision = config.vision_config
        row_len = vision.in_channels * vision.temporal_patch_size * vision.patch_size**2
        placeholder = config.image_token_id if kind == "image" else config.video_token_id
        ids, types, rows, grids = [], [], [], []
        for run in runs:
            if isinstance(run, list):
                ids += run
                types += [0] * len(run)
            else:
                (h, w), number = run
                raw = torch.from_numpy(pixels(number, h * w, row_len)).float()
                rows.append((raw / 255 - 0.5) / 0.5)
                grids.append([1, h, w])
                n = h * w // vision.spatial_merge_size**2
                ids += [placeholder] * n
                types += [1 if kind == "image" else 2] * n
        result = {"input_ids": torch.tensor([ids]), "attention_mask": torch.ones(1, len(ids)).long()}
        if rows:
            names = ("pixel_values", "image_grid_thw") if kind == "image" else (
                "pixel_values_videos", "video_grid_thw")
            if kind == "video":
                grids = [[len(grids)] + grids[0][1:]]
            result |= {"mm_token_type_ids": torch.tensor([types]), names[0]: torch.cat(rows),
                       names[1]: torch.tensor(grids)}
            if kind == "video" and cls.seconds is not None:
                result["second_per_grid_ts"] = torch.tensor([cls.seconds])
        return result

    @staticmethod
    def positions(model, given):
        if "mm_token_type_ids" not in given:
            return [[i] * 3 for i in range(given["input_ids"].shape[1])]
        wanted = {k: v for k, v in given.items()
                  if "grid" in k or k in ("input_ids", "mm_token_type_ids")}
        positions, _ = model.model.get_rope_index(**wanted)
        return positions[:, 0].T.tolist()

    @staticmethod
    def answer(model, given, positions, steps):
        model.model.rope_deltas = None
        out = model.generate(**given, do_sample=False, max_new_tokens=steps, eos_token_id=None,
                             pad_token_id=0, repetition_penalty=1.0, output_logits=True,
                             return_dict_in_generate=True)
        tokens = out.sequences[0, given["input_ids"].shape[1]:].tolist()
        return tokens, torch.cat(out.logits).float()


class Qwen25VL(Qwen3VL):
    """A video is one run of visual tokens; its times are in the positions."""

    model = Qwen2_5_VLForConditionalGeneration
    # Windows at the edges of more than one row and column, which the small grids do not have.
    cases = CASES | {"image-18x22": ("image", (18, 22), 1)}
    # Of a temporal patch: two frames at one frame a second.
    seconds = 2.0

    @staticmethod
    def config(numbers):
        text = dict(numbers["text"])
        section = text.pop("mrope_section")
        text |= TEXT | dict(tie_word_embeddings=numbers["tied"],
                            rope_parameters=dict(rope_type="default", rope_theta=1_000_000.0,
                                                 mrope_section=section))
        vision = dict(numbers["vision"])
        vision |= dict(in_channels=3, temporal_patch_size=2, spatial_merge_size=2,
                       out_hidden_size=text["hidden_size"], hidden_act="silu",
                       tokens_per_second=2)
        return Qwen2_5_VLConfig(text_config=text, vision_config=vision,
                                tie_word_embeddings=numbers["tied"], **SPECIAL)

    @staticmethod
    def draw(config, kind, grid, count, generator):
        if kind != "video":
            return Qwen3VL.draw(config, kind, grid, count, generator)
        top = config.vision_start_token_id - 8
        runs = [words(5, top, generator) + [config.vision_start_token_id]]
        runs += [(grid, seed(generator)) for _ in range(count)]
        runs.append([config.vision_end_token_id] + words(6, top, generator))
        return runs

    @staticmethod
    def answer(model, given, positions, steps):
        """`generate` of 5.6 goes on after the prompt's last number, not after its largest, which a
        long video's time axis has; so the positions are given here."""
        tokens, logits, cache = [], [], None
        following = max(map(max, positions)) + 1
        now = torch.tensor(positions).T[:, None]
        given = {k: v for k, v in given.items() if k != "attention_mask"}
        for step in range(steps):
            out = model(**given, position_ids=now, past_key_values=cache, use_cache=True)
            cache = out.past_key_values
            logits.append(out.logits[:, -1].float())
            tokens.append(int(logits[-1].argmax()))
            given = {"input_ids": torch.tensor([tokens[-1:]])}
            now = torch.full((3, 1, 1), following + step)
        return tokens, torch.cat(logits)


class InternVL:
    """Tiles of one size; an image's follow each other, a video has one a frame."""

    model = InternVLForConditionalGeneration
    # The grid is (tiles of an image or of a frame, side of a tile), filled in by `draw`.
    cases = {
        "text": ("text", None, 0),
        "image-1-tile": ("image", 1, 1),
        "image-3-tiles": ("image", 3, 1),
        "image-5-tiles": ("image", 5, 1),
        "video-1-frame": ("video", 1, 1),
        "video-3-frames": ("video", 1, 3),
        "video-6-frames": ("video", 1, 6),
    }

    @staticmethod
    def config(numbers):
        text = dict(model_type="qwen2") | numbers["text"]
        text |= TEXT | dict(tie_word_embeddings=numbers["tied"],
                            rope_parameters=dict(rope_type="default", rope_theta=1_000_000.0))
        vision = dict(numbers["vision"])
        vision |= dict(num_channels=3, hidden_act="gelu", norm_type="layer_norm")
        return InternVLConfig(text_config=text, vision_config=vision, image_token_id=254,
                              downsample_ratio=0.5, tie_word_embeddings=numbers["tied"])

    @staticmethod
    def draw(config, kind, grid, count, generator):
        side = config.vision_config.image_size[0] // config.vision_config.patch_size[0]
        runs = [words(5, 240, generator)]
        for _ in range(count):
            runs[-1] += words(3, 240, generator) + [252]
            runs.append(((grid, side, side), seed(generator)))
            runs.append([253])
        runs[-1] += words(6, 240, generator)
        return runs

    @staticmethod
    def inputs(config, kind, runs):
        vision = config.vision_config
        (patch, _), merge = vision.patch_size, int(1 / config.downsample_ratio)
        ids, tiles = [], []
        for run in runs:
            if isinstance(run, list):
                ids += run
                continue
            (t, h, w), number = run
            rows = pixels(number, t * h * w, 3 * patch**2)
            # Patch rows in merge-block order to planes.
            blocks = rows.reshape(t, h // merge, w // merge, merge, merge, 3, patch, patch)
            planes = blocks.transpose(0, 5, 1, 3, 6, 2, 4, 7).reshape(t, 3, h * patch, w * patch)
            tiles.append((torch.from_numpy(planes.copy()).float() / 255 - 0.5) / 0.5)
            ids += [config.image_token_id] * (t * h * w // merge**2)
        result = {"input_ids": torch.tensor([ids]), "attention_mask": torch.ones(1, len(ids)).long()}
        return result | ({"pixel_values": torch.cat(tiles)} if tiles else {})

    @staticmethod
    def positions(model, given):
        return [[i] * 3 for i in range(given["input_ids"].shape[1])]

    answer = Qwen3VL.answer


FAMILIES = {"qwen3_vl": Qwen3VL, "qwen2_5_vl": Qwen25VL, "internvl": InternVL}
