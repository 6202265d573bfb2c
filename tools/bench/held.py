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
SECTION = re.compile(r"\]\s+\S+\s+PROGBITS\s+([0-9a-f]+)\s+([0-9a-f]+)\s+([0-9a-f]+)\s.*\bAX")
WHERE = "import importlib.util, sys\nfor name in sys.argv[1:]:" \
    "\n    print(importlib.util.find_spec(name).submodule_search_locations[0])"


def output(*command):
    """What a program prints, by lines."""
    program = pathlib.Path(command[0]).name
    try:
        text = subprocess.run(command, check=True, text=True, capture_output=True).stdout
    except FileNotFoundError as error:
        raise RuntimeError(f"there is no {program}: install gcc and binutils") from error
    except subprocess.CalledProcessError as error:
        raise RuntimeError(f"{program}: {error.stderr.strip()[-400:]}") from error
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
        at = next((address - start + offset for start, offset, size in sections
                   if start <= address < start + size), len(data))
        if data[at:at + 2] != CPUID:
            raise RuntimeError(f"{library}: no cpuid at {address:#x}")
        data[at:at + 2] = UD2
    library.write_bytes(data)


def held(python, path, packages, to, name):
    """What env(1) is to be told to run a peer with copies of what these packages are to an
    interpreter with PYTHONPATH `path`, held to the instruction set `name`. They are made in the
    folder `to`, unless they are there and no older than the packages."""
    places = output("env", f"PYTHONPATH={path}", str(python), "-c", WHERE, *packages)
    sources = [pathlib.Path(place) for place in places]
    newest = max(source.stat().st_mtime for source in [*sources, pathlib.Path(__file__)])
    if not to.exists() or to.stat().st_mtime < newest:
        part = to.with_suffix(".part")
        for old in part, to:
            shutil.rmtree(old, ignore_errors=True)
        for source in sources:
            shutil.copytree(source, part / source.name)
        for library in part.rglob("*.so*"):
            trap(library)
        part.touch()
        part.rename(to)
    output("cc", "-O2", "-shared", "-fPIC", "-o", str(to / "cpuid.so"), str(HERE / "cpuid.c"))
    return [f"LD_PRELOAD={to / 'cpuid.so'}", f"BENCH_HELD_TO={name}"]
