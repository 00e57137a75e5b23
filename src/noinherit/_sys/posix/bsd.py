"""The BSDs: kqueue."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import select
import sys
import time
from ctypes import c_int, c_int64, c_short

from ... import _identity
from ..._entry import shown
from ...exceptions import AuditUnsupportedError, UnsupportedOptionError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection
    from typing import Any, NoReturn

    from ..._descriptor import Descriptor

__all__ = [
    "NEEDS_ABSOLUTE_PROGRAM",
    "POSIX_SPAWN_CLOEXEC_DEFAULT",
    "POSIX_SPAWN_SETCGROUP",
    "POSIX_SPAWN_SETPGROUP",
    "POSIX_SPAWN_SETSID",
    "POSIX_SPAWN_SETSIGDEF",
    "POSIX_SPAWN_SETSIGMASK",
    "Leash",
    "audit_other",
    "check_cgroup",
    "exit_event",
    "flock",
    "holders",
    "identify",
    "kind_and_identity",
    "name_of",
    "named",
    "process",
    "set_noinherit_range",
    "signal_heirs",
    "wait_for_exit",
]

assert sys.platform not in ("linux", "win32")

from .guardian import Leash
from .identity import Identity

NEEDS_ABSOLUTE_PROGRAM = False
# <spawn.h>
POSIX_SPAWN_SETPGROUP = 0x02
POSIX_SPAWN_SETSIGDEF = 0x10
POSIX_SPAWN_SETSIGMASK = 0x20
POSIX_SPAWN_SETSID = 0  # posix_spawn cannot start a session
POSIX_SPAWN_CLOEXEC_DEFAULT = 0
POSIX_SPAWN_SETCGROUP = 0
# Seconds; some systems refuse a large timespec in kevent(2).
_LONGEST_WAIT = 86_400.0


class flock(ctypes.Structure):  # noqa: N801 -- C's name
    """<fcntl.h>; FreeBSD appends l_sysid, for which fcntl.fcntl's buffer has room."""

    _fields_ = (
        ("l_start", c_int64),
        ("l_len", c_int64),
        ("l_pid", c_int),
        ("l_type", c_short),
        ("l_whence", c_short),
    )


def wait_for_exit(pid: int, timeout: float) -> bool | None:
    """Wait on a kqueue (``NOTE_EXIT``); None if none can be opened, as with EMFILE."""
    try:
        queue = select.kqueue()
    except OSError:
        return None
    with contextlib.closing(queue):
        exits = _exits(pid)
        deadline = time.monotonic() + timeout
        try:
            while not (events := queue.control([exits], 1, min(timeout, _LONGEST_WAIT))):
                timeout = deadline - time.monotonic()
                if timeout <= 0:
                    return False
        except OSError as error:
            code = error.errno
        else:
            if not events[0].flags & select.KQ_EV_ERROR:
                return True
            code = events[0].data  # kevent(2) reports an error as an event if there is room for one
        # ESRCH: the process has already ended, and the caller will reap it. Otherwise nothing can
        # be waited on.
        return True if code == errno.ESRCH else None


class identify(Identity):  # noqa: N801 -- a function elsewhere
    """A child, by its number; its end is an event of a kqueue."""

    def wait_for_exit(self, timeout: float) -> bool | None:
        """Return whether the child ends within `timeout` seconds; None without an event."""
        return wait_for_exit(self.pid, timeout)


def signal_heirs(inode: int, signum: int) -> list[int]:
    """Raise `OSError`: only Linux's /proc shows who holds a socket."""
    raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))


def check_cgroup(value: Any) -> NoReturn:
    """Raise: cgroups are Linux's."""
    reason = "cgroups are Linux's; process_group=0 makes a group that os.killpg() ends"
    raise UnsupportedOptionError("cgroup", shown(value), reason)


def name_of(number: int) -> str:
    """Return "": the BSDs have no common call for it."""
    return ""


def kind_and_identity(number: int) -> tuple[str, str]:
    """Return what `os.fstat` reports."""
    return _identity.kind_and_identity(number)


def process(pid: int) -> tuple[str, str]:
    """Return nothing: only this process can be audited here."""
    return "", ""


def named(name: str) -> list[int]:
    """Return nothing, as `process`."""
    return []


def holders(identities: Collection[str], but: int) -> None:
    """Return None: this is not known here."""


def audit_other(pid: int) -> list[Descriptor]:
    """Raise: only this process can be audited here."""
    raise AuditUnsupportedError(pid, sys.platform)


def _exits(pid: int) -> select.kevent:
    return select.kevent(
        pid,
        filter=select.KQ_FILTER_PROC,
        flags=select.KQ_EV_ADD | select.KQ_EV_ONESHOT,
        fflags=select.KQ_NOTE_EXIT,
    )


def exit_event(pid: int) -> select.kqueue | None:
    """Return a kqueue, which is readable once `pid` has ended; None if none can be opened."""
    try:
        queue = select.kqueue()
    except OSError:
        return None
    try:
        queue.control([_exits(pid)], 0)
    except OSError:  # the process has already ended, or cannot be watched: use a thread instead
        queue.close()
        return None
    return queue


def set_noinherit_range(first: int, last: int) -> bool:
    """Return False: no call here sets the flags of a range; close_range(2) only closes."""
    return False
