"""The spawn attributes of a child: signals, session and process group."""

from __future__ import annotations

import functools
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

assert sys.platform != "win32"

from . import libc, system
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
        libc.posix_spawnattr_setflags(self.raw, flags)

    def __del__(self, destroy: Any = libc.posix_spawnattr_destroy) -> None:
        if hasattr(self, "raw"):
            destroy(self.raw)


# The children of one program tend to have equal attributes. libc only reads them, so threads can
# share them. The spawning call keeps its reference even if the cache drops the object.
attributes = functools.lru_cache(maxsize=16)(Attributes)
