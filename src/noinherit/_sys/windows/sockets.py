"""Windows: sockets on their way to a child, which cannot inherit them.

Layered service providers lose sockets that are inherited as handles, so ``WSADuplicateSocketW``
makes each ready for the child's process id. That is known only when the child exists: it is
created suspended, and finds what it needs in a pipe, the letterbox. In there are a random token,
which tells it from another pipe under the same handle, the child's process id, which tells it from
a grandchild that has inherited everything, and a ``WSAPROTOCOL_INFOW`` for each socket.
"""

from __future__ import annotations

import ctypes
import os
import sys

from ..._entry import descriptor
from ..api import Held
from . import structs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Self

    from ..._entry import Entry
    from ..api import Shared

__all__ = ["HeldSocket", "Letterbox", "is_socket", "open_letterbox"]

assert sys.platform == "win32"

import _winapi

from . import ws2_32

_TOKEN_SIZE = 16
_PID_SIZE = 4
_SIZE = ctypes.sizeof(structs.WSAPROTOCOL_INFOW)
_LARGEST = _TOKEN_SIZE + _PID_SIZE + _SIZE * 256


def is_socket(value: object) -> bool:
    """Return whether ``fileno()`` of `value` is a SOCKET: also of a server or a transport's."""
    return hasattr(value, "getsockname") or hasattr(getattr(value, "socket", None), "getsockname")


class HeldSocket(Held):
    """A socket that is to be handed over; it gets no number in the child."""

    __slots__ = ("value",)

    def __init__(self, entry: Entry) -> None:
        # There is no copy of ours: WSADuplicateSocketW makes inheritable ones, in any process
        # (python/cpython#102337).
        super().__init__(entry.key, entry.number, 0, "socket", "")
        self.value = entry.value
        descriptor(self.value, self.key)  # raises if it is closed


class Letterbox:
    """Owner of a pipe with what one child needs to open `sockets`."""

    def __init__(self, sockets: Iterable[HeldSocket]) -> None:
        self._sockets = list(sockets)
        self._token = os.urandom(_TOKEN_SIZE)
        # With room for all of it: nobody reads while we write.
        self.reader, self._writer = _winapi.CreatePipe(
            _winapi.NULL, _TOKEN_SIZE + _PID_SIZE + _SIZE * len(self._sockets)
        )

    def set_identities(self, handle: int) -> None:
        """Note where a child that has the reader as `handle` finds each socket."""
        for index, each in enumerate(self._sockets):
            each.identity = f"{handle:x}:{index:x}:{self._token.hex()}"

    def fill(self, pid: int) -> None:
        """Make the sockets ready for the process `pid`."""
        infos = [_shared(descriptor(each.value, each.key), pid) for each in self._sockets]
        _winapi.WriteFile(self._writer, self._token + _packed(pid) + b"".join(infos))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        _winapi.CloseHandle(self.reader)
        _winapi.CloseHandle(self._writer)


def open_letterbox(addresses: Iterable[str]) -> dict[str, Shared]:
    """Open what was left for this process at `addresses`, and close the letterbox.

    Addresses that were meant for another process, whose environment this one has, are left out.
    """
    import socket  # noqa: F401, PLC0415 -- nobody else has started Winsock yet

    contents: dict[tuple[str, str], bytes] = {}
    opened = {}
    for address in addresses:
        try:
            handle, index, token = address.split(":")
            if (handle, token) not in contents:
                contents[handle, token] = _take(int(handle, 16), bytes.fromhex(token))
            start = int(index, 16) * _SIZE
        except ValueError:
            continue
        info = contents[handle, token][start : start + _SIZE]
        if len(info) == _SIZE:
            opened[address] = _open(info)
    return opened


def _take(handle: int, token: bytes) -> bytes:
    try:
        # Should it not be our letterbox, a read would wait for data that may never come.
        peeked = bytes(_winapi.PeekNamedPipe(handle, _LARGEST)[0])
    except (OSError, OverflowError):
        return b""
    if len(token) != _TOKEN_SIZE or not peeked.startswith(token + _packed(os.getpid())):
        return b""
    _winapi.CloseHandle(handle)
    return peeked[_TOKEN_SIZE + _PID_SIZE :]


def _packed(pid: int) -> bytes:
    return pid.to_bytes(_PID_SIZE, "little")


def _shared(number: int, pid: int) -> bytes:
    info = structs.WSAPROTOCOL_INFOW()
    ws2_32.WSADuplicateSocketW(number, pid, ctypes.byref(info))
    return bytes(info)


def _open(info: bytes) -> Shared:
    described = structs.WSAPROTOCOL_INFOW.from_buffer_copy(info)
    opened = ws2_32.WSASocketW(
        structs.FROM_PROTOCOL_INFO,
        structs.FROM_PROTOCOL_INFO,
        structs.FROM_PROTOCOL_INFO,
        ctypes.byref(described),
        0,
        structs.WSA_FLAG_OVERLAPPED,
    )
    try:
        os.set_handle_inheritable(opened, False)
    except OSError:
        ws2_32.closesocket(opened)
        raise
    return described.iAddressFamily, described.iSocketType, described.iProtocol, opened
