# SPDX-License-Identifier: MPL-2.0
"""Repeats the calls that the vendor's demo program makes for one answer, to count them.

    LD_PRELOAD=count.so LD_LIBRARY_PATH=<tools>/lib/bm1684x \\
        demo_calls.py MODELS/q3_static --reference MODELS/reference/qwen3vl [--case two_pairs] \\
        [--steps 11]
    TPU_COUNT_ONLY=1 LD_PRELOAD=... demo_calls.py MODELS/q3_wide --blank 5,18,32 --steps 48

For static greedy bmodels of Qwen3-VL. The order, sizes and memories of uploads, memsets, copies and
launches are those of `models/Qwen3_VL/python_demo` in Sophgo's LLM-TPU at 1cf86115: everything
zeroed before use, masks of the full size, every net of one answer on its own. The tokens must be
the reference's; with --blank, grey pictures and any words are sent, and nobody looks at the tokens. It
also says how long the emulator takes for each net. The sections "load" and "answer" are printed at
the end by `count.c`; `answer` is what `backend=sophgo` is compared with.
"""

import argparse
import collections
import ctypes as c
import json
import pathlib
import sys
import time

import numpy as np
from safetensors.numpy import load_file


class Mem(c.Structure):
    _fields_ = [("addr", c.c_ulong), ("reserved", c.c_uint), ("fd", c.c_int), ("flags", c.c_uint),
                ("size", c.c_uint)]


class Shape(c.Structure):
    _fields_ = [("n", c.c_int), ("dims", c.c_int * 8)]


class Tensor(c.Structure):
    _fields_ = [("dtype", c.c_int), ("shape", Shape), ("mem", Mem), ("mode", c.c_int)]


class Stage(c.Structure):
    _fields_ = [("input_shapes", c.POINTER(Shape)), ("output_shapes", c.POINTER(Shape)),
                ("input_mems", c.POINTER(Mem)), ("output_mems", c.POINTER(Mem))]


class Net(c.Structure):
    _fields_ = [("name", c.c_char_p), ("is_dynamic", c.c_bool), ("input_num", c.c_int),
                ("input_names", c.POINTER(c.c_char_p)), ("input_dtypes", c.POINTER(c.c_int)),
                ("input_scales", c.c_void_p), ("output_num", c.c_int),
                ("output_names", c.POINTER(c.c_char_p)), ("output_dtypes", c.POINTER(c.c_int)),
                ("output_scales", c.c_void_p), ("stage_num", c.c_int), ("stages", c.POINTER(Stage))]


SHARE_MEM = 1
MASKED = 0xC61C  # -9984 in bf16


class Board:
    """The C API, as far as the demo uses it."""

    def __init__(self, bmodel):
        self.lib, self.rt = c.CDLL("libbmlib.so"), c.CDLL("libbmrt.so")
        self.rt.bmrt_create.restype = c.c_void_p
        self.rt.bmrt_get_network_info.restype = c.POINTER(Net)
        for name in ("bmrt_load_bmodel", "bmrt_launch_tensor_ex"):
            getattr(self.rt, name).restype = c.c_bool
        self.owned = []
        self.seconds = collections.defaultdict(list)
        self.handle = c.c_void_p()
        self.ok(self.lib.bm_dev_request(c.byref(self.handle), 0))
        self.bmrt = c.c_void_p(self.rt.bmrt_create(self.handle))
        self.rt.bmrt_set_flags(self.bmrt, c.c_uint(SHARE_MEM))
        if not self.rt.bmrt_load_bmodel(self.bmrt, str(bmodel).encode()):
            sys.exit(f"demo_calls.py: {bmodel} does not load")

    def close(self):
        """The emulator ends a process badly that leaves a device open or memory on it."""
        for mem in self.owned:
            self.lib.bm_free_device(self.handle, mem)
        self.rt.bmrt_destroy(self.bmrt)
        self.lib.bm_dev_free(self.handle)

    @staticmethod
    def ok(status):
        if status:
            sys.exit(f"demo_calls.py: status {status}")

    def net(self, name):
        found = self.rt.bmrt_get_network_info(self.bmrt, name.encode())
        return found.contents if found else None

    def new(self, size):
        mem = Mem()
        self.ok(self.lib.bm_malloc_device_byte(self.handle, c.byref(mem), c.c_uint(size)))
        self.owned.append(mem)
        return mem

    def zero(self, mem):
        self.ok(self.lib.bm_memset_device_ext(self.handle, c.byref(c.c_int(0)), 1, mem))

    def zero_net(self, net):
        for i in range(net.input_num):
            self.zero(net.stages[0].input_mems[i])
        for i in range(net.output_num):
            self.zero(net.stages[0].output_mems[i])

    def up(self, mem, values):
        values = np.ascontiguousarray(values)
        self.ok(self.lib.bm_memcpy_s2d_partial(self.handle, mem, c.c_void_p(values.ctypes.data),
                                               c.c_uint(values.nbytes)))

    def down(self, mem, size):
        values = np.zeros(size, np.uint8)
        self.ok(self.lib.bm_memcpy_d2s_partial(self.handle, c.c_void_p(values.ctypes.data), mem,
                                               c.c_uint(size)))
        return values

    def copy(self, to, offset, source, size):
        self.ok(self.lib.bm_memcpy_d2d_byte(self.handle, to, c.c_size_t(offset), source,
                                            c.c_size_t(0), c.c_size_t(size)))

    def launch(self, net, inputs=(), outputs=()):
        """Runs a net; `inputs` and `outputs` are memories to bind instead of its own."""
        sides = []
        for count, dtypes, shapes, mems, bound in (
                (net.input_num, net.input_dtypes, net.stages[0].input_shapes,
                 net.stages[0].input_mems, dict(inputs)),
                (net.output_num, net.output_dtypes, net.stages[0].output_shapes,
                 net.stages[0].output_mems, dict(outputs))):
            tensors = (Tensor * count)()
            for i in range(count):
                tensors[i] = Tensor(dtypes[i], shapes[i], bound.get(i, mems[i]), 0)
            sides += [tensors, count]
        start = time.process_time()
        if not self.rt.bmrt_launch_tensor_ex(self.bmrt, net.name, *sides, c.c_bool(True),
                                             c.c_bool(False)):
            sys.exit(f"demo_calls.py: {net.name.decode()} does not run")
        self.ok(self.lib.bm_thread_sync(self.handle))
        self.seconds[net.name.decode().rstrip("0123456789")].append(time.process_time() - start)


