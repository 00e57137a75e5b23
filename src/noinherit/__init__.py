"""A child process holds exactly the descriptors you gave it.

General layout:

- What you asked for: `_plan` turns a request into a validated plan, purely.
- How it happens here: `_process` leads a child's life; `_sys` is the only place that knows which
  platform this is.
- The same for asyncio: `aio`, which is loaded on first use.
- What both can talk through: `_channel`.
- What the child gets: `child`, which reads the manifest that `_handoff` wrote.

`_flags` has the inheritable flag of what is open in this process, `_audit` tells what any process
holds, `_trace` what slips into whose child, `exceptions` has what can be wrong.
"""

from __future__ import annotations

from . import exceptions
from ._entry import Handle, Key
from ._flags import get_noinherit, open_noinherit, set_noinherit, set_noinherit_all
from ._plan import FdArg, Fds, fd_arg
from ._process import Process, spawn_with
from ._run_with import run_with
from .child import InheritedFd, inherited

TYPE_CHECKING = False
if TYPE_CHECKING:
    from . import aio
    from ._audit import audit
    from ._channel import Channel, socketpair
    from ._descriptor import Descriptor, SocketFacts
    from ._exec_with import exec_with
    from ._install import install, uninstall
    from ._jobserver import jobserver_fds
    from ._trace import Leak, Place, Trace, trace

__all__ = [
    "Channel",
    "Descriptor",
    "FdArg",
    "Fds",
    "Handle",
    "InheritedFd",
    "Key",
    "Leak",
    "Place",
    "Process",
    "SocketFacts",
    "Trace",
    "aio",
    "audit",
    "exceptions",
    "exec_with",
    "fd_arg",
    "get_noinherit",
    "inherited",
    "install",
    "jobserver_fds",
    "open_noinherit",
    "run_with",
    "set_noinherit",
    "set_noinherit_all",
    "socketpair",
    "spawn_with",
    "trace",
    "uninstall",
]

# Rarely needed, so loaded on first use: each name, and the module that has it.
_LATER = {
    "Channel": "_channel",
    "Descriptor": "_descriptor",
    "Leak": "_trace",
    "Place": "_trace",
    "SocketFacts": "_descriptor",
    "Trace": "_trace",
    "aio": "aio",
    "audit": "_audit",
    "exec_with": "_exec_with",
    "install": "_install",
    "jobserver_fds": "_jobserver",
    "socketpair": "_channel",
    "trace": "_trace",
    "uninstall": "_install",
}


def __getattr__(name: str) -> object:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = __import__(f"{__name__}.{_LATER[name]}", fromlist=[name])
    value = globals()[name] = module if _LATER[name] == name else getattr(module, name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_LATER})
