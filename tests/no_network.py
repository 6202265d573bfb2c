#!/usr/bin/env python3
# SPDX-License-Identifier: MPL-2.0
"""Captions without one socket: pipelines run under a filter of the kernel (seccomp) that kills a
process the moment it asks for a socket of any kind, and must give their captions all the same.

    VLMCAPTION_PLUGIN_PATH  the folder with libgstvlmcaption.so (a debug build, made here)

Needs Linux on x86-64 or 64-bit Arm and gst-launch-1.0; no privileges.
"""

import ctypes
import os
import platform
import signal
import socket
import struct
import subprocess
import sys
import tempfile

# Per machine: its name for the kernel's audit, and the numbers of socket, io_uring_setup (which
# could open one behind the filter's back).
MACHINES = {
    "x86_64": (0xC000003E, (41, 425)),
    "aarch64": (0xC00000B7, (198, 425)),
}
PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS, SECCOMP_MODE_FILTER = 22, 38, 2
ALLOW, KILL_PROCESS = 0x7FFF0000, 0x80000000
LOAD_WORD, JUMP_IF_EQUAL, RETURN = 0x20, 0x15, 0x06

CAPTION = "vlmcaption/caption"
PIPELINES = {
    "backend=cpu, the demo model": "vlmcaption backend=cpu window=1",
    "backend=auto, the text pad too": "vlmcaption name=c window=1 c.text_src ! fakesink async=false c.src",
    "backend=mock": "vlmcaption backend=mock window=1",
    "the cpu in a process of its own": "vlmcaption backend=cpu isolation=process window=1",
    "records of captions": "vlmcaption window=1 network=none evidence=EVIDENCE",
    "a server that is refused, and the cpu": "vlmcaption backend=openai,cpu server-uri=http://127.0.0.1:9/v1 "
    "server-proxy=none network=none window=1",
}


def forbid_sockets():
    """From here on this process and its children are killed at a call of socket(2)."""
    audit, calls = MACHINES[platform.machine()]
    program = [
        (LOAD_WORD, 0, 0, 4),  # the machine that the call is made for
        (JUMP_IF_EQUAL, 1, 0, audit),
        (RETURN, 0, 0, KILL_PROCESS),
        (LOAD_WORD, 0, 0, 0),  # the number of the call
    ]
    for number in calls:
        program += [(JUMP_IF_EQUAL, 0, 1, number), (RETURN, 0, 0, KILL_PROCESS)]
    program.append((RETURN, 0, 0, ALLOW))
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *line) for line in program))
    header = struct.pack("HP", len(program), ctypes.addressof(code))
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl.argtypes = [ctypes.c_int] + [ctypes.c_ulong] * 4
    filtered = ctypes.create_string_buffer(header)
    if libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) or libc.prctl(
        PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.addressof(filtered), 0, 0
    ):
        raise OSError(ctypes.get_errno(), "the kernel takes no seccomp filter")


def filter_bites():
    """Whether a process under the filter dies of a socket."""
    child = os.fork()
    if child == 0:
        forbid_sockets()
        socket.socket()
        os._exit(0)
    _, status = os.waitpid(child, 0)
    return os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGSYS


def run(element):
    """Two captions of a test picture; what went wrong, or None."""
    source = "videotestsrc num-buffers=31 ! video/x-raw,framerate=30/1,width=320,height=240 !"
    command = ["gst-launch-1.0", "-m", *source.split(), *element.split(), "!", "fakesink"]
    process = subprocess.run(
        command,
        preexec_fn=forbid_sockets,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=120,
        check=False,
    )
    captions = process.stdout.count(CAPTION)
    if process.returncode == -signal.SIGSYS:
        return "it asked for a socket"
    if process.returncode != 0 or captions != 2:
        return f"exit status {process.returncode}, {captions} captions\n{process.stdout}"
    return None


def main():
    if platform.system() != "Linux" or platform.machine() not in MACHINES:
        sys.exit("this needs Linux on x86-64 or 64-bit Arm")
    os.chdir(os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
    plugin = os.environ.get("VLMCAPTION_PLUGIN_PATH")
    if not plugin:
        build = ["cargo", "build", "--locked", "--package", "gst-plugin-vlmcaption"]
        subprocess.run(build, check=True)
        plugin = os.path.join(os.environ.get("CARGO_TARGET_DIR", "target"), "debug")
    if not filter_bites():
        sys.exit("the filter lets sockets through: nothing would be shown by it")
    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        # A registry of its own: one elsewhere may be stale, and this looks for plugins as well.
        os.environ["GST_REGISTRY"] = os.path.join(folder, "registry.bin")
        os.environ["GST_PLUGIN_PATH"] = plugin
        subprocess.run(["gst-inspect-1.0", "vlmcaption"], stdout=subprocess.DEVNULL, check=True)
        for name, element in PIPELINES.items():
            reason = run(element.replace("EVIDENCE", os.path.join(folder, "evidence")))
            failed += reason is not None
            print(f"FAILED  {name}: {reason}" if reason else f"ok      {name}")
    sys.exit(1 if failed else 0)


main()
