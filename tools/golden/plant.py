# SPDX-License-Identifier: MPL-2.0
"""Plants outliers in a Qwen3-VL checkpoint, as those of real models are.

    plant.py IN OUT [--random] [--channels N] [--tokens] [--seed N]

Channels: the norms' weights of some channels are multiplied by 50 to 1000 and the columns of the
layers behind them divided by as much; likewise rows of `up_proj` and columns of `down_proj`, rows of
`v_proj` and columns of `o_proj`. In f32 the model says what it said, while the activations have
channels so many times larger than the others. Tokens (`--tokens`): in the embeddings of the special
tokens one channel is 1000 times larger than the others are, and stays so through all layers; that is
another model, whose head is the table as it was. `--random` draws all other weights anew first, as
`checkpoints.py` does, the table so that logits have a standard deviation of 2, about that of trained
models: a divergence grows with its square.

    python tools/golden/plant.py models/demo /tmp/planted && cargo xtask quant-check /tmp/planted

Needs: torch, transformers 5.
"""

import argparse
import pathlib
import shutil

import torch
from checkpoints import fill
from transformers import Qwen3VLForConditionalGeneration


def spread(n, width, generator):
    """Channels and their factors, from 50 to 1000."""
    n = min(n, width // 8)
    channels = torch.randperm(width, generator=generator)[:n]
    return channels, torch.logspace(1.7, 3, n)


@torch.no_grad()
def plant_channels(model, n, generator):
    text = model.config.text_config
    group = text.num_attention_heads // text.num_key_value_heads
    for layer in model.model.language_model.layers:
        attention, mlp = layer.self_attn, layer.mlp
        behind = [(layer.input_layernorm, [attention.q_proj, attention.k_proj, attention.v_proj]),
                  (layer.post_attention_layernorm, [mlp.gate_proj, mlp.up_proj])]
        for norm, linears in behind:
            at, factor = spread(n, text.hidden_size, generator)
            norm.weight[at] *= factor
            for linear in linears:
                linear.weight[:, at] /= factor
        at, factor = spread(n, text.intermediate_size, generator)
        mlp.up_proj.weight[at] *= factor[:, None]
        mlp.down_proj.weight[:, at] /= factor
        at, factor = spread(max(n // group, 1), attention.v_proj.out_features, generator)
        attention.v_proj.weight[at] *= factor[:, None]
        head, channel = at // text.head_dim, at % text.head_dim
        for query in range(group):
            column = (head * group + query) * text.head_dim + channel
            attention.o_proj.weight[:, column] /= factor
    for block in model.model.visual.blocks:
        for norm, linear in ((block.norm1, block.attn.qkv), (block.norm2, block.mlp.linear_fc1)):
            at, factor = spread(n, norm.weight.shape[0], generator)
            norm.weight[at] *= factor
            norm.bias[at] *= factor
            linear.weight[:, at] /= factor


@torch.no_grad()
def plant_tokens(model, generator):
    embedding = model.model.language_model.embed_tokens
    if model.config.tie_word_embeddings:
        model.config.tie_word_embeddings = model.config.text_config.tie_word_embeddings = False
        model.lm_head.weight = torch.nn.Parameter(embedding.weight.clone())
    table = embedding.weight
    size = table.square().mean().sqrt()
    # The special tokens are the last ones.
    for token in range(len(table) - 8, len(table)):
        channel = torch.randint(0, table.shape[1], (1,), generator=generator)
        table[token, channel] = 1000 * size


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", type=pathlib.Path)
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--random", action="store_true", help="draw the weights anew")
    parser.add_argument("--channels", type=int, default=6, help="planted before each layer")
    parser.add_argument("--tokens", action="store_true", help="plant massive tokens too")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    generator = torch.Generator().manual_seed(args.seed)
    model = Qwen3VLForConditionalGeneration.from_pretrained(args.source, dtype=torch.float32)
    if args.random:
        fill(model, generator)
        table = model.model.language_model.embed_tokens.weight
        table.data *= 2 / (table.data.std() * table.shape[1] ** 0.5)
    if args.channels:
        plant_channels(model, args.channels, generator)
    if args.tokens:
        plant_tokens(model, generator)
    shutil.copytree(args.source, args.out, dirs_exist_ok=True,
                    ignore=shutil.ignore_patterns("*.safetensors*"))
    # f32: another rounding would be another model.
    model.save_pretrained(args.out)


if __name__ == "__main__":
    main()
