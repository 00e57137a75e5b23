""":manpage:`execve(2)` with an exact table, and the way back if it fails."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import sys

assert sys.platform != "win32"

from .. import errors
from .descriptors import inheritable, open_descriptors
from .dispositions import ALL, IGNORED_BY_PYTHON, put_back, set_default
from .flags import set_noinherit_all

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any, NoReturn

    from ..api import Held

# Enough for os.fchdir(), even if the directory cannot be read.
_SEARCH = getattr(os, "O_PATH", getattr(os, "O_SEARCH", os.O_RDONLY)) | os.O_DIRECTORY


def become(
    program: Any,
    args: list[Any],
    env: Mapping[bytes, bytes],
    cwd: Any,
    held: Iterable[Held],
    *,
    reset_signals: bool,
) -> NoReturn:
    """Execute `program` in this process's place, holding the standard streams and `held`.

    If that fails, numbers, flags, directory and signals are as they were, and the error is raised.
    """
    with contextlib.ExitStack() as undo:
        if cwd is not None:  # first, because an open directory's number may be overwritten
            before = os.open(".", _SEARCH)
            undo.callback(os.close, before)
            os.chdir(cwd)
            undo.callback(os.fchdir, before)
        table = {each.number: each.copy for each in held}
        _move(table, undo)
        for number in open_descriptors():
            if number > 2 and number not in table and inheritable(number):
                _set_inheritable(number, False)
                undo.callback(_set_inheritable, number, True)
        set_noinherit_all(table)  # another thread may have opened a descriptor since the loop
        _reset(ALL if reset_signals else IGNORED_BY_PYTHON, undo)
        if reset_signals:
            blocked = signal.pthread_sigmask(signal.SIG_SETMASK, ())
            undo.callback(signal.pthread_sigmask, signal.SIG_SETMASK, blocked)
        try:
            os.execvpe(program, args, env)  # noqa: S606 -- the caller asked for no shell
        except OSError as error:
            if errors.raised_by_handler(error):
                raise
            raise OSError(error.errno, error.strerror, program) from None


def _set_inheritable(number: int, inheritable: bool) -> None:
    with errors.suppressed():  # another thread may have closed it since
        os.set_inheritable(number, inheritable)


def _reset(signals: Iterable[int], undo: contextlib.ExitStack) -> None:
    """Give `signals` their default actions, except those that have a handler of Python's.

    :manpage:`execve(2)` gives signals with a handler the default action. Until then they keep it.
    """
    for number in signals:
        if not callable(signal.getsignal(number)):
            undo.callback(put_back, number, set_default(number))


def _move(table: Mapping[int, int], undo: contextlib.ExitStack) -> None:
    """Put what `table` names, {number: source}, at its numbers, inheritable."""
    ours = set(table.values())
    sources = {}
    for target, source in table.items():
        sources[target] = source
        if source in table:
            sources[target] = _aside(source, table)
            undo.callback(os.close, sources[target])
    for target in table:
        # A copy of ours that has been there is closed by its owner, whatever is there then.
        if target not in ours:
            _keep(target, table, undo)
    for target, source in sources.items():
        os.dup2(source, target)


def _keep(number: int, table: Mapping[int, int], undo: contextlib.ExitStack) -> None:
    """Have `undo` put back what is open as `number` now, or close what will be."""
    try:
        flag = os.get_inheritable(number)
    except OSError as error:
        if errors.raised_by_handler(error):
            raise
        undo.callback(_close, number)
        return
    aside = _aside(number, table)
    undo.callback(os.close, aside)
    undo.callback(os.dup2, aside, number, flag)


def _aside(number: int, table: Mapping[int, int]) -> int:
    """Return a copy of `number` under a number that `table` does not name."""
    copy = fcntl.fcntl(number, fcntl.F_DUPFD_CLOEXEC, 3)
    while copy in table:
        other = fcntl.fcntl(number, fcntl.F_DUPFD_CLOEXEC, copy + 1)
        os.close(copy)
        copy = other
    return copy


def _close(number: int) -> None:
    with contextlib.suppress(OSError):  # not reached yet
        os.close(number)
