# SPDX-License-Identifier: MPL-2.0
"""The architecture: stock Qwen3-VL at a very small size, and a fast forward pass to train it.

`Dense` runs over the parameters of the stock module but assumes that all clips of a batch have
the same grid and number of pairs, which removes every gather, pack and mask of the general code.
`parity` checks that its logits are those of the stock module.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import Qwen3VLConfig, Qwen3VLForConditionalGeneration

from tokenizer import VOCABULARY, Codec

HIDDEN = 192
PATCH_LENGTH = 1536
"""Values of a patch row: 3 channels x 2 frames x 16 x 16 pixels."""


def make_config(codec: Codec) -> Qwen3VLConfig:
    """3.1 million parameters, 6.2 MB in bf16; the mergers are a third of them."""
    return Qwen3VLConfig(
        text_config={
            "vocab_size": VOCABULARY,
            "hidden_size": HIDDEN,
            "intermediate_size": 384,
            "num_hidden_layers": 4,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "head_dim": 32,
            "max_position_embeddings": 4096,
            "rms_norm_eps": 1e-6,
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 10000.0,
                "mrope_section": [6, 5, 5],
                "mrope_interleaved": True,
            },
            "tie_word_embeddings": True,
            "bos_token_id": None,
            "eos_token_id": codec.end,
            "pad_token_id": codec.pad,
        },
        vision_config={
            "depth": 4,
            "hidden_size": 128,
            "intermediate_size": 256,
            "num_heads": 4,
            "patch_size": 16,
            "spatial_merge_size": 2,
            "temporal_patch_size": 2,
            "out_hidden_size": HIDDEN,
            "num_position_embeddings": 64,
            "deepstack_visual_indexes": [1, 2],
        },
        image_token_id=codec.image_pad,
        video_token_id=codec.video_pad,
        vision_start_token_id=codec.vision_start,
        vision_end_token_id=codec.vision_end,
        tie_word_embeddings=True,
    )


def new_model(codec: Codec) -> Qwen3VLForConditionalGeneration:
    """The stock module with random weights: unit-gain matrices, small ones into the residual."""
    model = Qwen3VLForConditionalGeneration(make_config(codec)).float()
    into_residual = ("attn.proj.", "o_proj.", "down_proj.", "mlp.linear_fc2.")
    for name, weight in model.named_parameters():
        if weight.ndim >= 2 and "embed" not in name:
            gain = 0.3 if any(part in name for part in into_residual) else 1.0
            nn.init.normal_(weight, 0, gain * weight.flatten(1).shape[1] ** -0.5)
    nn.init.normal_(model.model.language_model.embed_tokens.weight, 0, 0.05)
    nn.init.normal_(model.model.visual.pos_embed.weight, 0, 0.1)
    nn.init.normal_(model.model.visual.patch_embed.proj.weight, 0, PATCH_LENGTH**-0.5)
    for merger in model.model.visual.deepstack_merger_list:
        merger.linear_fc2.weight.data.mul_(0.3)
    model.tie_weights()
    return model


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary embedding, halves swapped as in GPT-NeoX."""
    half = x.shape[-1] // 2
    return x * cos + torch.cat((-x[..., half:], x[..., :half]), -1) * sin


def attend(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None) -> Tensor:
    """Attention written out: on a CPU its backward pass is much faster than the fused one."""
    scores = torch.matmul(query * query.shape[-1] ** -0.5, key.transpose(-1, -2))
    if mask is not None:
        scores = scores + mask
    return torch.matmul(torch.softmax(scores, -1).to(value.dtype), value)


