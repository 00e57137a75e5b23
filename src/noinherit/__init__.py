"""A child process holds exactly the descriptors you gave it.

General layout:

- What you asked for: `_plan` turns a request into a validated plan, purely.
- How it happens here: `_process` leads a child's life; `_sys` is the only place that knows which
  platform this is.
- What the child gets: `child`, which reads the manifest that `_handoff` wrote.

`_flags` has the inheritable flag of what is open in this process, `exceptions` what can be wrong.
"""

from __future__ import annotations

from . import exceptions
from ._flags import get_noinherit, open_noinherit, set_noinherit, set_noinherit_all
from ._plan import Handle, fd_arg
from ._process import Process, run_with, spawn_with
from .child import InheritedFd, inherited

__all__ = [
    "Handle",
    "InheritedFd",
    "Process",
    "exceptions",
    "fd_arg",
    "get_noinherit",
    "inherited",
    "open_noinherit",
    "run_with",
    "set_noinherit",
    "set_noinherit_all",
    "spawn_with",
]
