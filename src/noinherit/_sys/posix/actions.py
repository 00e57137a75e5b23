"""What a child does with its descriptors before it runs, by the best strategy here."""

from __future__ import annotations

import functools
import os
import sys

assert sys.platform != "win32"

from ...exceptions import UnknownStrategyError
from . import libc, remap, system
from .descriptors import inheritable, open_descriptors
from .strings import variables

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any


class FileActions:
    """Owner of one ``posix_spawn_file_actions_t``; closes the rest by `closefrom`."""

    name = "closefrom"
    exact = True
    guarantee = "libc closes all other descriptors in the child, after it was made: nothing races."
    by_popen = False
    flags = 0
    # Whether what was compiled for a table is right for the same table later.
    lasting = True

    @staticmethod
    def available() -> bool:
        """Return whether this libc has what the strategy takes."""
        return libc.posix_spawn_file_actions_addclosefrom_np is not None

    def __init__(self) -> None:
        raw = libc.Opaque()
        libc.posix_spawn_file_actions_init(raw)
        self.raw = raw

    def __del__(self, destroy: Any = libc.posix_spawn_file_actions_destroy) -> None:
        if hasattr(self, "raw"):
            destroy(self.raw)

    def chdir(self, path: bytes) -> None:
        """Change the child's directory."""
        assert libc.posix_spawn_file_actions_addchdir_np is not None
        libc.posix_spawn_file_actions_addchdir_np(self.raw, path)

    def dup2(self, source: int, target: int) -> None:
        """Copy `source` to `target`, inheritable; the two are never the same."""
        libc.posix_spawn_file_actions_adddup2(self.raw, source, target)

    def close(self, number: int) -> None:
        """Close `number`, which may be closed already."""
        libc.posix_spawn_file_actions_addclose(self.raw, number)

    def closefrom(self, low: int) -> None:
        """Close everything from `low` up."""
        assert libc.posix_spawn_file_actions_addclosefrom_np is not None
        libc.posix_spawn_file_actions_addclosefrom_np(self.raw, low)


class Scan(FileActions):
    """Lists what is open here and now, and has each closed in the child."""

    name = "scan"
    exact = False
    guarantee = (
        "what is open here is listed and closed in the child; a descriptor that another thread "
        "opens inheritable between the listing and the start of the child slips through."
    )
    lasting = False

    @staticmethod
    def available() -> bool:
        """Every POSIX system has a way to list descriptors."""
        return True

    def __init__(self) -> None:
        super().__init__()
        self._targets: set[int] = set()

    def dup2(self, source: int, target: int) -> None:
        """Also remember `target`: it is not open yet when `closefrom` looks."""
        super().dup2(source, target)
        self._targets.add(target)

    def closefrom(self, low: int) -> None:
        """Close everything from `low` up that is open in this process or was made on the way."""
        for number in sorted(self._targets.union(open_descriptors())):
            if number >= low:
                self.close(number)


class CloexecDefault(Scan):
    """Has the kernel treat every descriptor as close-on-exec that no action names (macOS)."""

    name = "cloexec-default"
    exact = True
    guarantee = "the kernel closes all descriptors in the child that no action names."
    flags = system.POSIX_SPAWN_CLOEXEC_DEFAULT

    @staticmethod
    def available() -> bool:
        """Return whether this is Apple's libc."""
        return libc.posix_spawn_file_actions_addinherit_np is not None

    def closefrom(self, low: int) -> None:
        """Close only what the actions themselves made; keep the standard streams."""
        assert libc.posix_spawn_file_actions_addinherit_np is not None
        for number in sorted(self._targets):
            if number >= low:
                self.close(number)
        for number in range(3):
            if number not in self._targets and inheritable(number):
                libc.posix_spawn_file_actions_addinherit_np(self.raw, number)


class PopenEngine:
    """The engine of `subprocess.Popen` itself, which closes the rest in the child on every libc.

    It changes no numbers: copies are made at the wanted ones, or a trampoline moves them. It is
    also the one for options that :manpage:`posix_spawn(3)` does not have.
    """

    name = "fork-exec"
    exact = True
    guarantee = "subprocess closes all other descriptors in the child, before exec: nothing races."
    by_popen = True

    @staticmethod
    def available() -> bool:
        """Every POSIX system has fork and exec."""
        return True


# In the order of preference.
STRATEGIES: tuple[type[FileActions | PopenEngine], ...] = tuple(
    kind for kind in (CloexecDefault, FileActions, PopenEngine, Scan) if kind.available()
)


def strategy() -> type[FileActions | PopenEngine]:
    """Return the strategy that ``NOINHERIT_STRATEGY`` asks for, else the best one here."""
    value = variables.get(b"NOINHERIT_STRATEGY")
    if not value:
        return STRATEGIES[0]
    name = os.fsdecode(value)
    for kind in STRATEGIES:
        if kind.name == name:
            return kind
    raise UnknownStrategyError(name, tuple(kind.name for kind in STRATEGIES))


def compiled(
    kind: type[FileActions], table: Mapping[int, int], directory: bytes | None
) -> FileActions:
    """Return how a child comes to hold exactly `table`, {number: source}, in `directory`."""
    compiler = _compiled if kind.lasting else _compiled.__wrapped__
    return compiler(kind, tuple(table.items()), directory)  # type: ignore[arg-type]  # mypy asks the instances for __hash__


# What it returns is only read from then on, so threads can share it.
@functools.lru_cache(maxsize=16)
def _compiled(
    kind: type[FileActions], table: tuple[tuple[int, int], ...], directory: bytes | None
) -> FileActions:
    actions = kind()
    if directory is not None:
        actions.chdir(directory)
    remap.remap(dict(table), actions)
    return actions
