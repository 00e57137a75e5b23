"""Ways in which programs come by an inheritable descriptor, each to be found by its line.

Every function opens something for as long as `keep` lasts, and returns the number any child would
inherit, on Windows the handle. ``# here`` marks the line to be told.
"""

from __future__ import annotations

import contextlib
import ctypes
import inspect
import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path

if sys.platform == "win32":
    import _winapi
    import msvcrt

    number_of = msvcrt.get_osfhandle
else:
    import fcntl

    def number_of(fd: int) -> int:
        return fd


NATIVE = "native code"


def opened(keep: contextlib.ExitStack, path: Path) -> int:
    fd = os.open(path, os.O_RDWR | os.O_CREAT)
    keep.callback(os.close, fd)
    return fd


def open_with_an_opener(keep: contextlib.ExitStack, path: Path) -> int:
    def opener(path: str, flags: int) -> int:
        fd = os.open(path, flags)
        os.set_inheritable(fd, True)  # here
        return fd

    return number_of(keep.enter_context(open(path, "w", opener=opener)).fileno())


def open_made_inheritable(keep: contextlib.ExitStack, path: Path) -> int:
    file = keep.enter_context(path.open("w"))
    os.set_inheritable(file.fileno(), True)  # here
    return number_of(file.fileno())


def dup2(keep: contextlib.ExitStack, path: Path) -> int:
    target = opened(keep, path)
    os.dup2(opened(keep, path), target)  # here
    return number_of(target)


def dup_made_inheritable(keep: contextlib.ExitStack, path: Path) -> int:
    fd = os.dup(opened(keep, path))
    keep.callback(os.close, fd)
    os.set_inheritable(fd, True)  # here
    return number_of(fd)


def socket_made_inheritable(keep: contextlib.ExitStack, path: Path) -> int:
    server = keep.enter_context(socket.create_server(("127.0.0.1", 0)))
    server.set_inheritable(True)  # here
    return server.fileno()


def pipe_made_inheritable(keep: contextlib.ExitStack, path: Path) -> int:
    for end in (ends := os.pipe()):
        keep.callback(os.close, end)
    os.set_inheritable(ends[1], True)  # here
    return number_of(ends[1])


WAYS: list[Callable[[contextlib.ExitStack, Path], int]] = [
    open_made_inheritable,
    dup2,
    dup_made_inheritable,
    socket_made_inheritable,
    pipe_made_inheritable,
]

if sys.platform == "win32":

    class SecurityAttributes(ctypes.Structure):
        _fields_ = (
            ("nLength", ctypes.c_uint32),
            ("lpSecurityDescriptor", ctypes.c_void_p),
            ("bInheritHandle", ctypes.c_int32),
        )

    def handle_made_inheritable(keep: contextlib.ExitStack, path: Path) -> int:
        handle = number_of(opened(keep, path))
        os.set_handle_inheritable(handle, True)  # here
        return handle

    def handle_duplicated(keep: contextlib.ExitStack, path: Path) -> int:
        this = _winapi.GetCurrentProcess()
        handle = number_of(opened(keep, path))
        copy = _winapi.DuplicateHandle(this, handle, this, 0, True, 2)  # here
        keep.callback(_winapi.CloseHandle, copy)
        return copy

    def native(keep: contextlib.ExitStack, path: Path) -> int:
        path.touch()
        attributes = SecurityAttributes(24, None, 1)
        create = ctypes.WinDLL("kernel32").CreateFileW
        create.restype = ctypes.c_void_p
        # GENERIC_READ, shared for all, OPEN_EXISTING
        handle = create(str(path), 0x80000000, 7, ctypes.byref(attributes), 3, 0, None)
        keep.callback(_winapi.CloseHandle, handle)
        return int(handle)

    # Elsewhere, open() undoes what its opener did.
    WAYS += [open_with_an_opener, handle_made_inheritable, handle_duplicated, native]
else:

    def fcntl_setfd(keep: contextlib.ExitStack, path: Path) -> int:
        file = keep.enter_context(path.open("w"))
        fcntl.fcntl(file, fcntl.F_SETFD, 0)  # here
        return file.fileno()

    def fcntl_dupfd(keep: contextlib.ExitStack, path: Path) -> int:
        fd = fcntl.fcntl(opened(keep, path), fcntl.F_DUPFD, 30)  # here
        keep.callback(os.close, fd)
        return fd

    def received(keep: contextlib.ExitStack, path: Path) -> int:
        a, b = (keep.enter_context(end) for end in socket.socketpair())
        socket.send_fds(a, [b"x"], [opened(keep, path)])
        _, (fd,), _, _ = socket.recv_fds(b, 1, 1)  # here
        keep.callback(os.close, fd)
        return fd

    def native(keep: contextlib.ExitStack, path: Path) -> int:
        path.touch()
        fd = ctypes.CDLL(None).open(os.fsencode(path), os.O_RDONLY)
        keep.callback(os.close, fd)
        return int(fd)

    WAYS += [fcntl_setfd, fcntl_dupfd, received, native]
    if sys.platform != "darwin":

        def pipe2(keep: contextlib.ExitStack, path: Path) -> int:
            ends = os.pipe2(0)  # here
            for end in ends:
                keep.callback(os.close, end)
            os.set_inheritable(ends[0], False)
            return ends[1]

        WAYS.append(pipe2)
    if sys.platform == "linux" and hasattr(os, "memfd_create"):

        def memfd(keep: contextlib.ExitStack, path: Path) -> int:
            fd = os.memfd_create("leak", 0)  # here
            keep.callback(os.close, fd)
            return fd

        WAYS.append(memfd)


def origin(way: Callable[..., int]) -> str:
    """Return where `way` has to be told to make its descriptor inheritable."""
    lines, first = inspect.getsourcelines(way)
    for number, line in enumerate(lines, first):
        if line.rstrip().endswith("# here"):
            function = "opener" if way is open_with_an_opener else way.__name__
            return f"{__file__}:{number}, in {function}"
    return NATIVE
