"""Ends a child and all that it has left: the steps, and the waiting between them."""

from __future__ import annotations

import errno
import os

from . import _sys
from ._entry import check_seconds
from .exceptions import UnsupportedOptionError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Collection, Iterator
    from typing import Any

    from ._lifeline import Lifeline
    from ._sys.api import CgroupKill, Leash

# Rounds of a tenth of a second without a descendant that can be found.
_MISSES = 10


class Descendants:
    """The child, what holds its lifeline, and what is in its cgroup."""

    def __init__(
        self,
        process: subprocess.Popen[Any],
        lifeline: Lifeline | None,
        leash: Leash | None,
        cgroup_kill: CgroupKill | None,
    ) -> None:
        if lifeline is None:
            reason = "descendants are found through a lifeline: start the child with lifeline=True"
            raise UnsupportedOptionError("lifeline", "False", reason)
        if lifeline.owner != os.getpid():  # in a forked child, as Lifeline.wait does
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        self._process = process
        self._inode = lifeline.inode
        self._leash = leash
        self._cgroup_kill = cgroup_kill

    def terminate(self) -> None:
        """Ask the child and all that hold the lifeline to end, each once."""
        if self._process.pid not in self._ask(otherwise=self._process.terminate):
            self._process.terminate()

    def kill(self, grace: float | None) -> Iterator[float]:
        """Do the steps that end all of them; yield the seconds to wait for the release after each.

        The caller does `kill_cgroup` after the release. It may come while they are only asked.
        Raises `PermissionError` if they do not end.
        """
        check_seconds("grace", grace)  # before anything is signalled
        try:
            yield from self._kill(grace)
        except OSError as error:
            if error.errno != errno.ENOSYS:
                raise
            yield 0.1  # the child has been killed, and may have left nothing
            raise

    def _kill(self, grace: float | None) -> Iterator[float]:
        if grace is not None:
            self._ask(otherwise=self._process.kill)
            yield grace
        misses = 0
        while misses < _MISSES:
            self._process.kill()  # first: it may have closed the lifeline, and the rest may fail
            found = self._end(gently=False)
            yield 0.1
            misses = 0 if found else misses + 1
        raise PermissionError(errno.EPERM, "a process holds the lifeline that cannot be ended")

    def kill_cgroup(self) -> None:
        """Kill all that is in the child's cgroup, if it was started in one."""
        if self._cgroup_kill is not None:
            self._cgroup_kill.kill()

    def _ask(self, *, otherwise: Callable[[], None]) -> Collection[int]:
        """Ask all that hold the lifeline; where they cannot be found, do `otherwise` and raise."""
        try:
            return self._end(gently=True)
        except OSError as error:
            if error.errno == errno.ENOSYS:
                otherwise()
            raise

    def _end(self, *, gently: bool) -> Collection[int]:
        if not gently:
            self.kill_cgroup()
        return _sys.lifetime.end_heirs(self._process.pid, self._inode, self._leash, gently=gently)
