"""Linux: pidfd, close_range."""

from __future__ import annotations

import ctypes
import os
import sys
from ctypes import c_int, c_int64, c_short

assert sys.platform == "linux"

from .. import errors
from . import libc
from .cgroup import check_cgroup
from .heirs import signal_heirs
from .leash import Leash
from .pidfd import identify, readable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection
    from typing import BinaryIO

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

NEEDS_ABSOLUTE_PROGRAM = False
# <spawn.h>
POSIX_SPAWN_SETPGROUP = 0x02
POSIX_SPAWN_SETSIGDEF = 0x04
POSIX_SPAWN_SETSIGMASK = 0x08
POSIX_SPAWN_SETSID = 0x80
POSIX_SPAWN_SETCGROUP = 0x100  # glibc 2.39
POSIX_SPAWN_CLOEXEC_DEFAULT = 0
CLOSE_RANGE_CLOEXEC = 0x4  # <linux/close_range.h>; Linux 5.11


class flock(ctypes.Structure):  # noqa: N801 -- C's name
    """<fcntl.h>."""

    _fields_ = (
        ("l_type", c_short),
        ("l_whence", c_short),
        ("l_start", c_int64),
        ("l_len", c_int64),
        ("l_pid", c_int),
    )


def wait_for_exit(pid: int, timeout: float) -> bool | None:
    """Wait on a pidfd (:manpage:`pidfd_open(2)`); None if none can be opened, as with EMFILE."""
    try:
        pidfd = os.pidfd_open(pid)
    except (AttributeError, OSError):  # a Python or a kernel without it; too many open files
        return None
    try:
        return readable(pidfd, timeout)
    finally:
        os.close(pidfd)


def name_of(number: int) -> str:
    """Return the link text of a descriptor of this process in /proc."""
    with errors.suppressed():  # /proc is not mounted
        return os.readlink(f"/proc/self/fd/{number}")
    return ""


def kind_and_identity(number: int) -> tuple[str, str]:
    """Return both without a question to a file server, which may not answer."""
    from . import linux_stat  # noqa: PLC0415 -- as below

    return linux_stat.look(number)


def process(pid: int) -> tuple[str, str]:
    """Return name and state of a process, as /proc reports them."""
    from . import linux_proc  # noqa: PLC0415 -- as below

    return linux_proc.process(pid)


def named(name: str) -> list[int]:
    """Return the ids of the processes called `name`."""
    from . import linux_proc  # noqa: PLC0415 -- as below

    return linux_proc.named(name)


def holders(identities: Collection[str], but: int) -> tuple[dict[str, list[int]], int]:
    """Return which processes other than `but` hold the objects, as /proc reports it."""
    from . import linux_proc  # noqa: PLC0415 -- as below

    return linux_proc.holders(identities, but)


def audit_other(pid: int) -> list[Descriptor]:
    """Return the open descriptors of `pid`."""
    from . import linux_proc  # noqa: PLC0415 -- rarely needed; keeps a spawn cheap

    return linux_proc.audit(pid)


def exit_event(pid: int) -> BinaryIO | None:
    """Return a pidfd, which is readable once `pid` has ended; None as in `wait_for_exit`."""
    try:
        return open(os.pidfd_open(pid), "rb", 0)
    except (AttributeError, OSError):
        return None


def set_noinherit_range(first: int, last: int) -> bool:
    """Use :manpage:`close_range(2)`; False before Linux 5.11 or in a sandbox that refuses it."""
    if libc.close_range is None:
        return False
    try:
        libc.close_range(first, last, CLOSE_RANGE_CLOEXEC)
    except OSError:  # ENOSYS, EINVAL for the flag, EPERM in a sandbox
        return False
    return True
