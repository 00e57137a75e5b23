"""A cgroup, version 2 (:manpage:`cgroups(7)`): a child is born in it, and all in it are killed.

- A child enters it by posix_spawn, where libc has ``POSIX_SPAWN_SETCGROUP`` (glibc 2.39).
  :manpage:`clone(2)`, ``CLONE_INTO_CGROUP``, takes the open directory.
- Otherwise the child's process enters it by itself before it becomes the program, by a ``0`` that
  it writes to ``cgroup.procs``. The kernel asks what the process may do that has *opened* the file
  (Linux 5.16), which is this one. So the child may have another user by then.
- A ``1`` in ``cgroup.kill`` (Linux 5.14) kills every process in it and below it. The kernel does
  this in one go; no process that is being forked escapes.
  https://docs.kernel.org/admin-guide/cgroup-v2.html
"""

from __future__ import annotations

import errno
import functools
import os
import sys

assert sys.platform != "win32"

from ..._entry import descriptor, is_open_directory, shown
from ...exceptions import ClosedDescriptorError, UnsupportedOptionError
from .. import errors, forks
from .descriptors import release

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# Every directory of version 2 has this file, and none of version 1.
_MARK = b"cgroup.controllers"
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_WRITING = os.O_WRONLY | os.O_CLOEXEC


def check_cgroup(value: Any) -> None:
    """Raise for a `value` of ``cgroup`` that is no directory of cgroup version 2."""
    at, path = _place(value)
    try:
        os.stat(path, dir_fd=at)
        os.stat(os.path.join(os.fsencode(path), _MARK), dir_fd=at)
    except (FileNotFoundError, NotADirectoryError):
        reason = (
            "it is not a directory of cgroup version 2; make one with mkdir in that file system, "
            "which is mounted at /sys/fs/cgroup or at /sys/fs/cgroup/unified"
        )
        raise UnsupportedOptionError("cgroup", shown(value), reason) from None
    except OSError as error:
        if error.errno == errno.EBADF:
            raise ClosedDescriptorError(None, shown(value)) from None
        raise


def _place(value: Any) -> tuple[int | None, Any]:
    """Return the ``dir_fd`` and the path that name the directory."""
    return (descriptor(value), ".") if is_open_directory(value) else (None, value)


def hold_cgroup(value: Any, copies: list[int], *, by_popen: bool) -> tuple[int, int]:
    """Open the directory, and for Popen's own engine ``cgroup.procs``; append both to `copies`.

    Return the directory, and the number that puts a child of the engine into the cgroup.
    """
    at, path = _place(value)
    outside = functools.partial(os.open, dir_fd=at)
    with forks.held_off:
        # One C call: no signal handler can run between opening it and recording it.
        copies.extend(map(outside, [path], [_DIRECTORY]))
        directory = copies[-1]
        if by_popen:
            inside = functools.partial(os.open, dir_fd=directory)
            copies.extend(map(inside, ["cgroup.procs"], [_WRITING]))
    return directory, copies[-1]


class CgroupKill:
    """Owner of the file ``cgroup.kill`` of the cgroup that is open as `directory`, if it has one.

    The root has none, nor has any cgroup before Linux 5.14; and this process may have no right to
    it. Then nothing is killed by way of it. In a forked child, its launch closes it.
    """

    def __init__(self, directory: int) -> None:
        self._numbers: list[int] = []
        inside = functools.partial(os.open, dir_fd=directory)
        with forks.held_off, errors.suppressed():
            self._numbers.extend(map(inside, ["cgroup.kill"], [_WRITING]))

    def kill(self) -> None:
        """Kill every process in the cgroup and below it."""
        with forks.held_off:  # or another thread closes it, and the number is another file's
            for number in self._numbers:
                with errors.suppressed():  # it has been removed, so it was empty
                    os.write(number, b"1")

    def close(self) -> None:
        """Close the file."""
        with forks.held_off:
            release(self._numbers)

    __del__ = close
