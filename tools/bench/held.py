# SPDX-License-Identifier: MPL-2.0
"""Holds a peer's libraries to a smaller processor than this one.

OpenVINO looks at the processor in several places, of which oneDNN's switch reaches one: held to AVX2 where
there is AVX-512, it runs some of both, or ends with an error. So its packages are copied, `cpuid` in
their libraries is replaced by an instruction that traps (ud2, as long), and a library that is
preloaded (cpuid.c) answers it without what is to be hidden. Needs cc, objdump and readelf. What the
peer says it ran is looked at all the same.
"""

import pathlib
import re
import shutil
import subprocess

HERE = pathlib.Path(__file__).resolve().parent
CPUID, UD2 = b"\x0f\xa2", b"\x0f\x0b"
SECTION = re.compile(r"\]\s+\S+\s+PROGBITS\s+([0-9a-f]+)\s+([0-9a-f]+)\s+([0-9a-f]+)\s.*\bAX\b")


def output(*command):
    """What a program prints, by lines."""
    text = subprocess.run(command, check=True, text=True, capture_output=True).stdout
    return text.splitlines()


def trap(library):
    """Replaces `cpuid` in the code of a library."""
    data = bytearray(library.read_bytes())
    if CPUID not in data:
        return
    found = filter(None, map(SECTION.search, output("readelf", "-SW", library)))
    sections = [[int(number, 16) for number in match.groups()] for match in found]
    for line in output("objdump", "-d", "--no-show-raw-insn", library):
        if not line.rstrip().endswith("\tcpuid"):
            continue
        address = int(line.split(":")[0], 16)
        at = next(address - start + offset for start, offset, size in sections
                  if start <= address < start + size)
        if data[at:at + 2] != CPUID:
            raise RuntimeError(f"{library}: no cpuid at {address:#x}")
        data[at:at + 2] = UD2
    library.write_bytes(data)


def held(packages, to, name):
    """What env(1) is to be told to run a peer with copies of these package folders, held to the
    instruction set `name`. They are made in the folder `to`, unless they are there."""
    if not to.exists():
        part = to.with_suffix(".part")
        shutil.rmtree(part, ignore_errors=True)
        for package in packages:
            shutil.copytree(package, part / package.name)
        for library in part.rglob("*.so*"):
            trap(library)
        subprocess.run(["cc", "-O2", "-shared", "-fPIC", "-o", part / "cpuid.so",
                        HERE / "cpuid.c"], check=True)
        part.rename(to)
    return [f"LD_PRELOAD={to / 'cpuid.so'}", f"BENCH_HELD_TO={name}"]
