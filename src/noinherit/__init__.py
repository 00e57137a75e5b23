"""A child process holds exactly the descriptors you gave it.

General layout:

- What you asked for: `_plan` turns a request into a validated plan, purely.
- How it happens here: `_process` leads a child's life; `_sys` is the only place that knows which
  platform this is.
- The same for asyncio: `aio`.
- What both can talk through: `_channel`.
- What the child gets: `child`, which reads the manifest that `_handoff` wrote.

`_flags` has the inheritable flag of what is open in this process, `_audit` shows what any process
holds, `_trace` which descriptors leak into which child, `exceptions` has what can be wrong.

Modules are loaded on first use of their names: see `_LATER`.

For pytest, which loads the plugin of this package: PYTEST_DONT_REWRITE. Otherwise it warns where a
program, or a `sitecustomize` that calls `install`, imported noinherit before pytest began.
"""

from __future__ import annotations

from . import exceptions
from ._entry import Handle, Key
from ._plan import FdArg, Fds, fd_arg

TYPE_CHECKING = False
if TYPE_CHECKING:
    from . import aio
    from ._audit import audit
    from ._channel import Channel, socketpair
    from ._descriptor import Descriptor, SocketFacts
    from ._exec_with import exec_with
    from ._flags import get_noinherit, open_noinherit, set_noinherit, set_noinherit_all
    from ._inherited_fd import InheritedFd
    from ._install import install, uninstall
    from ._jobserver import jobserver_fds
    from ._process import Process
    from ._run_with import run_with
    from ._spawn_with import spawn_with
    from ._trace import Leak, Place, Trace, trace
    from .child import inherited

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

# Loaded on first use, so that `import noinherit` is cheap: each name, and the module that has it.
_LATER = {
    "Channel": "_channel",
    "Descriptor": "_descriptor",
    "InheritedFd": "_inherited_fd",
    "Leak": "_trace",
    "Place": "_trace",
    "Process": "_process",
    "SocketFacts": "_descriptor",
    "Trace": "_trace",
    "aio": "aio",
    "audit": "_audit",
    "exec_with": "_exec_with",
    "get_noinherit": "_flags",
    "inherited": "child",
    "install": "_install",
    "jobserver_fds": "_jobserver",
    "open_noinherit": "_flags",
    "run_with": "_run_with",
    "set_noinherit": "_flags",
    "set_noinherit_all": "_flags",
    "socketpair": "_channel",
    "spawn_with": "_spawn_with",
    "trace": "_trace",
    "uninstall": "_install",
}
# Nothing is loaded later than that: a server may call chroot, or give up the permission to read
# this package, before it starts a child. So using a name of one of these modules loads them all.
_SPAWNING = ("_exec_with", "_flags", "_install", "_process", "_run_with", "_spawn_with", "aio")
# The roles of `_sys` that other modules use.
_ROLES = {
    "_audit": ["backend"],
    "_channel": ["ends"],
    "_inherited_fd": ["ends", "inherited"],
    "_trace": ["watch"],
    "child": ["ends", "inherited"],
}


def __getattr__(name: str) -> object:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    file = _LATER[name]
    roles = _ROLES.get(file, [])
    if file in _SPAWNING:
        for each in (*_SPAWNING[:-1], "child"):
            __import__(f"{__name__}.{each}")
        roles = ["backend", "ends", "inherited", "lifetime", "output"]
        roles += ["loops"] if file == "aio" else []
    __import__(f"{__name__}._sys", fromlist=roles)
    module = __import__(f"{__name__}.{file}", fromlist=[name])
    value = globals()[name] = module if file == name else getattr(module, name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_LATER})
