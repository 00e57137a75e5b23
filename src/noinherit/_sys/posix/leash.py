"""A child that the kernel kills when this process ends, by whatever death; without code in it.

Linux. The child holds the reading end of a pipe, this process the only writing end. The reading
end's open file has three settings:

- ``O_ASYNC``: the kernel signals when something can be read, which includes the end of file;
- ``F_SETSIG``: the signal is SIGKILL;
- ``F_SETOWN_EX``: the child, or its process group, receives it.

See :manpage:`F_SETSIG(2const)` and :manpage:`F_SETOWN_EX(2const)`. When this process ends or calls
exec, the kernel closes the writing end, and signals. ``PR_SET_PDEATHSIG`` would need code in the
child, and acts at the end of the *thread* that started it.

- The settings go with the last copy of the open file. So the child has to keep its end open.
- This process keeps a copy, too. With it, `Leash.close` takes the settings back.
- The owner is a reference to a process or a group, not a number. It is never another one.
- Any other copy of the writing end would delay the signal. It is close-on-exec, and a forked child
  closes it (`forks`).
- What remains: docs/gotchas/both.md, "Children that end with their parent".
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import posix
import signal
import struct
import sys

assert sys.platform == "linux"

from .. import forks
from .descriptors import add_pipe, release

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from ..api import Identity

# <fcntl.h>
_F_SETOWN_EX = 15
_F_OWNER_PID = 1
_F_OWNER_PGRP = 2


class Leash:
    """Owner of both ends of the pipe."""

    job = 0

    def __init__(self) -> None:
        self._ends: list[int] = []
        self._group = 0
        try:
            with forks.held_off:
                add_pipe(self._ends)
            self.theirs: int = self._ends[0]
            fcntl.fcntl(self.theirs, fcntl.F_SETSIG, signal.SIGKILL)
            flags = fcntl.fcntl(self.theirs, fcntl.F_GETFL)
            fcntl.fcntl(self.theirs, fcntl.F_SETFL, flags | os.O_ASYNC)
        except BaseException:
            self.after_fork()
            raise

    def fasten(self, identity: Identity, *, group: bool) -> None:
        """Have the child, or its process group, killed when this process ends."""
        forks.register(self)  # until now, its launch has seen to forked children
        self._group = identity.pid if group else 0
        kind = _F_OWNER_PGRP if group else _F_OWNER_PID
        with contextlib.suppress(ProcessLookupError):  # it has been reaped by other code
            fcntl.fcntl(self.theirs, _F_SETOWN_EX, struct.pack("ii", kind, identity.pid))
            if not identity.is_child():  # its number may have been another process's already
                fcntl.fcntl(self.theirs, _F_SETOWN_EX, struct.pack("ii", kind, 0))

    def is_over(self) -> bool:
        """Return whether the child, which has been reaped, leaves nothing that it would kill."""
        if self._group:
            with contextlib.suppress(ProcessLookupError):
                with contextlib.suppress(PermissionError):
                    os.killpg(self._group, 0)
                return False
        return True

    def close(self) -> None:
        """Let the child live on."""
        with forks.held_off:  # another thread may do the same
            if self._ends:
                flags = fcntl.fcntl(self.theirs, fcntl.F_GETFL)
                fcntl.fcntl(self.theirs, fcntl.F_SETFL, flags & ~os.O_ASYNC)
            self.after_fork()

    def after_fork(self) -> None:
        """Close the ends, in a forked child as well; the settings are the parent's, too."""
        with forks.held_off:
            release(self._ends)

    def __del__(self, close: Callable[[int], None] = posix.close) -> None:
        # Where a signal handler's exception has lost it, and at the end of the interpreter.
        while self._ends:
            close(self._ends.pop())
