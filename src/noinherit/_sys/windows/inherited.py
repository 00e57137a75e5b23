"""Windows: which of the announced descriptors this process has inherited."""

from __future__ import annotations

import os
import sys

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

assert sys.platform == "win32"

import _winapi
import msvcrt

GONE = (
    "is closed or was replaced, or this process was started by a launcher that did not pass it "
    "on: sockets reach only the process that spawn_with starts"
)
HAS_HANDLES = True
# FILE_TYPE_DISK, FILE_TYPE_CHAR and FILE_TYPE_PIPE, as the parent names them.
_KINDS = {1: "file", 2: "character device", 3: "pipe"}


def has_number(kind: str) -> bool:
    """Return whether the C runtime has a descriptor for something of this kind."""
    return kind not in ("other", "socket")


def closing(kind: str, number: int, identity: str) -> Iterable[object]:
    """Return an iterator whose one step closes the descriptor, or the handle if it has none."""
    if has_number(kind):
        return map(os.close, [number])
    return map(_winapi.CloseHandle, [int(identity, 16)])


def open_sockets(records: Iterable[Announced]) -> None:
    """Open the sockets among `records`, non-inheritable."""
    sockets = [record for record in records if record.kind == "socket"]
    if sockets:
        from .sockets import open_letterbox  # noqa: PLC0415 -- only needed for sockets

        opened = open_letterbox(record.identity for record in sockets)
        for record in sockets:
            record.shared = opened.get(record.identity)


def is_ours(record: Announced) -> bool:
    """Return whether this process inherited the descriptor that `record` describes."""
    try:
        if record.kind == "socket":
            return record.shared is not None
        if record.kind != "other":
            handle = msvcrt.get_osfhandle(record.number)
            record.kind = _KINDS.get(_winapi.GetFileType(handle), "other")
            return f"{handle:x}" == record.identity and record.kind != "other"
        # An event or a process has no number to compare. But an inherited handle is
        # inheritable, and an unrelated file may have received the same value since.
        handle = int(record.identity, 16)
        return os.get_handle_inheritable(handle) and not _is_file(handle)
    except (OSError, OverflowError, ValueError):
        return False


def _is_file(handle: int) -> bool:
    try:
        return _winapi.GetFileType(handle) != 0
    except OSError:  # GetFileType also fails for an unknown type
        return False


def make_noninheritable(record: Announced) -> None:
    """Make the handle that `record` describes non-inheritable."""
    if record.kind != "socket":  # open_letterbox() has done it for sockets
        os.set_handle_inheritable(int(record.identity, 16), False)
