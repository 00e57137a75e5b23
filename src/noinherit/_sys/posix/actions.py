"""The strategies: how a child closes everything except its table before it runs the program.

The hard thing is a race. A list of the open descriptors is out of date when the child starts: in
between, another thread, or a C library without ``O_CLOEXEC``, can open one more. It would leak into
the child. So the list of numbers to close must not come from the parent. In order of preference:

- `CloexecDefault`: ``POSIX_SPAWN_CLOEXEC_DEFAULT`` (macOS, posix_spawn(2)). The kernel treats every
  descriptor as close-on-exec, except those that a file action creates or names as inherited.
- `FileActions`: ``posix_spawn_file_actions_addclosefrom_np`` (FreeBSD, glibc since 2.34). libc
  closes everything from a number up inside the child, where no other thread runs.
  https://man.freebsd.org/cgi/man.cgi?query=posix_spawn_file_actions_addclosefrom_np
- `PopenEngine`: fork and exec in C by `subprocess`, which also closes inside the child. It is exact
  on every libc, but cannot change a descriptor's number: see trampoline.py.
- `Scan`: lists ``/dev/fd`` in the parent and adds one close per number. It has the race, and is
  only used if ``NOINHERIT_STRATEGY`` names it.

Which actions move the descriptors to their numbers is remap.py's part. The actions are a list that
libc replays in the child: https://man7.org/linux/man-pages/man3/posix_spawn.3.html. The hazards are
in docs/gotchas/posix.md: "Strays of C libraries", "Numbers that are in each other's way" and
"Options that need code between fork and exec".
"""

from __future__ import annotations

import ctypes
import errno
import functools
import os
import sys

assert sys.platform != "win32"

from ...exceptions import UnknownStrategyError
from .. import trust
from . import libc, remap, system
from .descriptors import inheritable, open_descriptors
from .strings import c_strings, variables

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any


class FileActions:
    """Owner of one ``posix_spawn_file_actions_t``; closes the rest with `closefrom`."""

    name = "closefrom"
    exact = True
    guarantee = "libc closes all other descriptors inside the child, so no other thread can race."
    by_popen = False
    flags = 0
    # Whether the compiled actions may be reused for the same table.
    lasting = True

    @staticmethod
    def available() -> bool:
        """Return whether this libc supports the strategy."""
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

    def fchdir(self, number: int) -> None:
        """Change the child's directory to the one that is open as `number`."""
        assert libc.posix_spawn_file_actions_addfchdir_np is not None
        libc.posix_spawn_file_actions_addfchdir_np(self.raw, number)

    def dup2(self, source: int, target: int) -> None:
        """Copy `source` to `target`, inheritable. The two numbers must differ."""
        libc.posix_spawn_file_actions_adddup2(self.raw, source, target)

    def close(self, number: int) -> None:
        """Close `number`; it may already be closed."""
        libc.posix_spawn_file_actions_addclose(self.raw, number)

    def closefrom(self, low: int) -> None:
        """Close everything from `low` up."""
        assert libc.posix_spawn_file_actions_addclosefrom_np is not None
        libc.posix_spawn_file_actions_addclosefrom_np(self.raw, low)


class Scan(FileActions):
    """Lists the descriptors that are open here, and has the child close each."""

    name = "scan"
    exact = False
    guarantee = (
        "noinherit lists the open descriptors, and the child closes them; a descriptor that "
        "another thread opens as inheritable between the two leaks into the child."
    )
    lasting = False

    @staticmethod
    def available() -> bool:
        """Return True: every POSIX system can list descriptors."""
        return True

    def __init__(self) -> None:
        super().__init__()
        self._targets: set[int] = set()

    def dup2(self, source: int, target: int) -> None:
        """Copy as `FileActions` does, and remember `target`: `closefrom` cannot list it yet."""
        super().dup2(source, target)
        self._targets.add(target)

    def closefrom(self, low: int) -> None:
        """Close everything from `low` up that is open in this process or was made by `dup2`."""
        for number in sorted(self._targets.union(open_descriptors())):
            if number >= low:
                self.close(number)


