"""Linux: pidfd, close_range."""

from __future__ import annotations

import math
import os
import select
import sys
import time

from . import _libc

assert sys.platform == "linux"

NEEDS_ABSOLUTE_PROGRAM = False
# poll(2) takes an int of milliseconds.
_LONGEST_POLL = 86_400.0


def wait_for_exit(pid: int, timeout: float) -> bool | None:
    """Wait on a pidfd (:manpage:`pidfd_open(2)`); None without one, for instance at EMFILE."""
    try:
        pidfd = os.pidfd_open(pid)
    except (AttributeError, OSError):  # a Python or a kernel without it; too many open files
        return None
    try:
        poller = select.poll()
        poller.register(pidfd, select.POLLIN)
        deadline = time.monotonic() + timeout
        while not poller.poll(math.ceil(min(timeout, _LONGEST_POLL) * 1000)):
            timeout = deadline - time.monotonic()
            if timeout <= 0:
                return False
        return True
    finally:
        os.close(pidfd)


def set_noinherit_range(first: int, last: int) -> bool:
    """Use :manpage:`close_range(2)`; False before Linux 5.11 or in a sandbox that refuses it."""
    if _libc.close_range is None:
        return False
    try:
        _libc.close_range(first, last, _libc.CLOSE_RANGE_CLOEXEC)
    except OSError:  # ENOSYS, EINVAL for the flag, EPERM: whichever it is, walking works
        return False
    return True
