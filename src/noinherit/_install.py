"""Replaces `subprocess.Popen` with `Process`, and puts it back."""

from __future__ import annotations

import contextlib
import functools
import subprocess

from ._process import Process
from ._sys import forks
from .exceptions import NotInstalledError, PopenReplacedError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["install", "uninstall"]

_undo: list[contextlib.ExitStack] = []


class _Installation:
    """Undoes one `install` when its block ends."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        uninstall()


def install() -> _Installation:
    """Replace `subprocess.Popen` with `Process` in this process; `uninstall` undoes it.

    From now on, every child that is started with `subprocess` holds exactly the intended
    descriptors:

    - Children of `subprocess.run`, and of `asyncio.create_subprocess_exec`, which now accepts
      ``fds=``.
    - Children that other libraries start, even if they have already imported the class by name or
      derived from it.

    Calls may be nested and come from any thread; an equal number of calls of `uninstall` restores
    the standard library's class. Processes and classes that were created in between keep their
    type.

    >>> with noinherit.install():
    ...     issubclass(subprocess.Popen, noinherit.Process)
    True

    :returns: a context manager that calls `uninstall` when its block ends

    :raises PopenReplacedError: if another library, such as gevent, has replaced the class

    Availability: as `spawn_with`.
    """
    with forks.held_off:  # or a process forked concurrently would have half of it
        popen: Any = subprocess.Popen
        if not _undo and popen is not Process.__base__:
            raise PopenReplacedError(f"{popen.__module__}.{popen.__qualname__}")
        _undo.append(contextlib.ExitStack())
        if len(_undo) == 1:
            _replace(popen, _undo[0])
    return _Installation()


def uninstall() -> None:
    """Undo one `install`; the last call restores `subprocess.Popen`.

    >>> _ = noinherit.install()
    >>> noinherit.uninstall()
    >>> issubclass(subprocess.Popen, noinherit.Process)
    False

    :raises NotInstalledError: if no `install` is left to undo

    Availability: as `spawn_with`.
    """
    with forks.held_off:
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
        before = getattr(owner, name)

        def put_back() -> None:
            # Else another library has replaced it since. PyPy makes a tuple of bases at each look.
            if getattr(owner, name) == value:
                setattr(owner, name, before)

        undo.callback(put_back)
        setattr(owner, name, value)

    # For later uses of the name: calls and new derived classes.
    attribute(subprocess, "Popen", Process)
    # For existing derived classes; asyncio has one on Windows.
    for derived in popen.__subclasses__():
        if derived is not Process:
            bases = tuple(Process if base is popen else base for base in derived.__bases__)
            attribute(derived, "__bases__", bases)
    # For modules that have imported the class by name.
    attribute(popen, "__init__", init)
