"""Ends a child and all that it has left: the steps, and the waiting between them."""

from __future__ import annotations

import errno

from . import _sys
from .exceptions import UnsupportedOptionError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator
    from typing import Any

    from ._lifeline import Lifeline
    from ._sys.api import Leash

# Rounds of a tenth of a second without a descendant that can be found.
_MISSES = 10


class Descendants:
    """What holds a child's lifeline, and the child."""

    def __init__(
        self, process: subprocess.Popen[Any], lifeline: Lifeline | None, leash: Leash | None
    ) -> None:
        if lifeline is None:
            reason = "descendants are found through a lifeline: start the child with lifeline=True"
            raise UnsupportedOptionError("lifeline", "False", reason)
        self._process = process
        self._inode = lifeline.inode
        self._leash = leash

    def terminate(self) -> None:
        """Ask all that hold the lifeline to end; the child alone, if none can be asked."""
        if not self._end(gently=True):
            self._process.terminate()

    def kill(self, grace: float | None) -> Iterator[float]:
        """Do the steps that end all of them; yield the seconds to wait for the release after each.

        Raises `PermissionError` if they do not end.
        """
        if grace is not None:
            self._end(gently=True)
            yield grace
        misses = 0
        while misses < _MISSES:
            self._process.kill()  # first: it may have closed the lifeline, and the rest may fail
            found = self._end(gently=False)
            yield 0.1
            misses = 0 if found else misses + 1
        raise PermissionError(errno.EPERM, "a process holds the lifeline that cannot be ended")

    def _end(self, *, gently: bool) -> int:
        return _sys.lifetime.end_heirs(self._process.pid, self._inode, self._leash, gently=gently)
