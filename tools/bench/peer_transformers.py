# SPDX-License-Identifier: MPL-2.0
"""One caption of a clip of noise by `transformers` on torch, one thread, process CPU time.

    peer_transformers.py CHECKPOINT PAIRS TOKENS GRID_H GRID_W [DTYPE]

DTYPE is bfloat16, or float32. Prints one line of JSON. The whole clip is handed over at once: the class takes no part of one.

Needs: torch, transformers 5.
"""

import ctypes
import json
import os
import sys
import tempfile
import time

import torch
from transformers import Qwen3VLForConditionalGeneration

TEXT_ROWS = 5


def peak_bytes():
    """`VmHWM`."""
    with open("/proc/self/status") as status:
        line = next(line for line in status if line.startswith("VmHWM:"))
    return 1024 * int(line.split()[1])


class Watch:
    """Processor time that a module takes."""

    def __init__(self, module):
        self.took, self.began = 0, 0
        module.register_forward_pre_hook(self.begin)
        module.register_forward_hook(self.end)

    def begin(self, *_):
        self.began = time.process_time()

    def end(self, *_):
        self.took += time.process_time() - self.began


def isa(dtype):
    """The instruction sets that torch says it runs: ATen's kernels and oneDNN's."""
    libc, said = ctypes.CDLL(None), tempfile.TemporaryFile()
    sys.stdout.flush()
    stdout = os.dup(1)
    os.dup2(said.fileno(), 1)
    with torch.backends.mkldnn.verbose(torch.backends.mkldnn.VERBOSE_ON):
        torch.nn.functional.linear(torch.ones(64, 256, dtype=dtype),
                                   torch.ones(256, 256, dtype=dtype))
        torch.nn.functional.conv2d(torch.ones(1, 16, 64, 64), torch.ones(16, 16, 3, 3))
    libc.fflush(None)
    os.dup2(stdout, 1)
    said.seek(0)
    lines = [line.split(",") for line in said.read().decode().splitlines()]
    kernels = {words[6] for words in lines if words[3:4] == ["exec"]}
    return f"ATen {torch.backends.cpu.get_cpu_capability()}, oneDNN {' '.join(sorted(kernels))}"


@torch.no_grad()
def main():
    folder, pairs, tokens, height, width = sys.argv[1], *map(int, sys.argv[2:7])
    dtype = getattr(torch, sys.argv[7]) if sys.argv[7:] else torch.bfloat16
    torch.set_num_threads(1)
    model = Qwen3VLForConditionalGeneration.from_pretrained(folder, dtype=dtype).eval()
    config = model.config
    rows = torch.randn(pairs * height * width, 1536, dtype=dtype)
    ids, types = [], []
    for _ in range(pairs):
        text = [*range(1, TEXT_ROWS - 1), config.vision_start_token_id]
        visual = height * width // config.vision_config.spatial_merge_size**2
        ids += text + [config.video_token_id] * visual + [config.vision_end_token_id]
        types += [0] * len(text) + [2] * visual + [0]
    ids += range(1, TEXT_ROWS + 1)
    types += [0] * TEXT_ROWS
    grid = torch.tensor([[pairs, height, width]])
    given = dict(input_ids=torch.tensor([ids]), attention_mask=torch.ones(1, len(ids)).long(),
                 mm_token_type_ids=torch.tensor([types]), pixel_values_videos=rows,
                 video_grid_thw=grid, use_cache=True, logits_to_keep=1)

    # The first call of each shape readies the library's kernels: one pair, one row.
    model.model.visual(rows[:height * width], grid_thw=torch.tensor([[1, height, width]]))
    model(input_ids=torch.tensor([[1]]), use_cache=True)

    watch = Watch(model.model.visual)
    begin = time.process_time()
    said = model(**given)
    whole, vision = time.process_time() - begin, watch.took
    positions, _ = model.model.get_rope_index(
        **{key: given[key] for key in ("input_ids", "mm_token_type_ids", "video_grid_thw")})
    following = int(positions.max()) + 1
    begin = time.process_time()
    for i in range(tokens):
        token = said.logits[:, -1:].argmax(-1)
        said = model(input_ids=token, past_key_values=said.past_key_values, use_cache=True,
                     position_ids=torch.full((3, 1, 1), following + i))
    decode = time.process_time() - begin
    print(json.dumps(dict(vision=vision, prefill=whole - vision, decode=decode, rows=len(ids),
                          tokens=tokens, peak=peak_bytes(), isa=isa(dtype))))


if __name__ == "__main__":
    main()
