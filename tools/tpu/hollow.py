# SPDX-License-Identifier: MPL-2.0
"""PyTorch's wheels for machines without a GPU: hollow files in place of CUDA's libraries."""

import re
import subprocess


def output(*command):
    """What a program prints."""
    return subprocess.run([str(word) for word in command], stdout=subprocess.PIPE, text=True,
                          errors="replace", check=True).stdout


def fill_in(libraries, nvidia):
    """Hollow libraries for what PyTorch is linked with and what is not there.

    Each has the names that PyTorch's own libraries ask of it, as functions that return 1.
    """
    there = {path.name for root in (libraries, nvidia) for path in root.rglob("*.so*")}
    wanted, plain = {}, set()  # name -> version -> symbols; symbols without a version
    for library in sorted(libraries.glob("*.so")):
        for name in re.findall(r"NEEDED.*\[(lib(?!cuda\.)(?:cu|nv|nccl)[^\]]*)\]",
                               output("readelf", "-d", library)):
            wanted.setdefault(name, {})
        name, versions = None, {}
        for line in output("readelf", "-V", library).splitlines():
            file, version = re.search(r"File: (\S+)", line), re.search(r"Name: (\S+)", line)
            name = file.group(1) if file else name
            if version and name in wanted:
                versions[version.group(1)] = wanted[name].setdefault(version.group(1), set())
        for symbol, version in re.findall(r" U (\w+)(?:@(\S+))?", output("nm", "-D", library)):
            if version in versions:
                versions[version].add(symbol)
            elif not version and re.match("cu[a-zA-Z]|nccl|nv[a-z]", symbol):
                plain.add(symbol)
    source, script = libraries / "hollow.c", libraries / "hollow.map"
    for name, versions in wanted.items():
        if name in there:
            continue
        source.write_text("".join(f"int {symbol}(void) {{ return 1; }}\n"
                                  for symbols in versions.values() or [plain]
                                  for symbol in sorted(symbols)))
        script.write_text("".join(
            f"{version} {{ {' '.join(f'{symbol};' for symbol in sorted(symbols))} }};\n"
            for version, symbols in sorted(versions.items())))
        option = [f"-Wl,--version-script,{script}"] if versions else []
        output("gcc", "-shared", "-fPIC", "-w", "-fno-builtin", source, "-o", libraries / name,
            f"-Wl,-soname,{name}", *option)
    source.unlink(missing_ok=True)
    script.unlink(missing_ok=True)
