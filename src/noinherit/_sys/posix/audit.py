"""POSIX: the open descriptors of this process."""

from __future__ import annotations

import fcntl
import os
import socket
import sys

assert sys.platform != "win32"

from ..._descriptor import Descriptor
from .. import errors, socket_facts
from . import system
from .descriptors import access_of, kind_of, open_descriptors

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection

    from ..._descriptor import SocketFacts


def audit(pid: int | None, only: Collection[int] | None = None) -> list[Descriptor]:
    """Return the open descriptors of `pid`, or of this process, or `only` those of this process."""
    if pid is not None and pid != os.getpid():
        return system.audit_other(pid)
    found = []
    for number in sorted(open_descriptors() if only is None else only):
        # Another thread may have closed it since.
        with errors.suppressed():
            found.append(_look(number))
    return found


def process(pid: int) -> tuple[str, str]:
    """Return name and state of a process."""
    return system.process(pid)


def named(name: str) -> list[int]:
    """Return the ids of the processes called `name`."""
    return system.named(name)


def holders(identities: Collection[str], but: int) -> tuple[dict[str, list[int]], int] | None:
    """Return which processes other than `but` hold the objects; see `api.Audit`."""
    return system.holders(identities, but)


def _look(number: int) -> Descriptor:
    inheritable = os.get_inheritable(number)  # raises if it is closed
    # If a file server has failed: while it is open, nothing else in this process has this number.
    kind, identity = "other", f"{os.getpid():x}:{number:x}"
    with errors.suppressed():
        kind, identity = system.kind_and_identity(number)
    name = system.name_of(number)
    facts = _socket_facts(number) if kind == "socket" else None
    return Descriptor(
        number,
        kind_of(kind, name),
        name if facts is None else str(facts),
        identity,
        inheritable,
        standard=number <= 2,
        socket=facts,
        access=access_of(fcntl.fcntl(number, fcntl.F_GETFL)),
    )


# With a default timeout, Python makes each socket that it adopts non-blocking, and so every copy of
# it. A socket that was created non-blocking is left as it is.
_UNCHANGED = getattr(socket, "SOCK_NONBLOCK", -1)


def _socket_facts(number: int) -> SocketFacts | None:
    if _UNCHANGED == -1 and socket.getdefaulttimeout() is not None:  # macOS
        return None
    with errors.suppressed():  # too many open files, or Python cannot detect the family
        # Use a copy: if an interrupt drops the socket object, only the copy is closed.
        copy = os.dup(number)
        try:
            opened = socket.socket(type=_UNCHANGED, fileno=copy)
        except BaseException:
            os.close(copy)
            raise
        with opened:
            return socket_facts.facts(opened)
    return None
