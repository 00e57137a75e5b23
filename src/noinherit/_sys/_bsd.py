"""The BSDs: kqueue."""

from __future__ import annotations

import contextlib
import errno
import select
import sys
import time

assert sys.platform not in ("linux", "win32")

NEEDS_ABSOLUTE_PROGRAM = False
# What kevent(2) takes is a timespec; some systems refuse a large one.
_LONGEST_WAIT = 86_400.0


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
            code = events[0].data  # where there is room for an event, errors are events
        # It has ended already, and whoever asked will reap it; or there is nothing to wait on.
        return True if code == errno.ESRCH else None


def set_noinherit_range(first: int, last: int) -> bool:
    """Return False: there is no such call that sets the flag instead of closing."""
    return False
