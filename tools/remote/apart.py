# SPDX-License-Identifier: MPL-2.0
"""Runs a program in a network of its own that has loopback and nothing else: apart.py COMMAND...

For servers that open ports on every interface. Linux; without root where users may make namespaces.
"""

import ctypes
import fcntl
import os
import socket
import struct
import sys

CLONE_NEWUSER, CLONE_NEWNET = 0x10000000, 0x40000000
SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP = 0x8913, 0x8914, 1


def leave():
    """Into a new network; a new user namespace too where one must be root for that and is not."""
    libc = ctypes.CDLL(None, use_errno=True)
    uid, gid = os.getuid(), os.getgid()
    flags = CLONE_NEWNET if uid == 0 else CLONE_NEWNET | CLONE_NEWUSER
    if libc.unshare(flags):
        number = ctypes.get_errno()
        sys.exit(f"apart.py: no network of its own: {os.strerror(number)}; run it as root, or allow "
                 "user namespaces (sysctl kernel.unprivileged_userns_clone=1)")
    if uid:
        for file, text in (("setgroups", "deny"), ("uid_map", f"0 {uid} 1"), ("gid_map", f"0 {gid} 1")):
            with open(f"/proc/self/{file}", "w", encoding="ascii") as place:
                place.write(text)


def raise_loopback():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        request = struct.pack("16sH14x", b"lo", 0)
        request = fcntl.ioctl(any_socket, SIOCGIFFLAGS, request)
        flags = struct.unpack("16sH14x", request)[1] | IFF_UP
        fcntl.ioctl(any_socket, SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", flags))


def main():
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    leave()
    raise_loopback()
    os.execvp(sys.argv[1], sys.argv[1:])


if __name__ == "__main__":
    main()
