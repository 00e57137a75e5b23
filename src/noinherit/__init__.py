"""A child process holds exactly the descriptors you gave it.

General layout:

- What you asked for: `_plan` turns a request into a validated plan, purely.
- How it happens here: `_process` leads a child's life; `_sys` is the only place that knows which
  platform this is.
- The same for asyncio: `aio`, which has to be imported by itself.
- What both can talk through: `_channel`.
- What the child gets: `child`, which reads the manifest that `_handoff` wrote.

`_flags` has the inheritable flag of what is open in this process, `_audit` tells what any process
holds, `_trace` what slips into whose child, `exceptions` has what can be wrong.
"""

from __future__ import annotations

from . import exceptions
from ._entry import Handle
from ._flags import get_noinherit, open_noinherit, set_noinherit, set_noinherit_all
from ._plan import fd_arg
from ._process import Process, spawn_with
from ._run_with import run_with
from .child import InheritedFd, inherited

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ._audit import audit
    from ._channel import Channel, socketpair
    from ._descriptor import Descriptor
    from ._install import install, uninstall
    from ._jobserver import jobserver_fds
    from ._trace import Leak, trace

__all__ = [
    "Channel",
    "Descriptor",
    "Handle",
    "InheritedFd",
    "Leak",
    "Process",
    "audit",
    "exceptions",
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

# What fewer need is loaded on first use.
_LATER = {
    "Channel": "_channel",
    "Descriptor": "_descriptor",
    "Leak": "_trace",
    "audit": "_audit",
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
    value = globals()[name] = getattr(module, name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_LATER})
