"""A child of this process, known by its number only: where the system has nothing better."""

from __future__ import annotations

import contextlib
import errno
import os
import sys

assert sys.platform != "win32"


class Identity:
    """Names one child. The number can name another process once the child has been reaped."""

    def __init__(self, pid: int) -> None:
        self.pid = pid

    def pidfd(self) -> int:
        """Raise `OSError` with ``ENOSYS``: only Linux has pidfds."""
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    def is_child(self) -> bool:
        """Return True: a number does not show which process has it."""
        return True

    def send_signal(self, signum: int) -> None:
        """Send `signum`; do nothing if no process has the number."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signum)

    def reap(self, flags: int) -> tuple[int, int]:
        """Return process id and status, as `os.waitpid`.

        Raises `ChildProcessError` if other code, or the kernel, has reaped the child.
        """
        return os.waitpid(self.pid, flags)

    def poll(self) -> tuple[int, int]:
        """Do as `reap`, without blocking."""
        return self.reap(os.WNOHANG)

    def wait_for_exit(self, timeout: float) -> bool | None:
        """Return whether the child ends within `timeout` seconds; None without an event."""
        return None