def vision_inputs(grid, side):
    """Rows of positions, table indices and weights, in merge-block order."""
    _, height, width = grid
    y, x = np.meshgrid(np.arange(height), np.arange(width), indexing="ij")

    def blocks(values):
        tail = values.shape[2:]
        return values.reshape(height // 2, 2, width // 2, 2, *tail).swapaxes(1, 2).reshape(-1, *tail)

    fy, fx = (np.linspace(0, side - 1, n, dtype=np.float32) for n in (height, width))
    ly, lx = fy.astype(np.int32), fx.astype(np.int32)
    hy, hx = np.minimum(ly + 1, side - 1), np.minimum(lx + 1, side - 1)
    dy, dx = (fy - ly)[:, None], (fx - lx)[None]
    index = np.stack([a[:, None] * side + b[None] for a in (ly, hy) for b in (lx, hx)], -1)
    weight = np.stack([(1 - dy) * (1 - dx), (1 - dy) * dx, dy * (1 - dx), dy * dx], -1)
    return (blocks(np.stack([y, x], -1)).astype(np.int32), blocks(index).astype(np.int32),
            blocks(weight).astype(np.float32))


def answer(board, case, reference, tensors, table_side, n_steps):
    """What the demo does from token ids to `n_steps` tokens."""
    embedding, cached, vit, add, head = map(board.net, (
        "embedding", "embedding_cache", "vit", "add", "lm_head"))
    blocks, caches = [], []
    while (block := board.net(f"block_{len(blocks)}")) is not None:
        caches.append(board.net(f"block_cache_{len(blocks)}"))
        blocks.append(block)
    window = embedding.stages[0].input_shapes[0].dims[1]
    hidden = head.stages[0].input_shapes[0].dims[1]
    capacity = caches[0].stages[0].input_shapes[3].dims[1]
    row, kv_row = 2 * hidden, caches[0].stages[0].output_mems[1].size
    states = board.new(window * row)
    levels = [board.new(window * row) for _ in range(vit.output_num - 1)]
    keys = [cache.stages[0].input_mems[3] for cache in caches]
    values = [cache.stages[0].input_mems[4] for cache in caches]
    for mem in keys + values:
        board.zero(mem)
    mark("answer")

    tokens, visuals = [], []
    for segment in case["segments"]:
        if "tokens" in segment:
            tokens += segment["tokens"]
            continue
        visuals.append((len(tokens), segment["visual"]))
        tokens += [0] * len(tensors[f"visual.{segment['visual']}.embeds"])
    n = len(tokens)
    ids = np.zeros(window, np.int32)
    ids[:n] = tokens
    board.up(embedding.stages[0].input_mems[0], ids)
    board.launch(embedding)
    board.zero(states)
    board.copy(states, 0, embedding.stages[0].output_mems[0], n * row)
    for level in levels:
        board.zero(level)
    for at, k in visuals:
        visual, own = reference["visuals"][k], vit.stages[0]
        pixels = tensors[f"visual.{k}.pixels"].astype(np.float32)
        n_rows = pixels.shape[0]
        pixels = pixels.reshape(n_rows, 3, -1) / np.float32(255)
        mean, std = (np.array(visual[key], np.float32).reshape(1, 3, 1) for key in ("mean", "std"))
        board.zero_net(vit)
        side = own.input_shapes[0].dims[0]
        mask = np.full((side, side), -10000, np.float32)
        mask[:n_rows, :n_rows] = 0
        for i, value in enumerate(((pixels - mean) / std, *vision_inputs(visual["grid"], table_side),
                                   mask)):
            board.up(own.input_mems[i], value)
        board.launch(vit)
        for i, mem in enumerate([states, *levels]):
            board.copy(mem, at * row, own.output_mems[i], n_rows // 4 * row)

    positions = np.zeros((3, window), np.int32)
    positions[:, :n] = np.array(case["positions"]).T
    mask = np.full((window, window), MASKED, np.uint16)
    mask[:n, :n][np.tril_indices(n)] = 0
    board.zero_net(blocks[0])
    out = states
    for i, block in enumerate(blocks):
        if i == 0:
            board.up(block.stages[0].input_mems[1], positions)
            board.up(block.stages[0].input_mems[2], mask)
        board.launch(block, [(0, out)])
        out = block.stages[0].output_mems[0]
        if visuals and i < len(levels):
            board.launch(add, [(0, out), (1, levels[i])])
            out = add.stages[0].output_mems[0]
        for mem, k in ((keys[i], 1), (values[i], 2)):
            board.copy(mem, 0, block.stages[0].output_mems[k], n * kv_row)
    last = Mem(out.addr + (n - 1) * row, 0, out.fd, out.flags, row)
    said = []
    for step in range(n_steps):
        if step:
            board.up(cached.stages[0].input_mems[0], np.array([said[-1]], np.int32))
            board.launch(cached)
            last, own = cached.stages[0].output_mems[0], caches[0].stages[0]
            at = n + step - 1
            mask = np.zeros(capacity + 1, np.uint16)
            mask[at:capacity] = MASKED
            for i, cache in enumerate(caches):
                if i == 0:
                    board.up(own.input_mems[1], np.full(3, case["next_position"] + step - 1, np.int32))
                    board.up(own.input_mems[2], mask)
                new = [Mem(mem.addr + at * kv_row, 0, mem.fd, mem.flags, kv_row)
                       for mem in (keys[i], values[i])]
                board.launch(cache, [(0, last), (1, own.input_mems[1]), (2, own.input_mems[2])],
                             [(1, new[0]), (2, new[1])])
                last = cache.stages[0].output_mems[0]
        board.launch(head, [(0, last)], [(0, states)])
        said.append(int(board.down(states, 4).view(np.int32)[0]))
    return said


def mark(name):
    """Begins a section of `count.c`, if that is loaded."""
    try:
        c.CDLL(None).tpu_count_mark(name.encode())
    except AttributeError:
        pass


def blank(n_pairs, height, width):
    """A prompt as captions have it: template, the pairs with their times, question; grey pictures."""
    segments = [{"tokens": [1] * 14}]
    for _ in range(n_pairs):
        segments += [{"tokens": [1] * 9}, {"visual": 0}]
    segments.append({"tokens": [1] * 12})
    n_rows = sum(len(s["tokens"]) if "tokens" in s else height * width // 4 for s in segments)
    case = {"segments": segments, "positions": [[i] * 3 for i in range(n_rows)],
            "next_position": n_rows}
    visual = {"grid": [1, height, width], "mean": [0.5] * 3, "std": [0.5] * 3}
    tensors = {"visual.0.pixels": np.full((height * width, 1536), 128, np.uint8),
               "visual.0.embeds": np.zeros((height * width // 4, 1))}
    return {"visuals": [visual]}, tensors, case


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("variant", type=pathlib.Path)
    given = parser.add_mutually_exclusive_group(required=True)
    given.add_argument("--reference", type=pathlib.Path)
    given.add_argument("--blank", metavar="PAIRS,H,W", help="pairs, and patches of a frame")
    parser.add_argument("--case", default="two_pairs")
    parser.add_argument("--steps", type=int, default=11, help="tokens; the first comes with the prompt")
    args = parser.parse_args()
    if args.blank:
        reference, tensors, case = blank(*map(int, args.blank.split(",")))
    else:
        reference = json.loads((args.reference / "reference.json").read_text())
        tensors = load_file(args.reference / "reference.safetensors")
        case = next(case for case in reference["cases"] if case["name"] == args.case)
    config = json.loads((args.variant / "config/config.json").read_text())
    side = round(config["vision_config"]["num_position_embeddings"] ** 0.5)
    mark("load")
    board = Board(next(args.variant.glob("*.bmodel")))
    said = answer(board, case, reference, tensors, side, args.steps)
    mark("end")
    board.close()
    if args.blank:
        return
    wanted = [step["token"] for step in case["greedy"][:args.steps]]
    for name, seconds in board.seconds.items():
        print(f"{name:14} {len(seconds):3} launches, {sum(seconds) / len(seconds):.2f} s of CPU each")
    print(f"said   {said}\nwanted {wanted}", flush=True)
    if said != wanted:
        sys.exit("demo_calls.py: the tokens differ")


if __name__ == "__main__":
    main()
