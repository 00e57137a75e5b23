"""macOS and the BSDs: a process that kills a child when this process ends. Not run there yet.

A signal cannot belong to an open file here, so a guardian waits instead of the kernel: a shell in a
session of its own, which reads the number to kill from a pipe, then the end of file, and kills.
This process holds the only writing end. `Leash.close` kills the guardian.

The guardian starts before the child. If this process ends before it has written the number, the
guardian ends without having killed anything, and the child lives on.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys

assert sys.platform != "win32"

from .. import forks
from .descriptors import add_pipe, release

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..api import Identity

_SCRIPT = 'read -r target && { cat >/dev/null; kill -9 -- "$target"; }'


class Leash:
    """Owner of the writing end and of the guardian."""

    job = 0
    theirs = -1  # the child holds nothing

    def __init__(self) -> None:
        self._writing: list[int] = []
        self._group = 0
        ends: list[int] = []
        try:
            with forks.held_off:
                add_pipe(ends)
                # One C call: no signal handler can raise an exception in between.
                self._writing.extend(map(ends.pop, [1]))
            self._guardian = subprocess.Popen(
                ["/bin/sh", "-c", _SCRIPT],
                stdin=ends[0],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                cwd="/",
                start_new_session=True,
            )
        except BaseException:
            self.after_fork()
            raise
        finally:
            release(ends)

    def fasten(self, identity: Identity, *, group: bool) -> None:
        """Have the child, or its process group, killed when this process ends."""
        forks.register(self)  # until now, its launch has seen to forked children
        self._group = identity.pid if group else 0
        os.write(self._writing[0], b"-%d\n" % identity.pid if group else b"%d\n" % identity.pid)

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
        self._guardian.kill()
        self._guardian.wait()
        self.after_fork()

    def after_fork(self) -> None:
        """Close the writing end, in a forked child as well."""
        with forks.held_off:
            release(self._writing)
