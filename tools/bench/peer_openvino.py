# SPDX-License-Identifier: MPL-2.0
"""The parts of a caption by OpenVINO in int8, one thread, process CPU time.

    peer_openvino.py CHECKPOINT PAIRS TOKENS GRID_H GRID_W ROWS

Prints one line of JSON. Vision net and decoder are written down anew for the converter, with
weights of noise in the checkpoint's shapes, compressed to int8 by nncf; activations are quantised
by the plugin in groups of 64. The decoder has no KV cache: a decoded token is a pass of one row,
which flatters it. All its layers are alike, so two smaller decoders are measured and what a layer
takes is added for the others.

Needs: torch, openvino, nncf.
"""

import json
import pathlib
import sys
import time

import nncf
import openvino
import torch
from torch import nn
from torch.nn import functional

LAYERS = 4, 8


def turned(x, cos, sin):
    half = x.shape[-1] // 2
    return x * cos + torch.cat([-x[..., half:], x[..., :half]], -1) * sin


class Block(nn.Module):
    """Qwen3VLVisionBlock."""

    def __init__(self, v):
        super().__init__()
        d, inner = v["hidden_size"], v["intermediate_size"]
        self.heads = v["num_heads"]
        self.qkv, self.proj = nn.Linear(d, 3 * d), nn.Linear(d, d)
        self.fc1, self.fc2 = nn.Linear(d, inner), nn.Linear(inner, d)
        self.norm1, self.norm2 = nn.LayerNorm(d, 1e-6), nn.LayerNorm(d, 1e-6)

    def forward(self, x, cos, sin):
        n, d = x.shape
        q, k, v = self.qkv(self.norm1(x)).view(n, 3, self.heads, -1).permute(1, 2, 0, 3)
        q, k = turned(q, cos, sin), turned(k, cos, sin)
        y = functional.scaled_dot_product_attention(q[None], k[None], v[None])[0]
        x = x + self.proj(y.transpose(0, 1).reshape(n, d))
        y = functional.gelu(self.fc1(self.norm2(x)), approximate="tanh")
        return x + self.fc2(y)


class Vision(nn.Module):
    """Qwen3VLVisionModel without its position table."""

    def __init__(self, v):
        super().__init__()
        d, patch = v["hidden_size"], 3 * v["temporal_patch_size"] * v["patch_size"] ** 2
        self.joined = d * v["spatial_merge_size"] ** 2
        self.embed = nn.Linear(patch, d)
        self.blocks = nn.ModuleList([Block(v) for _ in range(v["depth"])])
        self.levels = [*v["deepstack_visual_indexes"], v["depth"] - 1]
        self.mergers = nn.ModuleList([nn.Sequential(
            nn.LayerNorm(self.joined, 1e-6), nn.Linear(self.joined, self.joined), nn.GELU(),
            nn.Linear(self.joined, v["out_hidden_size"])) for _ in self.levels])

    def forward(self, rows, cos, sin):
        x, out = self.embed(rows), []
        for i, block in enumerate(self.blocks):
            x = block(x, cos, sin)
            if i in self.levels:
                out.append(self.mergers[len(out)](x.view(-1, self.joined)))
        return torch.cat(out, -1)


class Rms(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x):
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6) * self.weight


