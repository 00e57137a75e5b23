"""The spawn attributes of a child: signals, session, process group and cgroup."""

from __future__ import annotations

import errno
import functools
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

assert sys.platform != "win32"

from . import libc, system
from .actions import failure_before_exec
from .dispositions import ALL, IGNORED_BY_PYTHON


def _signals(numbers: Iterable[int]) -> Any:
    signals = libc.Opaque()
    libc.sigemptyset(signals)
    for number in numbers:
        libc.sigaddset(signals, number)
    return signals


_SET_IGNORED_BY_PYTHON = _signals(IGNORED_BY_PYTHON)
_SET_ALL = _signals(ALL)
_SET_NONE = _signals(())
_HIGHEST = 2**31 - 1


class Attributes:
    """Owner of one ``posix_spawnattr_t``."""

    def __init__(
        self,
        flags: int,
        restore_signals: bool,
        start_new_session: bool,
        process_group: int,
        reset_signals: bool = False,
        cgroup: int | None = None,
    ) -> None:
        raw = libc.Opaque()
        libc.posix_spawnattr_init(raw)
        self.raw = raw
        if reset_signals:
            flags |= system.POSIX_SPAWN_SETSIGDEF | system.POSIX_SPAWN_SETSIGMASK
            libc.posix_spawnattr_setsigdefault(self.raw, _SET_ALL)
            libc.posix_spawnattr_setsigmask(self.raw, _SET_NONE)
        elif restore_signals:
            flags |= system.POSIX_SPAWN_SETSIGDEF
            libc.posix_spawnattr_setsigdefault(self.raw, _SET_IGNORED_BY_PYTHON)
        if start_new_session:
            flags |= system.POSIX_SPAWN_SETSID
        if process_group > _HIGHEST:
            raise OverflowError("process_group is too large")  # C would truncate it
        if process_group >= 0:
            flags |= system.POSIX_SPAWN_SETPGROUP
            libc.posix_spawnattr_setpgroup(self.raw, process_group)
        if cgroup is not None:
            assert libc.posix_spawnattr_setcgroup_np is not None
            flags |= system.POSIX_SPAWN_SETCGROUP
            libc.posix_spawnattr_setcgroup_np(self.raw, cgroup)
        libc.posix_spawnattr_setflags(self.raw, flags)

    def __del__(self, destroy: Any = libc.posix_spawnattr_destroy) -> None:
        if hasattr(self, "raw"):
            destroy(self.raw)


# The children of one program tend to have equal attributes. libc only reads them, so threads can
# share them. The spawning call keeps its reference even if the cache drops the object.
attributes = functools.lru_cache(maxsize=16)(Attributes)


@functools.cache
def can_set_cgroup() -> bool:
    """Return whether posix_spawn can start a child in a cgroup, by libc and by the kernel."""
    if libc.posix_spawnattr_setcgroup_np is None:
        return False
    # The kernel looks at the number before it makes a process (Linux 5.7).
    return cgroup_refusal(_HIGHEST) == errno.EBADF


def cgroup_refusal(number: int) -> int:
    """Return 0 if a child can be started in the cgroup that is open as `number`, else the errno."""
    return failure_before_exec(None, Attributes(0, False, False, -1, cgroup=number).raw)
