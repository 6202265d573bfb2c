# SPDX-License-Identifier: MPL-2.0
"""The table of small bmodels that the tests run: one of each kind that users have.

`convert.py` compiles them. Those that are `long` are made for `cargo xtask test --tpu-long` only: the
emulator needs minutes for them, or they differ from another in what the plugin never sees.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Variant:
    """One bmodel: which checkpoint, which compiler, how."""
    name: str
    checkpoint: str
    flags: str
    version: str = "1.30.2"
    chip: str = "bm1684x"
    quantize: str = "bf16"
    long: bool = False
    stages: tuple = ()
    """More stages, longest first: flags to compile once more with, and the nets to take from that."""

    @property
    def rewritten(self):
        """Whether the compiler rounds the weights, so that the reference must have them rounded."""
        return self.quantize.startswith(("w4", "w8"))

    @property
    def reference(self):
        """What `reference.py` was asked about: the checkpoint, or its rounded weights."""
        return self.name if self.rewritten else self.checkpoint


QWEN3 = "-s 256 --max_pixels 128,128"
STATIC = QWEN3 + " --max_input_length 192"
QWEN25 = "-s 256 --max_pixels 112,112"
INTERN = "-s 512"
# The demo model sees at most 16384 pixels; a prompt of four pairs has some 300 tokens.
DEMO = "-s 512 --max_pixels 128,128"

# Shorter windows and pictures for the same bmodel: the second stage of the vision net, the second and
# third of the rest. Compilers of the end of 2025 made such files in one go; today's makes the stages
# of the decode nets only, and its model_tool puts the others together.
STAGES = ((f"{QWEN3.replace('128,128', '128,96')} --max_input_length 64",
           ("vit", "embedding", "block_[0-9]*")),
          (f"{QWEN3.replace('128,128', '128,96')} --max_input_length 32",
           ("embedding", "block_[0-9]*")))

NEW = [
    Variant("q3_static", "qwen3vl", STATIC),
    Variant("q3_dyn", "qwen3vl", f"{QWEN3} --dynamic"),
    Variant("q3_kv", "qwen3vl", f"{QWEN3} --use_history_kv"),
    Variant("q3_stages", "qwen3vl", STATIC, stages=STAGES),
    Variant("q3_sample", "qwen3vl", f"{STATIC} --do_sample"),
    Variant("q3_embdisk", "qwen3vl", f"{STATIC} --embedding_disk"),
    Variant("q3_w4", "qwen3vl", f"{STATIC} -g 32", quantize="w4bf16"),
    Variant("q3_w8", "qwen3vl", STATIC, quantize="w8bf16", long=True),
    Variant("q3_f16", "qwen3vl", STATIC, quantize="f16"),
    Variant("q3_w4f16", "qwen3vl", f"{STATIC} -g 32", quantize="w4f16", long=True),
    Variant("q3_1688", "qwen3vl", f"{STATIC} --num_core 2", chip="bm1688"),
    Variant("q3_1688_1core", "qwen3vl", f"{STATIC} --num_core 1", chip="bm1688", long=True),
    Variant("q3_1688_kv", "qwen3vl", f"{QWEN3} --num_core 2 --use_history_kv", chip="bm1688",
            long=True),
    # As wide as published files: their masks are what is counted, and the emulator never runs it.
    Variant("q3_wide", "qwen3vl", "-s 2048 --max_input_length 1024 --max_pixels 768,768"),
    Variant("q25_static", "qwen25vl", f"{QWEN25} --max_input_length 192"),
    Variant("q25_dyn", "qwen25vl", f"{QWEN25} --dynamic", long=True),
    Variant("q25_kv", "qwen25vl", f"{QWEN25} --use_history_kv"),
    Variant("iv3_static", "internvl3", f"{INTERN} --max_input_length 384", long=True),
    # The emulator of BM1688 takes a fraction of the other's time.
    Variant("iv3_1688", "internvl3", f"{INTERN} --max_input_length 384 --num_core 2", chip="bm1688",
            long=True),
    Variant("iv3_dyn", "internvl3", f"{INTERN} --dynamic", long=True),
    Variant("iv3_kv", "internvl3", f"{INTERN} --use_history_kv"),
    Variant("demo_bm1684x", "demo", f"{DEMO} --max_input_length 384"),
    Variant("demo_dyn_bm1684x", "demo", f"{DEMO} --dynamic", long=True),
    Variant("demo_kv_bm1684x", "demo", f"{DEMO} --use_history_kv --chunk_length 256", long=True),
    Variant("demo_bm1688", "demo", f"{DEMO} --max_input_length 384 --num_core 2", chip="bm1688"),
]

# Older compilers, whose nets take other inputs: masks everywhere, history as the last two of five
# inputs of the block itself. 1.21 does not know Qwen3-VL, 1.18 no vision at all.
HISTORY = "--use_block_with_kv --max_input_length 128 --max_prefill_kv_length 128"
INTERN_HISTORY = "-s 768 --use_block_with_kv --max_input_length 384 --max_prefill_kv_length 384"
OLD = [
    # Several stages as they were compiled at the end of 2025, in one go.
    Variant("q3_stages_126", "qwen3vl", "-s 256 --input_length_list 192+128+64 "
            "--max_pixels 128,128+128,96", "1.26", long=True),
    Variant("q3_static_124", "qwen3vl", STATIC, "1.24", long=True),
    Variant("q3_kv_124", "qwen3vl", f"{QWEN3} {HISTORY}", "1.24", long=True),
    *(Variant(f"{name}_{version.replace('.', '')}", checkpoint, flags, version, long=True)
      for version in ("1.24", "1.21")
      for name, checkpoint, flags in (
          ("q25_static", "qwen25vl", QWEN25),
          ("q25_kv", "qwen25vl", f"{QWEN25} {HISTORY}"),
          ("q25_dyn", "qwen25vl", f"{QWEN25} --dynamic"),
          ("iv3_static", "internvl3", INTERN),
          ("iv3_kv", "internvl3", INTERN_HISTORY),
          ("iv3_dyn", "internvl3", f"{INTERN} --dynamic"))),
]

VARIANTS = {variant.name: variant for variant in NEW + OLD}
