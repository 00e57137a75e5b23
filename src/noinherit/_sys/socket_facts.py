"""The facts of a socket of this process."""

from __future__ import annotations

import os
import socket

from .._descriptor import SocketFacts
from . import errors

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from .._descriptor import Address

_TYPES = {int(each): each.name for each in socket.SocketKind}


def facts(sock: socket.socket) -> SocketFacts:
    """Return the facts of `sock`; raise `OSError` if it does not even have a type."""
    listening = False
    with errors.suppressed():  # the protocol has no connections
        listening = bool(sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))
    family = _constant(sock.family)
    # Not sock.type, which is what the constructor was given.
    kind = sock.getsockopt(socket.SOL_SOCKET, socket.SO_TYPE)
    return SocketFacts(
        family,
        _TYPES.get(kind, str(kind)),
        _address(family, sock.getsockname),
        _address(family, sock.getpeername),
        listening=listening,
    )


def _constant(value: int) -> str:
    # Without a name in this Python, it is a plain number.
    return str(getattr(value, "name", value))


def _address(family: str, ask: Callable[[], Any]) -> Address:
    address = None
    with errors.suppressed():  # not connected; on Windows, possibly not bound
        address = ask()
    if address is None:
        return None
    if family in ("AF_INET", "AF_INET6"):
        host, port = address[:2]
        return (host, port) if port else None
    if family == "AF_UNIX":
        return os.fsdecode(address).replace("\0", "@") or None
    return None