class Dense(nn.Module):
    """The stock parameters, run on batches of one grid."""

    def __init__(self, stock: Qwen3VLForConditionalGeneration):
        super().__init__()
        self.stock = stock
        self.visual = stock.model.visual
        self.language = stock.model.language_model
        self._static: dict[tuple[int, int], tuple[Tensor, Tensor, Tensor]] = {}

    def _grid_constants(self, grid: tuple[int, int]) -> tuple[Tensor, Tensor, Tensor]:
        """Rotary cosines and sines, and the interpolation of the position table as a matrix."""
        if grid not in self._static:
            rows, columns = grid
            with torch.no_grad():
                angles = self.visual.rot_pos_emb(torch.tensor([[1, rows * 2, columns * 2]]))
                angles = torch.cat((angles, angles), -1)
            side = self.visual.num_grid_per_side
            axes = []
            for n in (rows * 2, columns * 2):
                at = torch.linspace(0, side - 1, n)
                low = at.int()
                high = (low + 1).clip(max=side - 1)
                weight = torch.zeros(n, side)
                weight[torch.arange(n), low.long()] += 1 - (at - low)
                weight[torch.arange(n), high.long()] += at - low
                axes.append(weight)
            table = torch.einsum("ha,wb->hwab", *axes).reshape(rows, 2, columns, 2, side * side)
            table = table.permute(0, 2, 1, 3, 4).reshape(rows * columns * 4, side * side)
            self._static[grid] = (angles.cos()[:, None].float(), angles.sin()[:, None].float(), table)
        return self._static[grid]

    def vision(self, patches: Tensor, grid: tuple[int, int]) -> tuple[Tensor, list[Tensor]]:
        """`[pairs, patches, 1536]` to visual tokens `[pairs, cells, hidden]` and deepstack features."""
        visual = self.visual
        n, length, _ = patches.shape
        cos, sin, table = self._grid_constants(grid)
        x = F.linear(patches, visual.patch_embed.proj.weight.flatten(1), visual.patch_embed.proj.bias)
        x = x + table @ visual.pos_embed.weight
        deep = []
        for i, block in enumerate(visual.blocks):
            heads = block.attn.qkv(block.norm1(x)).view(n, length, 3, block.attn.num_heads, -1)
            query, key, value = heads.unbind(2)
            query = rotate(query.float(), cos, sin).to(value.dtype).transpose(1, 2)
            key = rotate(key.float(), cos, sin).to(value.dtype).transpose(1, 2)
            mixed = attend(query, key, value.transpose(1, 2)).transpose(1, 2).reshape(n, length, -1)
            x = x + block.attn.proj(mixed)
            x = x + block.mlp(block.norm2(x))
            if i in visual.deepstack_visual_indexes:
                merger = visual.deepstack_merger_list[list(visual.deepstack_visual_indexes).index(i)]
                deep.append(merger(x).view(n, length // 4, -1))
        return visual.merger(x).view(n, length // 4, -1), deep

    def text(
        self, ids: Tensor, positions: Tensor, mask: Tensor, is_visual: Tensor, visual: Tensor, deep: list[Tensor]
    ) -> Tensor:
        """Hidden states `[batch, length, hidden]` after the last norm.

        `positions` is `[3, batch, length]`; `mask` says who may look at whom, `[batch, length,
        length]`; `is_visual` marks the placeholder columns, the same ones in every row; `visual`
        and each of `deep` are `[batch, placeholders, hidden]`.
        """
        half = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else torch.float32
        bias = torch.zeros(mask.shape, dtype=half).masked_fill_(~mask, -1e4)[:, None]
        x = self.language.embed_tokens(ids)
        batch, length, _ = x.shape
        at = is_visual.nonzero()[:, 0]
        x = x.index_copy(1, at, visual.to(x.dtype))
        cos, sin = self._rope(positions)
        for i, layer in enumerate(self.language.layers):
            attn = layer.self_attn
            h = _rms(layer.input_layernorm, x)
            shape = (batch, length, -1, attn.head_dim)
            value = attn.v_proj(h).view(shape).transpose(1, 2)
            query = _rms(attn.q_norm, attn.q_proj(h).view(shape)).transpose(1, 2)
            key = _rms(attn.k_norm, attn.k_proj(h).view(shape)).transpose(1, 2)
            groups = attn.num_key_value_groups
            query = rotate(query, cos, sin).to(value.dtype)
            key = rotate(key, cos, sin).to(value.dtype).repeat_interleave(groups, 1)
            mixed = attend(query, key, value.repeat_interleave(groups, 1), bias)
            x = x + attn.o_proj(mixed.transpose(1, 2).reshape(batch, length, -1))
            h = _rms(layer.post_attention_layernorm, x)
            x = x + layer.mlp.down_proj(F.silu(layer.mlp.gate_proj(h)) * layer.mlp.up_proj(h))
            if i < len(deep):
                x = x.index_add(1, at, deep[i].to(x.dtype))
        return _rms(self.language.norm, x)

    def logits(self, hidden: Tensor) -> Tensor:
        """Scores of the vocabulary; the head is the embedding table."""
        return F.linear(hidden, self.language.embed_tokens.weight)

    def _rope(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        rotary = self.language.rotary_emb
        angles = positions[..., None].float() * rotary.inv_freq
        angles = rotary.apply_interleaved_mrope(angles.clone(), rotary.mrope_section)
        angles = torch.cat((angles, angles), -1)
        return angles.cos()[:, None], angles.sin()[:, None]


def _rms(norm: nn.Module, x: Tensor) -> Tensor:
    return F.rms_norm(x.float(), (x.shape[-1],), norm.weight.float(), norm.variance_epsilon)
