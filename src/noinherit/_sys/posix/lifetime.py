"""POSIX: how long a child lives."""

from __future__ import annotations

import sys

assert sys.platform != "win32"

from . import system

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..api import Identity

__all__ = ["identify"]


def identify(pid: int) -> Identity:
    """Return the identity of a child that has just been started."""
    return system.identify(pid)
