"""Descriptors that spoil an audit, on Linux as root: run as ``python odd_files.py KIND``.

Prints the number of the descriptor once it is there, and ends with standard input. Everything is in
namespaces of its own, so nothing is left when it ends.
"""

from __future__ import annotations

import sys

assert sys.platform == "linux"

import contextlib
import ctypes
import fcntl
import os
import select
import struct
from collections.abc import Callable

NOBODY = 65534
# <linux/fuse.h>
LOOKUP, GETATTR, OPEN, INIT = 1, 3, 14, 26
FILE, ROOT = 0o100644, 0o040755


def mount(source: bytes, target: bytes, kind: bytes | None, flags: int, data: bytes | None) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(source, target, kind, ctypes.c_ulong(flags), data):
        raise OSError(ctypes.get_errno(), "mount")


def unshare(flags: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(flags):
        raise OSError(ctypes.get_errno(), "unshare")


def attributes(node: int) -> bytes:
    mode, size = (ROOT, 0) if node == 1 else (FILE, 1)
    return struct.pack(
        "=6Q10I", node, size, 0, 0, 0, 0, 0, 0, 0, mode, 1, NOBODY, NOBODY, 0, 512, 0
    )


def answer(operation: int, node: int) -> bytes | None:
    if operation == INIT:
        return struct.pack("=4I2H2I2H8I", 7, 31, 0, 0, 1, 1, 4096, 1, 1, 0, *[0] * 8)
    if operation == LOOKUP:
        return struct.pack("=4Q2I", 2, 0, 60, 0, 0, 0) + attributes(2)
    if operation == GETATTR:
        return struct.pack("=Q2I", 0, 0, 0) + attributes(node)
    if operation == OPEN:
        return struct.pack("=Q2I", 1, 0, 0)
    return None


def serve(device: int, requests_after_open: int) -> None:
    """Answer until the file is open, and that many requests more; end with standard input."""
    left = None
    while True:
        ready, _, _ = select.select([0] if left == 0 else [0, device], [], [])
        if 0 in ready:
            os._exit(0)
        request = os.read(device, 1 << 17)
        _, operation, unique, node = struct.unpack_from("=IIQQ", request)
        if left is not None:
            left -= 1
        if operation == OPEN:
            left = requests_after_open
        reply = answer(operation, node)
        header = struct.pack(
            "=IiQ", 16 + len(reply or b""), 0 if reply is not None else -38, unique
        )
        os.write(device, header + (reply or b""))


def fuse(owner: int, requests_after_open: int) -> int:
    """Return a descriptor of a file of a file system that only `owner` may use."""
    unshare(0x00020000)  # CLONE_NEWNS
    mount(b"none", b"/", None, 1 << 14 | 1 << 18, None)  # MS_REC | MS_PRIVATE
    device = os.open("/dev/fuse", os.O_RDWR)
    options = f"fd={device},rootmode=40000,user_id={owner},group_id={owner}"
    mount(b"test", b"/mnt", b"fuse", 0, options.encode())  # in our namespace only
    if not os.fork():
        serve(device, requests_after_open)
    os.close(device)
    os.setgroups([])
    os.setresgid(owner, owner, owner)
    os.setresuid(owner, owner, owner)
    return os.open("/mnt/file", os.O_RDONLY)


def tun() -> int:
    """Return a descriptor of a network interface whose name is no text."""
    unshare(0x40000000)  # CLONE_NEWNET
    opened = os.open("/dev/net/tun", os.O_RDWR)
    fcntl.ioctl(opened, 0x400454CA, struct.pack("16sH22x", b"t\xff\x1b", 1))  # TUNSETIFF, IFF_TUN
    return opened


if __name__ == "__main__":
    kind = sys.argv[1]
    ways: dict[str, Callable[[], int]] = {
        "tun": tun,
        "others": lambda: fuse(NOBODY, 1 << 30),
        "silent": lambda: fuse(0, 0),
    }
    number = ways[kind]()
    print(number, flush=True)
    with contextlib.suppress(KeyboardInterrupt):
        sys.stdin.read()
    os._exit(0)  # closing would ask the server
