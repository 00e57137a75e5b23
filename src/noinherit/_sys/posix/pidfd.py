"""Linux: a child, known by a pidfd (:manpage:`pidfd_open(2)`), which names no other process."""

from __future__ import annotations

import errno
import fcntl
import math
import os
import select
import signal
import sys
import time

assert sys.platform == "linux"

from .. import errors, forks
from .identity import Identity

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# poll(2) takes an int of milliseconds.
_LONGEST_POLL = 86_400.0
_REFUSED = (errno.EACCES, errno.ENOSYS, errno.EPERM)
# Taken here, because eventlet removes it from the module, and leaves a select() that works for any
# number.
_poll = getattr(select, "poll", None)
# gevent removes it from the module. Then there is no Pidfd.
_epoll: Any = getattr(select, "epoll", None)


class Pidfd(Identity):
    """Owner of a pidfd.

    Only the last reference closes it. So no thread can see its number name something else.

    The owner of the number is an object of `select.epoll`, which closes it from C. At the start of
    a ``__del__`` in Python, a signal handler could raise, and the number would stay open.
    """

    number = -1

    def __init__(self, pid: int) -> None:
        super().__init__(pid)
        self._owner: list[Any] = []
        with forks.held_off:
            # One C call: no signal handler can raise an exception before it is recorded.
            self._owner.extend(map(_epoll.fromfd, map(os.pidfd_open, [pid])))
            self.number = self._owner[0].fileno()
            forks.register(self)

    def after_fork(self) -> None:
        """Close it: in a forked child, it would be the parent's child's."""
        self.number = -1
        self._owner.clear()

    def pidfd(self) -> int:
        """Return a copy for the caller to close."""
        if self.number == -1:  # in a forked child, which cannot wait for it
            raise ProcessLookupError(errno.ESRCH, os.strerror(errno.ESRCH))
        return fcntl.fcntl(self.number, fcntl.F_DUPFD_CLOEXEC, 3)

    def is_child(self) -> bool:
        """Return whether the child has not been reaped."""
        try:
            os.waitid(os.P_PIDFD, self.number, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return False
        return True

    def send_signal(self, signum: int) -> None:
        """Send `signum`, unless the child has been reaped."""
        if self.number == -1:  # in a forked child
            return super().send_signal(signum)
        try:
            signal.pidfd_send_signal(self.number, signum)
        except ProcessLookupError:
            pass
        except OSError as error:
            # A sandbox can refuse this call and allow kill(2). Another user's child refuses both.
            if error.errno not in _REFUSED:
                raise
            if self.is_child():
                return super().send_signal(signum)
        return None

    def reap(self, flags: int) -> tuple[int, int]:
        """Return process id and status, as `os.waitpid`; see `Identity.reap`."""
        if self.number == -1:
            return super().reap(flags)
        result = os.waitid(os.P_PIDFD, self.number, flags | os.WEXITED)
        if result is None:
            return 0, 0
        if result.si_code == os.CLD_EXITED:
            return self.pid, result.si_status << 8
        core = 0x80 if result.si_code == os.CLD_DUMPED else 0
        return self.pid, result.si_status | core

    def wait_for_exit(self, timeout: float) -> bool | None:
        """Return whether the child ends within `timeout` seconds."""
        return None if self.number == -1 else readable(self.number, timeout)


def readable(pidfd: int, timeout: float) -> bool:
    """Return whether the process of `pidfd` ends within `timeout` seconds."""
    if _poll is None:
        return bool(select.select([pidfd], [], [], timeout)[0])
    poller = _poll()
    poller.register(pidfd, select.POLLIN)
    deadline = time.monotonic() + timeout
    while not poller.poll(math.ceil(min(timeout, _LONGEST_POLL) * 1000)):
        timeout = deadline - time.monotonic()
        if timeout <= 0:
            return False
    return True


class Reaped(Identity):
    """A child that the kernel or other code has reaped before it could be identified."""

    def is_child(self) -> bool:
        """Return False."""
        return False

    def send_signal(self, signum: int) -> None:
        """Do nothing: the number may name another process by now."""

    def reap(self, flags: int) -> tuple[int, int]:
        """Raise `ChildProcessError`."""
        raise ChildProcessError(errno.ECHILD, os.strerror(errno.ECHILD))


def identify(pid: int) -> Identity:
    """Return the identity of a child that has just been started.

    It is the number alone if there is no pidfd for it: a Python without pidfds, a Linux before 5.4,
    a sandbox, too many open files.
    """
    try:
        found = Pidfd(pid)
        # With SIGCHLD ignored, or another thread in waitpid(-1), the number may be free again.
        return found if found.is_child() else Reaped(pid)
    except ProcessLookupError:
        return Reaped(pid)
    except AttributeError:
        return Identity(pid)
    except OSError as error:
        if errors.raised_by_handler(error):
            raise
        return Identity(pid)
