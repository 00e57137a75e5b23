"""The BSDs: kqueue."""

from __future__ import annotations

import contextlib
import ctypes
import select
import sys

from . import _libc

assert sys.platform not in ("linux", "win32")

SHELL = "/bin/sh"


def environ_pointer() -> int | None:
    """Return the address of the environment's array of strings."""
    return ctypes.c_void_p.in_dll(_libc.symbols, "environ").value


def wait_for_exit(pid: int, timeout: float) -> bool | None:
    """Wait on a kqueue (``NOTE_EXIT``); None without one, for instance at EMFILE."""
    try:
        queue = select.kqueue()
    except OSError:
        return None
    with contextlib.closing(queue):
        exits = select.kevent(
            pid,
            filter=select.KQ_FILTER_PROC,
            flags=select.KQ_EV_ADD | select.KQ_EV_ONESHOT,
            fflags=select.KQ_NOTE_EXIT,
        )
        try:
            return bool(queue.control([exits], 1, timeout))
        except ProcessLookupError:  # it has ended already; whoever asked will reap it
            return True
        except OSError:
            return None


def set_noinherit_range(first: int, last: int) -> bool:
    """Return False: there is no such call that sets the flag instead of closing."""
    return False