class CloexecDefault(Scan):
    """Has the kernel close every descriptor that no action names (macOS)."""

    name = "cloexec-default"
    exact = True
    guarantee = "the kernel closes all other descriptors when the child starts: no thread can race."
    flags = system.POSIX_SPAWN_CLOEXEC_DEFAULT

    @staticmethod
    def available() -> bool:
        """Return whether this is Apple's libc."""
        return libc.posix_spawn_file_actions_addinherit_np is not None

    def closefrom(self, low: int) -> None:
        """Close the copies that the actions made; keep the standard streams."""
        assert libc.posix_spawn_file_actions_addinherit_np is not None
        for number in sorted(self._targets):
            if number >= low:
                self.close(number)
        for number in range(3):
            if number not in self._targets and inheritable(number):
                libc.posix_spawn_file_actions_addinherit_np(self.raw, number)


class PopenEngine:
    """`subprocess.Popen`'s own engine, which closes the rest in the child on every libc.

    It cannot change numbers. So the copies are made at the wanted numbers, or a trampoline moves
    them. It is also used for options that :manpage:`posix_spawn(3)` does not have.
    """

    name = "fork-exec"
    exact = True
    guarantee = "subprocess closes all other descriptors inside the child, so no thread can race."
    by_popen = True

    @staticmethod
    def available() -> bool:
        """Return True: every POSIX system has fork and exec."""
        return True


# What this C library has, in order of preference.
STRATEGIES: tuple[type[FileActions | PopenEngine], ...] = tuple(
    kind for kind in (CloexecDefault, FileActions, PopenEngine, Scan) if kind.available()
)


def strategy() -> type[FileActions | PopenEngine]:
    """Return the strategy that ``NOINHERIT_STRATEGY`` names, else the best one here."""
    value = variables.get(b"NOINHERIT_STRATEGY")
    name = os.fsdecode(value) if value and not trust.variable("NOINHERIT_STRATEGY")[1] else ""
    for kind in STRATEGIES:
        if kind.name == name or (not name and not refusal(kind)):
            return kind
    raise UnknownStrategyError(name, tuple(kind.name for kind in STRATEGIES))


# The outcome of `refusal` by strategy.
_refusals: dict[type[FileActions | PopenEngine], int] = {}
# Longer than any path may be: execve(2) fails with ENAMETOOLONG, but after every other step.
_NO_PROGRAM = b"/" * 70_000


def refusal(kind: type[FileActions | PopenEngine], *, again: bool = False) -> int:
    """Return 0 if children can be started by `kind` here, else the errno of the step that failed.

    A sandbox can refuse a system call that libc needs. The answer of the first call is kept, unless
    it is asked for `again`: a process can enter a sandbox later.
    """
    if issubclass(kind, PopenEngine):
        return 0  # it works without any of these calls
    if kind not in _refusals or again:
        actions = kind()
        actions.closefrom(3)
        code = failure_before_exec(actions.raw, None)
        if code in (errno.EAGAIN, errno.ENOMEM, errno.EBADF):
            return 0  # too many processes, too little memory, no free number: this can change
        _refusals[kind] = code
    return _refusals[kind]


def failure_before_exec(actions: Any, settings: Any) -> int:
    """Return the errno of the first step before exec that posix_spawn fails in; 0 if none does."""
    pid, nothing = ctypes.c_int(), c_strings([])
    code = libc.posix_spawn(ctypes.byref(pid), _NO_PROGRAM, actions, settings, nothing, nothing)
    if code == 0 and pid.value:
        os.waitpid(pid.value, 0)  # the sandbox has killed it
        return errno.EPERM
    return 0 if code == errno.ENAMETOOLONG else code


def compiled(
    kind: type[FileActions], table: Mapping[int, int], directory: bytes | int | None
) -> FileActions:
    """Return the actions by which a child holds exactly `table`, {number: source}.

    `directory` is a path or the number of an open directory.
    """
    compiler = _compiled if kind.lasting else _compiled.__wrapped__
    return compiler(kind, tuple(table.items()), directory)  # type: ignore[arg-type]  # mypy asks the instances for __hash__


# libc only reads the returned actions, so threads can share them.
@functools.lru_cache(maxsize=16)
def _compiled(
    kind: type[FileActions], table: tuple[tuple[int, int], ...], directory: bytes | int | None
) -> FileActions:
    actions = kind()
    # First, because remap may overwrite an open directory's number.
    if isinstance(directory, int):
        actions.fchdir(directory)
    elif directory is not None:
        actions.chdir(directory)
    remap.remap(dict(table), actions)
    return actions
