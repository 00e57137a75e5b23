"""`subprocess.Popen` is `Process`, for as long as somebody wants it."""

from __future__ import annotations

import contextlib
import functools
import subprocess
import threading

from ._process import Process
from .exceptions import NotInstalledError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["install", "uninstall"]

_lock = threading.Lock()
_undo: list[contextlib.ExitStack] = []


class _Installation:
    """Undoes one `install` when its block ends."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        uninstall()


def install() -> _Installation:
    """Make `subprocess.Popen` a `Process`, wherever this process uses it; `uninstall` undoes it.

    Also a context manager. Whatever starts children by `subprocess` then has exact ones:
    `subprocess.run`, `asyncio.create_subprocess_exec`, which takes ``fds=`` now, and other people's
    libraries, also those that have imported the class by name or derived from it already.

    May be nested and called from any thread; as many calls of `uninstall` put the standard
    library's class back. What was started or derived meanwhile stays what it is.
    """
    with _lock:
        _undo.append(contextlib.ExitStack())
        if len(_undo) == 1:
            _replace(subprocess.Popen, _undo[0])
    return _Installation()


def uninstall() -> None:
    """Undo one `install`; the last one puts everything back.

    Raises `NotInstalledError` if there is none to undo.
    """
    with _lock:
        if not _undo:
            raise NotInstalledError
        _undo.pop().close()


def _replace(popen: Any, undo: contextlib.ExitStack) -> None:
    made_by_name = popen.__init__

    @functools.wraps(made_by_name)
    def init(self: Any, *args: Any, **options: Any) -> None:
        if type(self) is popen:
            self.__class__ = Process
            self.__init__(*args, **options)
        elif isinstance(self, Process) and self._launch is None:
            Process.__init__(self, *args, **options)
        else:
            made_by_name(self, *args, **options)

    def attribute(owner: Any, name: str, value: Any) -> None:
        undo.callback(setattr, owner, name, getattr(owner, name))
        setattr(owner, name, value)

    # Who derives from it from now on, or looks the name up.
    attribute(subprocess, "Popen", Process)
    # Who has derived from it already; asyncio does on Windows.
    for derived in popen.__subclasses__():
        if derived is not Process:
            bases = tuple(Process if base is popen else base for base in derived.__bases__)
            attribute(derived, "__bases__", bases)
    # Who has imported it by name.
    attribute(popen, "__init__", init)
