# SPDX-License-Identifier: MPL-2.0
"""The stock transformers models behind one face: see pixels, run rows, name the next token.

Used by `reference.py`. Everything is computed by the stock classes; only the positions of
Qwen2.5-VL's video tokens are our own, because transformers cuts the seconds to whole numbers and
changed what follows a video between 4.57 and 5 (see `Qwen25Vl.place`).
"""

import json
import math
import pathlib

import torch
from safetensors.torch import load_file
from transformers import DynamicCache


class Qwen3Vl:
    """Three-axis positions, features of inner vision layers added in the first decoder layers."""

    def __init__(self, path, dtype):
        from transformers import Qwen3VLForConditionalGeneration as Model
        self._take(Model.from_pretrained(path, dtype=dtype, attn_implementation="eager").eval())
        self.mean = self.std = [0.5, 0.5, 0.5]

    def _take(self, model):
        self.model, self.dtype = model, model.dtype
        self.vision, self.text = model.model.visual, model.model.language_model
        self.head = model.lm_head.weight
        self.config = model.config

    def patch(self):
        """Pixels of a patch's side, and of a row."""
        side = self.config.vision_config.patch_size
        return side, 3 * 2 * side * side

    def see(self, pixels, grid):
        """Visual tokens `[n, hidden]` and the inner features, of one temporal patch."""
        result = self.vision(pixels.to(self.dtype), grid_thw=torch.tensor([grid]))
        return result.pooler_output, list(getattr(result, "deepstack_features", None) or [])

    def place(self, start, grids, _seconds):
        """Positions of adjacent temporal patches, and the position after them."""
        rows = []
        for _, height, width in grids:
            rows += [[start, start + y, start + x]
                     for y in range(height // 2) for x in range(width // 2)]
            start = 1 + max(max(row) for row in rows)
        return rows, start

    def run(self, embeds, positions, cache, spots=None, deepstack=()):
        """Rows `[n, hidden]` through the decoder: each layer's output before deepstack is added;
        the last one's after the final norm."""
        outputs = []
        hooks = [layer.register_forward_hook(
            lambda _m, _i, out: outputs.append(out[0] if isinstance(out, tuple) else out))
            for layer in self.text.layers]
        extra = {}
        if deepstack:
            extra = {"visual_pos_masks": spots[None], "deepstack_visual_embeds": list(deepstack)}
        result = self.text(inputs_embeds=embeds[None], past_key_values=cache, use_cache=True,
                           position_ids=self._axes(positions), **extra)
        for hook in hooks:
            hook.remove()
        outputs[-1] = result.last_hidden_state
        return [output[0].float() for output in outputs]

    def _axes(self, positions):
        return torch.tensor(positions).T[:, None]

    def embed(self, tokens):
        """Rows of the embedding table."""
        return self.text.embed_tokens(torch.tensor(tokens))

    def logits(self, hidden):
        """In f32 from the row that the decoder gave: bf16 logits would tie."""
        return hidden.float() @ self.head.float().T


class Qwen25Vl(Qwen3Vl):
    """Three-axis positions, of which the first counts time."""

    def __init__(self, path, dtype):
        from transformers import Qwen2_5_VLForConditionalGeneration as Model
        self._take(Model.from_pretrained(path, dtype=dtype, attn_implementation="eager").eval())
        self.mean = [0.48145466, 0.4578275, 0.40821073]
        self.std = [0.26862954, 0.26130258, 0.27577711]

    def place(self, start, grids, seconds):
        """One run for all temporal patches. Patch k is at `floor(k * seconds * tokens_per_second)`.

        What follows stands one after the largest position, as in the training code and in
        transformers up to 4; 5.x forgets the temporal axis there.
        """
        per_second = self.config.vision_config.tokens_per_second
        rows = []
        for k, (_, height, width) in enumerate(grids):
            time = start + math.floor(k * seconds * per_second)
            rows += [[time, start + y, start + x]
                     for y in range(height // 2) for x in range(width // 2)]
        return rows, 1 + max(max(row) for row in rows)


class InternVl3(Qwen3Vl):
    """Plain positions; one tile of 448 x 448 is one visual of 256 tokens."""

    mean = [0.485, 0.456, 0.406]
    std = [0.229, 0.224, 0.225]

    def __init__(self, path, dtype):
        from transformers import InternVLConfig, InternVLForConditionalGeneration
        path = pathlib.Path(path)
        config = json.loads((path / "config.json").read_text())
        text, vision = config["llm_config"], config["vision_config"]
        keep = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
                "layer_norm_eps", "norm_type", "hidden_act")
        model = InternVLForConditionalGeneration(InternVLConfig(
            text_config={k: v for k, v in text.items() if k not in ("architectures", "torch_dtype")},
            vision_config={k: vision[k] for k in keep} | {
                "image_size": [vision["image_size"]] * 2, "patch_size": [vision["patch_size"]] * 2,
                "attention_bias": vision["qkv_bias"], "use_qk_norm": vision["qk_normalization"],
                "use_mean_pooling": True, "use_absolute_position_embeddings": True},
            downsample_ratio=config["downsample_ratio"], tie_word_embeddings=False,
            attn_implementation="eager"))
        tensors = load_file(path / "model.safetensors")
        model.load_state_dict(internvl_to_transformers(tensors), strict=True)
        model = model.to(dtype).eval()
        model.set_attn_implementation("eager")
        self.model, self.dtype, self.config = model, dtype, model.config
        self.text, self.head = model.model.language_model, model.lm_head.weight

    def patch(self):
        return 448, 3 * 448 * 448

    def see(self, pixels, _grid):
        result = self.model.model.get_image_features(
            pixels.view(1, 3, 448, 448).to(self.dtype), return_dict=True)
        features = getattr(result, "pooler_output", result)
        return features.reshape(-1, features.shape[-1]), []

    def place(self, start, grids, _seconds):
        n = 256 * len(grids)
        return [[start + i] * 3 for i in range(n)], start + n

    def _axes(self, positions):
        return torch.tensor([row[0] for row in positions])[None]


def internvl_to_transformers(tensors):
    """Tensors of an `internvl_chat` checkpoint under the names of transformers."""
    renamed = {}
    parts = (("language_model.model.", "model.language_model."),
             ("language_model.lm_head.", "lm_head."),
             ("vision_model.encoder.layers.", "model.vision_tower.encoder.layer."),
             ("vision_model.embeddings.class_embedding", "model.vision_tower.embeddings.cls_token"),
             ("vision_model.embeddings.position_embedding",
              "model.vision_tower.embeddings.position_embeddings"),
             ("vision_model.embeddings.patch_embedding.",
              "model.vision_tower.embeddings.patch_embeddings.projection."),
             ("mlp1.0.", "model.multi_modal_projector.layer_norm."),
             ("mlp1.1.", "model.multi_modal_projector.linear_1."),
             ("mlp1.3.", "model.multi_modal_projector.linear_2."),
             (".attn.proj.", ".attention.projection_layer."), (".norm1.", ".layernorm_before."),
             (".norm2.", ".layernorm_after."), (".ls1", ".lambda_1"), (".ls2", ".lambda_2"))
    for name, tensor in tensors.items():
        for old, new in parts:
            name = name.replace(old, new)
        if ".attn.qkv." in name:
            for part, value in zip("qkv", tensor.chunk(3)):
                renamed[name.replace(".attn.qkv.", f".attention.{part}_proj.")] = value.clone()
        else:
            renamed[name] = tensor
    return renamed


def load(path, dtype):
    """The model in a checkpoint's folder, and the name of its family."""
    kind = json.loads((pathlib.Path(path) / "config.json").read_text())["model_type"]
    name, model = {"qwen3_vl": ("qwen3vl", Qwen3Vl), "qwen2_5_vl": ("qwen25vl", Qwen25Vl),
                   "internvl_chat": ("internvl3", InternVl3)}[kind]
    return name, model(path, dtype)


def new_cache():
    """An empty store of keys and values."""
    return DynamicCache()
