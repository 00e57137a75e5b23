"""POSIX: how long a child lives."""

from __future__ import annotations

import signal
import sys

assert sys.platform != "win32"

from . import system
from .cgroup import CgroupKill

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..api import Identity, Leash

__all__ = ["CgroupKill", "end_heirs", "identify", "leash"]


def identify(pid: int) -> Identity:
    """Return the identity of a child that has just been started."""
    return system.identify(pid)


def leash(*, die_with_parent: bool, lifeline: bool) -> Leash | None:
    """Return what kills a child when this process ends, if it shall."""
    return system.Leash() if die_with_parent else None


def end_heirs(pid: int, inode: int, leash: Leash | None, *, gently: bool) -> list[int]:
    """Send SIGTERM, or SIGKILL, to all that hold the lifeline `inode`; return their ids."""
    return system.signal_heirs(inode, signal.SIGTERM if gently else signal.SIGKILL)