class Layer(nn.Module):
    """Qwen3VLTextDecoderLayer."""

    def __init__(self, t):
        super().__init__()
        d, inner, self.dim = t["hidden_size"], t["intermediate_size"], t["head_dim"]
        self.heads, self.kv = t["num_attention_heads"], t["num_key_value_heads"]

        def linear(a, b):
            return nn.Linear(a, b, bias=False)

        self.q, self.o = linear(d, self.heads * self.dim), linear(self.heads * self.dim, d)
        self.k, self.v = linear(d, self.kv * self.dim), linear(d, self.kv * self.dim)
        self.gate, self.up, self.down = linear(d, inner), linear(d, inner), linear(inner, d)
        self.norm1, self.norm2 = Rms(d), Rms(d)
        self.q_norm, self.k_norm = Rms(self.dim), Rms(self.dim)

    def forward(self, x, cos, sin, mask):
        n, y = x.shape[0], self.norm1(x)
        q = turned(self.q_norm(self.q(y).view(n, self.heads, -1)).transpose(0, 1), cos, sin)
        k = turned(self.k_norm(self.k(y).view(n, self.kv, -1)).transpose(0, 1), cos, sin)
        v = self.v(y).view(n, self.kv, -1).transpose(0, 1)
        group = self.heads // self.kv
        k, v = (t[:, None].expand(self.kv, group, n, self.dim).reshape(self.heads, n, self.dim)
                for t in (k, v))
        y = functional.scaled_dot_product_attention(q[None], k[None], v[None], attn_mask=mask)[0]
        x = x + self.o(y.transpose(0, 1).reshape(n, -1))
        y = self.norm2(x)
        return x + self.down(functional.silu(self.gate(y)) * self.up(y))


class Text(nn.Module):
    """Qwen3VLTextModel with its head, from embeddings."""

    def __init__(self, t, layers):
        super().__init__()
        self.layers = nn.ModuleList([Layer(t) for _ in range(layers)])
        self.norm = Rms(t["hidden_size"])
        self.head = nn.Linear(t["hidden_size"], t["vocab_size"], bias=False)

    def forward(self, x, cos, sin, mask):
        for layer in self.layers:
            x = layer(x, cos, sin, mask)
        return self.head(self.norm(x[-1:]))


def compiled(net, example):
    model = openvino.convert_model(net, example_input=example)
    model = nncf.compress_weights(model, mode=nncf.CompressWeightsMode.INT8_SYM)
    options = {"INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": 1, "INFERENCE_PRECISION_HINT": "f32",
               "DYNAMIC_QUANTIZATION_GROUP_SIZE": "64"}
    return openvino.Core().compile_model(model, "CPU", options).create_infer_request()


def primitives(request):
    """What the plugin says that it runs: the kinds of kernels in a compiled model."""
    kinds = {node.get_rt_info()["primitiveType"].astype(str)
             for node in request.get_compiled_model().get_runtime_model().get_ordered_ops()}
    return "OpenVINO " + " ".join(sorted(kinds))


def median(request, inputs, runs=3):
    """Processor time of a run; the first is not counted."""
    inputs = [x.numpy() for x in inputs]
    request.infer(inputs)
    took = []
    for _ in range(runs):
        begin = time.process_time()
        request.infer(inputs)
        took.append(time.process_time() - begin)
    return sorted(took)[runs // 2]


@torch.no_grad()
def main():
    config = json.loads((pathlib.Path(sys.argv[1]) / "config.json").read_text())
    pairs, tokens, height, width, rows = map(int, sys.argv[2:])
    v, t = config["vision_config"], config["text_config"]
    patches, dim = height * width, v["hidden_size"] // v["num_heads"]
    patch = 3 * v["temporal_patch_size"] * v["patch_size"] ** 2
    given = torch.randn(patches, patch), torch.randn(1, patches, dim), torch.randn(1, patches, dim)
    see = median(compiled(Vision(v).eval(), given), given)

    def text(n):
        return (torch.randn(n, t["hidden_size"]), torch.randn(1, n, t["head_dim"]),
                torch.randn(1, n, t["head_dim"]), torch.triu(torch.full((n, n), -1e9), 1))

    took = []
    for layers in LAYERS:
        request = compiled(Text(t, layers).eval(), text(8))
        took.append((median(request, text(rows)), median(request, text(1), 9)))
        isa = primitives(request)
        del request
    more = (t["num_hidden_layers"] - LAYERS[1]) / (LAYERS[1] - LAYERS[0])
    prefill, token = (b + more * (b - a) for a, b in zip(*took))
    print(json.dumps(dict(vision=see * pairs, prefill=prefill, decode=token * tokens, rows=rows,
                          tokens=tokens, composed=True, isa=isa)))


if __name__ == "__main__":
    main()
