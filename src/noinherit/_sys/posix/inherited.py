"""POSIX: which of the announced descriptors this process has inherited."""

from __future__ import annotations

import os
import sys

from ..._identity import kind_and_identity
from .. import errors

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from ..api import Announced

__all__ = [
    "GONE",
    "HAS_HANDLES",
    "closing",
    "has_number",
    "is_ours",
    "make_noninheritable",
    "open_sockets",
]

assert sys.platform != "win32"

GONE = "is closed or was replaced"
HAS_HANDLES = False


def has_number(kind: str) -> bool:
    """Return True: on POSIX, everything is a descriptor."""
    return True


def closing(kind: str, number: int, identity: str) -> Iterable[None]:
    """Return an iterator whose one step closes `number`."""
    return map(os.close, [number])


def open_sockets(records: Iterable[Announced]) -> None:
    """Do nothing: on POSIX, a socket is inherited like any other descriptor."""


def is_ours(record: Announced) -> bool:
    """Return whether this process inherited the descriptor that `record` describes.

    The variable is believed for the key only: the kind is what the kernel reports.
    """
    with errors.suppressed():
        record.kind, identity = kind_and_identity(record.number)
        return identity == record.identity
    return False


def make_noninheritable(record: Announced) -> None:
    """Set close-on-exec for the descriptor that `record` describes."""
    os.set_inheritable(record.number, False)
