"""What another process holds, as Linux's /proc tells."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import socket
import struct
import sys

assert sys.platform == "linux"

from ..._descriptor import Descriptor, SocketFacts
from ..._identity import kind_and_identity
from .descriptors import kind_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

_TCP_LISTEN = "0A"  # include/net/tcp_states.h
_SO_ACCEPTCON = 0x10000  # include/linux/net.h
_INTERNET = {
    "tcp": ("AF_INET", "SOCK_STREAM"),
    "tcp6": ("AF_INET6", "SOCK_STREAM"),
    "udp": ("AF_INET", "SOCK_DGRAM"),
    "udp6": ("AF_INET6", "SOCK_DGRAM"),
}
_TYPES = {1: "SOCK_STREAM", 2: "SOCK_DGRAM", 5: "SOCK_SEQPACKET"}
# net/unix/af_unix.c. A path can have a line end in it: what follows that is no line of the table.
_UNIX = re.compile(
    r"[0-9a-f]+: [0-9A-F]{8} [0-9A-F]{8} ([0-9A-F]{8}) ([0-9A-F]{4}) [0-9A-F]{2} +(\d+)(?: (.*))?\n"
)
# What the kernel calls them; unlike the tables, it tells also of those that have no address yet.
_PROTOCOLS = {"TCP": "tcp", "TCPv6": "tcp6", "UDP": "udp", "UDPv6": "udp6"}


def audit(pid: int) -> list[Descriptor]:
    """Return what `pid` holds open: :manpage:`proc_pid_fd(5)`, :manpage:`proc_pid_fdinfo(5)`."""
    try:
        numbers = sorted(map(int, os.listdir(f"/proc/{pid}/fd")))
    except FileNotFoundError:
        raise ProcessLookupError(errno.ESRCH, os.strerror(errno.ESRCH)) from None
    sockets: dict[str, SocketFacts] | None = None
    found = []
    for number in numbers:
        # It, or all of the process, may be gone by now.
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            path = f"/proc/{pid}/fd/{number}"
            kind, identity = kind_and_identity(path)
            name = os.readlink(path)
            facts = None
            if kind == "socket":
                if sockets is None:
                    sockets = dict(_sockets(pid))
                facts = sockets.get(name) or _unbound(path)
            found.append(
                Descriptor(
                    number,
                    kind_of(kind, name),
                    name if facts is None else str(facts),
                    identity,
                    not _flags(pid, number) & os.O_CLOEXEC,
                    standard=number <= 2,
                    socket=facts,
                )
            )
    return found


def _flags(pid: int, number: int) -> int:
    with open(f"/proc/{pid}/fdinfo/{number}", encoding="ascii") as info:
        _, _, flags = info.read().partition("flags:")
    return int(flags.split()[0], 8)


def _sockets(pid: int) -> Iterator[tuple[str, SocketFacts]]:
    """Yield every socket of the network namespace of `pid` that the kernel lists, by link text."""
    for table, (family, kind) in _INTERNET.items():
        for line in _lines(pid, table):
            _, local, remote, state, *rest = line.split()
            yield (
                f"socket:[{rest[5]}]",
                SocketFacts(
                    family,
                    kind,
                    _endpoint(local),
                    _endpoint(remote),
                    listening=kind == "SOCK_STREAM" and state == _TCP_LISTEN,
                ),
            )
    for line in _lines(pid, "unix"):
        found = _UNIX.match(line)
        if found:
            flags, kind, inode, path = found.groups()
            yield (
                f"socket:[{inode}]",
                SocketFacts(
                    "AF_UNIX",
                    _TYPES.get(int(kind, 16), kind),
                    path,
                    listening=bool(int(flags, 16) & _SO_ACCEPTCON),
                ),
            )


def _lines(pid: int, table: str) -> Iterator[str]:
    # A kernel can be built without IPv6 or without any of them; and the process may be gone.
    with contextlib.suppress(OSError), open(f"/proc/{pid}/net/{table}", "rb") as lines:
        next(lines)
        yield from map(os.fsdecode, lines)


def _endpoint(text: str) -> tuple[str, int] | None:
    """Return an address from words of 32 bits, each in the byte order of this machine."""
    words, _, port = text.partition(":")
    if int(port, 16) == 0:
        return None
    packed = b"".join(
        struct.pack("=I", int(words[start : start + 8], 16)) for start in range(0, len(words), 8)
    )
    family = socket.AF_INET if len(packed) == 4 else socket.AF_INET6
    return socket.inet_ntop(family, packed), int(port, 16)


def _unbound(path: str) -> SocketFacts | None:
    try:
        protocol = os.getxattr(path, "system.sockprotoname").rstrip(b"\0").decode()
    except OSError:
        return None
    known = _PROTOCOLS.get(protocol)
    return SocketFacts(*_INTERNET[known]) if known else None
