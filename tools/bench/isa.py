# SPDX-License-Identifier: MPL-2.0
"""Instruction sets that the engine and its peers can be held to, and what switches each has.

    isa.py NAME [--cpuinfo FILE] [--said TEXT]

Ends with a sentence if this processor (or that of a copy of /proc/cpuinfo) has not got NAME, or if a
peer that says TEXT of itself runs more.
"""

import argparse
import dataclasses
import pathlib
import re
import sys

# Flags in /proc/cpuinfo.
AVX2 = "avx2", "fma", "f16c", "bmi2"
AVX512 = *AVX2, "avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl", "avx512_vnni"

# What peers call instruction sets where they say what they run, by what is more.
LEVELS = {"sse41": 0, "sse42": 0, "avx": 1, "avx2": 2, "avx_vnni": 3, "avx2_vnni": 3, "avx512": 4,
          "avx512_core": 4, "avx512_vnni": 5, "avx512_core_vnni": 5, "avx512_bf16": 6,
          "avx512_core_bf16": 6, "avx512_fp16": 7, "avx512_core_fp16": 7, "avx512_amx": 8,
          "avx512_core_amx": 8, "amx": 8}
WORD = re.compile(r"avx512(?:_core)?(?:_(?:vnni|bf16|fp16|amx))?|avx2?_vnni|avx2|avx|amx|sse4[12]")


@dataclasses.dataclass(frozen=True)
class Isa:
    """One of them."""

    needs: tuple
    # Our VLMCAPTION_ISA.
    ours: str
    # llama.cpp is built with: its crate hands cargo's target features on to cmake.
    rustflags: str
    cmake: dict
    # oneDNN's name, for OpenVINO and torch; ATen's and MKL's, for torch.
    onednn: str
    aten: str
    mkl: str

    def env(self):
        """Where the engine and its peers run."""
        return {"VLMCAPTION_ISA": self.ours, "ONEDNN_MAX_CPU_ISA": self.onednn,
                "ATEN_CPU_CAPABILITY": self.aten, "MKL_ENABLE_INSTRUCTIONS": self.mkl}

    def hides(self, cpuinfo):
        """Whether the processor of a /proc/cpuinfo has more than it, of what peers are held from."""
        has = flags(cpuinfo)
        called = {"avx_vnni": "avx_vnni", "avx512f": "avx512"}
        return bool(self.beyond([word for flag, word in called.items() if flag in has]))

    def beyond(self, words):
        """Those of some instruction sets that it does not include."""
        return [word for word in words if LEVELS[word] > LEVELS[self.onednn.lower()]]

    def excess(self, said):
        """Why a peer that says this of itself was not held to it, or None."""
        beyond = self.beyond(named(said))
        return f"it ran {', '.join(beyond)}: {said}" if beyond else None


V3, V4 = ("-C target-cpu=x86-64-v3", "-C target-cpu=x86-64-v4 -C target-feature=+avx512vnni")
ISAS = {
    "avx2": Isa(AVX2, "avx2", V3, {}, "AVX2", "avx2", "AVX2"),
    "avxvnni": Isa((*AVX2, "avx_vnni"), "avxvnni", f"{V3} -C target-feature=+avxvnni", {},
                   "AVX2_VNNI", "avx2", "AVX2_E1"),
    "avx512": Isa(AVX512, "avx512", V4, {"GGML_AVX512": "ON"}, "AVX512_CORE_VNNI", "avx512",
                  "AVX512_E1"),
    "avx512bf16": Isa((*AVX512, "avx512_bf16"), "avx512bf16", f"{V4},+avx512bf16",
                      {"GGML_AVX512": "ON"}, "AVX512_CORE_BF16", "avx512", "AVX512_E3"),
}


def flags(cpuinfo):
    """The flags in a /proc/cpuinfo."""
    line = re.search(r"^flags\s*:(.*)$", cpuinfo, re.MULTILINE)
    return set(line[1].split()) if line else set()


def refusal(name, cpuinfo):
    """Why it cannot be measured on the processor of a /proc/cpuinfo, or None."""
    has = flags(cpuinfo)
    names = [name for name, isa in ISAS.items() if has.issuperset(isa.needs)]
    if name in names:
        return None
    what = "" if name in ISAS else f" is none of {', '.join(ISAS)}, and"
    return f"--isa {name}:{what} this processor has {', '.join(names) or 'none that is measured'}"


def named(said):
    """The instruction sets in what a peer says of itself, the least first."""
    said = said.lower()
    # llama.cpp lists all that it was built with.
    built_in = re.findall(r"(\w+) = 1\b", said)
    found = WORD.findall(" ".join(built_in) or said)
    return sorted(set(found), key=lambda word: (LEVELS[word], word))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name")
    parser.add_argument("--cpuinfo", type=pathlib.Path, default="/proc/cpuinfo")
    parser.add_argument("--said", default="")
    args = parser.parse_args()
    sys.exit(refusal(args.name, args.cpuinfo.read_text()) or ISAS[args.name].excess(args.said))


if __name__ == "__main__":
    main()
