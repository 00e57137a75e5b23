"""A lifeline: a connection without data. Its end of file shows that the child's end is closed.

The kernel reports the end of file once every process that holds a copy of the child's end has
closed it or has ended.
"""

from __future__ import annotations

import os
import threading
import time

from ._channel import socketpair
from ._sys import forks

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypeVar

    _T = TypeVar("_T")

# Seconds; settimeout() refuses much larger values.
_LONGEST = 1e6


class NotReleasedError(Exception):
    """The timeout has passed. Not a `TimeoutError`: a signal handler may raise one of those."""


class Lifeline:
    """Owner of this process's end, and of the child's end until that is handed over."""

    def __init__(self) -> None:
        self._one_at_a_time = forks.new_lock()
        self._released = False
        self.ours, self.theirs = socketpair()
        self.owner = os.getpid()
        # By it, on POSIX, the descendants that hold the lifeline are found.
        self.inode = os.fstat(self.theirs.fileno()).st_ino

    def wait(self, timeout: float | None) -> float | None:
        """Wait until no process holds the other end; return the remaining `timeout`.

        Raises `NotReleasedError` when the timeout has passed, and `OSError` with ``EBADF`` if the
        lifeline is already closed.
        """
        deadline = None if timeout is None else time.monotonic() + timeout

        def left() -> float | None:
            return None if deadline is None else max(deadline - time.monotonic(), 0)

        if not self._one_at_a_time.acquire(timeout=_at_most(left(), threading.TIMEOUT_MAX, -1)):
            raise NotReleasedError
        try:
            while not self._released:
                self.ours.settimeout(_at_most(left(), _LONGEST, None))
                try:
                    # Data has no meaning here: discard it. Only the end of file counts.
                    self._released = not self.ours.recv(1 << 16)
                except (TimeoutError, BlockingIOError):
                    # A signal handler may have raised it: that is not our timeout.
                    if left() != 0:
                        raise
                    raise NotReleasedError from None
            with forks.held_off:
                self.ours.close()
        finally:
            self._one_at_a_time.release()
        return _at_most(left(), _LONGEST, None)

    def close(self) -> None:
        """Close both ends."""
        with forks.held_off:
            self.ours.close()
            self.theirs.close()

    def after_fork(self) -> None:
        """Close both ends, in a forked child; see `Channel.after_fork`."""
        self.ours.after_fork()
        self.theirs.after_fork()
        self.close()


def _at_most(seconds: float | None, limit: float, endless: _T) -> float | _T:
    return endless if seconds is None else min(seconds, limit)
