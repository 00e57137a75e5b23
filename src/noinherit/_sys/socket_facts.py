"""What a socket of this process is, as the system tells its owner."""

from __future__ import annotations

import os
import socket

from .._descriptor import SocketFacts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from .._descriptor import Address


def facts(sock: socket.socket) -> SocketFacts:
    """Return the facts of `sock`."""
    try:
        listening = bool(sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))
    except OSError:  # a protocol that knows no connections
        listening = False
    family = _constant(sock.family)
    return SocketFacts(
        family,
        _constant(sock.type),
        _address(family, sock.getsockname),
        _address(family, sock.getpeername),
        listening=listening,
    )


def _constant(value: int) -> str:
    # One that this Python has no name for is a plain number.
    return str(getattr(value, "name", value))


def _address(family: str, ask: Callable[[], Any]) -> Address:
    try:
        told = ask()
    except OSError:  # not connected; on Windows also: not bound
        return None
    if family in ("AF_INET", "AF_INET6"):
        host, port = told[:2]
        return (host, port) if port else None
    if family == "AF_UNIX":
        return os.fsdecode(told).replace("\0", "@") or None
    return None
