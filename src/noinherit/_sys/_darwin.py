"""macOS: as the BSDs, but for where the environment is."""

from __future__ import annotations

import ctypes
import sys

assert sys.platform == "darwin"

from . import _libc
from ._bsd import SHELL, set_noinherit_range, wait_for_exit

__all__ = ["SHELL", "environ_pointer", "set_noinherit_range", "wait_for_exit"]

_get_environ = _libc.symbols._NSGetEnviron  # noqa: SLF001 -- Apple's name for it
_get_environ.restype = ctypes.POINTER(ctypes.c_void_p)
_get_environ.argtypes = []


def environ_pointer() -> int | None:
    """Return the address of the environment's array; see :manpage:`environ(7)`."""
    value: int | None = _get_environ()[0]
    return value
