"""Popen's own engine, ``_posixsubprocess.fork_exec``, in a process that other libraries patch.

- Debuggers replace that function to follow children: debugpy's pydevd adds itself to a Python
  child's command.
- gevent's ``monkey.patch_all()`` replaces it with None, because its own Popen needs none. Its
  ``os.close`` closes when its event loop runs next; Popen waits for the end of a pipe before that.
"""

from __future__ import annotations

import os
import subprocess
import sys
import types

assert sys.platform != "win32"

import _posixsubprocess
import posix

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def is_followed() -> bool:
    """Return whether a library that wants to see every child has replaced the function."""
    function = vars(subprocess)["_fork_exec"]
    return function is not None and function.__module__ != "_posixsubprocess"


class _Os:
    """The module `os`, with the functions that gevent replaces."""

    close = staticmethod(posix.close)
    waitpid = staticmethod(posix.waitpid)

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)


def takes_strings(method: Any) -> bool:
    """Return whether `unpatched` can give strings to `method`: a library may have wrapped it."""
    function = getattr(method, "__func__", None)
    return "_fork_exec" in getattr(function, "__globals__", ())


def unpatched(method: Any, strings: list[bytes] | None = None) -> Any:
    """Return `method`, one of Popen's; in a process that gevent has patched, one that works.

    With `strings`, it starts the child with these as its environment. From a mapping, Popen would
    encode and join each variable in Python.
    """
    patched = os.close is not posix.close
    if not patched and strings is None:
        return method
    function = method.__func__
    changed = dict(function.__globals__)
    if patched:
        changed["os"] = _Os()
        if changed.get("_fork_exec") is None:
            changed["_fork_exec"] = _posixsubprocess.fork_exec
    if strings is not None:
        # It may be a debugger's, which may change the list.
        fork_exec = changed["_fork_exec"]
        changed["_fork_exec"] = lambda *given: fork_exec(*given[:5], [*strings], *given[6:])
    copy = types.FunctionType(
        function.__code__, changed, function.__name__, function.__defaults__, function.__closure__
    )
    return types.MethodType(copy, method.__self__)
