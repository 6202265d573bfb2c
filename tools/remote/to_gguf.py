# SPDX-License-Identifier: MPL-2.0
"""llama.cpp's converter for a checkpoint whose tokenizer it does not know: to_gguf.py SOURCE ARGUMENTS.

It looks a tokenizer up by the hash of what it makes of a text. The demo model's was trained here, so
its hash is in no table; it splits text as Qwen2's does, and that is what the file must say.
"""

import importlib
import pathlib
import runpy
import sys

source = pathlib.Path(sys.argv[1])
sys.path[:0] = [str(source), str(source / "gguf-py")]
for thing in vars(importlib.import_module("conversion.base")).values():
    if isinstance(thing, type) and "get_vocab_base_pre" in vars(thing):
        thing.get_vocab_base_pre = lambda self, tokenizer: "qwen2"
converter = source / "convert_hf_to_gguf.py"
sys.argv = [str(converter), *sys.argv[2:]]
runpy.run_path(str(converter), run_name="__main__")
