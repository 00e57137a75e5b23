"""Finds a Python to start: `sys.executable` is not always one.

- In a frozen program (PyInstaller, cx_Freeze and similar tools set ``sys.frozen``), it is the
  program itself. Started with a Python's arguments, that would run the program again.
- In a program that embeds Python, it can be that program, or empty.
"""

from __future__ import annotations

import os
import sys

from ..exceptions import NoinheritError

_NAMES = ("python", "pypy", "graalpy")


def interpreter() -> str | None:
    """Return the path of this Python's interpreter, or None if there is none to start."""
    if getattr(sys, "frozen", False):
        return None
    version = "python{}.{}".format(*sys.version_info)
    if sys.platform == "win32":
        installed = os.path.join(sys.base_exec_prefix, "python.exe")
    else:
        installed = os.path.join(sys.base_exec_prefix, "bin", version)
    base: str = getattr(sys, "_base_executable", None) or ""
    for path in (sys.executable, base, installed):
        if path and os.path.basename(path).lower().startswith(_NAMES) and os.path.isfile(path):
            return path
    return None


def required_interpreter() -> str:
    """Return the path of this Python's interpreter; raise `NoinheritError` if there is none."""
    python = interpreter()
    if python is None:
        reason = "this is a frozen program, or one that embeds Python"
        raise NoinheritError(f"sys.executable names no Python that could be started: {reason}")
    return python
